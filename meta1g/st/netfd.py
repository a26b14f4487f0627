"""Sockets of green threads: every read and write has a timeout, as in statethreads."""
import errno
import os
import socket
from typing import Any, Final

import gevent
from gevent import get_hub

from meta1g.st.sched import TimedOut

_READ: Final = 1
_WRITE: Final = 2


class NetFd:
    """A connected stream socket.

    `read` and `write` try the system call first and wait only if they must; TimedOut
    and OSError tell what went wrong. One green thread may read while another writes.
    """

    __slots__ = ("_readable", "_writable", "peer", "sock")

    def __init__(self, sock: socket.socket, peer: Any = None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.peer = peer
        self._readable: Any = None
        self._writable: Any = None

    def read(self, size: int, timeout: float) -> bytes:
        """Up to `size` octets, b"" at the end of the stream."""
        while True:
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                if self._readable is None:
                    self._readable = get_hub().loop.io(self.sock.fileno(), _READ)
                _wait(self._readable, timeout)

    def has_input(self) -> bool:
        """Whether octets (or the end) are there to be read now."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def write(self, data: bytes, timeout: float) -> None:
        """All of `data`; the timeout counts for each step of progress."""
        sent = self._send(data)
        if sent == len(data):
            return
        view = memoryview(data)[sent:]
        while view:
            if self._writable is None:
                self._writable = get_hub().loop.io(self.sock.fileno(), _WRITE)
            _wait(self._writable, timeout)
            view = view[self._send(view):]

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Close the socket; who waits on it must have been ended before."""
        for watcher in (self._readable, self._writable):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._readable = self._writable = None
        self.sock.close()


def _wait(watcher: Any, timeout: float) -> None:
    with gevent.Timeout(timeout, TimedOut):
        get_hub().wait(watcher)


def connect(family: int, address: Any, timeout: float, source: Any = None) -> NetFd:
    """A connection to `address` (a path for AF_UNIX), bound to `source` first if one is given.

    TimedOut or OSError if it can't be had within `timeout` seconds.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if source is not None:
            sock.bind(source)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(address)
        except BlockingIOError:
            _finish_connect(sock, timeout)
        return NetFd(sock, address)
    except BaseException:
        sock.close()
        raise


def _finish_connect(sock: socket.socket, timeout: float) -> None:
    if sock.family == socket.AF_UNIX:
        raise OSError(errno.EAGAIN, "the listener's queue is full")
    watcher = get_hub().loop.io(sock.fileno(), _WRITE)
    try:
        _wait(watcher, timeout)
    finally:
        watcher.close()
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
