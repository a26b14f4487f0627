"""The greylisting databases: the main one, and its secondary index by expiry (M1 3.9.4).

Rules
    Both are btrees in one transactional environment, joined by Berkeley DB's associate. A commit is
    not flushed: a loss of power may cost the last entries, who then wait once more.
    The main one has a record `\\0` with the number of entries, so that nobody has to count them.

Files
    greylist/: 0700 meta1m: the two databases by the names of the configuration, logs and region files.
"""
import os
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from meta1g.mta.errors import CorruptRecord
from meta1g.shim.bdb import Env, Txn

FOLDER: Final = "greylist"
_VERSION: Final = 1
_RECORD: Final = struct.Struct(">QBBd")  # expiry in seconds, version, whether it is white, since when
_EXPIRY: Final = struct.Struct(">Q")
_COUNT: Final = b"\0"
_CACHE: Final = 32 << 20  # octets: the leaves that a busy server touches within an hour


class GreyRecord(NamedTuple):
    """An entry: whether it is whitelisted, since when, and when it expires; seconds since 1970."""

    is_white: bool
    since: float
    expires: float


class GreyDb:
    """The databases, open; one thread uses them, and tools that join."""

    def __init__(self, home: str, main: str, secondary: str, *, joins: bool = False) -> None:
        """Open or make them, or join SMAR, which has them open; StoreError."""
        self.path = os.path.join(home, main)
        self._env = Env(home, cache_size=_CACHE, mode=0o600, joins=joins)
        self._main = self._env.btree(main)
        self._by_expiry = self._env.btree(secondary, duplicates=True)
        self._main.associate(self._by_expiry, _expiry_of)
        self.count = self._count(None)

    def _count(self, txn: Txn | None) -> int:
        return int.from_bytes(self._main.get(_COUNT, txn) or b"", "big")

    def get(self, key: bytes) -> GreyRecord | None:
        """What is known of `key`; StoreError, CorruptRecord."""
        value = self._main.get(key)
        return None if value is None else self._decode(key, value)

    def put(self, records: Iterable[tuple[bytes, GreyRecord]]) -> None:
        """Write all of these, or on StoreError none."""
        self.count = self._env.transact(lambda txn: self._put(records, txn), durable=False)

    def _put(self, records: Iterable[tuple[bytes, GreyRecord]], txn: Txn) -> int:
        count = self._count(txn)
        for key, record in records:
            count += self._main.get(key, txn) is None
            self._main.put(key, _RECORD.pack(int(record.expires), _VERSION, record.is_white, record.since), txn)
        return self._write_count(count, txn)

    def remove(self, keys: Iterable[bytes]) -> int:
        """Remove these; how many were there. StoreError: none went."""
        removed = self._env.transact(lambda txn: self._remove(keys, txn), durable=False)
        self.count -= removed
        return removed

    def _remove(self, keys: Iterable[bytes], txn: Txn) -> int:
        removed = sum(self._main.delete(key, txn) for key in keys)
        self._write_count(self._count(txn) - removed, txn)
        return removed

    def _write_count(self, count: int, txn: Txn) -> int:
        self._main.put(_COUNT, count.to_bytes(8, "big"), txn)
        return count

    def expired(self, now: float, most: int) -> list[bytes]:
        """Keys whose entries have expired, the oldest first, at most so many."""
        found: list[bytes] = []
        for expiry, key in self._by_expiry.index_pairs():
            if len(found) >= most or _EXPIRY.unpack(expiry)[0] > now:
                break
            found.append(key)
        return found

    def items(self) -> Iterable[tuple[bytes, GreyRecord]]:
        """All entries in order of their keys; damaged ones are left out."""
        for key, value in self._main.items():
            if key != _COUNT:
                try:
                    yield key, self._decode(key, value)
                except CorruptRecord:
                    continue

    def _decode(self, key: bytes, value: bytes) -> GreyRecord:
        if len(value) != _RECORD.size or value[_EXPIRY.size] != _VERSION:
            raise CorruptRecord(self.path, 0, f"record {key!r} is of unknown version or damaged")
        expires, _, is_white, since = _RECORD.unpack(value)
        return GreyRecord(bool(is_white), since, expires)

    def checkpoint(self) -> None:
        """Make recovery short, and remove logs that it does not need."""
        self._env.checkpoint()
        self._env.remove_logs()

    def close(self) -> None:
        """Close after a last checkpoint."""
        self.checkpoint()
        self.leave()

    def leave(self) -> None:
        """Close what was joined."""
        self._by_expiry.close()
        self._main.close()
        self._env.close()


def _expiry_of(key: bytes, value: bytes) -> bytes | None:
    """The key in the secondary database; the count is not in it."""
    return None if key == _COUNT else value[:_EXPIRY.size]
