"""Runs decisions: gives their questions to maps and DNS, and their results to who asked.

Rules
    A task begins in the thread that asks, since most need only quick maps: a change of
    threads costs more than their lookups. Once it has to wait for DNS or a slow map it
    goes on in one of a few worker threads, which take tasks from one queue (`pool`).
    Every slow map has threads of its own, so that one that hangs holds up nobody else.
    A Fork's tasks go through the same queue, FORK_WINDOW at a time, so that a list of
    thousands lets others in between.
    A task gathers how long its result may be kept: as long as everything that it was told.
    A task ends once: with its result or, at its deadline, with None.
"""
import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any, Final

from meta1g.maps.map import NOT_FOUND, Map, PermFail, Result, TempFail, first
from meta1g.mta.logfmt import fields
from meta1g.proc.log import DETAIL, Log
from meta1g.smar.ask import FOREVER, DnsAnswer, DnsAsks, Fork, GreyAsk, MapAsk, Work
from meta1g.smar.cache import TtlCache
from meta1g.smar.dnsq import DnsThread
from meta1g.smar.greylist import PASSES, Greylist
from meta1g.smar.pool import Pool

FORK_WINDOW: Final = 50  # tasks of one Fork in the queue at a time
SLOW_THREADS: Final = 4  # lookups in one slow map at a time
_WATCH_PERIOD: Final = 0.25  # seconds between looks at deadlines
_REPEAT: Final = 10.0  # seconds in which the same error of a map is logged once

Done = Callable[[Any, float, bool], None]


class Task:
    """A decision on its way.

    `done` gets the result, until when it holds, and whether it may be kept at all. `number` is 0 for
    a part of a Fork, whose deadline is the whole's.
    """

    __slots__ = ("done", "expires", "is_dead", "is_stable", "number", "work")

    def __init__(self, work: Work[Any], done: Done, number: int = 0) -> None:
        self.number = number
        self.work = work
        self.done = done
        self.expires = FOREVER
        self.is_stable = True
        self.is_dead = False


class _Gather:
    """Answers that come one by one; the last one wakes the task."""

    __slots__ = ("_left", "_lock", "answers")

    def __init__(self, count: int) -> None:
        self.answers: list[Any] = [None] * count
        self._left = count
        self._lock = threading.Lock()

    def put(self, at: int, answer: Any) -> bool:
        """Store one answer; whether it was the last."""
        with self._lock:
            self.answers[at] = answer
            self._left -= 1
            return self._left == 0


