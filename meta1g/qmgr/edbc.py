"""EDBC: the recipients in DEFEDB in order of their next-time-to-try (M1 7.1); pure."""
import heapq
from collections.abc import Set


class Edbc:
    """A heap of (next try, transaction, index), and how many recipients each transaction has in DEFEDB."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str, int]] = []
        self.count: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, next_try: float, ta: str, idx: int) -> None:
        """A recipient waits until `next_try`."""
        heapq.heappush(self._heap, (next_try, ta, idx))

    def next_time(self) -> float | None:
        """When the next recipient is due, None if none waits."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float, room: int) -> dict[str, list[int]]:
        """Take out up to `room` recipients that are due, by transaction."""
        found: dict[str, list[int]] = {}
        while self._heap and room > 0 and self._heap[0][0] <= now:
            _, ta, idx = heapq.heappop(self._heap)
            found.setdefault(ta, []).append(idx)
            room -= 1
        return found

    def bring_forward(self, chosen: Set[tuple[str, int]], now: float) -> int:
        """Make these recipients due, by transaction and index; how many of them wait here."""
        count = 0
        heap = []
        for entry in self._heap:
            if entry[1:] in chosen:
                count += 1
                entry = (min(entry[0], now), entry[1], entry[2])
            heap.append(entry)
        heapq.heapify(heap)
        self._heap = heap
        return count

    def hurry(self, now: float) -> int:
        """Make every recipient due; how many there are."""
        self._heap = [(now, ta, idx) for _, ta, idx in self._heap]
        heapq.heapify(self._heap)
        return len(self._heap)
