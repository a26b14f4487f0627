"""A configuration file to a `Config`: all sections bound and checked (M1 3.1 to 3.6)."""
import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from meta1g.conf.errors import ConfError, ConfErrors, Position, nearest
from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.opt_qmgr import QmgrConf
from meta1g.conf.opt_smar import SmarConf
from meta1g.conf.opt_smtpc import LdaConf, SmtpcConf
from meta1g.conf.opt_smtps import SmtpsConf
from meta1g.conf.parse import Option, Section, parse
from meta1g.conf.rules import check_section
from meta1g.conf.service_rules import check_service, check_together
from meta1g.conf.spec import Sub, bind, entries, sections_with

MODULES: Final[dict[str, Any]] = {
    "qmgr": QmgrConf, "smar": SmarConf, "smtps": SmtpsConf, "smtpc": SmtpcConf, "lda": LdaConf,
}
REPEATABLE: Final = frozenset({"smtps", "smtpc"})  # M1 3.10.2


@dataclass(frozen=True, slots=True)
class Service:
    """A section that MCP runs: `conf` is the module's own configuration, None for a foreign program.

    `places` says where its options stand in the file, by lower-case name.
    """

    keyword: str
    name: str
    mcp: McpConf
    conf: Any
    at: Position = field(compare=False)
    places: Mapping[str, Position] = field(default_factory=dict, compare=False, repr=False)

    @property
    def label(self) -> str:
        """The section's name, or its keyword without one: names logs and processes (M1 8.2 item 3)."""
        return self.name or self.keyword


@dataclass(frozen=True, slots=True)
class Config(GlobalConf):
    """A whole configuration; `file` is where it came from, empty for built-in defaults."""

    file: str = ""
    services: tuple[Service, ...] = ()

    def section(self, keyword: str, name: str = "") -> Service | None:
        """The section with this keyword and name; without a name the unnamed or the only one."""
        found = [s for s in self.services if s.keyword == keyword and (not name or s.name == name)]
        return next((s for s in found if s.name == name), found[0] if found else None)

    def module(self, keyword: str, name: str = "") -> Any:
        """A module's configuration, its defaults if there is no such section."""
        service = self.section(keyword, name)
        return MODULES[keyword]() if service is None else service.conf

    def map_path(self, value: PathValue) -> str:
        """Path of a map or certificate: a default lies beside the configuration file (M1 3.6 item 1)."""
        if value.is_explicit or os.path.isabs(value.text):
            return value.text
        return os.path.join(os.path.dirname(os.path.abspath(self.file)) if self.file else "", value.text)

    @staticmethod
    def queue_path(value: "PathValue | str") -> str:
        """Path of a socket or database: relative to the main queue directory (M1 3.6 item 2)."""
        return value if isinstance(value, str) else value.text

    def global_values(self) -> tuple[Any, ...]:
        """The values of all global options."""
        return tuple(getattr(self, item.name) for item in dataclasses.fields(GlobalConf))


