"""QMGR's tables: plain data that one thread, the decider, touches; pure (design 3).

Words
    A recipient's *home* is the store that answers for it: IBDB when it is fresh, DEFEDB
    once it was deferred. A *site* is an address and port with a protocol; a *task* is a
    transaction given to SMTPC.
"""
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, Final, NamedTuple

from meta1g.mta.dane import TlsaSet
from meta1g.mta.reply import Reply
from meta1g.proto.dsn import Form, Said
from meta1g.proto.msg_ar import Hop
from meta1g.proto.msg_ss import Content, TaAck
from meta1g.qmgr.edbc import Edbc
from meta1g.qmgr.holds import Holds
from meta1g.qmgr.host_conf import HostConf, SessionConf
from meta1g.qmgr.icc import Icc
from meta1g.qmgr.occ import Occ, OccEntry, OutLimits
from meta1g.qmgr.out_limits import OutRules
from meta1g.qmgr.waiting import Waiting

PeerKey = Any  # a peer of the hub; handlers only pass it on
NO_REPLY: Final = Reply(0, "", "")


class Home(IntEnum):
    """Which store answers for a recipient."""

    IBDB = 0
    DEFEDB = 1


class RState(IntEnum):
    """Where a recipient in AQ is."""

    ROUTING = 0  # SMAR is asked
    READY = 1  # waits at its site
    BUSY = 2  # SMTPC has it
    STORING = 3  # on its way to DEFEDB
    BOUNCING = 4  # waits for its DSN
    EXPANDED = 5  # came out of an alias; waits for its record
    WARNING = 6  # is deferred once its delay is reported


class Verdict(Enum):
    """What an administrator wants to become of a recipient, by the name of the command."""

    DELETE = "delete"  # it ends, and nobody hears of it
    EXPIRE = "expire"  # as if it had been in the queue for too long
    RELEASE = "release"  # it goes on its way, if a filter wanted it to be kept back


class Verp(NamedTuple):
    """When and how recipients get senders of their own (M1 3.8 item 18); `when` is empty for on demand."""

    when: str = ""
    delimiter1: bytes = b"+"
    delimiter2: bytes = b"="


class Settings(NamedTuple):
    """The options that the decider needs (M1 3.8, 8.3); times in seconds, sizes in octets."""

    hostname: str
    aq_entries_max: int
    iqdb_entries_max: int
    retry_delay_min: float
    retry_delay_max: float
    queue_return: float
    double_bounce_address: bytes
    verp: Verp
    dsn_merge_delay: float
    dsn_errors_max: int
    dsn_header_only: bool
    dsn_form: Form
    dsn_delay: float  # in the queue until its delay is reported; 0 never
    dsn_delay_by_lmtp: bool
    dane_return: float  # as queue_return, if TLSA records don't match what the server shows
    dane_delay: float  # as dsn_delay, likewise
    out: OutLimits
    lmtp_rcpts_max: int
    smtp_rcpts_max: int
    reuses_connections: bool
    occ_entries_max: int
    in_rate_max: int
    in_connections_max: int
    in_clients_max: int  # remembered
    delivery_timeout: float
    scheduler_timeout: float
    smar_timeout: float
    disk_space_min: int
    disk_space_ok: int
    smtps_sessions_max: int
    limit_classes: Mapping[str, OutLimits] = {}  # sections connection_limits
    sources: Mapping[str, tuple[str, ...]] = {}  # sections source: local addresses
    looks_up_sessions: bool = False  # smtpc_session_conf in qmgr_conf
    keeps_hosts_apart: bool = False  # hosts of one address but several names: AUTH goes by name
    looks_up_rcpts: bool = False  # smtpc_rcpt_conf in the access map
    wait_for_server: float = 4.0
    wait_for_client: float = 4.0


@dataclass(slots=True, eq=False)
class Rcpt:
    """A recipient in AQ."""

    idx: int
    address: bytes
    params: bytes = b""
    sender: bytes | None = None
    is_expanded: bool = False
    home: Home = Home.IBDB
    state: RState = RState.ROUTING
    tries: int = 0
    since: float = 0.0  # when it came into this state
    protocol: int = 0
    hops: tuple[Hop, ...] = ()
    hop: int = 0
    route_expires: float = 0.0
    stage: int = 0
    reply: Reply = NO_REPLY
    is_warned: bool = False
    requeued: int = 0  # how often a session ended before its turn
    is_tried: bool = False  # IBDB has an attempt whose outcome it does not know
    said: Said | None = None  # what a server said at the last attempt
    next_try: float = 0.0  # of one whose delay is being reported
    conf: str = ""  # what the access map says of it, smtpc_rcpt_conf
    dane: tuple[TlsaSet, ...] = ()  # of the hosts of its route

    @property
    def records(self) -> tuple[TlsaSet, ...]:
        """What is to be judged of the host whose turn it is: one set of TLSA records or none."""
        if not self.dane or self.hop >= len(self.hops):
            return ()
        name = self.hops[self.hop].name
        return tuple([one for one in self.dane if one.host == name])

    @property
    def names(self) -> list[str]:
        """Names and IP addresses of the hosts in its route."""
        return [name for hop in self.hops for name in (hop.name, hop.ip)]

    @property
    def is_success(self) -> bool:
        """Whether it was delivered, and only its report is left to be made."""
        return self.state is RState.BOUNCING and self.reply.code < 300


