"""How long a client may take: for a command, for content, for the whole session; pure.

Rules
    A command has to be complete within `io_timeout` of the reply before it, however its octets trickle.
    Content may pause for `io_timeout`, and after a time of grace comes at `rate_min` octets a second or more.
    The session ends after `session_max` seconds, 0 for never.
"""
from typing import Final

_GRACE: Final = 60.0  # seconds of content until its rate counts: RFC 5321 4.5.3.2.5 wants patience with slow lines
_FOR_EVER: Final = float("inf")


class Pace:
    """One session's clock; all times are seconds of the caller's clock."""

    __slots__ = ("_content_since", "_deadline", "_end", "_io_timeout", "_octets", "_rate_min")

    def __init__(self, io_timeout: float, session_max: float, rate_min: float, now: float) -> None:
        self._io_timeout = io_timeout
        self._rate_min = rate_min
        self._end = now + session_max if session_max else _FOR_EVER
        self._deadline = now + io_timeout
        self._content_since = 0.0
        self._octets = 0

    def command(self, now: float) -> None:
        """A reply has been sent: the next command begins."""
        self._deadline = now + self._io_timeout
        self._content_since = 0.0

    def octets(self, count: int, now: float) -> None:
        """Octets of content have come."""
        if not self._content_since:
            self._content_since, self._octets = now, 0
        self._octets += count
        self._deadline = now + self._io_timeout

    def left(self, now: float) -> float:
        """Seconds that the next octets may take; not positive when the client's time is up."""
        left = min(self._deadline, self._end) - now
        since = self._content_since
        if since and self._rate_min and now - since > _GRACE and self._octets < (now - since - _GRACE) * self._rate_min:
            return 0.0
        return left
