"""Threads that share one queue: as few as configured at first, more when all are busy (M1 8.4 items 3 and 4)."""
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Calls `work` with each item that is put; between `least` and `most` threads, `least` counts if it is more."""

    def __init__(self, work: Callable[[T], None], least: int, most: int) -> None:
        self._work = work
        self._least = least
        self._most = max(least, most)
        self._queue: SimpleQueue[T | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._is_stopping = False
        self.threads = 0

    def start(self) -> None:
        """Begin with the least number of threads."""
        for _ in range(self._least):
            self._grow()

    def put(self, item: T) -> None:
        """Have an item worked on; another thread starts for it if nobody is free."""
        self._queue.put(item)
        if self.threads < self._most and self._queue.qsize() > self._idle:
            self._grow()

    def stop(self) -> None:
        """Let every thread end after what is in line before it."""
        with self._lock:
            self._is_stopping = True
            count = self.threads
        for _ in range(count):
            self._queue.put(None)

    def _grow(self) -> None:
        with self._lock:
            if self.threads >= self._most or self._is_stopping:
                return
            self.threads += 1
            name = f"worker{self.threads}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            item = self._queue.get()
            with self._lock:
                self._idle -= 1
            if item is None:
                return
            self._work(item)