@dataclass(slots=True, eq=False)
class Ta:
    """A transaction with recipients in AQ.

    `ibdb_open` counts those whose home is IBDB, `deferred` those that are in DEFEDB or on their way there,
    `unrouted` those that SMAR was asked about;
    `stored_idx` is the `next_idx` that DEFEDB knows; `may_have_file` says that content in the
    journal may lie in its own file too. DSNs wait until `bounce_at` for more of
    them, and none is begun before `compose_at`; `returned` are those who got the whole message back.
    `luck` spreads the tries of different messages; recipients of one go on together, which saves transactions and
    reports.
    """

    ta: str
    mail: bytes
    mail_params: bytes
    received: float
    size: int
    is_8bit: bool
    is_utf8: bool
    client_ip: str
    content: Content
    rcpts: dict[int, Rcpt] = field(default_factory=dict)
    next_idx: int = 0
    ibdb_open: int = 0
    unrouted: int = 0
    deferred: int = 0
    may_have_file: bool = True
    stored_idx: int = 0
    bounce_at: float = 0.0
    compose_at: float = 0.0
    returned: tuple[bytes, ...] = ()
    luck: float | None = None


class SiteKey(NamedTuple):
    """Protocol, IP address (or socket) and port, and the section source whose addresses are bound to.

    `base` is the TLSA base domain that a session is for, empty without one: a server may show it a certificate that
    others don't see (RFC 7672 8.1). `host` is its name, where the client may have an account there by that name alone.
    """

    protocol: int
    ip: str
    port: int
    source: str = ""
    base: str = ""
    host: str = ""


@dataclass(slots=True, eq=False)
class Site:
    """What waits for one address, and the sessions open to it.

    `occ` is shared with other sites of the address; `conf` is what is said of sessions with it.
    """

    key: SiteKey
    hop: Hop
    occ: OccEntry
    conf: SessionConf = field(default_factory=SessionConf)
    waiting: Waiting = field(default_factory=Waiting)
    idle: deque[int] = field(default_factory=deque)
    open: int = 0


@dataclass(slots=True, eq=False)
class DaSession:
    """A session of SMTPC as QMGR knows it; `task` 0 means idle."""

    number: int
    peer: PeerKey
    site: SiteKey
    task: int = 0
    done: int = 0
    since: float = 0.0


@dataclass(slots=True, eq=False)
class Task:
    """A transaction given to SMTPC, or about to be when its attempt is on record.

    `is_new` as in `Deliver`; `sender` is the envelope's.
    """

    number: int
    session: int
    ta: str
    sender: bytes
    rcpts: list[Rcpt]
    began: float
    is_new: bool
    is_told: bool = False


@dataclass(slots=True, eq=False)
class SmtpsPeer:
    """A connected SMTP server process."""

    process: int
    sessions: int = 0
    segments: frozenset[str] = frozenset()
    has_announced: bool = False  # whether it has said which segments it uses
    leaving_pid: int = 0
    pid: int = 0
    statistics: str = "{}"  # what it has counted, a JSON object
    clients: dict[str, int] = field(default_factory=dict)  # open sessions by address


@dataclass(slots=True, eq=False)
class SmtpcPeer:
    """A connected SMTP client process; it `waits` for the word that nothing is on its way to it any more."""

    sessions_max: int = 0
    sessions: int = 0
    waits: bool = False


@dataclass(slots=True, eq=False)
class Incoming:
    """A transaction that waits for IBDB, and who waits for the answer."""

    ta: Ta
    peer: PeerKey
    tag: int


@dataclass(slots=True)
class Counters:
    """What happened since the start, for statistics (M1 9.4)."""

    sessions: int = 0
    refused: int = 0
    refused_open: int = 0  # of them, as the client had too many open
    refused_rate: int = 0  # as it came too often
    refused_full: int = 0  # transactions, not sessions: the queue or the disk was full
    transactions: int = 0
    recipients: int = 0
    delivered: int = 0
    deferred: int = 0
    bounced: int = 0
    discarded: int = 0
    attempts: int = 0


