"""meta1.conf(5) from the option tables: `python -m meta1g.conf.manpage`; pure."""
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

from meta1g.conf.kinds import Kind
from meta1g.conf.load import MODULES
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.spec import Opt, Sub, entries

_EMPTY: Final[tuple[Any, ...]] = (None, "", (), frozenset())
_SENTENCE: Final = re.compile(r"(?<=[.]) (?=[A-Z])")
_HEAD: Final = r""".\" Made by python -m meta1g.conf.manpage from the option tables; do not edit.
.Dd November 27, 2026
.Dt META1.CONF 5
.Os meta1g
.Sh NAME
.Nm meta1.conf
.Nd configuration of the meta1g mail transfer agent
.Sh DESCRIPTION
The file holds options and sections:
.Bd -literal -offset indent
hostname = "mail.example.org";      # a comment
qmgr {
  retry_delay_min = 1m 30s;
  smtpc { connections_max = 20; }
}
smtps MTA { flags = { access, 8bitmime } }
.Ed
.Pp
Names of options and sections have no case.
A section may have a name of its own.
A list stands in braces, with commas.
If an option is given twice, the later one counts.
Comments begin with # or stand between /* and */.
.Bl -tag -width Ds
.It string, path
needs quotes if it contains blanks or one of ; , { } = " #.
Adjacent strings are joined.
Escapes are \er \en \et \e\e \e".
.It number
decimal, hexadecimal (0x1F) or octal (017).
.It boolean
1, true, on or 0, false, off.
.It time
such as 1h 5m 12s; units are w, d, h, m and s, which is the default.
.It size
such as 3MB 5KB; units are B, KB, MB and GB; the default stands with each option.
.It flags
a list of words.
One that is set by default is turned off by not_ dont_ no_ \- ! or ~ in front.
.El
.Pp
Default names of maps and certificates are looked for beside the configuration file.
Sockets, databases and every relative path in the file belong to the main queue directory.
.Pp
A file whose name ends in
.Pa .yaml
or
.Pa .yml
holds the same names as YAML.
.Xr smconf 8
checks and converts files.
Options of MeTA1 that mean nothing here are read and checked, and using one logs a warning.
M1 is the section of MeTA1's manual.
"""
_TAIL: Final = """.Sh SEE ALSO
.Xr access 5 ,
.Xr aliases 5 ,
.Xr check 5 ,
.Xr mailertable 5 ,
.Xr qmgr_conf 5 ,
.Xr meta1 8 ,
.Xr smconf 8
"""


def page() -> str:
    """The man page as mdoc text."""
    lines = [_HEAD, ".Sh GLOBAL OPTIONS\n", *_section(GlobalConf, "")]
    lines += [".Sh OPTIONS OF EVERY SERVICE\nBy these MCP runs it.\n", *_section(McpConf, "")]
    for keyword, cls in MODULES.items():
        lines += [f".Sh SECTION {keyword.upper()}\n", *_section(cls, "")]
    return "".join([*lines, _TAIL])


def _section(cls: Any, path: str) -> Iterator[str]:
    default = cls()
    items = list(entries(cls).values())
    options = [(name, item) for name, item in items if isinstance(item, Opt)]
    if options:
        yield ".Bl -tag -width Ds\n"
        for name, option in options:
            yield from _option(option, getattr(default, name))
        yield ".El\n"
    for _, item in items:
        if isinstance(item, Sub):
            inner = f"{path}{item.name}{' NAME' if item.has_name else ''}"
            yield f".Ss {_quoted(f'{inner} {{ ... }}')}\n{_text(_about_section(item))}\n"
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
    yield f".It Ic {_quoted(f'{item.name} {equals}')} Ar {_quoted(_kind(item.kind))}\n"
    yield f"{_text(_describe(item, default))}\n"
    if not item.kind.words:
        return
    explained = [word for word in item.kind.words if word in item.about]
    rest = [word for word in item.kind.words if word not in item.about]
    if rest:
        yield _text(f"Words: {', '.join(rest)}.") + "\n"
    if explained:
        yield ".Bl -tag -width Ds\n"
        for word in explained:
            yield f".It Cm {_quoted(word)}\n{_text(item.about[word])}\n"
        yield ".El\n"


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
    """Each sentence on a line of its own, as mdoc wants it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in ".'" else line for line in _SENTENCE.split(text))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "") + '"'


if __name__ == "__main__":
    sys.stdout.write(page())
