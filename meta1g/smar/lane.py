"""Sockets to a nameserver: UDP with a random port, TCP with a length before each message (RFC 1035 4.2).

`waiting` holds what has been sent and not been answered, by id; whose they are is the
DNS thread's business.
"""
import random
import socket
import struct
from typing import Any, Final

_IDS: Final = 65536  # RFC 1035 4.1.1: 16 bits
_FULL: Final = 16384  # ids in use: a quarter, so that a free one is found soon
_DATAGRAM: Final = 65535
_READ: Final = 65536
_BATCH: Final = 200  # datagrams taken in one turn, so that other sockets get theirs
_LENGTH: Final = struct.Struct(">H")
_BUFFER: Final = 1 << 20  # octets the kernel keeps for us: 2000 answers at once


class Lane:
    """One socket and the queries that wait for an answer on it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.waiting: dict[int, Any] = {}
        self.used = 0
        self.last_used = 0.0
        sock.setblocking(False)

    @property
    def is_full(self) -> bool:
        """Whether another lane should be taken."""
        return len(self.waiting) >= _FULL

    def take(self, query: Any, rng: random.Random) -> int:
        """A free random id for this query."""
        number = rng.randrange(_IDS)
        while number in self.waiting:
            number = rng.randrange(_IDS)
        self.waiting[number] = query
        self.used += 1
        return number

    def send(self, octets: bytes) -> bool:
        """Send a message; whether nothing is left for `flush`."""
        raise NotImplementedError

    def flush(self) -> bool:
        """Send what was left; whether nothing is left now."""
        return True

    def receive(self) -> list[bytes]:
        """Whole messages that have come; OSError if the socket is of no more use."""
        raise NotImplementedError


class UdpLane(Lane):
    """A UDP socket on a port that the kernel draws; answers from elsewhere are not seen."""

    def __init__(self, server: tuple[str, int], family: int, *, use_connect: bool) -> None:
        super().__init__(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        self._server = server
        self._is_connected = use_connect
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        try:
            if use_connect:
                self.sock.connect(server)
            else:
                self.sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        except OSError:
            self.sock.close()
            raise

    def send(self, octets: bytes) -> bool:
        """Send a datagram; one that does not fit now is lost like any other, and sent again later."""
        try:
            if self._is_connected:
                self.sock.send(octets)
            else:
                self.sock.sendto(octets, self._server)
        except BlockingIOError:
            pass
        return True

    def receive(self) -> list[bytes]:
        """Datagrams that came from the nameserver."""
        packets = []
        for _ in range(_BATCH):
            try:
                octets, source = self.sock.recvfrom(_DATAGRAM)
            except BlockingIOError:
                break
            if self._is_connected or (source[0], source[1]) == self._server:
                packets.append(octets)
        return packets


class TcpLane(Lane):
    """A TCP connection with any number of queries on it (RFC 7766 6.2.1.1)."""

    def __init__(self, server: tuple[str, int], family: int) -> None:
        super().__init__(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        self._out = b""
        self._in = b""
        try:
            self.sock.connect(server)
        except BlockingIOError:
            pass
        except OSError:
            self.sock.close()
            raise

    def send(self, octets: bytes) -> bool:
        """Queue a message; it leaves once the connection is there."""
        self._out += _LENGTH.pack(len(octets)) + octets
        return self.flush()

    def flush(self) -> bool:
        """Send what waits."""
        if self._out:
            try:
                sent = self.sock.send(self._out)
            except BlockingIOError:
                return False
            self._out = self._out[sent:]
        return not self._out

    def receive(self) -> list[bytes]:
        """Messages that are complete; ConnectionError when the nameserver has closed."""
        try:
            octets = self.sock.recv(_READ)
        except BlockingIOError:
            return []
        if not octets:
            raise ConnectionResetError("closed by the nameserver")
        self._in += octets
        packets = []
        while len(self._in) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._in)[0]
            if len(self._in) < end:
                break
            packets.append(self._in[_LENGTH.size:end])
            self._in = self._in[end:]
        return packets
