"""Signals as calls in a green thread of their own."""
from collections.abc import Callable
from typing import Any

import gevent


def on_signal(number: int, function: Callable[[], Any]) -> None:
    """Call `function` in a new green thread each time signal `number` comes."""
    gevent.signal_handler(number, function)
