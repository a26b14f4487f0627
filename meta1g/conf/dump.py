"""A configuration as text again: normalised, or with defaults and flags (`-VVVVV`); pure."""
from typing import Any

from meta1g import __version__
from meta1g.conf.errors import Position
from meta1g.conf.kinds import PathValue
from meta1g.conf.load import MODULES, Config, Service
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.spec import Opt, Sub, entries


def to_text(config: Config) -> str:
    """The configuration in its own grammar, only what differs from the defaults."""
    lines = _section(config, GlobalConf, 0, is_full=False, has_flags=False)
    for service in config.services:
        lines += _service(service)
    return "\n".join(lines) + "\n"


def full_text(config: Config) -> str:
    """As to_text, with all that is left at its default; a section of each module if there are no services."""
    nowhere = Position("", 1, 1)
    services = config.services or [Service(name, "", McpConf(), cls(), nowhere) for name, cls in MODULES.items()]
    lines = _section(config, GlobalConf, 0, is_full=True, has_flags=True)
    for service in services:
        lines += _service(service, is_full=True)
    return "\n".join(lines) + "\n"


def _service(service: Service, *, is_full: bool = False) -> list[str]:
    head = f"{service.keyword} {service.name}".strip()
    body = _section(service.mcp, McpConf, 1, is_full=is_full, has_flags=is_full)
    if service.conf is not None:
        body += _section(service.conf, type(service.conf), 1, is_full=is_full, has_flags=is_full)
    return ["", f"{head} {{", *body, "}"]


def _section(conf: Any, cls: Any, depth: int, *, is_full: bool, has_flags: bool) -> list[str]:
    pad, lines = "  " * depth, []
    default = cls()
    for name, item in entries(cls).values():
        value = getattr(conf, name)
        if isinstance(item, Opt):
            if has_flags and item.kind.words:
                lines.append(f"{pad}# {item.name}: {', '.join(item.kind.words)}")
            if value != getattr(default, name):
                lines.append(pad + _line(item, value))
            elif is_full:
                lines.append(pad + _default_line(item, value))
        else:
            lines += _subsections(item, value, getattr(default, name), depth, is_full=is_full, has_flags=has_flags)
    return lines


def _line(item: Opt, value: Any) -> str:
    equals = "==" if item.kind.name == "condition" else "="
    return f"{item.name} {equals} {_shown(item, value)}{'' if item.kind.is_list else ';'}"


def _default_line(item: Opt, value: Any) -> str:
    """A default as it would be written; as a comment if writing it would mean something else (M1 3.6)."""
    if value in (None, ()) or (value == "" and item.kind.name != "string"):
        return f"# {item.name} is not set"
    return f"{'# ' if isinstance(value, PathValue) else ''}{_line(item, value)}  # default"


def _shown(item: Opt, value: Any) -> str:
    return '""' if value == "" else item.kind.write(value)


def _subsections(item: Sub, value: Any, default: Any, depth: int, *, is_full: bool, has_flags: bool) -> list[str]:
    pad, lines = "  " * depth, []
    if not is_full and value == default:
        return []
    if value in (None, ()):
        return [f"{pad}# {item.name} {{ ... }} is not set"] if is_full else []
    for conf in value if item.is_repeated else (value,):
        label = getattr(conf, "name", "") if item.is_repeated else ""
        name = f" {label}" if label else ""
        lines.append(f"{pad}{item.name}{name} {{")
        lines += _section(conf, item.cls, depth + 1, is_full=is_full, has_flags=has_flags)
        lines.append(f"{pad}}}")
    return lines


def version_text(program: str, level: int, config: Config, conf: Any) -> str:
    """What `-V`, given `level` times, prints (M1 3.1): 5 shows the configuration, 6 all flags too."""
    lines = [f"{program}: meta1g-{__version__}"]
    if level >= 2:
        lines.append(f"configuration file: {config.file or 'none'}")
    if level >= 5:
        lines += _section(config, GlobalConf, 0, is_full=True, has_flags=level >= 6)
        for service in config.services if program == "mcp" else ():
            head = f"{service.keyword} {service.name}".strip()
            lines += [f"{head} {{", *_section(service.mcp, McpConf, 1, is_full=True, has_flags=level >= 6), "}"]
        if conf is not None:
            lines += [f"{program} {{", *_section(conf, type(conf), 1, is_full=True, has_flags=level >= 6), "}"]
    return "\n".join(lines) + "\n"
