"""Listening sockets that MCP binds for others, and passing them on (M1 3.7)."""
import grp
import os
import pwd
import socket

from meta1g.conf.opt_mcp import ListenSocket
from meta1g.mta import limits


def bind(spec: ListenSocket, path: str) -> socket.socket:
    """The socket of a `listen_socket` section; `path` is the resolved one of a Unix socket.

    OSError or KeyError (unknown user or group) if it can't be had.
    """
    if spec.type == "unix":
        return _bind_unix(spec, path)
    family = socket.AF_INET6 if spec.type == "inet6" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a listener of its own (M1 3.10.2)
        assert spec.port is not None
        sock.bind((spec.address or "", spec.port))
        sock.listen(limits.LISTEN_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(spec: ListenSocket, path: str) -> socket.socket:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
        uid = pwd.getpwnam(spec.user).pw_uid if spec.user else -1
        gid = grp.getgrnam(spec.group).gr_gid if spec.group else -1
        if uid >= 0 or gid >= 0:
            os.chown(path, uid, gid)
        os.chmod(path, 0o777 & ~(0o007 if spec.umask is None else spec.umask))
        sock.listen(limits.LISTEN_BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def pass_to(path: str, sock: socket.socket) -> bool:
    """Hand `sock` to the process that listens at `path`; False if it is not there yet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(path)
            socket.send_fds(connection, [b"socket"], [sock.fileno()])
        except OSError:
            return False
    return True
