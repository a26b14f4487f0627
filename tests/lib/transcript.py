"""Reading and playing the dialogs of tests/transcripts (its README explains the marks)."""
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[1] / "transcripts"
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|.)")


class Step(NamedTuple):
    """One line of a transcript: its mark, its octets, and where it stands."""

    mark: str
    octets: bytes
    where: str


def files(*folders: str) -> list[Path]:
    """The transcripts in these folders."""
    return sorted(path for folder in folders for path in (FOLDER / folder).glob("*.smtp"))


def read(path: Path) -> tuple[list[Step], list[list[str]]]:
    """The steps of a transcript, and its settings as words."""
    steps, settings = [], []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        mark, text = line[:2], line[3:]
        if mark == "= ":
            settings.append(line[2:].split())
        elif mark in ("C:", "C-", "S:", "S~", "S*", "S!"):
            steps.append(Step(mark, _octets(text) + (b"\r\n" if mark == "C:" else b""), f"{path.name}:{number}"))
        elif line and not line.startswith("#"):
            raise ValueError(f"{path}:{number}: unknown mark {line!r}")
    return steps, settings


def _octets(text: str) -> bytes:
    special = {"r": "\r", "n": "\n", "0": "\0"}

    def unescape(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else special.get(code, code)

    return _ESCAPE.sub(unescape, text).encode("latin-1")


def play(steps: list[Step], send: Callable[[bytes], None], read_line: Callable[[], bytes | None]) -> None:
    """Run a dialog; `read_line` gives the server's next line without CRLF, None when it has closed."""
    pending = b""
    for step in steps:
        if step.mark in ("C:", "C-"):
            pending += step.octets
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
