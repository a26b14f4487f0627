"""How long each step of a dialog took, for the log (M1 8.6 item 3.2); pure.

Rules
    A step lasts from the reply before it to its own. Of replies that came in one piece the first has the time, and
    the others are done in no time: with PIPELINING the sum says more than the parts.
"""
from collections.abc import Callable, Iterable
from typing import Final

from meta1g.proto.smtp.client_events import Ask

_WORDS: Final = {
    Ask.GREETING: "t_greeting", Ask.EHLO: "t_ehlo", Ask.HELO: "t_ehlo", Ask.TLS: "t_starttls", Ask.AUTH: "t_auth",
    Ask.MAIL: "t_mail", Ask.RCPT: "t_rcpts", Ask.DATA: "t_data",
    Ask.CHUNK: "t_msg", Ask.PART: "t_eom", Ask.DOT: "t_eom", Ask.RSET: "t_rset", Ask.QUIT: "t_quit",
}


class Timing:
    """Times of the steps since the last `take`; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self._steps: dict[str, float] = {}

    def step(self, name: str) -> None:
        """What `name` stands for is done."""
        now = self._clock()
        self._steps[name] = self._steps.get(name, 0.0) + now - self._last
        self._last = now

    def restart(self) -> None:
        """What passed until now was idle time."""
        self._last = self._clock()

    def answered(self, asks: Iterable[Ask]) -> None:
        """Replies to these commands have come."""
        for ask in asks:
            self.step(_WORDS[ask])

    def take(self) -> dict[str, int]:
        """The steps so far in microseconds, by name."""
        steps, self._steps = self._steps, {}
        return {name: int(seconds * 1e6) for name, seconds in steps.items()}
