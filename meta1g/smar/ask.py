"""Questions that decisions yield, and their answers; pure.

Rules
    A decision is a generator. It yields a MapAsk, a DnsAsks, a GreyAsk or a Fork and is sent the
    answer; what it returns is the decision. So every decision can be tested, replayed
    and explained without I/O, and whoever runs it may wait as it likes.
    Times are seconds of the clock that the cache was given.
"""
from collections.abc import Generator
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from meta1g.maps.map import Result
from meta1g.mta.dane import Tlsa

T = TypeVar("T")
FOREVER: Final = float("inf")


class Rtype:
    """DNS record types that mail needs (RFC 1035 3.2.2, RFC 3596, RFC 6698 7.1)."""

    A: Final = 1
    CNAME: Final = 5
    SOA: Final = 6
    PTR: Final = 12
    MX: Final = 15
    TXT: Final = 16
    AAAA: Final = 28
    TLSA: Final = 52


TYPE_NAMES: Final = {number: name for name, number in vars(Rtype).items() if isinstance(number, int)}


class DnsAsk(NamedTuple):
    """One DNS question: a name in lower case without a trailing dot, and a record type."""

    name: str
    rtype: int


class Status(Enum):
    """What became of a DNS question."""

    OK = "ok"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    TEMP = "temp"


class Mx(NamedTuple):
    """One MX record."""

    preference: int
    host: str


class DnsAnswer(NamedTuple):
    """Answer to a DnsAsk, good until `expires`.

    `records` holds addresses or names, `mx` MX records, `tlsa` TLSA records; `reason` says why a TEMP answer is
    one. `is_secure`: a trusted resolver has validated it, each link of a CNAME chain too (RFC 4035 3.2.3).
    `is_refused`: a TEMP answer because each nameserver that was asked declined the question for good.
    `alias` is where a chain of CNAMEs led to, empty if there was none.
    """

    status: Status
    expires: float
    records: tuple[str, ...] = ()
    mx: tuple[Mx, ...] = ()
    reason: str = ""
    is_secure: bool = False
    tlsa: tuple[Tlsa, ...] = ()
    is_refused: bool = False
    alias: str = ""


class MapAsk(NamedTuple):
    """The first entry among `keys` in the map that plays this role."""

    role: str
    keys: tuple[bytes, ...]


class DnsAsks(NamedTuple):
    """DNS questions to be asked at the same time; the answers are a list in the same order."""

    asks: tuple[DnsAsk, ...]


class GreyAsk(NamedTuple):
    """May mail with this key pass (M1 3.9.4)? `is_peek` leaves no trace in the database."""

    key: bytes
    is_peek: bool = False


class GreyAnswer(NamedTuple):
    """Whether it may pass, and in which state the key was since when (seconds since 1970, 0: it was unknown)."""

    may_pass: bool
    state: str
    since: float


class Fork(NamedTuple):
    """Decisions to be made side by side; the answers are a list in the same order."""

    works: "tuple[Work[Any], ...]"


class Note(NamedTuple):
    """A line for the log; the answer is None."""

    text: str


Ask = MapAsk | DnsAsks | GreyAsk | Fork | Note
Work = Generator[Ask, Any, T]

MAILERTABLE: Final = "mailertable"
ALIASES: Final = "aliases"
LOCAL_USERS: Final = "local_user_map"
ACCESS: Final = "access_map"


def look(role: str, keys: tuple[bytes, ...]) -> Work[Result]:
    """Ask a map, typed."""
    result: Result = yield MapAsk(role, keys)
    return result


def dns(*asks: DnsAsk) -> Work[list[DnsAnswer]]:
    """Ask DNS, typed."""
    answers: list[DnsAnswer] = yield DnsAsks(asks)
    return answers


def grey(key: bytes) -> Work[GreyAnswer]:
    """Ask the greylist, typed."""
    answer: GreyAnswer = yield GreyAsk(key)
    return answer


def fork(works: list[Work[T]]) -> Work[list[T]]:
    """Run decisions side by side, typed."""
    answers: list[T] = yield Fork(tuple(works))
    return answers


def note(text: str) -> Work[None]:
    """Have an error logged: a map entry that makes no sense."""
    yield Note(text)
