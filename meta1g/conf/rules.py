"""Rules that concern several options of a section at once; pure."""
from typing import Any

from meta1g.conf.errors import ConfError, Position
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.opt_qmgr import QmgrConf
from meta1g.conf.opt_smar import MapConf, SmarConf
from meta1g.conf.opt_smtps import SmtpsConf
from meta1g.conf.parse import Option, Section

STAGES = ("connect", "mail", "rcpt", "data", "eom")


def check_section(section: Section, conf: Any, errors: list[ConfError]) -> None:
    """The rules of a module's section."""
    if isinstance(conf, QmgrConf):
        _check_qmgr(section, conf, errors)
    elif isinstance(conf, SmarConf):
        _check_smar(section, conf, errors)
    elif isinstance(conf, SmtpsConf):
        for check in (e for e in section.entries if isinstance(e, Section) and e.keyword.lower() == "check"):
            if check.name not in STAGES:
                found = check.name or "none"
                errors.append(ConfError(check.at, f"section check needs a stage as its name, found {found}",
                                        f"one of {', '.join(STAGES)}"))


def _check_qmgr(section: Section, conf: QmgrConf, errors: list[ConfError]) -> None:
    def complain(name: str, message: str) -> None:
        errors.append(ConfError(_where(section, name), message))

    if conf.retry_delay_min > conf.retry_delay_max:
        complain("retry_delay_min", "retry_delay_min is greater than retry_delay_max")
    if conf.disk_space_ok <= conf.disk_space_min:
        complain("disk_space_ok", "disk_space_ok must be greater than disk_space_min")
    part = _part(section, "smtpc")
    given = {e.name.lower() for e in part.entries if isinstance(e, Option)} if part is not None else set()
    if "initial_connections" in given and conf.smtpc.initial_connections > conf.smtpc.connections_max:
        complain("smtpc", "initial_connections is greater than connections_max")
    if conf.iqdb.hash_table_entries <= conf.iqdb.cache_entries_max:
        complain("IQDB", "hash_table_entries must be greater than cache_entries_max")


def _check_smar(section: Section, conf: SmarConf, errors: list[ConfError]) -> None:
    names = {entry.name for entry in conf.map}
    for keyword in ("access_map", "aliases", "mailertable"):
        part = _part(section, keyword)
        if part is None:
            continue
        given = {entry.name.lower() for entry in part.entries if isinstance(entry, Option)}
        if {"file", "name"} <= given:
            errors.append(ConfError(part.at, f"{keyword} has both file and name", "leave one of them out"))
        _check_map(getattr(conf, keyword).name, part.at, names, errors)
    part = _part(section, "local_user_map")
    if part is not None and conf.local_user_map is not None:
        _check_map(conf.local_user_map.name, part.at, names, errors)
    for entry in section.entries:
        if isinstance(entry, Section) and entry.keyword.lower() == "map":
            declared = next((m for m in conf.map if m.name == entry.name), None)
            if declared is not None:
                _check_declared(declared, entry.at, names, errors)


def _check_map(name: str, at: Position, names: set[str], errors: list[ConfError]) -> None:
    if name and name not in names:
        errors.append(ConfError(at, f"map {name} is not declared", f"add map {name} {{ type = ...; }} (M1 3.9.1)"))


def _check_declared(conf: MapConf, at: Position, names: set[str], errors: list[ConfError]) -> None:
    needs = {"hash": ("file",), "cdb": ("file",), "regex": ("file",), "sequence": ("maps",), "socket": ("mapname",)}
    for option in needs.get(conf.type, ()):
        if not getattr(conf, option):
            errors.append(ConfError(at, f"map {conf.name} of type {conf.type} needs option {option}"))
    if conf.type == "socket" and bool(conf.path) == bool(conf.address and conf.port):
        errors.append(ConfError(at, f"map {conf.name} needs either path or address and port"))
    for name in conf.maps:
        _check_map(name, at, names, errors)


def check_service(at: Position, label: str, mcp: McpConf, labels: set[str], errors: list[ConfError]) -> None:
    """The rules of the options by which MCP runs a service."""

    def complain(message: str, hint: str = "") -> None:
        errors.append(ConfError(at, f"section {label}: {message}", hint))

    for option in ("start_action", "path", "arguments"):
        if not getattr(mcp, option):
            complain(f"option {option} is required", "M1 3.7")
    action, listen = mcp.start_action, mcp.listen_socket
    if action and action != "wait" and listen is None:
        complain(f"start_action {action} needs a listen_socket")
    if action == "pass" and mcp.pass_fd_socket is None:
        complain("start_action pass needs pass_fd_socket")
    if listen is not None:
        if listen.type in ("inet", "inet6") and listen.port is None:
            complain(f"listen_socket of type {listen.type} needs a port")
        if listen.type == "unix" and listen.path is None:
            complain("listen_socket of type unix needs a path")
        if listen.address and (listen.type == "inet6") != (":" in listen.address):
            complain(f"listen_socket: address {listen.address} does not fit type {listen.type}")
    if mcp.processes_min > mcp.processes_max:
        complain("processes_min is greater than processes_max")
    if mcp.use_id_in_logfile_name and not mcp.pass_id:
        complain("use_id_in_logfile_name needs pass_id", "M1 8.2(3)")
    if mcp.pass_id and (len(mcp.pass_id) != 2 or mcp.pass_id[0] != "-"):
        complain(f"pass_id must be a hyphen and one character, found {mcp.pass_id}")
    for name in mcp.restart_dependencies:
        if name not in labels:
            complain(f"restart_dependencies names {name}, which is no section")


def _part(section: Section, keyword: str) -> Section | None:
    found = [e for e in section.entries if isinstance(e, Section) and e.keyword.lower() == keyword]
    return found[-1] if found else None


def _where(section: Section, name: str) -> Position:
    for entry in section.entries:
        word = entry.name if isinstance(entry, Option) else entry.keyword
        if word.lower() == name.lower():
            return entry.at
    return section.at
