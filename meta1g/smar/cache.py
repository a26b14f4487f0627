"""A bounded table of things that expire: DNS answers and finished decisions.

Rules
    Readers take no lock; writers take one. A full table first loses what has expired,
    then what was stored first.
    The clock is passed in: times are seconds of it.
"""
import threading
from collections.abc import Hashable
from itertools import islice
from typing import Final, Generic, NamedTuple, TypeVar

V = TypeVar("V")
_SWEEP: Final = 64  # entries looked at when room is needed: keeps a store short


class CacheCounts(NamedTuple):
    """What a cache has seen."""

    entries: int
    hits: int
    misses: int
    evicted: int


class TtlCache(Generic[V]):
    """At most `size` values, each with the time at which it ends."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[Hashable, tuple[float, V]] = {}
        self._lock = threading.Lock()
        self._hits = self._misses = self._evicted = 0

    def get(self, key: Hashable, now: float) -> V | None:
        """The value for `key` unless it has expired."""
        entry = self._entries.get(key)
        if entry is not None and entry[0] > now:
            self._hits += 1
            return entry[1]
        self._misses += 1
        return None

    def put(self, key: Hashable, value: V, expires: float, now: float) -> None:
        """Store a value until `expires`; one that has expired already is not stored."""
        if expires <= now:
            return
        with self._lock:
            self._entries.pop(key, None)  # a new value goes to the end of the line
            if len(self._entries) >= self._size:
                self._make_room(now)
            self._entries[key] = (expires, value)

    def _make_room(self, now: float) -> None:
        oldest = list(islice(self._entries.items(), _SWEEP))
        gone = [key for key, (expires, _) in oldest if expires <= now] or [oldest[0][0]]
        for key in gone:
            del self._entries[key]
        self._evicted += len(gone)

    def clear(self) -> None:
        """Forget everything (M1 4.8: the maps have changed)."""
        with self._lock:
            self._entries = {}

    def counts(self) -> CacheCounts:
        """Counters for statistics (M1 9.4)."""
        return CacheCounts(len(self._entries), self._hits, self._misses, self._evicted)
