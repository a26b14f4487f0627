"""Map type `socket`: somebody else's program, asked by netstrings over TCP or a Unix socket (M1 10.2).

Rules
    Request: netstring of `mapname key`. Reply: netstring of a status word and a result:
    OK, NOTFOUND, NOMORE, TEMP, TIMEOUT, PERM. Neither ends in CRLF.
    A connection is used again; those that turn out to be closed are replaced, so that a
    lookup fails only if a fresh one does. One deadline holds for all of a lookup.
"""
import socket
import threading
import time
from typing import Final

from meta1g.maps.map import NO_MORE, NOT_FOUND, Found, PermFail, Result, TempFail

Address = str | tuple[str, int]

TIMEOUT: Final = 10.0  # seconds for one lookup; SMTPS waits 60 for all of them (M1 8.5 item 9)
REPLY_MAX: Final = 100_000  # octets: Postfix's limit for socketmap replies (socketmap_table(5))
IDLE_MAX: Final = 4  # connections kept open


class BadReply(ValueError):
    """The server's octets are no netstring, or no reply."""


class Closed(OSError):
    """The server closed the connection before it said anything."""


def netstring(text: bytes) -> bytes:
    """`5:hello,`"""
    return b"%d:%s," % (len(text), text)


def parse_reply(key: bytes, reply: bytes) -> Result:
    """What a reply means for `key`; BadReply if it is none."""
    status, _, result = reply.partition(b" ")
    text = result.decode("utf-8", "replace")
    if status == b"OK":
        return Found(key, result)
    if status == b"NOTFOUND":
        return NOT_FOUND
    if status == b"NOMORE":
        return NO_MORE
    if status in (b"TEMP", b"TIMEOUT"):
        return TempFail(f"server said {status.decode('ascii')} {text}".rstrip())
    if status == b"PERM":
        return PermFail(f"server said PERM {text}".rstrip())
    raise BadReply(f"unknown status {status[:20]!r}")


class _Connection:
    def __init__(self, address: Address, deadline: float) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if not isinstance(address, str) and ":" in address[0]:
            family = socket.AF_INET6
        self.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._arm(deadline)
            self.sock.connect(address)
        except OSError:
            self.sock.close()
            raise

    def ask(self, text: bytes, deadline: float) -> bytes:
        self._arm(deadline)
        self.sock.sendall(netstring(text))
        data = b""
        while b":" not in data:
            data += self._more(deadline, is_first=not data)
            if len(data) > 10 and b":" not in data[:10]:
                raise BadReply("no netstring")
        digits, _, rest = data.partition(b":")
        if not digits.isdigit() or int(digits) > REPLY_MAX:
            raise BadReply("bad length of a netstring")
        while len(rest) <= int(digits):
            rest += self._more(deadline, is_first=False)
        if rest[int(digits):] != b",":
            raise BadReply("no comma after a netstring")
        return rest[:-1]

    def _more(self, deadline: float, *, is_first: bool) -> bytes:
        self._arm(deadline)
        data = self.sock.recv(65536)
        if not data:
            if is_first:
                raise Closed("connection closed")
            raise BadReply("connection closed in the middle of a reply")
        return data

    def _arm(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)


class SocketMap:
    """A map served by another program."""

    is_stable = False
    is_slow = True

    def __init__(self, name: str, mapname: str, address: Address, timeout: float = TIMEOUT) -> None:
        self.name = name
        self._prefix = (mapname or name).encode("utf-8") + b" "
        self._address = address
        self._timeout = timeout
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()

    def lookup(self, key: bytes) -> Result:
        """Ask the server for `key`."""
        deadline = time.monotonic() + self._timeout
        while True:
            connection, is_used = None, False
            try:
                connection, is_used = self._take(deadline)
                result = parse_reply(key, connection.ask(self._prefix + key, deadline))
            except (Closed, ConnectionError) as error:
                self._close(connection)
                if not is_used:
                    return TempFail(f"map {self.name}: {error.strerror or error}")
            except TimeoutError:
                self._close(connection)
                return TempFail(f"map {self.name}: no answer in {self._timeout:g} s")
            except (OSError, BadReply) as error:
                self._close(connection)
                return TempFail(f"map {self.name}: {error}")
            else:
                self._give(connection)
                if isinstance(result, TempFail | PermFail):
                    return type(result)(f"map {self.name}: {result.reason}")
                return result

    def _take(self, deadline: float) -> tuple[_Connection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        return _Connection(self._address, deadline), False

    def _give(self, connection: _Connection) -> None:
        with self._lock:
            if len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.sock.close()

    @staticmethod
    def _close(connection: _Connection | None) -> None:
        if connection is not None:
            connection.sock.close()

    def reopen(self) -> str:
        """Close idle connections; the next lookup connects anew."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.sock.close()
        return ""
