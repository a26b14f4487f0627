"""The threads that call the author's methods: a few, and some more while work waits (M1 15.1.2)."""
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final

Job = Callable[[], None]
LOOK: Final = 0.01  # seconds that work waits before another thread comes to help; a method that does not wait is faster
_IDLE: Final = 10.0  # seconds that such a thread stays when there is nothing to do


class Pool:
    """Runs jobs: `soft` threads always, up to `hard` while all of them are busy."""

    def __init__(self, soft: int, hard: int) -> None:
        self._soft = soft
        self._hard = hard
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._taken = 0
        self._seen = 0
        self._looked = 0.0

    def start(self) -> None:
        """The first threads."""
        for _ in range(self._soft):
            self._add()

    def put(self, job: Job) -> None:
        """Run this soon; it must not raise."""
        self._jobs.put(job)

    @property
    def has_backlog(self) -> bool:
        """Whether a job waits."""
        return not self._jobs.empty()

    @property
    def size(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def relieve(self) -> None:
        """Add a thread if nothing was taken from the queue since the last look; for times of a backlog."""
        now = monotonic()
        if now - self._looked < LOOK:
            return
        is_stuck = self._seen == self._taken and self.has_backlog
        self._seen, self._looked = self._taken, now
        if is_stuck and len(self._threads) < self._hard:
            self._add()

    def stop(self, timeout: float) -> bool:
        """End the threads when what was put is done; False if some still run after `timeout` seconds."""
        threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        end = monotonic() + timeout
        for thread in threads:
            thread.join(max(end - monotonic(), 0.0))
        return not any(thread.is_alive() for thread in threads)

    def _add(self) -> None:
        thread = threading.Thread(target=self._run, name="pmilter", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _run(self) -> None:
        is_extra = len(self._threads) > self._soft
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE if is_extra else None)
            except Empty:
                job = None
            if job is None:
                break
            self._taken += 1
            job()
        with self._lock:
            self._threads.discard(threading.current_thread())
