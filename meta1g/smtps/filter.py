"""What a session knows of a filter, whichever protocol it speaks (sendmail's milter, M1 5); pure.

Rules
    A filter is asked in the order of the dialog: connect, HELO, then for each transaction MAIL, RCPT, DATA, and when
    all content has come the header, the body in pieces, the end. It sees the message as filters before it left it.
    A transaction that ends in another way than by `on_end` is aborted. After `on_close` nothing more comes.
    What goes wrong with the program behind it is the filter's own matter: an answer comes in bounded time, always.
    Changes are for the end only, and count unless the answer refuses the message.
"""
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from meta1g.mta.reply import Reply
from meta1g.proto.dkim.fields import Field


class Act(Enum):
    """What is to be done now.

    ACCEPT: this filter has no more to say about the transaction, at connect and HELO about the session. DISCARD:
    the message is accepted and thrown away, at connect and HELO all of the session; DISCARD_RCPT: this recipient is.
    CLOSE: the session ends with 421. SKIP: the rest of the body is of no interest to it. QUARANTINE: accepted, and kept
    back.
    """

    GO_ON = "go on"
    ACCEPT = "accept"
    DISCARD = "discard"
    DISCARD_RCPT = "discard recipient"
    REJECT = "reject"
    TEMPFAIL = "tempfail"
    CLOSE = "close"
    QUARANTINE = "quarantine"
    SKIP = "skip"


class Answer(NamedTuple):
    """What a filter says.

    `reply` is what the client gets, None for a usual one, and the reason of QUARANTINE is its text. `is_quick` is None
    from a filter that knows nothing of it; else the answer counts as one of the access map: a refusal may be delayed,
    or with True it is not, and another answer makes later checks needless (M1 3.9.3, 15.1.13). `each`, only from the
    end: PRDR's replies, one for each recipient that was accepted, in their order.
    """

    act: Act = Act.GO_ON
    reply: Reply | None = None
    is_quick: bool | None = None
    each: tuple[Reply, ...] = ()


GO_ON = Answer()
REFUSALS = frozenset({Act.REJECT, Act.TEMPFAIL, Act.CLOSE})


class Spool(Protocol):
    """Octets that a filter gives in place of others, in bounded memory; what is too much goes to the disk."""

    def append(self, octets: bytes) -> None:
        """More of it, any line ends. StoreError if the disk refuses, ValueError if it is more than may be."""
        ...


class ChangeSender(NamedTuple):
    """The envelope's sender, empty for <>; `params` as MAIL would give them."""

    address: bytes
    params: bytes = b""


class AddRcpt(NamedTuple):
    """One recipient more; `params` as RCPT would give them."""

    address: bytes
    params: bytes = b""


class DeleteRcpt(NamedTuple):
    """A recipient less: the one with this index, or with None all that have the address."""

    address: bytes
    idx: int | None = None


class InsertField(NamedTuple):
    """A field more: `octets` with name, colon and any line ends; `position` 0 is in front of our Received, 1 in front
    of the first field of the client's, None behind the last one.
    """

    position: int | None
    octets: bytes


class ChangeField(NamedTuple):
    """The `nth` field with this name, from 1, becomes `octets`, or goes if they are empty.

    Our Received does not count. If there are not so many, `octets` come behind the last field.
    """

    name: bytes
    nth: int
    octets: bytes


class ReplaceField(NamedTuple):
    """The field at this position becomes `octets`, or goes if they are empty; 0 is our Received (M1 15.1.9)."""

    position: int
    octets: bytes


class ReplaceBody(NamedTuple):
    """Another body; `spool` is one of `Facts.spool`."""

    spool: Spool


class ReplaceMessage(NamedTuple):
    """Another header and body behind our Received (M1 15.1.10); `spool` is one of `Facts.spool`."""

    spool: Spool


class Quarantine(NamedTuple):
    """Keep the message back."""

    reason: str


Change = (ChangeSender | AddRcpt | DeleteRcpt | InsertField | ChangeField | ReplaceField | ReplaceBody | ReplaceMessage
          | Quarantine)


class Facts(Protocol):
    """A session as its filters may ask about it."""

    def symbol(self, name: str) -> bytes:
        """What is known by this name (`symbols.NAMES`); empty if there is nothing yet."""
        ...

    def spool(self) -> Spool:
        """For a change of this transaction; the session throws it away at its end."""
        ...


class Filter(Protocol):
    """One session at one filter."""

    def on_connect(self) -> Answer:
        """A client is there, and nothing of ours has refused it."""
        ...

    def on_helo(self, name: bytes) -> Answer:
        """HELO or EHLO; a refusal takes effect at MAIL."""
        ...

    def on_mail(self, address: bytes, params: Sequence[bytes]) -> Answer:
        """A transaction begins; `params` are words such as SIZE=100."""
        ...

    def on_rcpt(self, address: bytes, params: Sequence[bytes], index: int, refused: Reply | None) -> Answer:
        """A recipient that is accepted so far; with `refused` one that is not, and the answer is of no account."""
        ...

    def on_data(self) -> Answer:
        """DATA, or the first BDAT."""
        ...

    def on_unknown(self, line: bytes) -> Answer:
        """A command that this server does not know, without its line end."""
        ...

    def on_header(self, fields: Sequence[Field]) -> Answer:
        """The header, without our Received and dots; `b"".join(field.octets for field in fields)` is all of it."""
        ...

    def on_body(self, octets: bytes) -> Answer:
        """A piece of the body, without transparency dots. After another answer than GO_ON no more pieces come."""
        ...

    def on_end(self) -> tuple[Answer, Sequence[Change]]:
        """The message is complete: what the filter makes of it. It has seen all of the transaction."""
        ...

    def on_abort(self) -> None:
        """The transaction will not be completed."""
        ...

    def on_close(self) -> None:
        """The session is over."""
        ...


class FilterServer(Protocol):
    """The program behind the filters of all sessions."""

    @property
    def name(self) -> str:
        """As the log and the statistics call it."""
        ...

    @property
    def wants_refused(self) -> bool:
        """Whether it is told of recipients that were refused; known when it has been reached."""
        ...

    def begin(self, facts: Facts) -> Filter:
        """A filter for one session."""
        ...

