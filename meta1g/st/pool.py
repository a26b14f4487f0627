"""A pool of green threads that are used again (the statethreads of M1 8.5 items 5, 6 and 8.6 items 4, 5)."""
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import gevent
from gevent import get_hub
from greenlet import getcurrent

from meta1g.st.sched import Interrupted

T = TypeVar("T")
IDLE_MAX: Final = 200  # threads kept for what comes next; a new one costs 20 microseconds and a page fault


class Pool(Generic[T]):
    """Runs `serve(item)` in a green thread for every item.

    `idle_min` threads are made at the start, `idle_max` are kept when they have nothing to do.
    """

    def __init__(self, serve: Callable[[T], Any], *, idle_min: int = 0, idle_max: int = IDLE_MAX) -> None:
        self._serve = serve
        self._idle_min, self._idle_max = idle_min, idle_max
        self._resting: list[_Worker[T]] = []

    def start(self) -> None:
        """Make the first threads."""
        for _ in range(self._idle_min):
            _Worker(self, [])

    def put(self, item: T) -> None:
        """Serve this at the next turn of the loop."""
        if self._resting:
            self._resting.pop().take(item)
        else:
            _Worker(self, [item])

    def run_one(self, item: T) -> None:
        """Serve an item to its end; called by a worker."""
        self._serve(item)

    def keep(self, worker: "_Worker[T]") -> bool:
        """Let a worker that has nothing to do wait for the next item; False if it had better end."""
        if len(self._resting) >= self._idle_max:
            return False
        self._resting.append(worker)
        return True

    def forget(self, worker: "_Worker[T]") -> None:
        """A worker ends."""
        if worker in self._resting:
            self._resting.remove(worker)


class _Worker(Generic[T]):
    """A green thread that serves one item after another."""

    def __init__(self, pool: Pool[T], items: list[T]) -> None:
        """With an item to serve at once, or none to wait for one."""
        self._pool = pool
        self._items = items
        self._resume: Callable[[], Any] | None = None
        gevent.spawn(self._run)

    def take(self, item: T) -> None:
        """Serve this at the next turn of the loop; only for a worker that is idle."""
        self._items.append(item)
        get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self._resume is not None:
            self._resume()

    def _run(self) -> None:
        try:
            if not self._items and self._pool.keep(self):
                self._rest()
            while self._items:
                self._pool.run_one(self._items.pop())
                if self._pool.keep(self):
                    self._rest()
        finally:
            self._pool.forget(self)

    def _rest(self) -> None:
        self._resume = getcurrent().switch
        try:
            get_hub().switch()
        except Interrupted:
            pass  # it was meant for an item that had just ended
        finally:
            self._resume = None
