"""Where this process gets its listening socket from: MCP, or a daemon_address of its own (M1 3.7, 8.5)."""
import os
import socket
import stat
from typing import Final

from meta1g.mta.errors import LinkDown
from meta1g.proc.start import Started
from meta1g.st.bind import listen_inet, listen_unix

_PASS_TIMEOUT: Final = 60.0  # seconds until MCP must have passed the socket
_PORT: Final = 8000  # daemon_address without a port (M1 8.5 item 1)


def listening_sockets(started: Started, backlog: int) -> list[socket.socket]:
    """The sockets to accept on, smtpp's too. LinkDown if MCP does not pass one, OSError if an address can't be had."""
    proxy = started.conf.proxy
    is_unix = proxy is not None and proxy.type == "unix"
    return [*_public_sockets(started, backlog),
            *([listen_unix(started.config.queue_path(proxy.path), backlog)] if is_unix else [])]


def _public_sockets(started: Started, backlog: int) -> list[socket.socket]:
    mcp = started.mcp
    if mcp is not None and mcp.pass_fd_socket is not None:
        return [_receive(started.config.queue_path(mcp.pass_fd_socket))]
    if mcp is not None and mcp.start_action == "accept" and stat.S_ISSOCK(os.fstat(0).st_mode):
        return [socket.socket(fileno=os.dup(0))]
    return [_bind(address, backlog) for address in started.conf.daemon_address or (f":{_PORT}",)]


def _receive(path: str) -> socket.socket:
    """Listen at `path` until MCP connects and hands over the descriptor; MCP owns nothing in our folder."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(1)
        listener.settimeout(_PASS_TIMEOUT)
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            raise LinkDown(f"{path}: MCP has not passed a socket") from None
    with connection:
        connection.settimeout(_PASS_TIMEOUT)
        _, fds, _, _ = socket.recv_fds(connection, 16, 1)
    os.unlink(path)
    if not fds:
        raise LinkDown(f"{path}: MCP passed no socket")
    return socket.socket(fileno=fds[0])


def _bind(address: str, backlog: int) -> socket.socket:
    host, _, port = address.rpartition(":")
    return listen_inet(host, int(port or _PORT), backlog)
