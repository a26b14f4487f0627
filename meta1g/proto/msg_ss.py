"""Messages between SMTPS and QMGR.

Peers
    SMTPS: `SeNew` when a client connects, `TaCommit` when the content is on stable
    storage, `SeEnd`; `JournalOpen` when it begins or leaves a segment.
    QMGR: `Welcome` after its Hello, `SeAck`, `TaAck`; later `Throttle`, and orders about
    content, which only SMTPS may write: `Compose` a DSN, `Settle` content into a CDB file.
"""
from typing import Final, NamedTuple

from meta1g.proto.rcb import Vocabulary

DISK_SPACE: Final = "disk space"  # texts of Throttle
QUEUE_FULL: Final = "queue"


class Content(NamedTuple):
    """Where a message's content lies: `segment` of the journal, `offset`, `length` in octets.

    An empty `segment` means the CDB file of the transaction itself.
    """

    offset: int
    length: int
    segment: str


class Rcpt(NamedTuple):
    """A recipient as RCPT gave it; `params` is the text of its parameters, as received."""

    idx: int
    address: bytes
    params: bytes


class Welcome(NamedTuple):
    """QMGR to SMTPS: ids `id_first` to `id_last` are yours; how many sessions you may hold."""

    id_first: int
    id_last: int
    sessions_max: int


class Throttle(NamedTuple):
    """QMGR to SMTPS: hold at most this many of Welcome's sessions (M1 9.1); with a `text` refuse new mail."""

    sessions_max: int
    text: str


class Statistics(NamedTuple):
    """SMTPS to QMGR: what it has counted so far, a JSON object (M1 9.4)."""

    text: str


class Names(NamedTuple):
    """QMGR to SMTPS: whether it wants to know the names of clients before it lets them stay (M1 3.8.1)."""

    are_wanted: bool


class SeNew(NamedTuple):
    """A client has connected; may it stay (M1 3.8 item 17)? Its confirmed name, if QMGR wants names."""

    se: str
    client_ip: str
    client_name: str


class SeAck(NamedTuple):
    """`code` 0: welcome; otherwise the 421 to send and why."""

    code: int
    estat: str
    text: str


class SeEnd(NamedTuple):
    """The session is over."""

    se: str
    client_ip: str


class TaCommit(NamedTuple):
    """The content is on stable storage: make the envelope durable, then answer.

    `received` is the time of the final dot (seconds since 1970), `mail_params` the text of
    MAIL's parameters. `is_8bit` and `is_utf8` say what the content needs of the next server.
    """

    received: float
    hops: int
    size: int
    is_8bit: bool
    is_utf8: bool
    se: str
    ta: str
    client_ip: str
    mail: bytes
    mail_params: bytes
    rcpts: tuple[Rcpt, ...]
    content: tuple[Content, ...]  # exactly one


class TaAck(NamedTuple):
    """`code` 0: the message is ours, say 250; otherwise the reply, and the content may go."""

    code: int
    estat: str
    text: str


class Segment(NamedTuple):
    """The name of a journal segment."""

    name: str


class JournalOpen(NamedTuple):
    """SMTPS: only these segments of mine may get or hold content that I have not committed yet.

    Sent after Hello and at each change; every other segment of this process is closed.
    """

    segments: tuple[Segment, ...]


class Compose(NamedTuple):
    """QMGR to SMTPS: write a DSN's content: `head`, then the original (all, or its header
    only, or nothing when it is gone), then `tail`; all in wire form."""

    header_only: bool
    ta: str
    original_ta: str
    head: bytes
    tail: bytes
    original: tuple[Content, ...]


class Composed(NamedTuple):
    """Answer to Compose: on stable storage at `content`, or why not (`error`)."""

    size: int
    ta: str
    error: str
    content: tuple[Content, ...]


class Settle(NamedTuple):
    """QMGR to SMTPS: copy this content into its CDB file, it has to stay (design 5)."""

    ta: str
    content: tuple[Content, ...]


class Settled(NamedTuple):
    """Answer to Settle: the CDB file is on stable storage; or why not. `content` is the order's."""

    ta: str
    error: str
    content: tuple[Content, ...]


class Leaving(NamedTuple):
    """SMTPS stops in order: what is still needed of the journal shall settle before (design 5)."""

    pid: int


class Left(NamedTuple):
    """QMGR to SMTPS: you may go, nothing more is needed of you."""

    pid: int


class Rotate(NamedTuple):
    """QMGR to SMTPS: begin a new segment at the next message, nobody needs `segment` any more."""

    segment: str


VOCABULARY: Final = Vocabulary({
    1: Welcome, 2: Throttle, 3: SeNew, 4: SeAck, 5: SeEnd, 6: TaCommit, 7: TaAck, 8: JournalOpen,
    9: Compose, 10: Composed, 11: Settle, 12: Settled, 13: Rotate, 14: Leaving, 15: Left,
    16: Names, 17: Statistics,
})
