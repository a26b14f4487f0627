"""Green threads: spawn, sleep, deadlines, one-shot events (the statethreads of M1 9.3).

Rules
    Every wait takes a timeout in seconds; TimedOut says that it ran out.
    Nothing is monkey patched: only calls into this package give way to other threads.
"""
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub

from meta1g.st.wait import TimedOut as TimedOut
from meta1g.st.wait import deadlines


class Interrupted(BaseException):
    """Raised in a thread at its wait by `Thread.interrupt`; no handler of ordinary errors sees it."""


class Thread:
    """Handle of a green thread."""

    def __init__(self, greenlet: Any) -> None:
        self._greenlet = greenlet

    def kill(self) -> None:
        """Raise GreenletExit in the thread at its next wait; returns at once."""
        self._greenlet.kill(block=False)

    def interrupt(self) -> None:
        """Raise Interrupted in the thread at its wait; returns at once."""
        self._greenlet.kill(Interrupted, block=False)

    def join(self, timeout: float) -> bool:
        """Wait for its end; False if it still runs after `timeout`."""
        self._greenlet.join(timeout)
        return bool(self._greenlet.ready())


def spawn(function: Callable[..., Any], *args: Any) -> Thread:
    """Run `function(*args)` in a new green thread."""
    return Thread(gevent.spawn(function, *args))


def sleep(seconds: float) -> None:
    """Give way to others for so long."""
    gevent.sleep(seconds)


def wait_until(is_so: Callable[[], bool], timeout: float, pause: float) -> bool:
    """Look again and again, with this pause, whether `is_so`; False if it is not within `timeout` seconds."""
    end = now() + timeout
    while not is_so():
        if now() >= end:
            return False
        sleep(pause)
    return True


def give_way() -> None:
    """Let all others that are ready have their turn, those whose sockets are too; `sleep(0)` looks at no socket."""
    hub = get_hub()
    timer = hub.loop.timer(0.0)
    try:
        hub.wait(timer)
    finally:
        timer.close()


def now() -> float:
    """Seconds on the clock that deadlines use."""
    return time.monotonic()


def soon(function: Callable[..., Any], *args: Any) -> None:
    """Call `function` once at the end of this turn of the loop."""
    get_hub().loop.run_callback(function, *args)


def every(seconds: float, function: Callable[[], Any]) -> Thread:
    """Call `function` again and again, with this pause between the calls."""

    def run() -> None:
        while True:
            gevent.sleep(seconds)
            function()

    return spawn(run)


class Slot:
    """A value that one green thread waits for and another of the same loop puts there, once."""

    __slots__ = ("_error", "_is_full", "_resume", "_value")

    def __init__(self) -> None:
        self._is_full = False
        self._value: Any = None
        self._error: Exception | None = None
        self._resume: Callable[[], Any] | None = None

    def put(self, value: Any) -> None:
        """Give the value to who waits."""
        self._value = value
        self._fill()

    def fail(self, error: Exception) -> None:
        """Raise `error` in who waits."""
        self._error = error
        self._fill()

    def _fill(self) -> None:
        self._is_full = True
        if self._resume is not None:
            get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self._resume is not None:  # who waited may have given up meanwhile
            self._resume()

    def _begin(self, resume: Callable[[], Any]) -> None:
        self._resume = resume

    def _end(self) -> None:
        self._resume = None

    def get(self, timeout: float) -> Any:
        """The value; TimedOut if none came within `timeout` seconds."""
        if not self._is_full:
            deadlines().wait(self._begin, self._end, timeout)
        if self._error is not None:
            raise self._error
        return self._value


class Flag:
    """A condition that can be raised, lowered and waited for."""

    def __init__(self) -> None:
        self._is_up = False
        self._waiting: list[Slot] = []

    def raise_(self) -> None:
        """Wake everybody who waits; who comes later does not wait."""
        self._is_up = True
        waiting, self._waiting = self._waiting, []
        for slot in waiting:
            slot.put(True)

    def lower(self) -> None:
        """Let everybody wait again."""
        self._is_up = False

    @property
    def is_up(self) -> bool:
        """Whether the flag is raised."""
        return self._is_up

    def wait(self, timeout: float) -> bool:
        """Wait until it is raised; False if that takes longer than `timeout` seconds."""
        if self._is_up:
            return True
        slot = Slot()
        self._waiting.append(slot)
        try:
            return bool(slot.get(timeout))
        except TimedOut:
            return False
        finally:
            if slot in self._waiting:
                self._waiting.remove(slot)


def current() -> Thread:
    """The handle of the running green thread."""
    return Thread(gevent.getcurrent())
