"""When a deferred recipient is tried again, and when no more (M1 3.8 items 13 to 15); pure."""
from typing import Final

_JITTER: Final = 0.1  # share of the delay by which tries are spread, so that a dead site's mail does not march in step


def delay(tries: int, shortest: float, longest: float, luck: float) -> float:
    """Seconds until the next try after `tries` failed ones; `luck` is from 0 to 1.

    Doubles from `shortest` up to `longest`, give or take a tenth.
    """
    base = min(shortest * 2.0 ** min(max(tries - 1, 0), 32), longest)
    return max(base * (1.0 + _JITTER * (2.0 * luck - 1.0)), 1.0)


def is_expired(received: float, now: float, queue_return: float) -> bool:
    """Whether a message has been in the queue for too long."""
    return now - received >= queue_return
