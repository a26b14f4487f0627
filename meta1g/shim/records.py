"""Records of IBDB and DEFEDB: what they say, and their octets (docs/formats.md); pure.

Rules
    Bodies are coded as messages between processes are (`proto.codec`); a version stands in
    front of each store's records, and an unknown one is refused, never guessed.
    Each record of IBDB stands for itself: what a loss of power leaves of a batch may be any of them.
"""
from typing import Final, NamedTuple

from meta1g.mta.errors import FrameError
from meta1g.proto.codec import Codec
from meta1g.proto.msg_ar import Hop
from meta1g.proto.msg_ss import Content

VERSION: Final = 1


class RcptRec(NamedTuple):
    """A recipient. `has_sender`: `sender` replaces the transaction's (owner- lists).

    `is_expanded`: it came out of an alias and is not looked up as one again.
    """

    idx: int
    has_sender: bool
    is_expanded: bool
    address: bytes
    params: bytes
    sender: bytes


class Ended(NamedTuple):
    """Index of a recipient that ends with the record it stands in; `is_last`: its transaction needs IBDB no more."""

    idx: int
    is_last: bool


class Tried(NamedTuple):
    """Index of a recipient in an attempt."""

    idx: int


class TaNew(NamedTuple):
    """A transaction was accepted; `received` in seconds since 1970.

    A DSN names in `origin` the transaction and in `ended` the recipients that end with it.
    """

    received: float
    size: int
    is_8bit: bool
    is_utf8: bool
    ta: str
    client_ip: str
    mail: bytes
    mail_params: bytes
    origin: str
    rcpts: tuple[RcptRec, ...]
    content: tuple[Content, ...]
    ended: tuple[Ended, ...]


class Outcome:
    """How a recipient left IBDB."""

    DELIVERED: Final = 1
    DEFERRED: Final = 2  # DEFEDB has it
    BOUNCED: Final = 3
    EXPANDED: Final = 4  # RcptsAdded has its successors
    DISCARDED: Final = 5
    NAMES: Final = {1: "delivered", 2: "deferred", 3: "bounced", 4: "expanded", 5: "discarded"}


class RcptEnd(NamedTuple):
    """A recipient needs nothing more of IBDB; `is_last`: nor does its transaction.

    Of a recipient in DEFEDB it ends the attempt.
    """

    idx: int
    outcome: int
    is_last: bool
    ta: str


class RcptsAdded(NamedTuple):
    """An alias was expanded: `idx` ended and these came instead."""

    idx: int
    ta: str
    rcpts: tuple[RcptRec, ...]


class Attempt(NamedTuple):
    """These recipients, of IBDB or DEFEDB, are about to be given to SMTPC; until they end here or are
    deferred again nobody knows what came of it.

    `is_uncertain`: recovery wrote it, the attempt was under way when an earlier run died (design 5).
    """

    is_uncertain: bool
    ta: str
    rcpts: tuple[Tried, ...]


class IdsGiven(NamedTuple):
    """Every counter up to `last` may have been used in an id."""

    last: int


IBDB_TYPES: Final = {1: TaNew, 2: RcptEnd, 3: RcptsAdded, 4: IdsGiven, 5: Attempt}
IbdbRecord = TaNew | RcptEnd | RcptsAdded | IdsGiven | Attempt


class DeferredTa(NamedTuple):
    """A transaction in DEFEDB; `next_idx` is the first index not yet given to a recipient."""

    received: float
    size: int
    next_idx: int
    is_8bit: bool
    is_utf8: bool
    ta: str
    client_ip: str
    mail: bytes
    mail_params: bytes
    content: tuple[Content, ...]


class DeferredRcpt(NamedTuple):
    """A recipient in DEFEDB, with its cached route (M1 7.2) and why it waits.

    `next_try` and `route_expires` are seconds since 1970; `protocol` of `msg_ar.Protocol`.
    """

    next_try: float
    route_expires: float
    idx: int
    tries: int
    protocol: int
    stage: int
    code: int
    is_warned: bool
    has_sender: bool
    is_expanded: bool
    ta: str
    address: bytes
    params: bytes
    sender: bytes
    estat: str
    text: str
    hops: tuple[Hop, ...]


class RecordCodec:
    """Octets of a family of record classes: type (1), body."""

    def __init__(self, types: dict[int, type]) -> None:
        self._decoders = {number: Codec(cls).decode for number, cls in types.items()}
        self._encoders = {cls: (bytes([number]), Codec(cls).encode) for number, cls in types.items()}

    def encode(self, record: NamedTuple) -> bytes:
        """The octets of a record."""
        prefix, encode = self._encoders[type(record)]
        return prefix + encode(record)

    def decode(self, octets: bytes) -> NamedTuple:
        """The record; FrameError if it is damaged or of an unknown type."""
        if not octets or octets[0] not in self._decoders:
            raise FrameError(f"unknown record type {octets[:1].hex()}")
        record: NamedTuple = self._decoders[octets[0]](octets[1:])
        return record


IBDB_CODEC: Final = RecordCodec(IBDB_TYPES)
DEFEDB_CODEC: Final = RecordCodec({1: DeferredTa, 2: DeferredRcpt})
