"""The dialog of AUTH in a server's session: order, lines, base64; pure (RFC 4954).

Rules
    AUTH comes after EHLO, once, and not within a transaction. The client's responses are lines of base64; `*` gives
    up. What a mechanism says is for the caller to know.
"""
import base64
import binascii
import re
from typing import Final, NamedTuple

from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.command import Simple

_ARGUMENT: Final = re.compile(rb"([A-Za-z0-9_-]{1,20})(?: +(\S+))?")  # RFC 4422 3.1


class AuthAsked(NamedTuple):
    """May the client authenticate so? `mechanism` is in upper case, `initial` its response if it came at once.

    Answer with 235, an error, or by `challenge`.
    """

    mechanism: str
    initial: bytes | None


class AuthResponse(NamedTuple):
    """What the client says to a challenge; with a `fault`, that is the answer and the exchange is over."""

    octets: bytes
    fault: Reply | None = None


class AuthDialog:
    """Where a session is with AUTH; `is_waiting` for a response, `is_done` when it has succeeded."""

    __slots__ = ("is_done", "is_waiting", "mechanisms")

    def __init__(self) -> None:
        self.mechanisms: tuple[str, ...] | None = None  # that EHLO names; None where there is no AUTH
        self.is_waiting = self.is_done = False

    def forget(self) -> None:
        """The session begins anew."""
        self.is_waiting = self.is_done = False

    def command(self, command: Simple) -> AuthAsked | Reply:
        """AUTH was said, where it may be."""
        if self.is_done:
            return replies.AUTH_DONE
        found = _ARGUMENT.fullmatch(command.argument)
        if found is None:
            return replies.SYNTAX_AUTH
        initial = decoded(found[2]) if found[2] else None
        if initial is None and found[2]:
            return replies.BAD_BASE64
        return AuthAsked(found[1].decode().upper(), initial)

    def challenge(self, octets: bytes) -> bytes:
        """The line for a challenge; the next line is its response."""
        self.is_waiting = True
        return b"334 " + base64.b64encode(octets) + b"\r\n"

    def response(self, line: bytes | Reply) -> AuthResponse:
        """A line that is no command."""
        self.is_waiting = False
        if isinstance(line, Reply):
            return AuthResponse(b"", replies.AUTH_TOO_LONG if line is replies.LINE_TOO_LONG else line)
        if line == b"*":
            return AuthResponse(b"", replies.AUTH_CANCELLED)
        octets = decoded(line) if line != b"=" else None
        return AuthResponse(b"", replies.BAD_BASE64) if octets is None else AuthResponse(octets)


def decoded(text: bytes) -> bytes | None:
    """The octets of base64 text, none for `=`; None if it is none (RFC 4954 4)."""
    if text == b"=":
        return b""
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except binascii.Error:
        return None
