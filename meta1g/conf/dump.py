"""A configuration as text again: normalised, or with defaults and flags (`-VVVVV`); pure."""
from typing import Any

from meta1g import __version__
from meta1g.conf.load import Config, Service
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.spec import Opt, Sub, entries


def to_text(config: Config) -> str:
    """The configuration in its own grammar, only what differs from the defaults."""
    lines = _section(config, GlobalConf, 0, is_full=False, has_flags=False)
    for service in config.services:
        lines += _service(service)
    return "\n".join(lines) + "\n"


def _service(service: Service) -> list[str]:
    head = f"{service.keyword} {service.name}".strip()
    body = _section(service.mcp, McpConf, 1, is_full=False, has_flags=False)
    if service.conf is not None:
        body += _section(service.conf, type(service.conf), 1, is_full=False, has_flags=False)
    return ["", f"{head} {{", *body, "}"]


def _section(conf: Any, cls: Any, depth: int, *, is_full: bool, has_flags: bool) -> list[str]:
    pad, lines = "  " * depth, []
    default = cls()
    for name, item in entries(cls).values():
        value = getattr(conf, name)
        if isinstance(item, Opt):
            if has_flags and item.kind.words:
                lines.append(f"{pad}# {item.name}: {', '.join(item.kind.words)}")
            if value is None or (not is_full and value == getattr(default, name)):
                continue
            end = "" if item.kind.is_list else ";"
            equals = "==" if item.kind.name == "condition" else "="
            note = "  # default" if is_full and value == getattr(default, name) else ""
            lines.append(f"{pad}{item.name} {equals} {_shown(item, value)}{end}{note}")
        else:
            lines += _subsections(item, value, getattr(default, name), depth, is_full=is_full, has_flags=has_flags)
    return lines


def _shown(item: Opt, value: Any) -> str:
    return '""' if value == "" else item.kind.write(value)


def _subsections(item: Sub, value: Any, default: Any, depth: int, *, is_full: bool, has_flags: bool) -> list[str]:
    if value is None or (not is_full and value == default):
        return []
    pad, lines = "  " * depth, []
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
        if conf is not None:
            lines += [f"{program} {{", *_section(conf, type(conf), 1, is_full=True, has_flags=level >= 6), "}"]
    return "\n".join(lines) + "\n"
