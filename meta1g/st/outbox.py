"""What green threads send over a connection that they share: one write for all of a turn of the loop."""
from collections.abc import Callable
from typing import Any

from meta1g.st.netfd import NetFd, reason_of
from meta1g.st.sched import Flag, TimedOut, soon, spawn


class Outbox:
    """Octets on their way to a peer that may be slow to read.

    `on_trouble(reason)` is called once if it does not read for `timeout` seconds, or more than `most` octets wait;
    nothing is sent after that. That the connection has ended is left to who reads from it.
    """

    def __init__(self, netfd: NetFd, timeout: float, most: int, on_trouble: Callable[[str], Any]) -> None:
        self._netfd = netfd
        self._timeout = timeout
        self._most = most
        self._on_trouble = on_trouble
        self._out: list[bytes] = []
        self._is_draining = False
        self._is_over = False
        self._idle = Flag()
        self._idle.raise_()

    @property
    def is_empty(self) -> bool:
        """Whether all has left this process."""
        return not self._out and not self._is_draining

    def put(self, octets: bytes) -> None:
        """Send this at the end of the turn, with all else that is put until then."""
        self._out.append(octets)
        if len(self._out) == 1 and not self._is_draining:
            soon(self._flush)

    def wait_drained(self, timeout: float) -> bool:
        """While the peer is slow: wait until it has read all; False if that takes longer than `timeout` seconds."""
        return self._idle.wait(timeout)

    def close(self) -> None:
        """What was not sent never will be."""
        self._is_over = True
        self._out = []
        self._idle.raise_()

    def _flush(self) -> None:
        # The loop's own callback may not wait, so a full socket is left to a green thread.
        out = self._out
        if self._is_over or not out:
            return
        octets = out[0] if len(out) == 1 else b"".join(out)
        try:
            sent = self._netfd.sock.send(octets)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # who reads sees the same
        self._out = []
        if sent < len(octets):
            self._is_draining = True
            self._idle.lower()
            spawn(self._drain, octets[sent:])

    def _drain(self, octets: bytes) -> None:
        """Write `octets` and what is put meanwhile, waiting for the peer to read."""
        try:
            while octets and not self._is_over:
                self._netfd.write(octets, self._timeout)
                octets, self._out = b"".join(self._out), []
                if len(octets) > self._most:
                    raise OSError("peer does not read")
        except (OSError, TimedOut) as error:
            if not self._is_over:
                self.close()
                self._on_trouble(reason_of(error))
        finally:
            self._is_draining = False
            self._idle.raise_()
