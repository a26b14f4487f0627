"""The Received field that this server adds, and what it reads in a header; pure (M1 10.5)."""
import re
from email.utils import formatdate
from typing import Final, NamedTuple

from meta1g.mta import limits, logfmt
from meta1g.mta.tls import TlsFacts

_RECEIVED: Final = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID: Final = re.compile(
    rb"^message-id[ \t]*:[ \t]*(?:\r\n[ \t]+)?(<[^\r\n>]{1,250}>)", re.IGNORECASE | re.MULTILINE
)


class Client(NamedTuple):
    """What is known of the client: `name` is empty when it was not looked up or not confirmed."""

    helo: bytes
    name: str
    ip: str
    tls: TlsFacts | None = None


def received(client: Client, host: str, version: str, protocol: str, ta: str, date: str) -> bytes:
    """The complete field with CRLF, folded; `date` is in RFC 5322 form."""
    ip = f"IPv6:{client.ip}" if ":" in client.ip else client.ip
    name = f"{logfmt.clean(client.name.rstrip('.'))} " if client.name else ""
    tls = f"\t({client.tls})\r\n" if client.tls is not None else ""
    helo = client.helo.decode("utf-8", "replace") or "unknown"
    return (
        f"Received: from {helo} ({name}[{ip}])\r\n"
        f"\tby {host} (meta1g-{version}) with {protocol}\r\n{tls}"
        f"\tid {ta}; {date}\r\n"
    ).encode("utf-8" if protocol.startswith("UTF8") else "ascii", "replace")  # RFC 6531 3.7.3


def has_received(header: bytes) -> bool:
    """Whether there is a Received field."""
    return _RECEIVED.search(header) is not None


class DateClock:
    """RFC 5322 dates, formatted once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now: float) -> str:
        """The date of `now` (seconds since 1970) in local time."""
        if int(now) != self._second:
            self._second = int(now)
            self._text = formatdate(now, localtime=True)
        return self._text


class HeaderFacts(NamedTuple):
    """`hops` counts Received fields, `message_id` is for the log (empty if there is none); `is_ascii` the header."""

    hops: int
    message_id: bytes
    is_ascii: bool


class HeaderScanner:
    """Looks at a message's header, of at most `size_max` octets, while its pieces pass by."""

    __slots__ = ("_seen", "_size_max", "is_over", "is_too_large")

    def __init__(self, size_max: int = limits.HEADER_SECTION) -> None:
        self._seen = bytearray()
        self._size_max = size_max
        self.is_over = False
        self.is_too_large = False

    def feed(self, piece: bytes) -> bytes:
        """The next piece of content; what of it belongs to the body."""
        if self.is_over:
            return piece
        looked_at = max(len(self._seen) - 3, 0)  # a header may come octet by octet
        self._seen += piece
        end = 0 if self._seen.startswith(b"\r\n") else self._seen.find(b"\r\n\r\n", looked_at)
        body = b""
        if end >= 0:
            self.is_over = True
            begin = end + (4 if end else 2)
            body = bytes(self._seen[begin:])
            del self._seen[end + 2:]
        elif len(self._seen) > self._size_max:
            self.is_over = self.is_too_large = True
        return body

    @property
    def size(self) -> int:
        """Octets of the header so far."""
        return len(self._seen)

    @property
    def body_at(self) -> int:
        """Where in the content the body begins, which is its size so far if the header is not over."""
        seen = self._seen
        return len(seen) + (2 if self.is_over and not self.is_too_large and seen != b"\r\n" else 0)

    @property
    def header(self) -> bytes:
        """The header as it came, without the empty line behind it."""
        return b"" if self._seen == b"\r\n" else bytes(self._seen)

    def facts(self) -> HeaderFacts:
        """What the header said."""
        found = _MESSAGE_ID.search(self._seen)
        name = bytes(found[1]) if found else b""
        return HeaderFacts(len(_RECEIVED.findall(self._seen)), name, self._seen.isascii())
