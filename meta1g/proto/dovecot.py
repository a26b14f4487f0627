"""Dovecot's auth protocol, a client's side: lines of fields with tabs between; pure (Dovecot's auth-protocol.txt)."""
import base64
import binascii
from typing import Final, NamedTuple

from meta1g.mta.errors import RemoteProtocolError
from meta1g.proto.sasl.mechanisms import Virtues

LINE_MAX: Final = 16384  # octets: AUTH_CLIENT_MAX_LINE_LENGTH is 8192, and a challenge is in base64
MECHANISMS_MAX: Final = 50  # a server has ten


class Cont(NamedTuple):
    """A challenge for the client."""

    octets: bytes


class Ok(NamedTuple):
    """It is this user."""

    user: str


class Fail(NamedTuple):
    """It is not; `is_temporary` if that says nothing about the password."""

    user: str
    reason: str
    is_temporary: bool


def hello(number: int) -> bytes:
    """What the client says first; `number` is different for each connection."""
    return b"VERSION\t1\t1\nCPID\t%d\n" % number


def read_mechanism(line: bytes) -> tuple[str, Virtues] | None:
    """The mechanism that a line of the server's greeting offers, with its virtues; None if it is no such line."""
    word, *rest = line.split(b"\t")
    if word != b"MECH" or not rest or not rest[0].isascii():
        return None
    has = frozenset(rest[1:])
    is_clear = b"plaintext" in has
    return rest[0].decode().upper(), Virtues(
        noplaintext=not is_clear, noactive=b"active" not in has and not is_clear,
        nodictionary=b"dictionary" not in has and not is_clear, forward_secrecy=b"forward-secrecy" in has,
        noanonymous=b"anonymous" not in has, pass_credentials=is_clear, mutual_auth=b"mutual-auth" in has)


def begin(mechanism: str, facts: tuple[bytes, ...], initial: bytes | None) -> bytes:
    """The request, of which there is one on each connection; the response comes last."""
    response = () if initial is None else (b"resp=" + base64.b64encode(initial),)
    return b"\t".join((b"AUTH", b"1", mechanism.encode(), b"service=smtp", b"nologin", *facts, *response)) + b"\n"


def go_on(response: bytes) -> bytes:
    """The client's response to a challenge."""
    return b"CONT\t1\t" + base64.b64encode(response) + b"\n"


def read_answer(line: bytes) -> Cont | Ok | Fail:
    """The server's answer; RemoteProtocolError if it is none."""
    word, *rest = line.split(b"\t")
    if not rest or rest[0] != b"1":
        raise RemoteProtocolError("an answer to nothing that was asked")
    if word == b"CONT":
        try:
            return Cont(base64.b64decode(rest[1] if rest[1:] else b"", validate=True))
        except binascii.Error:
            raise RemoteProtocolError("a challenge that is no base64") from None
    found = dict(_unescaped(part).partition("=")[::2] for part in rest[1:])
    user = found.get("user", "")
    if word == b"OK" and user:
        return Ok(user)
    if word == b"FAIL":
        return Fail(user, found.get("code") or found.get("reason") or "refused by Dovecot", "temp" in found)
    raise RemoteProtocolError("an answer that is none")


def _unescaped(field: bytes) -> str:
    """Dovecot's escapes are ^A0 for NUL, ^A1 for ^A, ^At, ^Ar and ^An."""
    text = field.decode("utf-8", "replace")
    if "\x01" in text:
        for mark, char in (("0", "\0"), ("t", "\t"), ("r", "\r"), ("n", "\n"), ("1", "\x01")):
            text = text.replace(f"\x01{mark}", char)
    return text
