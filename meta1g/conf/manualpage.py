"""The options of docs/manual.md from the option tables: `python -m meta1g.conf.manualpage docs/manual.md`.

Rules
    What stands above the mark is written by hand and stays. Below it stand the options by section of MeTA1's
    manual, and those that are new. An option is the same unless its table calls it moot.
"""
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from meta1g.conf.load import MODULES
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.opt_tls import ServerEntry
from meta1g.conf.spec import Opt, Sub, entries

MARK: Final = "<!-- Made by python -m meta1g.conf.manualpage "
_OPTIONS: Final = """
# Options

Numbers are items of the manual. *Same* is what [deviations.md](deviations.md) does not name. Default, range and unit of
each are in [meta1.conf(5)](../man/meta1.conf.5).
"""
_PARTS: Final[dict[str, Any]] = {
    "global": GlobalConf, "every service": McpConf, **MODULES, "entries of maps": ServerEntry,
}


class Row(NamedTuple):
    """An option or section of the tables, and where it stands."""

    where: str
    item: Opt | Sub


def renewed(text: str) -> str:
    """The page with its options made anew. ValueError if the mark is missing."""
    at = text.index(MARK)
    end = text.index("\n", at) + 1
    return text[:end] + _OPTIONS + "".join(_sections()) + "".join(_new())


def rows() -> list[Row]:
    """All options and sections, each once for each place."""
    return [row for where, cls in _PARTS.items() for row in _rows(cls, where)]


def _rows(cls: Any, where: str) -> Iterator[Row]:
    for _, item in entries(cls).values():
        yield Row(where, item)
        if isinstance(item, Sub):
            yield from _rows(item.cls, f"{where} / {item.name}")


def numbers(m1: str) -> list[tuple[str, str]]:
    """Section and item of each reference in `m1`: `3.10(4), 8.5(2)`."""
    found = []
    for reference in m1.split(","):
        section, _, item = reference.strip().rstrip(")").partition("(")
        found.append((section, item))
    return found


def _key(number: str) -> list[int]:
    return [int(part) for part in number.split(".")] if number else []


def _sections() -> Iterator[str]:
    found: dict[str, dict[tuple[str, str, str], list[str]]] = {}
    for where, item in rows():
        moot = item.moot if isinstance(item, Opt) else ""
        for section, number in numbers(item.m1) if item.m1 else ():
            key = number, _name(item), f"no effect: {_text(moot)}" if moot else "same"
            found.setdefault(section, {}).setdefault(key, []).append(where)
    for section in sorted(found, key=_key):
        yield f"\n## {section}\n\n| item | option | in | here |\n| --- | --- | --- | --- |\n"
        for (number, name, here), places in sorted(found[section].items(), key=lambda pair: _key(pair[0][0])):
            yield f"| {number} | {name} | {', '.join(places)} | {here} |\n"


def _new() -> Iterator[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for where, item in rows():
        if not item.m1:
            found.setdefault((_name(item), _text(item.help)), []).append(where)
    yield "\n## New in meta1g\n\n| option | in | what |\n| --- | --- | --- |\n"
    for (name, text), places in found.items():
        yield f"| {name} | {', '.join(places)} | {text} |\n"


def _name(item: Opt | Sub) -> str:
    return f"`{item.name}`" if isinstance(item, Opt) else f"`{item.name} {{}}`"


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(renewed(page.read_text()))
