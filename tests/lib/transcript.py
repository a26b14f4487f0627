"""Reading and playing the dialogs of tests/transcripts (its README explains the marks)."""
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[1] / "transcripts"
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|.)")
_REPEATED = re.compile(r"\{([^{}]+)\*([0-9]+)\}")
_SPECIAL = {"r": "\r", "n": "\n", "0": "\0"}
_MARKS = ("C:", "C-", "S:", "S~", "S*", "S!", "M:", "M!")


class Step(NamedTuple):
    """One line of a dialog: its mark, its octets, and where it stands."""

    mark: str
    octets: bytes
    where: str


class Dialog(NamedTuple):
    """A dialog; `settings` is the text that section smtps has more."""

    name: str
    settings: str
    steps: tuple[Step, ...]

    @property
    def messages(self) -> bytes | None:
        """The content that comes out of it, None if it does not say."""
        said = [step for step in self.steps if step.mark in ("M:", "M!")]
        return b"".join(step.octets for step in said if step.mark == "M:") if said else None


def dialogs() -> list[Dialog]:
    """All of them."""
    return [dialog for path in sorted(FOLDER.glob("*.smtp")) for dialog in read(path)]


def read(path: Path) -> list[Dialog]:
    """The dialogs of a file; what stands before the first one's name begins each of them."""
    settings: list[str] = []
    head: list[Step] = []
    found: list[tuple[str, list[Step]]] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        mark, text = line[:2], line[3:]
        if line.startswith("### "):
            found.append((f"{path.stem}: {line[4:]}", []))
        elif mark == "= ":
            settings.append(line[2:])
        elif mark in _MARKS:
            octets = _octets(text) + (b"\r\n" if mark in ("C:", "M:") else b"")
            (found[-1][1] if found else head).append(Step(mark, octets, f"{path.name}:{number}"))
        elif line and not re.match("#( |$)", line):
            raise ValueError(f"{path}:{number}: unknown mark {line!r}")
    return [Dialog(name, "\n".join(settings), (*head, *steps)) for name, steps in found]


def _octets(text: str) -> bytes:
    def unescape(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _SPECIAL.get(code, code)

    text = _REPEATED.sub(lambda match: match[1] * int(match[2]), text)
    return _ESCAPE.sub(unescape, text).encode("latin-1")


def play(dialog: Dialog, send: Callable[[bytes], None], read_line: Callable[[], bytes | None]) -> None:
    """Run a dialog; `read_line` gives the server's next line without CRLF, None when it has closed."""
    pending = b""
    for step in dialog.steps:
        if step.mark in ("C:", "C-"):
            pending += step.octets
            continue
        if step.mark in ("M:", "M!"):
            continue
        if pending:
            send(pending)
            pending = b""
        line = read_line()
        while step.mark == "S*" and line is not None and line[3:4] == b"-":
            assert line.startswith(step.octets), f"{step.where}: expected {step.octets!r}..., got {line!r}"
            line = read_line()
        if step.mark == "S!":
            assert line is None, f"{step.where}: the connection is open, got {line!r}"
        elif step.mark == "S:":
            assert line == step.octets, f"{step.where}: expected {step.octets!r}, got {line!r}"
        else:
            assert line is not None and line.startswith(step.octets), (
                f"{step.where}: expected {step.octets!r}..., got {line!r}")
    if pending:
        send(pending)
