"""DEFEDB as dictionaries."""
from collections.abc import Callable, Sequence

from meta1g.mta.errors import CorruptRecord
from meta1g.mta.ids import rcpt_id
from meta1g.shim.defedb import Change, Waiting
from meta1g.shim.records import DeferredRcpt, DeferredTa


class FakeDefedb:
    """DEFEDB's transactions, each of which is durable when it returns; `on_write` may stop one before it happens."""

    def __init__(self, on_write: Callable[[], None] = lambda: None) -> None:
        self.path = "defedb"
        self.on_write = on_write
        self.tas: dict[str, DeferredTa] = {}
        self.rcpts: dict[tuple[str, int], DeferredRcpt] = {}

    def write(self, changes: Sequence[Change]) -> None:
        self.on_write()
        for change in changes:
            for entry in change.puts:
                if isinstance(entry, DeferredTa):
                    self.tas[entry.ta] = entry
                else:
                    assert entry.ta in self.tas, "a recipient without its transaction"
                    self.rcpts[entry.ta, entry.idx] = entry
            for key in change.deletes:
                self.rcpts.pop(key, None)
            for ta in change.ended:
                assert not any(key[0] == ta for key in self.rcpts), "a transaction ended before its recipients"
                self.tas.pop(ta, None)
            for ta in change.settled:
                if ta in self.tas:
                    entry = self.tas[ta]
                    self.tas[ta] = entry._replace(content=(entry.content[0]._replace(segment="", offset=0),))

    def scan(self, start: bytes, most: int) -> tuple[list[DeferredRcpt], bytes]:
        keys = sorted((b"R" + rcpt_id(*key).encode(), key) for key in self.rcpts)
        found = [(name, key) for name, key in keys if name >= start]
        return [self.rcpts[key] for _, key in found[:most]], found[most][0] if len(found) > most else b""

    def loaded(self, on_damage: Callable[[CorruptRecord], None]) -> list[DeferredTa | Waiting]:
        waiting = [Waiting(rcpt.next_try, rcpt.ta, rcpt.idx) for rcpt in self.rcpts.values()]
        return [*waiting, *self.tas.values()]
