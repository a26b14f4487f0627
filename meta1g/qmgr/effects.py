"""What the decider wants done: it decides, others carry out, in this order (design 3, 5); pure."""
from typing import Any, NamedTuple

from meta1g.mta.selection import Picker
from meta1g.proto.msg_ar import Target
from meta1g.proto.msg_ss import Content
from meta1g.qmgr.holds import Holds
from meta1g.qmgr.occ import Address
from meta1g.qmgr.state import PeerKey
from meta1g.shim.defedb import Change, Waiting
from meta1g.shim.records import DeferredRcpt, DeferredTa, IbdbRecord


class Tell(NamedTuple):
    """Send a message to a peer; `tag` answers a question or asks one."""

    peer: PeerKey
    message: Any
    tag: int = 0


class WriteIbdb(NamedTuple):
    """Write records in one piece; `then` comes back to the decider when they are on stable storage.

    Without records it only waits for all that were written before it.
    `is_urgent`: somebody waits; else they ride in the next flush.
    `may_fail`: `then` comes back as failed if the disk refuses; else it is tried until it succeeds.
    """

    records: tuple[IbdbRecord, ...]
    then: Any = None
    is_urgent: bool = False
    may_fail: bool = False


class WriteDefedb(NamedTuple):
    """Change DEFEDB; `then` as above. Tried until it succeeds."""

    change: Change
    then: Any = None


class ReadDefedb(NamedTuple):
    """Read a transaction with these recipients; comes back as `Loaded`."""

    ta: str
    idxs: tuple[int, ...]


class RemoveContent(NamedTuple):
    """The last recipient has ended and IBDB or DEFEDB says so: remove the CDB file, if there is one."""

    ta: str
    content: Content


class RemoveSegment(NamedTuple):
    """Nothing in this journal segment is needed any more."""

    segment: str


class ScanDefedb(NamedTuple):
    """Look at some recipients in DEFEDB, in the order of their keys from `start` on; comes back as `Scanned`."""

    picker: Picker
    start: bytes
    then: Any


class SurveyDefedb(NamedTuple):
    """Look at when some recipients are due, as `ScanDefedb` does; comes back as `Surveyed`.

    Those from `since` on and before `until` are wanted, in the order of time.
    """

    start: bytes
    since: Waiting
    until: Waiting | None


class WriteHolds(NamedTuple):
    """Put what is held into its file; `then` comes back, as failed if the disk refuses."""

    holds: Holds
    then: Any


class Checkpoint(NamedTuple):
    """Let readers of DEFEDB see all that was written; `then` comes back, as failed if the disk refuses."""

    then: Any


class LogLine(NamedTuple):
    """Log this at `level`; 0 is an error."""

    level: int
    text: str


DiskEffect = (
    WriteDefedb | ReadDefedb | RemoveContent | RemoveSegment | ScanDefedb | SurveyDefedb | WriteHolds | Checkpoint)
Effect = Tell | WriteIbdb | DiskEffect | LogLine

# What comes back from the other threads.


class Done(NamedTuple):
    """A write is on stable storage; `then` is the effect's. `error` is set if it `may_fail` and did."""

    then: Any
    error: str = ""
    is_full: bool = False


class Loaded(NamedTuple):
    """The answer to ReadDefedb: the transaction, its recipients, and how many (`total`) it has in DEFEDB altogether.

    `lost` are those that could not be read, for the reason `error`; who is in neither list is not there.
    """

    name: str
    idxs: tuple[int, ...]
    ta: DeferredTa | None = None
    rcpts: tuple[DeferredRcpt, ...] = ()
    total: int = 0
    lost: tuple[int, ...] = ()
    error: str = ""


class Scanned(NamedTuple):
    """The answer to ScanDefedb: recipients that were picked and the hosts of their routes; where to go on, b"" at the
    end."""

    then: Any
    found: tuple[tuple[str, int], ...]
    addresses: frozenset[Address]
    next: bytes
    error: str = ""


class Surveyed(NamedTuple):
    """The answer to SurveyDefedb; where to go on, b"" at the end."""

    found: tuple[Waiting, ...]
    since: Waiting
    next: bytes
    error: str = ""


class DiskFree(NamedTuple):
    """Octets free where the spool lies."""

    octets: int


# What `then` may be.


class Accepted(NamedTuple):
    """A client's transaction."""

    ta: str


class Gone(NamedTuple):
    """The last recipient of a transaction; `may_have_file` as in `Ta`."""

    ta: str
    content: Content
    may_have_file: bool = True


class EndedThere(NamedTuple):
    """DEFEDB has the end of a recipient; with the transaction's last one its `content` (else None) may go."""

    ta: str
    idx: int
    how: int
    content: Content | None


class Waits(NamedTuple):
    """IBDB has passed a recipient on to DEFEDB."""

    ta: str
    idx: int


class Attempted(NamedTuple):
    """The attempt is on record: the task may go to SMTPC."""

    task: int


class Expanded(NamedTuple):
    """What came out of an alias is on record: these recipients may go to their targets, and `reporting` is told."""

    ta: str
    heirs: tuple[tuple[int, Target], ...]
    reporting: tuple[int, ...] = ()


class Deferred(NamedTuple):
    """Recipients are in DEFEDB."""

    ta: str
    idxs: tuple[int, ...]


class Bounced(NamedTuple):
    """A DSN is ours, and the recipients it is about."""

    dsn: str


class BounceCleared(NamedTuple):
    """The recipients that a DSN is about are out of DEFEDB too."""

    dsn: str


class HoldsStored(NamedTuple):
    """The file says what is held; who wants to know it. `freed`: sites whose recipients may go now."""

    peer: PeerKey
    tag: int
    freed: tuple[str, ...]


class Shown(NamedTuple):
    """DEFEDB's readers see what has happened; who asked for it."""

    peer: PeerKey
    tag: int


class SettledStored(NamedTuple):
    """DEFEDB knows that a transaction's content has its own file."""

    ta: str
    segment: str