class Engine:
    """The workers, and what they ask."""

    def __init__(
        self, maps: Mapping[str, Map], dns: DnsThread, cache: TtlCache[DnsAnswer], log: Log, *,
        threads: int, threads_min: int | None = None, clock: Callable[[], float] = time.monotonic,
        greylist: Greylist | None = None,
    ) -> None:
        self._maps = maps
        self._dns = dns
        self._cache = cache
        self._greylist = greylist
        self._log = log
        self._clock = clock
        least = threads if threads_min is None else threads_min
        self._queue: Pool[tuple[Task, Any]] = Pool(lambda item: self._advance(*item), least, threads)
        self._slow: dict[str, SimpleQueue[tuple[Task, MapAsk] | None]] = {}
        self._pending: dict[int, Task] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._is_stopping = threading.Event()
        self._complained: dict[str, float] = {}
        self.expired = 0

    def start(self) -> None:
        """Begin to work."""
        self._queue.start()
        for role, source in self._maps.items():
            if source.is_slow:
                self._slow[role] = SimpleQueue()
                for _ in range(SLOW_THREADS):
                    threading.Thread(target=self._run_slow, args=(role,), name=role, daemon=True).start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Let every thread end after what it does now."""
        self._is_stopping.set()
        self._queue.stop()
        for queue in self._slow.values():
            for _ in range(SLOW_THREADS):
                queue.put(None)

    @property
    def threads(self) -> int:
        """Worker threads that have been started."""
        return self._queue.threads

    @property
    def pending(self) -> int:
        """Tasks that have a deadline and have not ended."""
        return len(self._pending)

    def begin(self, work: Work[Any], done: Done, timeout: float) -> None:
        """Run a decision; `done` is called from this thread or another, with None if `timeout` passes before."""
        task = Task(work, done, next(self._numbers))
        with self._lock:
            self._pending[task.number] = task
            heapq.heappush(self._deadlines, (self._clock() + timeout, task.number))
        self._advance(task, None)

    def _run_slow(self, role: str) -> None:
        queue = self._slow[role]
        while (item := queue.get()) is not None:
            task, ask = item
            if not task.is_dead:
                self._queue.put((task, self._look(task, ask)))

    def _advance(self, task: Task, value: Any) -> None:
        """Go on with a task until it waits or ends."""
        send = task.work.send
        try:
            while not task.is_dead:
                ask = send(value)
                if isinstance(ask, MapAsk):
                    if ask.role in self._slow:
                        self._slow[ask.role].put((task, ask))
                        return
                    value = self._look(task, ask)
                elif isinstance(ask, DnsAsks):
                    value = self._ask_dns(task, ask)
                    if value is None:
                        return
                elif isinstance(ask, GreyAsk):
                    task.is_stable = False
                    if self._greylist is not None:
                        self._greylist.ask(ask, lambda answer: self._queue.put((task, answer)))
                        return
                    value = PASSES
                elif isinstance(ask, Fork):
                    if ask.works:
                        self._fork(task, ask)
                        return
                    value = []
                else:
                    self._log.error(f"func=smar, {fields(entry=ask.text)}")
                    value = None
            task.work.close()
        except StopIteration as stop:
            self._end(task, stop.value)
        except Exception as error:  # a bug of ours must not end the thread: who asked gets a temporary error
            where = traceback.format_exc(limit=-3)
            self._log.error(f"func=smar, {fields(error=type(error).__name__, text=error, where=where)}")
            task.is_stable = False
            self._end(task, None)

    def _look(self, task: Task, ask: MapAsk) -> Result:
        source = self._maps.get(ask.role)
        if source is None:
            return NOT_FOUND
        result = first(source, ask.keys)
        if not source.is_stable:
            task.is_stable = False
        if isinstance(result, TempFail | PermFail):
            task.is_stable = False
            self._complain(ask.role, result.reason)
        elif self._log.wants(DETAIL):
            key = ask.keys[0] if ask.keys else b""
            self._log.write(f"func=map_lookup, {fields(map=ask.role, key=key, result=result)}", DETAIL)
        return result

    def _complain(self, role: str, reason: str) -> None:
        now = self._clock()
        if now - self._complained.get(role + reason, -_REPEAT) >= _REPEAT:
            if len(self._complained) > 1000:
                self._complained.clear()
            self._complained[role + reason] = now
            self._log.error(f"func=map_lookup, {fields(role=role, reason=reason, stat='temporary failure')}")

    def _ask_dns(self, task: Task, ask: DnsAsks) -> list[DnsAnswer] | None:
        """The answers if all are known, else None: the task goes on when they have come."""
        now = self._clock()
        get = self._cache.get
        found = [get(question, now) for question in ask.asks]
        missing = [at for at, answer in enumerate(found) if answer is None]
        if not missing:
            return self._told(task, found)
        gather = _Gather(len(missing))

        def arrived(place: int, at: int, answer: DnsAnswer) -> None:
            found[at] = answer
            if gather.put(place, answer):
                self._queue.put((task, self._told(task, found)))

        for place, at in enumerate(missing):
            self._dns.ask(ask.asks[at], lambda answer, place=place, at=at: arrived(place, at, answer))  # type: ignore[misc]
        return None

    def _told(self, task: Task, answers: list[Any]) -> list[DnsAnswer]:
        task.expires = min(task.expires, *[answer.expires for answer in answers]) if answers else task.expires
        return answers

    def _fork(self, task: Task, ask: Fork) -> None:
        gather = _Gather(len(ask.works))
        works = iter(enumerate(ask.works))
        lock = threading.Lock()

        def start_next() -> None:
            with lock:
                at, work = next(works, (-1, None))
            if work is not None and not task.is_dead:
                self._queue.put((Task(work, lambda *result: ended(at, *result)), None))

        def ended(at: int, result: Any, expires: float, is_stable: bool) -> None:
            with lock:
                task.expires = min(task.expires, expires)
                task.is_stable = task.is_stable and is_stable
            if gather.put(at, result):
                self._queue.put((task, gather.answers))
            else:
                start_next()

        for _ in range(min(FORK_WINDOW, len(ask.works))):
            start_next()

    def _end(self, task: Task, result: Any) -> None:
        if task.number and self._pending.pop(task.number, None) is None:
            return  # the deadline was faster
        if not task.is_dead:
            task.is_dead = True
            task.done(result, task.expires, task.is_stable)

    def _watch(self) -> None:
        while not self._is_stopping.wait(_WATCH_PERIOD):
            now = self._clock()
            while True:
                with self._lock:
                    if not self._deadlines or self._deadlines[0][0] > now:
                        break
                    _, number = heapq.heappop(self._deadlines)
                    task = self._pending.pop(number, None)
                if task is not None and not task.is_dead:
                    self.expired += 1
                    task.is_dead = True
                    task.done(None, 0.0, False)