def load_file(path: str) -> Config:
    """Read a file; `.yaml` and `.yml` hold the YAML form. ConfErrors, or OSError if it can't be read."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    return load_text(text, path)


def load_text(text: str, name: str) -> Config:
    """The configuration in `text`; `name` stands in errors. ConfErrors names every mistake."""
    config, errors = _load(text, name)
    if errors:
        raise ConfErrors(errors)
    return config


def load_checked(text: str, name: str) -> Config:
    """As load_text, and what check_services finds is an error, too: all mistakes in one pass."""
    config, errors = _load(text, name)
    spoiled = {error.at.line for error in errors}  # a mistake there may have left an option unset
    errors += [error for error in check_services(config) if error.at.line not in spoiled]
    if errors:
        raise ConfErrors(errors)
    return config


def _load(text: str, name: str) -> tuple[Config, list[ConfError]]:
    if name.endswith((".yaml", ".yml")):
        from meta1g.conf.yamlform import tree_of  # noqa: PLC0415 - keeps yaml out of the daemons' start

        root, errors = tree_of(text, name)
    else:
        root, errors = parse(text, name)
    return load_tree(root, name, errors), errors


def load_tree(root: Section, name: str, errors: list[ConfError]) -> Config:
    """Bind a tree; mistakes go to `errors`."""
    known_global = entries(GlobalConf)
    own = [entry for entry in root.entries if isinstance(entry, Option) or entry.keyword.lower() in known_global]
    values = bind(GlobalConf, Section(root.at, entries=own), errors, elsewhere=_elsewhere)
    services = []
    for entry in root.entries:
        if isinstance(entry, Section) and entry.keyword.lower() not in known_global:
            service = _service(entry, errors)
            if service is not None:
                services.append(service)
    _check_names(services, errors)
    filled = {item.name: getattr(values, item.name) for item in dataclasses.fields(GlobalConf)}
    return Config(**filled, file=name, services=tuple(services))


def _service(section: Section, errors: list[ConfError]) -> Service | None:
    keyword = section.keyword.lower()
    cls = MODULES.get(keyword)
    mcp_names = frozenset(entries(McpConf))
    if cls is None and not any(_word(entry) in mcp_names for entry in section.entries):
        hint = _elsewhere(section.keyword) or nearest(section.keyword, MODULES)
        errors.append(ConfError(section.at, f"unknown section {section.keyword}",
                                hint or "a service of your own needs path and arguments"))
        return None
    mcp_part = Section(section.at, section.keyword, "", [e for e in section.entries if _word(e) in mcp_names])
    mcp = bind(McpConf, mcp_part, errors, elsewhere=_elsewhere)
    conf = None
    if cls is not None:
        conf = bind(cls, section, errors, mcp_names, _elsewhere)
        check_section(section, conf, errors)
    else:
        for entry in section.entries:
            if _word(entry) not in mcp_names:
                errors.append(ConfError(entry.at, f"unknown option {_word(entry)} in section {section.keyword}",
                                        nearest(_word(entry), mcp_names) or "only MCP's options may stand here"))
    places = {_word(entry): entry.at for entry in section.entries}
    return Service(keyword, section.name, mcp, conf, section.at, places)


def _elsewhere(word: str) -> str:
    """A hint where an option or section of this name belongs, empty if nowhere."""
    found = [path for keyword, cls in MODULES.items() for path in sections_with(word, cls, keyword)]
    if list(sections_with(word, McpConf, "")):
        found.insert(0, "every service section")
    if list(sections_with(word, GlobalConf, "")):
        found.insert(0, "the top of the file")
    if not found:
        return ""
    return f"it belongs in {', '.join(found[:3])}{' ...' if found[3:] else ''}"


def _word(entry: Option | Section) -> str:
    return (entry.name if isinstance(entry, Option) else entry.keyword).lower()


def _check_names(services: list[Service], errors: list[ConfError]) -> None:
    seen: dict[tuple[str, str], Service] = {}
    ids: dict[int, Service] = {}
    for service in services:
        key = (service.keyword, service.name)
        shown = f"{service.keyword} {service.name}".strip()
        if key in seen:
            hint = "give each a name of its own" if service.keyword in REPEATABLE else "put them together"
            errors.append(ConfError(service.at, f"section {shown} is there twice",
                                    f"the first is in line {seen[key].at.line}; {hint}"))
        elif service.keyword in MODULES and service.keyword not in REPEATABLE and any(
                other == service.keyword for other, _ in seen):
            errors.append(ConfError(service.at, f"there can be only one section {service.keyword}",
                                    f"only {' and '.join(sorted(REPEATABLE))} may come several times (M1 3.10.2)"))
        seen[key] = service
        if service.keyword == "smtps":
            other = ids.setdefault(service.conf.id, service)
            if other is not service:
                errors.append(ConfError(service.at, f"section {shown} has the same id as {other.label}",
                                        "add id = N; (M1 3.10.2)"))


def check_services(config: Config) -> list[ConfError]:
    """What MCP needs to run the services, beyond what each module needs: required options and names."""
    errors: list[ConfError] = []
    labels = {service.label for service in config.services} | {service.keyword for service in config.services}
    for service in config.services:
        check_service(service, labels, errors)
    check_together(config.services, errors)
    if not config.services:
        errors.append(ConfError(Position(config.file, 1, 1), "no section describes a service"))
    return sorted(errors, key=lambda error: error.at)


def moot_in_use(config: Config) -> list[str]:
    """Options that are set, and have no meaning here, as `section: option: why`."""
    return [f"{service.label}: {line}" for service in config.services if service.conf is not None
            for line in _moot(service.conf)]


def _moot(conf: Any, prefix: str = "") -> Iterator[str]:
    default = type(conf)()
    for field_name, item in entries(type(conf)).values():
        value = getattr(conf, field_name)
        if isinstance(item, Sub):
            for part in value if item.is_repeated else (value,):
                if part is not None:
                    yield from _moot(part, f"{prefix}{item.name} ")
        elif item.moot and value != getattr(default, field_name):
            yield f"{prefix}{item.name}: {item.moot}"
