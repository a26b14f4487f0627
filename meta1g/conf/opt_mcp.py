"""Options that MCP reads in every service section (M1 3.7, 8.2)."""
from dataclasses import dataclass

from meta1g.conf import kinds
from meta1g.conf.kinds import PathValue
from meta1g.conf.spec import opt, sub

START_ACTIONS = {
    "nostartaccept": "MCP accepts, and starts a process for each connection",
    "accept": "MCP binds the socket, the process accepts on its standard input",
    "pass": "MCP binds the socket and passes it over pass_fd_socket",
    "wait": "the process needs no socket",
}


@dataclass(frozen=True)
class ListenSocket:
    """The socket on which a process listens; MCP binds it."""

    type: str = opt("type", kinds.enum("inet", "inet6", "unix"), "", m1="3.7(2)", help="kind of socket", required=True)
    port: int | None = opt("port", kinds.PORT, m1="3.7(2.1.1)", help="port number")
    address: str = opt("address", kinds.ip(), "", m1="3.7(2.1.2)", help="address; default: all of the host's")
    path: PathValue | None = opt("path", kinds.PATH, m1="3.7(2.3.1)", help="path of a Unix socket")
    umask: int | None = opt("umask", kinds.count(0, 0o777, write=kinds.octal), m1="3.7(2.3.2)",
                            help="umask of a Unix socket; default: 007")
    user: str = opt("user", kinds.STRING, "", m1="3.7(2.3.3)", help="owner of a Unix socket")
    group: str = opt("group", kinds.STRING, "", m1="3.7(2.3.4)", help="group of a Unix socket")


@dataclass(frozen=True)
class McpConf:
    """How MCP runs a service."""

    start_action: str = opt("start_action", kinds.enum(*START_ACTIONS), "", m1="3.7(1)", about=START_ACTIONS,
                            help="how MCP starts it; must be given")
    listen_socket: ListenSocket | None = sub("listen_socket", ListenSocket, m1="3.7(2)", optional=True,
                                             help="socket on which the process listens")
    pass_fd_socket: PathValue | None = opt("pass_fd_socket", kinds.PATH, m1="3.7(3)",
                                           help="Unix socket over which MCP passes the listening socket")
    user: str = opt("user", kinds.STRING, "", m1="3.7(4)", help="user to run as")
    group: str = opt("group", kinds.STRING, "", m1="3.7(5)", help="group to run as; default: the user's")
    restart_dependencies: tuple[str, ...] = opt(
        "restart_dependencies", kinds.many(kinds.STRING), (), m1="3.7(6)",
        help="components to restart when this one was restarted")
    path: PathValue | None = opt("path", kinds.PATH, m1="3.7(7)", help="program to run; must be given")
    arguments: str = opt("arguments", kinds.STRING, "", m1="3.7(8)",
                         help="its arguments, the program's name first; must be given")
    pass_id: str = opt("pass_id", kinds.STRING, "", m1="3.7(9)", help="option by which the process gets its number")
    failure_max: int | None = opt("failure_max", kinds.count(), m1="3.7(10)",
                                  help="failures allowed before MCP gives up; 0: never")
    processes_max: int = opt("processes_max", kinds.count(1, 255), 1, m1="8.2(1)", help="processes at most")
    processes_min: int = opt("processes_min", kinds.count(1, 255), 1, m1="8.2(2)", help="processes at least")
    use_id_in_logfile_name: bool = opt("use_id_in_logfile_name", kinds.BOOLEAN, False, m1="8.2(3)",
                                       help="a log file for each process")
    working_directory: str = opt("working_directory", kinds.STRING, "", m1="8.2(4)", help="folder to run in")
