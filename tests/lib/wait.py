"""Waiting for a condition with a deadline: no sleeps for luck."""
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout: float = 20.0, what: str = "", pause: float = 0.01) -> T:
    """The first true value of `condition`, asked every `pause` seconds; AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {timeout} s: {what or condition}; last value {value!r}"
        time.sleep(pause)
