"""OCC: how many connections each address may have, and how often: the slow start of M1 3.8.1; pure.

Rules
    An address begins with `initial` connections; each success allows one more up to
    `maximum`, each failure of the host one less. At zero nothing is tried until the
    entry's timeout has passed; then one connection probes. If that fails too the address rests for twice as
    long, up to REST_MAX: it is probed, not hammered.
    Where an address serves recipients with different limits the lower of each counts.
    An entry that nobody uses is forgotten after its timeout, unless its host fails.
"""
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from meta1g.mta.reply import Reply
from meta1g.proto.msg_da import TlsLevel

Address = tuple[str, int]  # IP address (or a socket's path) and port
TIMEOUT: Final = 60.0  # seconds an address rests at zero (octo, M1 3.8.1; the manual gives no default)
REST_MAX: Final = 600.0  # seconds between two probes; Exim's retry rules begin with 15 minutes, Postfix probes each 5
MINUTE: Final = 60.0


class OutLimits(NamedTuple):
    """Limits of an address: connections at first and at most, transactions in a session, connections a minute
    (0 for any), and the timeout of its entry in seconds."""

    initial: int
    maximum: int
    transactions: int
    rate: int = 0
    timeout: float = TIMEOUT


@dataclass(slots=True)
class OccEntry:
    """One address: its limits and window, what is open, how often it failed, until when it rests and why.

    `sites` are the keys of those that hold the entry; `is_stale` says that its limits are those of an earlier
    configuration.
    """

    limits: OutLimits
    limit: int
    open: int = 0
    sites: dict[Any, None] = field(default_factory=dict)
    rests_until: float = 0.0
    rests: int = 0
    failures: int = 0
    used: float = 0.0
    reply: Reply | None = None
    is_stale: bool = False
    began: deque[float] = field(default_factory=deque)
    tls_level: int = 0  # of msg_da.TlsLevel, until `tls_until`
    tls_until: float = 0.0
    cert_fp: str = ""  # of the last certificate, until `cert_expires`
    cert_expires: float = 0.0

    def take(self, limits: OutLimits) -> None:
        """Keep to these limits too."""
        mine = limits if self.is_stale else self.limits
        self.is_stale = False
        if limits == self.limits:
            return
        rates = [rate for rate in (mine.rate, limits.rate) if rate]
        self.limits = OutLimits(
            min(mine.initial, limits.initial), min(mine.maximum, limits.maximum),
            min(mine.transactions, limits.transactions), min(rates, default=0), max(mine.timeout, limits.timeout))
        self.limit = min(self.limit, self.limits.maximum)

    def may_open(self, now: float) -> bool:
        """Whether one more connection is allowed."""
        return self.open < self.limit and self.rate_allows(now)

    def rate_allows(self, now: float) -> bool:
        """Whether one more connection keeps to the limit of a minute."""
        while self.began and now - self.began[0] >= MINUTE:
            self.began.popleft()
        return not self.limits.rate or len(self.began) < self.limits.rate

    def opened(self, now: float) -> None:
        """A connection begins."""
        self.open += 1
        self.used = now
        if self.limits.rate:
            self.began.append(now)

    def tls_failed(self, now: float) -> None:
        """A handshake failed: less of TLS is tried until the entry's timeout has passed (M1 14.1)."""
        self.tls_level = min(self.tls_level + 1, TlsLevel.NONE)
        self.tls_until = now + self.limits.timeout

    def saw(self, fingerprint: str, expires: float) -> None:
        """The certificate that the host has shown (M1 14.1)."""
        self.cert_fp, self.cert_expires = fingerprint, expires

    def age(self, now: float) -> None:
        """What was known of TLS is forgotten in time."""
        if self.tls_level and now >= self.tls_until:
            self.tls_level = TlsLevel.ALL
        if self.cert_fp and now >= self.cert_expires:
            self.cert_fp = ""

    def succeeded(self) -> None:
        """A delivery to this address went well."""
        self.failures = self.rests = 0
        self.reply = None
        if self.limit < self.limits.maximum:
            self.limit += 1

    def failed(self, now: float, reply: Reply, shortest: float, longest: float) -> bool:
        """The host failed; True if the address rests from now on, for `shortest` to `longest` seconds at most."""
        self.failures += 1
        self.reply = reply
        self.limit = max(self.limit - 1, 0)
        if self.limit == 0:
            first = min(self.limits.timeout, shortest)
            self.rests_until = now + min(first * 2.0 ** min(self.rests, 16), max(first, min(REST_MAX, longest)))
            self.rests += 1
        return self.limit == 0


class Occ:
    """Entries by address and port."""

    def __init__(self) -> None:
        self._entries: dict[Address, OccEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, address: Address, now: float, limits: OutLimits) -> OccEntry:
        """The entry of an address, made if there is none; a rest that is over becomes a probe."""
        entry = self._entries.get(address)
        if entry is None:
            entry = self._entries[address] = OccEntry(limits, limits.initial)
        else:
            entry.take(limits)
            if entry.limit == 0 and now >= entry.rests_until:
                entry.limit = 1
        entry.used = now
        entry.age(now)
        return entry

    def limits_changed(self) -> None:
        """The configuration is another: entries take the limits that they are given next."""
        for entry in self._entries.values():
            entry.is_stale = True

    def wake(self, addresses: Iterable[Address] | None = None) -> None:
        """End the rests of these addresses, or of all: their next delivery probes."""
        for address in list(self._entries) if addresses is None else addresses:
            entry = self._entries.get(address)
            if entry is not None:
                entry.rests_until = 0.0

    def trim(self, now: float, entries_max: int) -> None:
        """Forget entries that are over, and those that were used longest ago if there are more than `entries_max`."""
        free = [(entry.used, address) for address, entry in self._entries.items() if not entry.sites]
        over = len(self._entries) - entries_max
        if over > 0:
            free.sort()
        for at, (used, address) in enumerate(free):
            entry = self._entries[address]
            if at < over or (not entry.failures and now - used > max(entry.limits.timeout, MINUTE)):
                del self._entries[address]
