"""The option tables' own language: frozen dataclasses whose fields describe their options; pure.

`opt` declares an option, `sub` a subsection, `named` a repeated one. `bind` makes the
dataclass from a parsed section and collects every mistake. The tables have no slots: there
is one instance of most, and making slots for all of them takes a quarter of the import.
"""
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from meta1g.conf.errors import ConfError, nearest
from meta1g.conf.kinds import BadValue, Kind, PathValue
from meta1g.conf.parse import Option, Section

KEY: Final = "meta1g"
T = TypeVar("T")
_EMPTY: Final[tuple[Any, ...]] = (None, "", (), frozenset(), PathValue("", True))


@dataclass(frozen=True, slots=True)
class Opt:
    """One option: its name as in the manual, kind, manual section and a line of help.

    `is_required`: must be given. `moot` says why it is read for the sake of MeTA1's files only. `source` says where a
    default comes from that the manual does not give. `about` explains words.
    """

    name: str
    kind: Kind
    m1: str
    help: str
    is_required: bool = False
    source: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    moot: str = ""


@dataclass(frozen=True, slots=True)
class Sub:
    """A subsection; `is_repeated` may come several times, `has_name` then needs different names."""

    name: str
    cls: Any
    m1: str
    help: str
    is_repeated: bool = False
    has_name: bool = False


def opt(name: str, kind: Kind, default: Any = None, *, m1: str, help: str, required: bool = False, source: str = "",
        about: Mapping[str, str] | None = None, moot: str = "") -> Any:
    """Declare an option."""
    item = Opt(name, kind, m1, help, required, source, about or {}, moot)
    return field(default=default, metadata={KEY: item})


def sub(name: str, cls: Any, *, m1: str, help: str, optional: bool = False) -> Any:
    """Declare a subsection; unless `optional` its defaults count when it is missing."""
    default = None if optional else cls()
    return field(default=default, metadata={KEY: Sub(name, cls, m1, help)})


def named(name: str, cls: Any, *, m1: str, help: str, has_name: bool = True) -> Any:
    """Declare a subsection that may be repeated; the field is a tuple."""
    return field(default=(), metadata={KEY: Sub(name, cls, m1, help, True, has_name)})


def entries(cls: Any) -> dict[str, tuple[str, Opt | Sub]]:
    """A section's options and subsections by lower-case name, with their field names."""
    found = {}
    for item in dataclasses.fields(cls):
        entry = item.metadata.get(KEY)
        if entry is not None:
            found[entry.name.lower()] = (item.name, entry)
    return found


def sections_with(word: str, cls: Any, path: str) -> Iterator[str]:
    """Where below `path` an option or section of this name may stand."""
    known = entries(cls)
    if word.lower() in known:
        yield path
    for _, item in known.values():
        if isinstance(item, Sub):
            yield from sections_with(word, item.cls, f"{path} / {item.name}")


def joined(found: Iterable[Option | Section], names: Collection[str]) -> list[Option | Section]:
    """The entries, with sections of one of these names (lower case) put together: later options win (M1 3.1)."""
    first: dict[str, Section] = {}
    result: list[Option | Section] = []
    for entry in found:
        word = entry.keyword.lower() if isinstance(entry, Section) else ""
        if isinstance(entry, Section) and word in first:
            first[word].entries.extend(entry.entries)
            continue
        if isinstance(entry, Section) and word in names:
            entry = first[word] = dataclasses.replace(entry, entries=list(entry.entries))
        result.append(entry)
    return result


def _nowhere(_: str) -> str:
    return ""


