"""Accepting connections: a limit, a pause at trouble, and a stop that lets sessions finish."""
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
from gevent import get_hub

from meta1g.st.netfd import NetFd
from meta1g.st.pool import IDLE_MAX, Pool
from meta1g.st.sched import Flag, give_way, now, spawn

_BURST: Final = 64  # connections taken per turn of the loop, so that sessions get their turn too
_PAUSE: Final = 0.1  # seconds to wait when descriptors or memory have run out (never spin at EMFILE)
_TROUBLE: Final = 10.0  # seconds between two words about it
_SEND_BUFFER: Final = 64 * 1024  # octets of replies that the kernel keeps for who does not read; else up to 4 MB
_TURN: Final = 0.002  # seconds until a process that may not accept just now looks again
_DRAINED: Final = (errno.EAGAIN, errno.EWOULDBLOCK)
_ABORTED: Final = (errno.ECONNABORTED, errno.EPROTO, errno.EINTR)


class Acceptor:
    """Runs `serve(netfd)` in a green thread for every connection to one of `socks`; threads are used again.

    At most `limit` run at once. Who comes then gets `refusal` and is closed; without one, and while
    `set_limit` allows fewer for a time, connections wait in the kernel's queue.
    """

    def __init__(self, socks: Sequence[socket.socket], limit: int, serve: Callable[[NetFd], Any],
                 refusal: bytes = b"", *, idle_min: int = 0, idle_max: int = IDLE_MAX, turn_file: str = "") -> None:
        """`idle_min` threads are made at the start, `idle_max` are kept (M1 8.5 items 5 and 6).

        With `turn_file` only one of all processes with this file accepts at a time (M1 8.5 item 2.2).
        """
        for sock in socks:
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit both
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._socks = socks
        self._limit = self._most = limit
        self._refusal = refusal
        self._turn_fd = -1
        if turn_file:
            self._turn_fd = os.open(turn_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._serve = serve
        self._pool = Pool(self._run_one, idle_min=idle_min, idle_max=idle_max)
        self._has_room = Flag()
        self._has_room.raise_()
        self._idle = Flag()
        self._idle.raise_()
        self.active = 0
        self.active_max = 0
        self.accepted = 0
        self.refused = 0
        self.on_trouble: Callable[[OSError], Any] = lambda error: None
        self._next_trouble = 0.0
        self._threads: list[Any] = []

    def start(self) -> None:
        """Begin to accept."""
        self._pool.start()
        self._threads = [spawn(self._run, sock) for sock in self._socks]

    def stop(self) -> None:
        """Accept no more; what runs goes on."""
        for thread in self._threads:
            thread.kill()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no connection is served any more; False if some still are after `timeout`."""
        return self._idle.wait(timeout)

    def set_limit(self, limit: int) -> None:
        """Serve at most so many at once from now on; 0 accepts none (M1 9.1)."""
        self._limit = limit
        if self.active < limit or self._refuses:
            self._has_room.raise_()
        else:
            self._has_room.lower()

    @property
    def _refuses(self) -> bool:
        """Whether who comes now is told to go away."""
        return bool(self._refusal) and self._limit >= self._most <= self.active

    def _run(self, sock: socket.socket) -> None:
        watcher = get_hub().loop.io(sock.fileno(), 1)
        while True:
            self._has_room.wait(3600)
            get_hub().wait(watcher)
            if self._turn_fd < 0:
                self._accept_some(sock)
            elif self._take_turn():
                try:
                    self._accept_some(sock)
                finally:
                    fcntl.flock(self._turn_fd, fcntl.LOCK_UN)
            else:
                gevent.sleep(_TURN)

    def _accept_some(self, sock: socket.socket) -> None:
        for _ in range(_BURST):
            if self.active >= self._limit and not self._refuses:
                self._has_room.lower()
                return
            if not self._accept_one(sock):
                return
        give_way()

    def _take_turn(self) -> bool:
        try:
            fcntl.flock(self._turn_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _accept_one(self, listener: socket.socket) -> bool:
        try:
            sock, peer = listener.accept()
        except OSError as error:
            if error.errno in _ABORTED:
                return True
            if error.errno not in _DRAINED:
                self._tell_trouble(error)
                gevent.sleep(_PAUSE)
            return False
        if self._refuses:
            self._refuse(sock)
            return True
        self.accepted += 1
        self.active += 1
        self.active_max = max(self.active, self.active_max)
        self._idle.lower()
        self._pool.put(NetFd(sock, peer))
        return True

    def _tell_trouble(self, error: OSError) -> None:
        if now() >= self._next_trouble:
            self._next_trouble = now() + _TROUBLE
            self.on_trouble(error)

    def _refuse(self, sock: socket.socket) -> None:
        """Say why, as far as that goes without waiting, and close."""
        self.refused += 1
        try:
            sock.send(self._refusal, socket.MSG_DONTWAIT)
        except OSError:
            pass
        sock.close()

    def _run_one(self, netfd: NetFd) -> None:
        """Serve a connection to its end."""
        try:
            self._serve(netfd)
        finally:
            netfd.close()
            self.active -= 1
            if self.active < self._limit or self._refuses:
                self._has_room.raise_()
            if self.active == 0:
                self._idle.raise_()
