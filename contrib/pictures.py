"""The pictures of docs/guide.md from the code's own tables: `python -m contrib.pictures` writes docs/pictures."""
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_qmgr import QmgrConf
from meta1g.conf.opt_smtpc import SmtpcConf
from meta1g.proto.smtp.states import TRANSITIONS, State
from meta1g.shim.cdb import FOLDERS
from meta1g.shim.layout import LAYOUT, USERS

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "docs" / "pictures"
_COLOURS: Final = dict(zip((*USERS, "root"), ("#cfe3f7", "#f9e0b8", "#d3eccb", "#ecd3ea", "#e4e4e4", "#f6c9c4"),
                           strict=True))
_GREY: Final = "#f4f4f4"


class Step(NamedTuple):
    """An arrow of a message's way, or what happens at one place if `to` is empty.

    `number` is the step in docs/flow.md, which must have `word`.
    """

    number: str
    word: str
    at: str
    to: str
    label: str


WAY: Final = (
    Step("1", "Acceptor", "client", "SMTPS", "connects"),
    Step("2", "QMGR", "SMTPS", "QMGR", "may it stay?"),
    Step("2", "SMAR", "SMTPS", "SMAR", "the access map?"),
    Step("4", "MAIL", "client", "SMTPS", "MAIL"),
    Step("4", "check_mail", "SMTPS", "SMAR", "a good sender?"),
    Step("5", "RCPT", "client", "SMTPS", "RCPT"),
    Step("5", "check_rcpt", "SMTPS", "SMAR", "local? there? may it relay?"),
    Step("6", "DATA", "client", "SMTPS", "DATA, content, final dot"),
    Step("7", "stable storage", "SMTPS", "", "content flushed to CDB"),
    Step("8", "TaCommit", "SMTPS", "QMGR", "TaCommit: the envelope"),
    Step("9", "flushes", "QMGR", "", "envelope flushed to IBDB"),
    Step("10", "TaAck", "QMGR", "SMTPS", "TaAck"),
    Step("10", "250", "SMTPS", "client", "250: the message is ours"),
    Step("11", "SMAR", "QMGR", "SMAR", "aliases, mailertable, MX"),
    Step("12", "Deliver", "QMGR", "SMTPC", "Deliver"),
    Step("13", "_deliver", "SMTPC", "server", "MAIL, RCPT, DATA, content"),
    Step("14", "Delivered", "SMTPC", "QMGR", "Delivered"),
    Step("", "RcptEnd", "QMGR", "", "its end to IBDB; content goes after the last"),
)
LANES: Final = ("client", "SMTPS", "SMAR", "QMGR", "SMTPC", "server")


def pictures() -> dict[str, str]:
    """All pictures by file name, as SVG text."""
    return {"processes.svg": _processes(), "dialog.svg": _dialog(), "way.svg": _way()}


def _svg(width: int, height: int, title: str, parts: Iterator[str]) -> str:
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#444"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        *parts,
        "</svg>",
        "",
    ])


def _text(x: float, y: float, text: str, *, anchor: str = "middle", size: int = 13, is_bold: bool = False) -> str:
    weight = ' font-weight="bold"' if is_bold else ""
    return (f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}"{weight} stroke="#fff"'
            f' stroke-width="4" paint-order="stroke" fill="#222">{escape(text)}</text>')


def _box(x: int, y: int, size: tuple[int, int], lines: tuple[str, ...], fill: str) -> Iterator[str]:
    """A box with its first line in bold and the others small."""
    width, height = size
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{fill}" stroke="#444"/>'
    top = y + height / 2 - 8 * (len(lines) - 1) + 5
    for number, line in enumerate(lines):
        weight = ' font-weight="bold"' if number == 0 else ""
        yield (f'<text x="{x + width / 2:g}" y="{top + 16 * number:g}" text-anchor="middle" fill="#222"'
               f' font-size="{12 if number else 13}"{weight}>{escape(line)}</text>')


def _line(*points: tuple[float, float], is_dashed: bool = False, has_tip: bool = True) -> str:
    shown = " ".join(f"{x:g},{y:g}" for x, y in points)
    dashes = ' stroke-dasharray="4 4"' if is_dashed else ""
    tip = ' marker-end="url(#tip)"' if has_tip else ""
    return f'<polyline points="{shown}" fill="none" stroke="#444"{dashes}{tip}/>'


def _processes() -> str:
    return _svg(1060, 690, "Processes, users, sockets and folders", _process_parts())


