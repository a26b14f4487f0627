"""meta1.conf(5) from the option tables: `python -m meta1g.conf.manpage`; pure."""
import sys
from typing import Any, Final

from meta1g.conf.load import MODULES, PLANNED_FLAGS
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.spec import Opt, Sub, entries

_HEAD: Final = """\\
.\\" Made by python -m meta1g.conf.manpage from the option tables; do not edit.
.TH META1.CONF 5 "" meta1g
.SH NAME
meta1.conf \\- configuration of the meta1g mail transfer agent
.SH DESCRIPTION
The file holds options,
.IR name " = " value ;
or
.IR name " = { " value ", ... },"
and sections,
.IR keyword " [" name "] { ... }."
Keywords and names of options have no case. Strings need quotes if they contain special characters; adjacent
strings are joined; \\er \\en \\et \\e\\e \\e" are escapes. Numbers may be hexadecimal (0x) or octal (0). Booleans are
1, true, on and 0, false, off. Times are sequences such as 1h 5m 12s (w d h m s), sizes such as 3MB 5KB (B KB MB GB).
A flag is turned off by not_ dont_ no_ \\- ! or ~ in front. # and /* */ are comments. A later value of the same
option wins. A file whose name ends in .yaml holds the same names as YAML.
.PP
.BR smconf (8)
checks a file. Options marked as planned are read and checked but have no effect in this version; using one logs a
warning. M1 is the section of MeTA1's manual.
"""


def page() -> str:
    """The man page as troff text."""
    lines = [_HEAD.removeprefix("\\\n")]
    lines += [".SH GLOBAL OPTIONS\n", *_section(GlobalConf, "")]
    lines += [".SH OPTIONS OF EVERY SERVICE (MCP)\n", *_section(McpConf, "")]
    for keyword, cls in MODULES.items():
        lines += [f".SH SECTION {keyword.upper()}\n", *_section(cls, "")]
    lines.append(".SH SEE ALSO\n.BR smconf (8),\n.BR mailertable (5),\n.BR access (5),\n.BR aliases (5)\n")
    return "".join(lines)


def _section(cls: Any, prefix: str) -> list[str]:
    lines = []
    default = cls()
    subsections = []
    for name, item in entries(cls).values():
        if isinstance(item, Sub):
            subsections.append(item)
            continue
        lines.append(f".TP\n.B {_quoted(prefix + item.name)}\n{_describe(cls, name, item, getattr(default, name))}\n")
    for item in subsections:
        name = " NAME" if item.has_name else ""
        what = f"Subsection: {item.help} (M1 {item.m1})." if item.m1 else f"Subsection: {item.help}."
        repeated = " May be repeated." if item.is_repeated else ""
        planned = " Planned." if item.is_planned else ""
        lines.append(f".TP\n.B {_quoted(f'{prefix}{item.name}{name}')} {{ ... }}\n{_text(what + repeated + planned)}\n")
        lines += _section(item.cls, f"{prefix}{item.name} / ")
    return lines


def _describe(cls: Any, name: str, item: Opt, default: Any) -> str:
    parts = [f"{item.help[:1].upper()}{item.help[1:]}", f"({item.kind.name}"]
    if item.kind.words and item.kind.name in ("flags", "word"):
        parts[-1] += ": " + ", ".join(item.kind.words)
    if default not in (None, "", (), frozenset()):
        parts[-1] += f"; default {item.kind.write(default)}"
        parts[-1] += f", {item.source}" if item.source else ""
    if item.m1:
        parts[-1] += f"; M1 {item.m1}"
    parts[-1] += ")."
    if item.is_required:
        parts.append("Required.")
    if item.is_planned:
        parts.append("Planned.")
    if name == "flags" and PLANNED_FLAGS.get(cls):
        parts.append(f"Planned: {', '.join(PLANNED_FLAGS[cls])}.")
    return _text(" ".join(parts))


def _text(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in ".'" else text


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "") + '"'


if __name__ == "__main__":
    sys.stdout.write(page())
