"""What a client's dialog asks of its caller and tells it; pure (RFC 5321, 3207, 4954)."""
from enum import Enum, auto
from typing import NamedTuple

from meta1g.mta.reply import Reply
from meta1g.proto.smtp.params import split_onward


class Ask(Enum):
    """What a reply is awaited for."""

    GREETING = auto()
    EHLO = auto()
    HELO = auto()
    TLS = auto()
    AUTH = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CHUNK = auto()
    PART = auto()  # PRDR: one recipient's share of the answer to the final dot
    DOT = auto()
    QUIT = auto()
    RSET = auto()


class Envelope(NamedTuple):
    """A transaction to send: `rcpts` are addresses, `size` in octets.

    `params` and `rcpt_params` are the texts of DSN parameters that came with the mail (RFC 3461). With a `refusal` it
    is not sent: that is what becomes of it. With a `stop` its recipients are named, and content never follows: that is
    what becomes of those who are accepted.
    """

    mail: bytes
    rcpts: tuple[bytes, ...]
    size: int
    is_8bit: bool = False
    is_utf8: bool = False
    params: bytes = b""
    rcpt_params: tuple[bytes, ...] = ()
    refusal: Reply | None = None
    stop: Reply | None = None

    @property
    def is_binary(self) -> bool:
        """Whether only BDAT can carry it (RFC 3030 3)."""
        return split_onward(self.params).get(b"BODY") == b"BINARYMIME" if self.params else False


class Ready(NamedTuple):
    """The server has answered EHLO, LHLO or HELO: transactions may begin."""

    greeting: Reply


class TlsWanted(NamedTuple):
    """The server is ready for TLS: shake hands, then call `begin_tls` (RFC 3207)."""


class AuthWanted(NamedTuple):
    """Before anything else the client must say who it is: call `authenticate` with one of these mechanisms."""

    mechanisms: tuple[str, ...]


class AuthChallenge(NamedTuple):
    """The server's words in AUTH: call `respond`."""

    octets: bytes


class ContentWanted(NamedTuple):
    """Send the content now, then call `end_content`."""


class ChunkWanted(NamedTuple):
    """Call `send_chunk` with the first or the next piece of the content."""


class Answered(NamedTuple):
    """One recipient's fate: `at` is its place in the envelope, `ask` the command that decided.

    `is_said`: the reply is the server's, not our own word.
    """

    at: int
    ask: Ask
    reply: Reply
    is_said: bool = True


class Finished(NamedTuple):
    """All results of the transaction, in order of the recipients."""

    results: tuple[Answered, ...]


class Refused(NamedTuple):
    """The server does not want to talk to us: at greeting, EHLO or by 421."""

    ask: Ask
    reply: Reply


class Bye(NamedTuple):
    """The reply to QUIT."""

    reply: Reply


Event = Ready | TlsWanted | AuthWanted | AuthChallenge | ContentWanted | ChunkWanted | Finished | Refused | Bye
