"""What a filter answers (SMFIR_*); pure. What makes no sense is RemoteProtocolError."""
import re
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from meta1g.mta import limits
from meta1g.mta.errors import RemoteProtocolError
from meta1g.mta.reply import Reply, parse_reply_text

ADDRESS_MAX: Final = 1024  # octets with parameters: far more than RFC 5321 allows
REASON_MAX: Final = 500  # octets of a quarantine's reason that are kept
_CODE: Final = re.compile(rb"([45][0-9]{2})(?:[ -]|$)")


class Verb(Enum):
    """Answers without data."""

    ACCEPT = b"a"
    CONTINUE = b"c"
    DISCARD = b"d"
    CONNECTION_FAILURE = b"f"
    PROGRESS = b"p"
    REJECT = b"r"
    SKIP = b"s"
    SHUTDOWN = b"4"
    TEMPFAIL = b"t"


class Code(NamedTuple):
    """The reply for the client, 4yz or 5yz."""

    reply: Reply


class AddRcpt(NamedTuple):
    """A recipient more, without angle brackets, with parameters as RCPT has them."""

    address: bytes
    params: bytes


class DeleteRcpt(NamedTuple):
    """A recipient less."""

    address: bytes


class ChangeFrom(NamedTuple):
    """Another sender, empty for <>."""

    address: bytes
    params: bytes


class AddHeader(NamedTuple):
    """A field behind the others."""

    name: bytes
    value: bytes


class InsertHeader(NamedTuple):
    """A field at a position, from 0."""

    position: int
    name: bytes
    value: bytes


class ChangeHeader(NamedTuple):
    """The `nth` field of this name, from 1; an empty value removes it."""

    nth: int
    name: bytes
    value: bytes


class ReplaceBody(NamedTuple):
    """A piece of another body; the pieces of all such answers follow one another."""

    octets: bytes


class Quarantine(NamedTuple):
    """Keep the message back."""

    reason: str


Edit = AddRcpt | DeleteRcpt | ChangeFrom | AddHeader | InsertHeader | ChangeHeader | Quarantine
Change = Edit | ReplaceBody
Answer = Verb | Code | Change


def read_reply(letter: bytes, data: bytes) -> Answer:
    """What a packet says. RemoteProtocolError."""
    reader = _READERS.get(letter)
    if reader is not None:
        return reader(data)
    try:
        return Verb(letter)
    except ValueError:
        raise RemoteProtocolError(f"unknown answer {letter!r}") from None


def _strings(data: bytes, low: int, high: int) -> list[bytes]:
    """So many strings, each with a NUL behind it; the last NUL may be missing."""
    parts = data.removesuffix(b"\0").split(b"\0")
    if not low <= len(parts) <= high:
        raise RemoteProtocolError(f"{len(parts)} strings in an answer")
    return parts


def _address(text: bytes) -> bytes:
    if len(text) > ADDRESS_MAX:
        raise RemoteProtocolError("an address is too long")
    text = text.strip(b" \t")
    return text[1:-1] if text.startswith(b"<") and text.endswith(b">") else text


def _with_params(data: bytes) -> tuple[bytes, bytes]:
    address, params = [*_strings(data, 1, 2), b""][:2]
    if len(params) > ADDRESS_MAX:
        raise RemoteProtocolError("parameters are too long")
    return _address(address), params


def _field(data: bytes) -> tuple[bytes, bytes]:
    name, value = [*_strings(data, 1, 2), b""][:2]
    if not name:
        raise RemoteProtocolError("a field has no name")
    return name, value


def _numbered(data: bytes) -> tuple[int, bytes, bytes]:
    if len(data) < 4:
        raise RemoteProtocolError("an answer is too short")
    return int.from_bytes(data[:4], "big"), *_field(data[4:])


def _code(data: bytes) -> Code:
    """A reply of one or several lines, which may repeat the code; a doubled `%` is one (smfi_setreply)."""
    lines = data.removesuffix(b"\0").replace(b"%%", b"%").replace(b"\r", b"").strip(b"\n").split(b"\n")
    match = _CODE.match(lines[0])
    if match is None or len(lines) > limits.REPLY_LINES or max(map(len, lines)) > limits.REPLY_LINE:
        raise RemoteProtocolError("a reply that is none")
    code = match[1]
    texts = [line[4:] if line[:3] == code and line[3:4] in (b" ", b"-", b"") else line for line in lines]
    return Code(parse_reply_text(int(code), texts))


def _quarantine(data: bytes) -> Quarantine:
    return Quarantine(" ".join(_strings(data, 1, 1)[0][:REASON_MAX].decode("utf-8", "replace").split()))


_READERS: Final[dict[bytes, Callable[[bytes], Answer]]] = {
    b"+": lambda data: AddRcpt(_address(_strings(data, 1, 1)[0]), b""),
    b"2": lambda data: AddRcpt(*_with_params(data)),
    b"-": lambda data: DeleteRcpt(_address(_strings(data, 1, 1)[0])),
    b"b": ReplaceBody,
    b"e": lambda data: ChangeFrom(*_with_params(data)),
    b"h": lambda data: AddHeader(*_field(data)),
    b"i": lambda data: InsertHeader(*_numbered(data)),
    b"m": lambda data: ChangeHeader(*_numbered(data)),
    b"q": _quarantine,
    b"y": _code,
}
