"""Listening sockets of our own."""
import os
import socket
from typing import Final

from meta1g.st.netfd import family_of

_MASK: Final = 0o117  # owner and group of a Unix socket may connect


def listen_inet(host: str, port: int, backlog: int) -> socket.socket:
    """A socket on this address (empty: all of IPv4; brackets are allowed) and port. OSError."""
    host = host.strip("[]")
    sock = socket.socket(family_of(host), socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(backlog)
    return sock


def listen_unix(path: str, backlog: int) -> socket.socket:
    """A socket at this path, in the place of one that was there before. OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_MASK)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    sock.listen(backlog)
    return sock
