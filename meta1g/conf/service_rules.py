"""Rules of the options by which MCP runs a service, and of sections that depend on one another; pure."""
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from meta1g.conf.errors import ConfError, Position, nearest
from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_mcp import ListenSocket, McpConf
from meta1g.conf.opt_qmgr import QmgrConf
from meta1g.conf.opt_smar import SmarConf
from meta1g.conf.opt_smtpc import SmtpcConf
from meta1g.conf.opt_smtps import SmtpsConf
from meta1g.conf.opt_tls import SocketConf

_ALONE: Final = frozenset({"qmgr", "smar"})  # M1 8.2: their number of processes must be 1
_NEED_ACCESS: Final = frozenset({"greylisting", "fullgreylisting", "rcpt_conf", "lookup_session_conf"})
Complain = Callable[[str, str, str], None]  # option, message, hint


class Service(Protocol):
    """What these rules read of `load.Service`."""

    @property
    def keyword(self) -> str: ...  # noqa: D102

    @property
    def label(self) -> str: ...  # noqa: D102

    @property
    def mcp(self) -> McpConf: ...  # noqa: D102

    @property
    def conf(self) -> Any: ...  # noqa: D102

    @property
    def at(self) -> Position: ...  # noqa: D102

    @property
    def places(self) -> Mapping[str, Position]: ...  # noqa: D102


def _complainer(service: Service, errors: list[ConfError]) -> Complain:
    def complain(option: str, message: str, hint: str) -> None:
        at = service.places.get(option.lower(), service.at)
        errors.append(ConfError(at, f"section {service.label}: {message}", hint))

    return complain


def check_service(service: Service, labels: set[str], errors: list[ConfError]) -> None:
    """The rules of one service; `labels` are the sections that there are."""
    complain, mcp = _complainer(service, errors), service.mcp
    for option in ("start_action", "path", "arguments"):
        if getattr(mcp, option) in ("", None, PathValue("", True)):
            complain(option, f"option {option} is required", "M1 3.7")
    _check_sockets(mcp, complain)
    if mcp.listen_socket is not None:
        _check_listen(mcp.listen_socket, complain)
    if mcp.processes_min > mcp.processes_max:
        complain("processes_min", f"processes_min {mcp.processes_min} is greater than processes_max "
                 f"{mcp.processes_max}", f"set processes_max = {mcp.processes_min};")
    if mcp.processes_max > 1 and service.keyword in _ALONE:
        complain("processes_max", "there can be only one process", "M1 8.2")
    elif mcp.processes_max > 1 and mcp.start_action == "pass":
        complain("processes_max", "a socket is passed to one process only", "start_action = accept; or, for smtps, "
                 f"processes = {mcp.processes_max}; instead (M1 8.2)")
    if mcp.use_id_in_logfile_name and not mcp.pass_id:
        complain("use_id_in_logfile_name", "use_id_in_logfile_name needs pass_id", "M1 8.2(3)")
    if mcp.pass_id and (len(mcp.pass_id) != 2 or mcp.pass_id[0] != "-"):
        complain("pass_id", f"pass_id must be a hyphen and one character, found {mcp.pass_id}", 'such as "-i"')
    for name in mcp.restart_dependencies:
        if name not in labels:
            complain("restart_dependencies", f"restart_dependencies names {name}, which is no section",
                     nearest(name, labels))
    _check_proxy(service.conf, complain)
    if isinstance(service.conf, SmtpsConf) and service.conf.daemon_address and mcp.pass_fd_socket is not None:
        complain("daemon_address", "daemon_address and pass_fd_socket can't be used together",
                 "leave out daemon_address (M1 8.5)")


def _check_proxy(conf: Any, complain: Complain) -> None:
    """What a generic socket specification (M1 3.7 item 2) needs here."""
    proxy = conf.proxy if isinstance(conf, SmtpsConf | SmtpcConf) else None
    if proxy is None:
        return
    for option, hint in _proxy_needs(proxy, is_server=isinstance(conf, SmtpsConf)):
        if not getattr(proxy, option):
            complain("proxy", f"proxy of type {proxy.type} needs {option}", hint)
    if proxy.address and (proxy.type == "inet6") != (":" in proxy.address):
        complain("proxy", f"proxy: address {proxy.address} does not fit type {proxy.type}", "")


def _proxy_needs(proxy: SocketConf, *, is_server: bool) -> list[tuple[str, str]]:
    if proxy.type == "unix":
        return [("path", "add path = PATH;")]
    return [("address", "the address that smtpp connects from")] if is_server else [("port", "that of smtpp -l")]


def _check_sockets(mcp: McpConf, complain: Complain) -> None:
    action = mcp.start_action
    if action and action != "wait" and mcp.listen_socket is None:
        complain("start_action", f"start_action {action} needs a listen_socket",
                 "add listen_socket { type = inet; port = N; }")
    if action == "pass" and mcp.pass_fd_socket is None:
        complain("start_action", "start_action pass needs pass_fd_socket", "add pass_fd_socket = PATH;")


def _check_listen(listen: ListenSocket, complain: Complain) -> None:
    if listen.type in ("inet", "inet6") and listen.port is None:
        complain("listen_socket", f"listen_socket of type {listen.type} needs a port", "add port = N;")
    if listen.type == "unix" and listen.path is None:
        complain("listen_socket", "listen_socket of type unix needs a path", "add path = PATH;")
    if listen.address and (listen.type == "inet6") != (":" in listen.address):
        complain("listen_socket", f"listen_socket: address {listen.address} does not fit type {listen.type}", "")


def check_together(services: Iterable[Service], errors: list[ConfError]) -> None:
    """Values of one section that another section depends on."""
    services = list(services)
    resolvers = [service.conf for service in services if isinstance(service.conf, SmarConf)]
    for service in services:
        if isinstance(service.conf, SmtpsConf):
            _check_access(service.conf, resolvers, _complainer(service, errors))
        if not isinstance(service.conf, QmgrConf):
            continue
        complain = _complainer(service, errors)
        for other in services:
            if isinstance(other.conf, SmtpsConf):
                _check_queue(service.conf, other, complain)
        for dns in (resolver.dns for resolver in resolvers):
            total = (dns.retries + 1) * dns.timeout
            if service.conf.smar_timeout <= total:  # M1 8.3(9)
                complain("SMAR_timeout", f"SMAR_timeout {service.conf.smar_timeout}s is not larger than all tries of "
                         f"DNS together, {total}s", "raise it, or lower retries or timeout of DNS in section smar")


def _check_access(server: SmtpsConf, resolvers: list[SmarConf], complain: Complain) -> None:
    """What of a server needs the access map, and what SMAR has to offer (M1 3.10 items 4 and 22)."""
    needing = sorted(_NEED_ACCESS & server.flags)
    if server.protected_recipients is not None:
        needing.append("protected_recipients")
    if needing and "access" not in server.flags:
        complain("flags", f"{needing[0]} needs the access map", "add access to the flags")
    greylisting = sorted({"greylisting", "fullgreylisting"} & server.flags)
    if greylisting and resolvers and all(resolver.greylisting is None for resolver in resolvers):
        complain("flags", f"{greylisting[0]} must be enabled in SMAR, too", "add greylisting { } to section smar")


def _check_queue(qmgr: QmgrConf, server: Service, complain: Complain) -> None:
    most = server.conf.recipients_per_transaction_max
    if qmgr.aq_entries_max <= most:  # M1 3.8(1)
        complain("AQ_entries_max", f"AQ_entries_max {qmgr.aq_entries_max} is not larger than "
                 f"recipients_per_transaction_max {most} of section {server.label}", "raise the one or lower the other")
