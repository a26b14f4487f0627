"""What the server's machine tells its caller; those that ask want an answer."""
from typing import NamedTuple

from meta1g.mta.reply import Reply
from meta1g.proto.smtp.auth import AuthAsked, AuthResponse
from meta1g.proto.smtp.command import Helo
from meta1g.proto.smtp.params import MailParams, Params
from meta1g.proto.smtp.xclient import Attributes


class MailAsked(NamedTuple):
    """May this sender begin a transaction? `given` are its parameters as they came."""

    address: bytes
    params: MailParams
    given: Params = ()


class RcptAsked(NamedTuple):
    """May mail go to this recipient? `params` is the text of what goes on with the mail."""

    address: bytes
    params: bytes


class VrfyAsked(NamedTuple):
    """Is there such a user (RFC 5321 3.5.1)? `word` is as it was given."""

    word: bytes


class UnknownAsked(NamedTuple):
    """A command that this server does not know, and what is usually said to that."""

    line: bytes
    reply: Reply


class DataAsked(NamedTuple):
    """May the content come? Answer with START_DATA or an error."""

    is_bdat: bool = False


class ProxyAsked(NamedTuple):
    """A trusted client tells of the one behind it: XCLIENT, or XFORWARD if `is_for_log`."""

    attributes: Attributes
    is_for_log: bool


class TlsAsked(NamedTuple):
    """The client wants TLS (RFC 3207): answer with START_TLS, send that, shake hands; or answer with an error."""


class Chunk(NamedTuple):
    """A piece of content; needs no answer."""

    octets: bytes


class ContentEnd(NamedTuple):
    """The end of the content: `fault` is the reply if it can't be accepted as it is."""

    size: int
    is_8bit: bool
    fault: Reply | None


class Reset(NamedTuple):
    """The transaction, if there was one, is void (RSET, EHLO, HELO); needs no answer."""

    helo: Helo | None


class Closed(NamedTuple):
    """Send the output and close: QUIT was given or the peer asked for too much; `reply` says which."""

    reply: Reply


Event = (MailAsked | RcptAsked | VrfyAsked | DataAsked | ProxyAsked | TlsAsked | AuthAsked | AuthResponse
         | UnknownAsked | Chunk | ContentEnd | Reset | Closed)