@dataclass(slots=True, eq=False)
class Qmgr:
    """All tables together; `start` is when QMGR began, `ids` the last counter given away."""

    settings: Settings
    start: float
    luck: Callable[[], float] = lambda: 0.5  # a random number from 0 to 1
    token: Callable[[], str] = lambda: "0" * 32  # letters and digits that nobody can guess
    edbc: Edbc = field(default_factory=Edbc)
    occ: Occ = field(default_factory=Occ)
    icc: Icc = field(default_factory=Icc)
    hosts: HostConf = field(default_factory=lambda: HostConf({}))
    holds: Holds = field(default_factory=Holds)
    rules: OutRules = field(init=False)
    iqdb: dict[str, Incoming] = field(default_factory=dict)
    iqdb_rcpts: int = 0
    aq: dict[str, Ta] = field(default_factory=dict)
    aq_rcpts: int = 0
    deferred_rcpts: int = 0  # in DEFEDB or on their way there
    deferred_tas: int = 0
    loading: int = 0  # recipients on their way from DEFEDB
    reading: dict[str, None] = field(default_factory=dict)  # their transactions: they don't leave AQ meanwhile
    verdicts: dict[tuple[str, int], Verdict] = field(default_factory=dict)  # by transaction and index
    doomed: list[tuple[str, int]] = field(default_factory=list)  # of them, those to be loaded from DEFEDB
    refill_at: float = 0.0  # not before this time is EDBC refilled again
    flushing: deque[tuple[Any, bytes]] = field(default_factory=deque)  # commands that go on from these keys later
    asked: dict[int, tuple[str, int]] = field(default_factory=dict)
    next_tag: int = 0
    sites: dict[SiteKey, Site] = field(default_factory=dict)
    ready: dict[SiteKey, None] = field(default_factory=dict)  # sites to look at in this turn
    starved: dict[SiteKey, None] = field(default_factory=dict)  # sites that wait for a place at SMTPC
    tasks: dict[int, Task] = field(default_factory=dict)
    sessions: dict[int, DaSession] = field(default_factory=dict)
    idle: dict[int, None] = field(default_factory=dict)  # sessions without a task, the longest idle first
    next_number: int = 0
    smtps: dict[PeerKey, SmtpsPeer] = field(default_factory=dict)
    smtpc: dict[PeerKey, SmtpcPeer] = field(default_factory=dict)
    smar: PeerKey = None
    reloads: int = 0  # of the configuration
    late: tuple[str, ...] = ()  # options whose new values count after a restart
    maps_changed: float = 0.0  # when a reload, or the start, gave SMAR other maps perhaps
    missing: dict[str, float] = field(default_factory=dict)  # since when, infinity once that was said
    holders: dict[str, set[str]] = field(default_factory=dict)  # who needs each journal segment
    settling: dict[str, PeerKey] = field(default_factory=dict)  # who copies a transaction's content
    overtaken: set[str] = field(default_factory=set)  # of them, those that have ended meanwhile
    bouncing: dict[str, None] = field(default_factory=dict)
    composing: dict[str, "Composing"] = field(default_factory=dict)
    ids_next: int = 0
    dsn_next: int = 0  # id of the next DSN; 0: none is safely ours yet
    disk_free: int = 1 << 62
    is_disk_low: bool = False
    refusal: tuple[float, TaAck] = (0.0, TaAck(0, "", ""))  # until when IBDB gets a rest, and what clients hear
    is_full: bool = False  # of mail
    throttled_to: int = -1  # what the SMTP servers were told; -1: not all of them
    throttle_text: str = ""
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        """Limits follow from the configuration."""
        self.take_hosts(self.hosts)

    def take_hosts(self, hosts: HostConf) -> None:
        """The configuration map was read."""
        self.hosts = hosts
        self.rules = OutRules(self.settings.out, self.settings.limit_classes, hosts)
        self.occ.limits_changed()


@dataclass(slots=True, eq=False)
class Composing:
    """A DSN that SMTPS is writing: for which recipients of which transaction, to whom.

    `is_delay`: its recipients do not end with it. `is_8bit` and `is_utf8` as in `Ta`; `returns` the whole message.
    """

    origin: str
    rcpts: list[Rcpt]
    to: bytes
    peer: PeerKey
    began: float
    is_delay: bool
    is_8bit: bool
    is_utf8: bool
    returns: bool