def _process_parts() -> Iterator[str]:
    user = {item.path.removesuffix(".log"): item.owner for item in LAYOUT if item.base == "log"}
    conf, size = GlobalConf(), (160, 56)
    yield from _box(20, 20, (1020, 44), ("mcp", "root: binds ports, starts, watches and restarts the others"),
                    _COLOURS["root"])
    places = {"smtps": (190, 120), "qmgr": (450, 120), "smtpc": (710, 120), "smar": (320, 270)}
    for x in (270, 530, 790):
        yield _line((x, 64), (x, 120), is_dashed=True)
    yield _line((110, 148), (190, 148))
    yield _line((350, 148), (450, 148))
    yield _line((610, 148), (710, 148))
    yield _line((870, 148), (950, 148))
    yield _line((790, 176), (790, 270))
    yield _line((240, 176), (240, 298), (320, 298))
    yield _line((560, 176), (560, 298), (480, 298))
    yield _line((870, 298), (950, 298))
    yield from _box(20, 120, (90, 56), ("clients", "SMTP"), _GREY)
    yield from _box(950, 120, (90, 56), ("servers", "ESMTP"), _GREY)
    yield from _box(950, 270, (90, 56), ("Maildirs",), _COLOURS["meta1"])
    yield from _box(20, 270, (130, 56), ("qmgrctl",), _GREY)
    for name, (x, y) in places.items():
        yield from _box(x, y, size, (name, user[name]), _COLOURS[user[name]])
    yield from _box(710, 270, size, ("lda", "meta1"), _COLOURS["meta1"])
    yield _text(400, 108, conf.smtps_socket.text, size=12)
    yield _text(660, 108, conf.smtpc_socket.text, size=12)
    yield _text(400, 244, conf.smar_socket.text, size=12)
    yield _text(798, 228, SmtpcConf().lmtp_socket.text, anchor="start", size=12)
    yield _line((85, 270), (85, 228), (500, 228), (500, 176))
    yield _text(95, 220, QmgrConf().control_socket.text, anchor="start", size=12)
    yield from _folders()


def _folders() -> Iterator[str]:
    yield _text(20, 372, "Folders and files, coloured by their owners", anchor="start",
                is_bold=True)
    items = [item for item in LAYOUT if item.path not in FOLDERS[1:]]
    for number, item in enumerate(items):
        x, y = 20 + number % 6 * 172, 388 + number // 6 * 72
        name = f"{FOLDERS[0]} to {FOLDERS[-1]}" if item.path == FOLDERS[0] else item.path
        who = f"{item.owner or 'root'}{':' if item.group else ''}{item.group}"
        yield from _box(x, y, (160, 62), (name, f"{who} {item.mode:o}", _base(item.base)),
                        _COLOURS[item.owner or "root"])


def _base(base: str) -> str:
    return {"queue": "queue", "conf": "configuration", "log": "log"}[base]


def _dialog() -> str:
    return _svg(1080, 420, "States of the SMTP dialog", _dialog_parts())


def _dialog_parts() -> Iterator[str]:
    """Arcs over the line lead on, those below it lead back."""
    states, middle, gap = list(State), 240, 158
    x = {state: 66 + gap * number for number, state in enumerate(states)}
    events: dict[tuple[State, State], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        events.setdefault((before, after), []).append(event.name)
    labels = []
    for (before, after), names in events.items():
        span, up = abs(x[after] - x[before]) / gap, x[after] >= x[before]
        edge = middle - 20 if up else middle + 20
        apex = edge + (-1 if up else 1) * (32 * span if span else 34)
        begin, end = (x[before] + (12 if up else -12), x[after] - (12 if up else -12))
        yield (f'<path d="M{begin},{edge} C{begin},{apex + (apex - edge) / 3:g} {end},{apex + (apex - edge) / 3:g}'
               f' {end},{edge}" fill="none" stroke="#444" marker-end="url(#tip)"/>')
        labels.append(_text((begin + end) / 2, apex + 4, " ".join(names), size=11))
    for state in states:
        fill = {"START": _COLOURS["meta1c"], "CLOSED": _COLOURS["root"]}.get(state.name, _COLOURS["meta1s"])
        yield from _box(x[state] - 46, middle - 20, (92, 40), (state.name,), fill)
    yield from labels


def _way() -> str:
    return _svg(1060, 90 + 32 * len(WAY), "The way of a message", _way_parts())


def _way_parts() -> Iterator[str]:
    x = {lane: 90 + 176 * number for number, lane in enumerate(LANES)}
    bottom = 80 + 32 * len(WAY)
    for lane in LANES:
        yield _line((x[lane], 56), (x[lane], bottom), is_dashed=True, has_tip=False)
        yield from _box(x[lane] - 60, 20, (120, 36), (lane,), _GREY if lane in ("client", "server") else
                        _COLOURS[{"SMTPS": "meta1s", "QMGR": "meta1q", "SMTPC": "meta1c", "SMAR": "meta1m"}[lane]])
    for number, step in enumerate(WAY):
        y = 84 + 32 * number
        if step.to:
            yield _line((x[step.at], y), (x[step.to], y))
            yield _text((x[step.at] + x[step.to]) / 2, y - 5, step.label, size=12)
        else:
            width = 40 + 7 * len(step.label)
            yield from _box(x[step.at] - width // 2, y - 14, (width, 24), (step.label,), "#fff7c2")
        yield _text(8, y + 4, step.number, anchor="start", size=11)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, svg in pictures().items():
        (FOLDER / file).write_text(svg)
