"""How a green thread waits: one place for deadlines, cheaper than a timer for each wait.

Rules
    A wait of a second or more ends by a look around every TICK seconds, so it may last that
    much longer than asked; a shorter one has a timer of its own.
    Who wakes a thread does so only while it is in the wait that it was meant for.
"""
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from gevent import get_hub
from greenlet import getcurrent

TICK: Final = 0.25  # seconds between two looks at who has waited too long; small beside SMTP's minutes


class TimedOut(Exception):
    """The time allowed for a wait is over."""


class Deadlines:
    """The waits of one event loop, with the time (monotonic seconds) at which each is over."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self._waiting: dict[Any, float] = {}
        self._timer = hub.loop.timer(TICK, repeat=TICK)
        self._timer.start(self._look)

    def wait(self, begin: Callable[[Callable[..., Any]], Any], end: Callable[[], Any], timeout: float) -> None:
        """Give way to others until the function that `begin` gets is called; TimedOut after `timeout` seconds.

        `end` undoes what `begin` began, whatever happened.
        """
        thread = getcurrent()
        begin(thread.switch)
        if timeout < 1.0:
            self._wait_briefly(thread, end, timeout)
            return
        self._waiting[thread] = monotonic() + timeout
        try:
            self.hub.switch()
        finally:
            end()
            del self._waiting[thread]

    def _wait_briefly(self, thread: Any, end: Callable[[], Any], timeout: float) -> None:
        timer = self.hub.loop.timer(timeout)
        timer.start(thread.throw, TimedOut, update=True)  # from now, not from the beginning of the turn
        try:
            self.hub.switch()
        finally:
            end()
            timer.close()

    def _look(self) -> None:
        now = monotonic()
        for thread in [thread for thread, deadline in self._waiting.items() if deadline <= now]:
            if self._waiting.get(thread, now + 1.0) <= now:
                thread.throw(TimedOut)


def deadlines() -> Deadlines:
    """Those of the running event loop."""
    hub = get_hub()
    try:
        found: Deadlines = hub.meta1g_deadlines
    except AttributeError:
        found = hub.meta1g_deadlines = Deadlines(hub)
    return found
