"""Octets both ways between two connections, until both are at their end or nothing moves."""
import socket
from typing import Final

from meta1g.st.netfd import NetFd
from meta1g.st.sched import TimedOut, now, spawn

_PIECE: Final = 64 * 1024  # octets in memory for each way: the next are read when these are written
_JOIN: Final = 60.0  # seconds between two looks at the way back, which ends by itself


class Relay:
    """Passes octets between `near` and `far`, for `idle_timeout` seconds without any.

    `forth` and `back` count them; `reason` says why it ended, "closed" after an end on both sides.
    """

    def __init__(self, near: NetFd, far: NetFd, idle_timeout: float) -> None:
        self._near = near
        self._far = far
        self._idle_timeout = idle_timeout
        self._moved = now()
        self.forth = 0
        self.back = 0
        self.reason = "closed"

    def run(self, first: bytes = b"") -> None:
        """Relay; `first` is for `far`, before all that is read."""
        way_back = spawn(self._pass_back)
        self._pass_forth(first)
        while not way_back.join(_JOIN):
            pass

    def _pass_forth(self, data: bytes) -> None:
        try:
            while data or (data := self._read(self._near)):
                self._far.write(data, self._idle_timeout)
                self.forth += len(data)
                data = b""
            self._far.sock.shutdown(socket.SHUT_WR)
        except (OSError, TimedOut) as error:
            self._end(error)

    def _pass_back(self) -> None:
        try:
            while data := self._read(self._far):
                self._near.write(data, self._idle_timeout)
                self.back += len(data)
            self._near.sock.shutdown(socket.SHUT_WR)
        except (OSError, TimedOut) as error:
            self._end(error)

    def _read(self, netfd: NetFd) -> bytes:
        """The next piece; a way may be silent for as long as the other is not. TimedOut, OSError."""
        while (left := self._moved + self._idle_timeout - now()) > 0:
            try:
                data = netfd.read(_PIECE, left)
            except TimedOut:
                continue
            self._moved = now()
            return data
        raise TimedOut

    def _end(self, error: OSError | TimedOut) -> None:
        """Both ways are over: whoever waits for one of the sockets sees its end."""
        if self.reason == "closed":
            self.reason = (error.strerror or "error") if isinstance(error, OSError) else "timeout"
        for netfd in (self._near, self._far):
            try:
                netfd.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is at its end already
