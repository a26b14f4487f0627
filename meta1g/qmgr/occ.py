"""OCC: how many connections each address may have: the slow start of M1 3.8.1; pure.

Rules
    An address begins with `initial` connections; each success allows one more up to
    `maximum`, each failure of the host one less. At zero nothing is tried until the
    entry's timeout has passed; then one connection probes.
"""
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from meta1g.mta.reply import Reply

Address = tuple[str, int]  # IP address (or a socket's path) and port
TIMEOUT: Final = 60.0  # seconds an address rests at zero (octo, M1 3.8.1; the manual gives no default)


@dataclass(slots=True)
class OccEntry:
    """One address: its window, how often it failed, until when it rests and why."""

    limit: int
    rests_until: float = 0.0
    failures: int = 0
    used: float = 0.0
    reply: Reply | None = None


class Occ:
    """Entries by address and port; the least recently used go when there are more than `entries_max`."""

    def __init__(self) -> None:
        self._entries: dict[Address, OccEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, address: Address, now: float, initial: int) -> OccEntry:
        """The entry of an address, made if there is none; a rest that is over becomes a probe."""
        entry = self._entries.get(address)
        if entry is None:
            entry = self._entries[address] = OccEntry(initial)
        elif entry.limit == 0 and now >= entry.rests_until:
            entry.limit = 1
        entry.used = now
        return entry

    def succeeded(self, address: Address, now: float, initial: int, maximum: int) -> None:
        """A delivery to this address went well."""
        entry = self.entry(address, now, initial)
        entry.failures = 0
        entry.reply = None
        if entry.limit < maximum:
            entry.limit += 1

    def failed(self, address: Address, now: float, initial: int, reply: Reply, rest: float = TIMEOUT) -> bool:
        """The host failed; True if the address rests from now on, for `rest` seconds."""
        entry = self.entry(address, now, initial)
        entry.failures += 1
        entry.reply = reply
        entry.limit = max(entry.limit - 1, 0)
        if entry.limit == 0:
            entry.rests_until = now + rest
        return entry.limit == 0

    def wake(self, addresses: Iterable[Address] | None = None) -> None:
        """End the rests of these addresses, or of all: their next delivery probes."""
        for address in list(self._entries) if addresses is None else addresses:
            entry = self._entries.get(address)
            if entry is not None:
                entry.rests_until = 0.0

    def trim(self, entries_max: int) -> None:
        """Forget the addresses that were used longest ago."""
        if len(self._entries) > entries_max:
            order = sorted(self._entries, key=lambda address: self._entries[address].used)
            for address in order[: len(order) - entries_max]:
                del self._entries[address]
