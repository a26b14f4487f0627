"""DEFEDB as dictionaries."""
from collections import Counter
from collections.abc import Callable, Sequence

from meta1g.mta.errors import CorruptRecord
from meta1g.mta.ids import rcpt_id
from meta1g.shim.defedb import Change, Found, Group, Waiting
from meta1g.shim.records import DeferredRcpt, DeferredTa


class FakeDefedb:
    """DEFEDB's transactions, each of which is durable when it returns; `on_write` may stop one before it happens."""

    def __init__(self, on_write: Callable[[], None] = lambda: None) -> None:
        self.path = "defedb"
        self.on_write = on_write
        self.tas: dict[str, DeferredTa] = {}
        self.rcpts: dict[tuple[str, int], DeferredRcpt] = {}
        self.totals: Counter[str] = Counter()  # recipients by transaction

    def write(self, changes: Sequence[Change]) -> None:
        self.on_write()
        for change in changes:
            for entry in change.puts:
                if isinstance(entry, DeferredTa):
                    self.tas[entry.ta] = entry
                else:
                    assert entry.ta in self.tas, "a recipient without its transaction"
                    self.totals[entry.ta] += (entry.ta, entry.idx) not in self.rcpts
                    self.rcpts[entry.ta, entry.idx] = entry
            for key in change.deletes:
                self.totals[key[0]] -= self.rcpts.pop(key, None) is not None
            for ta in change.ended:
                assert not self.totals.pop(ta, 0), "a transaction ended before its recipients"
                self.tas.pop(ta, None)
            for ta in change.settled:
                if ta in self.tas:
                    entry = self.tas[ta]
                    self.tas[ta] = entry._replace(content=(entry.content[0]._replace(segment="", offset=0),))

    def scan(self, start: bytes, most: int) -> tuple[list[DeferredRcpt], bytes]:
        keys = sorted((b"R" + rcpt_id(*key).encode(), key) for key in self.rcpts)
        found = [(name, key) for name, key in keys if name >= start]
        return [self.rcpts[key] for _, key in found[:most]], found[most][0] if len(found) > most else b""

    def survey(self, start: bytes, most: int) -> tuple[list[Waiting], bytes]:
        found, more = self.scan(start, most)
        return [Waiting(rcpt.next_try, rcpt.ta, rcpt.idx) for rcpt in found], more

    def load(self, ta: str, idxs: Sequence[int]) -> Found:
        rcpts = [self.rcpts[ta, idx] for idx in idxs if (ta, idx) in self.rcpts]
        return Found(self.tas.get(ta), rcpts, [], self.totals[ta])

    def loaded(self, on_damage: Callable[[CorruptRecord], None]) -> list[Group[Waiting]]:
        found: dict[str, list[Waiting]] = {ta: [] for ta in self.tas}
        for rcpt in self.rcpts.values():
            found[rcpt.ta].append(Waiting(rcpt.next_try, rcpt.ta, rcpt.idx))
        return [Group(ta, self.tas[ta], sorted(found[ta])) for ta in sorted(found)]