def bind(cls: type[T], section: Section, errors: list[ConfError], skip: frozenset[str] = frozenset(),
         elsewhere: Callable[[str], str] = _nowhere) -> T:
    """The dataclass of a section; mistakes go to `errors` and leave defaults behind.

    Names in `skip` (lower case) are somebody else's. `elsewhere` gives a hint about a name unknown here.
    """
    known = entries(cls)
    single = {name for name, (_, item) in known.items() if isinstance(item, Sub) and not item.is_repeated}
    section = dataclasses.replace(section, entries=joined(section.entries, single))
    values: dict[str, Any] = {}
    if any(item.name == "name" for item in dataclasses.fields(cls)):  # type: ignore[arg-type]
        values["name"] = section.name
    for entry in section.entries:
        word = entry.name if isinstance(entry, Option) else entry.keyword
        if word.lower() in skip:
            continue
        found = known.get(word.lower())
        if found is None:
            is_option = isinstance(entry, Option)
            names = [item.name for _, item in known.values() if isinstance(item, Opt) is is_option]
            where = f" in section {section.keyword}" if section.keyword else ""
            errors.append(ConfError(entry.at, f"unknown {'option' if is_option else 'section'} {word}{where}",
                                    _as_flag(word, known) or elsewhere(word) or nearest(word, [*names, *skip])))
        elif isinstance(entry, Option) and isinstance(found[1], Opt):
            _bind_option(found[0], found[1], entry, values, errors)
        elif isinstance(entry, Section) and isinstance(found[1], Sub):
            part = bind(found[1].cls, entry, errors, elsewhere=elsewhere)
            _bind_section(found[0], found[1], entry, part, values, errors)
        else:
            is_section = isinstance(found[1], Sub)
            errors.append(ConfError(entry.at, f"{word} is {'a section' if is_section else 'an option'}",
                                    f"write {word} {'{ ... }' if is_section else '= value;'}"))
    _check_required(known, section, values, errors)
    return cls(**values)


def _as_flag(word: str, known: dict[str, tuple[str, Opt | Sub]]) -> str:
    for _, item in known.values():
        if isinstance(item, Opt) and item.kind.name == "flags":
            for flag in item.kind.words:
                if flag.lower() == word.lower():
                    return f"it is a flag: {item.name} = {{ {flag} }}"
    return ""


def _check_required(known: dict[str, tuple[str, Opt | Sub]], section: Section, values: dict[str, Any],
                    errors: list[ConfError]) -> None:
    places = {entry.name.lower(): entry.at for entry in section.entries if isinstance(entry, Option)}
    for word, (name, item) in known.items():
        if not isinstance(item, Opt) or not item.is_required:
            continue
        hint = f"{item.name} is one of {', '.join(item.kind.words)}" if item.kind.words else ""
        if word not in places:
            errors.append(ConfError(section.at, f"section {section.keyword} needs option {item.name}", hint))
        elif name in values and values[name] in _EMPTY:
            errors.append(ConfError(places[word], f"{item.name} may not be empty", hint))


def _bind_option(name: str, item: Opt, option: Option, values: dict[str, Any], errors: list[ConfError]) -> None:
    if option.is_list and not item.kind.is_list:
        errors.append(ConfError(option.at, f"{item.name} takes one {item.kind.name}, not a list", "leave out { }"))
        return
    if option.is_condition is not (item.kind.name == "condition"):
        equals, what = ("=", "value") if option.is_condition else ("==", "expression")
        errors.append(ConfError(option.at, f"{item.name} is set with {equals}", f"write {item.name} {equals} {what};"))
        return
    try:
        values[name] = item.kind.read(option.values)
    except BadValue as error:
        at = error.value or (option.values[0] if option.values else None)
        shown = f", found {at.text}" if at is not None and error.expected.startswith("expected") else ""
        shown = "" if "found" in error.expected else shown
        errors.append(ConfError(at.at if at else option.at, f"{item.name}: {error.expected}{shown}", error.hint))


def _bind_section(name: str, item: Sub, section: Section, value: Any, values: dict[str, Any],
                  errors: list[ConfError]) -> None:
    if not item.is_repeated:
        if section.name:
            errors.append(ConfError(section.at, f"section {item.name} takes no name"))
        values[name] = value
        return
    if item.has_name:
        before = [other.name for other in values.get(name, ())]
        if not section.name:
            errors.append(ConfError(section.at, f"section {item.name} needs a name", f"{item.name} NAME {{ ... }}"))
        elif section.name in before:
            errors.append(ConfError(section.at, f"section {item.name} {section.name} is there twice"))
    values[name] = (*values.get(name, ()), value)
