"""Sockets of green threads: every read and write has a timeout, as in statethreads."""
import errno
import os
import socket
from time import monotonic
from typing import Any, Final

from gevent import get_hub

from meta1g.st.wait import Deadlines, TimedOut, deadlines

_READ: Final = 1
_WRITE: Final = 2
_MORE: Final = getattr(socket, "MSG_MORE", 0)  # Linux: one segment for the last octets and the end of the stream


class NetFd:
    """A connected stream socket.

    `read` and `write` try the system call first and wait only if they must; but a `read` after
    a `write` waits first, since an answer takes its time. TimedOut and OSError tell what went
    wrong. One green thread may read while another writes.
    """

    __slots__ = ("_deadlines", "_expects_answer", "_readable", "_writable", "peer", "sock")

    def __init__(self, sock: socket.socket, peer: Any = None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.peer = peer
        self._readable: Any = None
        self._writable: Any = None
        self._expects_answer = False
        self._deadlines: Deadlines = deadlines()

    def read(self, size: int, timeout: float) -> bytes:
        """Up to `size` octets, b"" at the end of the stream."""
        if self._expects_answer:
            self._expects_answer = False
            self.await_input(timeout)
        while True:
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                self.await_input(timeout)

    def peek(self, size: int, timeout: float) -> bytes:
        """Up to `size` octets that the next read has again, b"" at the end of the stream."""
        while True:
            try:
                return self.sock.recv(size, socket.MSG_PEEK)
            except BlockingIOError:
                self.await_input(timeout)

    def await_input(self, timeout: float) -> None:
        """Wait until octets (or the end) are there; TimedOut."""
        watcher = self._readable
        if watcher is None:
            watcher = self._readable = self._deadlines.hub.loop.io(self.sock.fileno(), _READ)
        self._deadlines.wait(watcher.start, watcher.stop, timeout)

    def has_input(self) -> bool:
        """Whether octets (or the end) are there to be read now."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def write(self, data: bytes, timeout: float, *, is_last: bool = False, in_all: bool = False) -> None:
        """All of `data`; the timeout counts for each step of progress, or for the whole (`in_all`).

        What `is_last` leaves together with the end of the stream: who says so closes at once.
        """
        self._expects_answer = True
        sent = self._send(data, _MORE if is_last else 0)
        if sent == len(data):
            return
        view = memoryview(data)[sent:]
        end = monotonic() + timeout if in_all else 0.0
        while view:
            self.await_room(max(end - monotonic(), 0.0) if in_all else timeout)
            view = view[self._send(view):]

    def await_room(self, timeout: float) -> None:
        """Wait until the kernel takes octets again; TimedOut."""
        watcher = self._writable
        if watcher is None:
            watcher = self._writable = self._deadlines.hub.loop.io(self.sock.fileno(), _WRITE)
        self._deadlines.wait(watcher.start, watcher.stop, timeout)

    def _send(self, data: bytes | memoryview, flags: int = 0) -> int:
        try:
            return self.sock.send(data, flags)
        except BlockingIOError:
            return 0

    def end(self) -> None:
        """Nothing more will be written: this kind of stream has no word for it."""

    def close(self) -> None:
        """Close the socket; who waits on it must have been ended before."""
        for watcher in (self._readable, self._writable):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._readable = self._writable = None
        self.sock.close()


def family_of(ip: str) -> int:
    """AF_INET6 or AF_INET, as the address needs."""
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def reason_of(error: Exception) -> str:
    """Why a connection can't be had or has ended, in a few words."""
    if isinstance(error, TimedOut):
        return "timeout"
    return (error.strerror if isinstance(error, OSError) else str(error)) or "error"


def why_not_bound(ip: str) -> str:
    """Why no connection can begin at this local address; empty if one can."""
    try:
        with socket.socket(family_of(ip), socket.SOCK_STREAM) as trial:
            trial.bind((ip, 0))
    except OSError as error:
        return reason_of(error)
    return ""


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
        deadlines().wait(watcher.start, watcher.stop, timeout)
    finally:
        watcher.close()
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
