"""meta1.conf(5) from the option tables: `python -m meta1g.conf.manpage`; pure."""
import sys
from collections.abc import Iterator
from typing import Any, Final

from meta1g.conf.kinds import Kind
from meta1g.conf.load import MODULES
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.spec import Opt, Sub, entries

_EMPTY: Final[tuple[Any, ...]] = (None, "", (), frozenset())
_HEAD: Final = r""".\" Made by python -m meta1g.conf.manpage from the option tables; do not edit.
.TH META1.CONF 5 "" meta1g
.SH NAME
meta1.conf \- configuration of the meta1g mail transfer agent
.SH DESCRIPTION
The file holds options and sections:
.PP
.nf
    hostname = "mail.example.org";      # a comment
    qmgr {
      retry_delay_min = 1m 30s;
      smtpc { connections_max = 20; }
    }
    smtps MTA { flags = { access, 8bitmime } }
.fi
.PP
Names of options and sections have no case. A section may have a name of its own. A list stands in braces, with commas.
If an option is given twice, the later one counts. Comments begin with # or stand between /* and */.
.TP
string, path
needs quotes if it contains blanks or one of ; , { } = " #. Adjacent strings are joined.
Escapes are \er \en \et \e\e \e".
.TP
number
decimal, hexadecimal (0x1F) or octal (017).
.TP
boolean
1, true, on or 0, false, off.
.TP
time
such as 1h 5m 12s; units are w, d, h, m and s, which is the default.
.TP
size
such as 3MB 5KB; units are B, KB, MB and GB; the default stands with each option.
.TP
flags
a list of words. One that is set by default is turned off by not_ dont_ no_ \- ! or ~ in front.
.PP
Default names of maps and certificates are looked for beside the configuration file. Sockets, databases and every
relative path in the file belong to the main queue directory.
.PP
A file whose name ends in .yaml holds the same names as YAML.
.BR smconf (8)
checks and converts files. Options without effect in this version are read and checked, and using one logs a warning.
M1 is the section of MeTA1's manual.
"""
_TAIL: Final = """.SH SEE ALSO
.BR smconf (8),
.BR mailertable (5),
.BR access (5),
.BR aliases (5),
.BR check (5)
"""


def page() -> str:
    """The man page as troff text."""
    lines = [_HEAD, ".SH GLOBAL OPTIONS\n", *_section(GlobalConf, "")]
    lines += [".SH OPTIONS OF EVERY SERVICE\nBy these MCP runs it.\n", *_section(McpConf, "")]
    for keyword, cls in MODULES.items():
        lines += [f".SH SECTION {keyword.upper()}\n", *_section(cls, "")]
    return "".join([*lines, _TAIL])


def _section(cls: Any, path: str) -> Iterator[str]:
    default = cls()
    items = list(entries(cls).values())
    for name, item in items:
        if isinstance(item, Opt):
            yield from _option(item, getattr(default, name))
    for _, item in items:
        if isinstance(item, Sub):
            inner = f"{path}{item.name}{' NAME' if item.has_name else ''}"
            yield f".SS {_quoted(f'{inner} {{ ... }}')}\n{_text(_about_section(item))}\n"
            yield from _section(item.cls, f"{inner} / ")


def _about_section(item: Sub) -> str:
    parts = [f"{item.help[:1].upper()}{item.help[1:]}."]
    if item.is_repeated:
        parts.append("May be given several times.")
    if item.m1:
        parts.append(f"M1 {item.m1}.")
    return " ".join(parts)


def _option(item: Opt, default: Any) -> Iterator[str]:
    equals = "==" if item.kind.name == "condition" else "="
    yield f".TP\n.BI {_quoted(f'{item.name} {equals} ')} {_quoted(_kind(item.kind))}\n"
    yield f"{_text(_describe(item, default))}\n"
    if not item.kind.words:
        return
    explained = [word for word in item.kind.words if word in item.about]
    rest = [word for word in item.kind.words if word not in item.about]
    if rest:
        yield _text(f"Words: {', '.join(rest)}.") + "\n"
    if explained:
        yield ".RS\n"
        for word in explained:
            yield f".TP\n.I {_quoted(word)}\n{_text(item.about[word])}\n"
        yield ".RE\n"


def _kind(kind: Kind) -> str:
    return f"{kind.name} [{kind.unit}]" if kind.unit else kind.name


def _describe(item: Opt, default: Any) -> str:
    parts = [f"{item.help[:1].upper()}{item.help[1:]}."]
    if item.kind.limits:
        parts.append(f"{item.kind.limits[:1].upper()}{item.kind.limits[1:]}.")
    if default not in _EMPTY:
        source = {"": "", "meta1g": " (meta1g's choice)"}.get(item.source, f" ({item.source})")
        parts.append(f"Default: {item.kind.write(default)}{source}.")
    if item.is_required:
        parts.append("Required.")
    if item.moot:
        parts.append(f"Accepted without effect: {item.moot}.")
    if item.m1:
        parts.append(f"M1 {item.m1}.")
    return " ".join(parts)


def _text(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in ".'" else text


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "") + '"'


if __name__ == "__main__":
    sys.stdout.write(page())
