"""EDBC: the recipients in DEFEDB in order of their next-time-to-try (M1 7.1, 8.3 item 2.6); pure.

Rules
    It holds the `most` that are due first. Who is due later only DEFEDB knows: `beyond` is the first of those, and
    EDBC is refilled by going through DEFEDB once when three quarters of it are used up.
    Each recipient that waits in DEFEDB is here, beyond, or found by the refill under way. One that was brought
    forward may be found again: who takes it out sees to it that none is worked on twice.
"""
import heapq
from collections.abc import Iterable, Set
from typing import Final

from meta1g.shim.defedb import Waiting

ENTRIES_MAX: Final = 65536  # kept in memory unless the configuration says otherwise: 12 MB


class Edbc:
    """A heap of those that are due first, and one of those whose time is not what DEFEDB says."""

    def __init__(self, most: int = ENTRIES_MAX) -> None:
        self._heap: list[Waiting] = []
        self._moved: list[Waiting] = []  # never let go of: a refill might not find them
        self._most = most
        self.beyond: Waiting | None = None
        self._found: set[Waiting] | None = None  # by the refill under way
        self.until: Waiting | None = None  # the first one that the refill need not find

    def __len__(self) -> int:
        return len(self._heap) + len(self._moved)

    @property
    def is_whole(self) -> bool:
        """Whether all that wait in DEFEDB are here."""
        return self.beyond is None

    @property
    def batch(self) -> int:
        """How many recipients are brought forward at once."""
        return max(self._most // 4, 1)

    @property
    def is_hurried(self) -> bool:
        """Whether those that were brought forward are enough for now."""
        return len(self._moved) >= self.batch

    @property
    def wants_more(self) -> bool:
        """Whether it is time for a refill."""
        return self.beyond is not None and self._found is None and len(self._heap) <= self._most // 4

    def add(self, entry: Waiting) -> None:
        """A recipient waits, and DEFEDB says the same."""
        if self.beyond is None or entry < self.beyond:
            heapq.heappush(self._heap, entry)
            self._cut()
        elif self._found is not None:
            self._find([entry])

    def postpone(self, entry: Waiting) -> None:
        """A recipient waits for longer than DEFEDB says."""
        heapq.heappush(self._moved, entry)

    def next_time(self) -> float | None:
        """When the next recipient is due, None if none waits here."""
        return min((heap[0].next_try for heap in (self._heap, self._moved) if heap), default=None)

    def due(self, now: float, room: int) -> list[Waiting]:
        """Take out up to `room` recipients that are due."""
        found: list[Waiting] = []
        for heap in (self._moved, self._heap):
            while heap and len(found) < room and heap[0].next_try <= now:
                found.append(heapq.heappop(heap))
        return found

    def hurry(self, now: float) -> None:
        """Make all that are here due."""
        self._heap = [entry._replace(next_try=min(entry.next_try, now)) for entry in self._heap]
        self._moved = [entry._replace(next_try=min(entry.next_try, now)) for entry in self._moved]
        heapq.heapify(self._heap)
        heapq.heapify(self._moved)

    def bring_forward(self, chosen: Set[tuple[str, int]], now: float) -> None:
        """Make these recipients due, by transaction and index, whether they are here or beyond."""
        self._heap = [entry for entry in self._heap if entry[1:] not in chosen]
        self._moved = [entry for entry in self._moved if entry[1:] not in chosen]
        self._moved += [Waiting(now, *key) for key in chosen]
        heapq.heapify(self._heap)
        heapq.heapify(self._moved)

    def begin_refill(self) -> Waiting:
        """DEFEDB is about to be gone through for this one and later ones."""
        assert self.beyond is not None
        self._found, self.until = set(), None
        return self.beyond

    def refill(self, found: Iterable[Waiting]) -> None:
        """Some recipients that were beyond as the refill began."""
        if self._found is not None:
            self._find(found)

    def end_refill(self, *, is_whole: bool) -> None:
        """All of DEFEDB was looked at; if not, all stays as it was."""
        found, self._found = self._found, None
        if found is not None and is_whole:
            moved = {entry[1:] for entry in self._moved}
            self._heap += [entry for entry in found if entry[1:] not in moved]
            heapq.heapify(self._heap)
            self.beyond = self.until
            self._cut()

    def _find(self, entries: Iterable[Waiting]) -> None:
        assert self._found is not None
        self._found.update(entry for entry in entries if self.until is None or entry < self.until)
        if len(self._found) > self._most:
            ordered = sorted(self._found)
            keep = max(self._most // 2, 1)
            self._found, self.until = set(ordered[:keep]), ordered[keep]

    def _cut(self) -> None:
        """If there are too many let go of the last ones, until a refill."""
        if len(self._heap) <= self._most:
            return
        self._heap.sort()  # which leaves a heap
        keep = max(self._most * 3 // 4, 1)
        gone = self._heap[keep:]
        del self._heap[keep:]
        self.beyond = gone[0]
        if self._found is not None:
            self._find(gone)
