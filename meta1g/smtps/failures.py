"""Failed logins: by client and by account, so that guessing gets slow; pure.

Rules
    A failure is answered after 1, 2, 4 ... seconds, as there were failures of this address (IPv6: of its /64) or of
    this account, whichever are more. They are forgotten 15 minutes after the last one.
    Who knows the password is never delayed: nobody can lock others out of their account.
    An address has ten logins under way at most, with ten failures only four: no more of them wait for a hash, so that
    others need not wait long. The server lets so many clients wait for an answer at once.
    The tables are bounded: what failed longest ago is forgotten.
"""
import ipaddress
from typing import Final

_FORGET: Final = 900.0  # seconds
_ENTRIES_MAX: Final = 10_000  # of each table: 2 MB
_SUSPECT: Final = 10  # failures from which on an address counts as guessing
_AT_ONCE: Final = 10  # logins of an address under way: 1.5 seconds of hashing
_AT_ONCE_SUSPECT: Final = 4
_DOUBLINGS_MAX: Final = 20


class _Counts:
    """How often a key failed, and when last; in the order of the latter."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, float]] = {}

    def get(self, key: str, now: float) -> int:
        count, last = self._found.get(key, (0, now))
        return count if now - last < _FORGET else 0

    def add(self, key: str, now: float) -> int:
        count = self.get(key, now) + 1
        self._found.pop(key, None)
        self._found[key] = count, now
        if len(self._found) > _ENTRIES_MAX:
            del self._found[next(iter(self._found))]
        return count

    def __len__(self) -> int:
        return len(self._found)


class Failures:
    """Those of one server; `delay_max` in seconds, `waiting_max` clients wait at once."""

    def __init__(self, delay_max: float, waiting_max: int) -> None:
        self._delay_max = delay_max
        self._waiting_max = waiting_max
        self._by_address, self._by_account = _Counts(), _Counts()
        self._under_way: dict[str, int] = {}
        self.waiting = 0

    def begin(self, ip: str, now: float) -> bool:
        """A login of this client begins, which must `end`; False if it is one too many."""
        key = net_of(ip)
        under_way = self._under_way.get(key, 0)
        if under_way >= _AT_ONCE_SUSPECT:
            is_suspect = self._by_address.get(key, now) >= _SUSPECT
            if is_suspect or under_way >= _AT_ONCE:
                return False
        self._under_way[key] = under_way + 1
        return True

    def end(self, ip: str) -> None:
        """It is over."""
        key = net_of(ip)
        left = self._under_way.get(key, 0) - 1
        if left > 0:
            self._under_way[key] = left
        else:
            self._under_way.pop(key, None)

    @property
    def has_room(self) -> bool:
        """Whether one more may wait."""
        return self.waiting < self._waiting_max

    def failed(self, ip: str, account: str, now: float) -> float:
        """It failed: the seconds that its answer waits. `account` may be empty."""
        count = self._by_address.add(net_of(ip), now)
        if account:
            count = max(count, self._by_account.add(account.lower(), now))
        return min(self._delay_max, float(1 << min(count - 1, _DOUBLINGS_MAX)))


def net_of(ip: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 /64, or what is no address."""
    if ":" not in ip:
        return ip
    try:
        return str(ipaddress.IPv6Network((int(ipaddress.IPv6Address(ip.partition("%")[0])) >> 64 << 64, 64)))
    except ValueError:
        return ip
