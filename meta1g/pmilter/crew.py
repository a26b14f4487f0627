"""The threads of a policy milter: one leads, the others help when calls take long (M1 15.1.2).

Rules
    The leader waits for the sockets, and makes the calls that follow itself: what came together is answered
    together, and no thread wakes another for a call that takes microseconds.
    A call that has not come back for LOOK seconds costs its thread the lead: another one goes on in its place, with the
    answers that were held back and the calls that are left. Calls that take less, but are many, are shared, too.
    At most `hard` threads are in calls; one more leads then, and makes none. `soft` threads stay when all is quiet.
"""
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

Job = Callable[[], None]
LOOK: Final = 0.01  # seconds in which a call that does not wait for others is over
_SLOW: Final = 0.002  # seconds of calls in a row until others are asked to share them, and answers leave
_IDLE: Final = 10.0  # seconds that a thread beyond `soft` waits for work
_QUIET: Final = 100  # looks of the watcher at nothing new, until it waits to be woken


class _Term:
    """The time in which one thread leads."""

    __slots__ = ("is_in_job", "serial")

    def __init__(self) -> None:
        self.is_in_job = False
        self.serial = 0


class Crew:
    """Runs jobs, which must not raise.

    `turn(is_urgent)` waits for sockets, a short time if that is so, and puts jobs; `settle()` lets answers leave, from
    any thread; `finish()` is the leader's last deed, before the last jobs.
    """

    def __init__(self, soft: int, hard: int, turn: Callable[[bool], None], settle: Callable[[], None],
                 finish: Callable[[], None]) -> None:
        self._soft, self._hard = soft, hard
        self._turn, self._settle, self._finish = turn, settle, finish
        self._jobs: deque[Job] = deque()
        self._threads: set[threading.Thread] = set()
        self._changed = threading.Condition()
        self._leader: threading.Thread | None = None
        self._term = _Term()
        self._busy = 0  # threads that make calls, without the leader
        self._waiting = 0
        self._calls_for_help = 0
        self._is_stopping = False
        self._active = threading.Event()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin."""
        for _ in range(self._soft):
            self._add()
        threading.Thread(target=self._watch, name="pmilter-watch", daemon=True).start()

    def put(self, job: Job) -> None:
        """Run this soon; for the leader, in its turn."""
        self._jobs.append(job)

    @property
    def is_leading(self) -> bool:
        """Whether this thread leads."""
        return self._leader is threading.current_thread()

    @property
    def size(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def stop(self, wake: Callable[[], None], timeout: float) -> bool:
        """End; `wake` wakes who waits for sockets. False if a call still runs after `timeout` seconds."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._stopped.set()
        self._active.set()
        wake()
        end = monotonic() + timeout
        for thread in list(self._threads):
            thread.join(max(end - monotonic(), 0.0))
        return not self._threads

    def _add(self) -> None:
        thread = threading.Thread(target=self._run, name="pmilter", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _run(self) -> None:
        while (role := self._next_role()) is not None:
            role()
        self._threads.discard(threading.current_thread())

    def _next_role(self) -> Job | None:
        """To lead, to help, or None: to go."""
        with self._changed:
            while not self._is_stopping:
                if self._leader is None:
                    self._leader, self._term = threading.current_thread(), _Term()
                    return self._lead
                if self._calls_for_help and self._jobs and self._may_help:
                    self._calls_for_help -= 1
                    self._busy += 1
                    return self._help
                is_extra = len(self._threads) > self._soft
                self._waiting += 1
                is_woken = self._changed.wait(_IDLE if is_extra else None)
                self._waiting -= 1
                if not is_woken and is_extra:
                    return None
            return None

    def _lead(self) -> None:
        term = self._term
        while self._term is term and not self._is_stopping:
            self._turn(bool(self._jobs))
            self._make_calls(term)
        if self._term is term:
            self._finish()
            self._make_calls(term)
            return
        self._help()  # another one leads, and this one is counted as busy

    def _make_calls(self, term: _Term) -> None:
        since = monotonic()
        while self._term is term and self._busy < self._hard:
            try:
                job = self._jobs.popleft()
            except IndexError:
                break
            term.serial += 1
            term.is_in_job = True
            if not self._active.is_set():
                self._active.set()
            job()
            term.is_in_job = False
            if self._jobs and monotonic() - since > _SLOW:
                self._settle()
                self._call_for_help()
        self._settle()

    def _help(self) -> None:
        while self._jobs:
            try:
                job = self._jobs.popleft()
            except IndexError:
                break
            job()
        with self._changed:
            self._busy -= 1

    def _call_for_help(self) -> None:
        with self._changed:
            if not self._may_help or self._calls_for_help > self._hard:
                return
            self._calls_for_help += 1
            self._wake_one()

    @property
    def _may_help(self) -> bool:
        """Whether one more may make calls, beside the leader."""
        return self._busy < self._hard - 1

    def _wake_one(self) -> None:
        if self._waiting:
            self._changed.notify()
        elif len(self._threads) <= self._hard:
            self._add()

    def _watch(self) -> None:
        """Look at the leader while there are calls."""
        while not self._is_stopping:
            self._active.wait()
            term, serial, quiet = self._term, -1, 0
            while quiet < _QUIET and not self._stopped.wait(LOOK):
                is_same = self._term is term and term.serial == serial
                if is_same and term.is_in_job:
                    self._depose(term, serial)
                quiet = quiet + 1 if is_same else 0
                term = self._term
                serial = term.serial
            self._active.clear()

    def _depose(self, term: _Term, serial: int) -> None:
        with self._changed:
            if self._term is not term or term.serial != serial or not term.is_in_job:
                return
            self._leader, self._term = None, _Term()
            self._busy += 1
            self._calls_for_help = 0
            self._wake_one()
        self._settle()
