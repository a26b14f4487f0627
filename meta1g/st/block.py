"""Calls that block, on native threads: flushes, files, key operations (M1 9.3)."""
from collections.abc import Callable
from typing import Any, Final

from gevent.threadpool import ThreadPool

_POOL_SIZE: Final = 4  # native threads; a flush and some file reads at once, more gains nothing on one disk


class Blocking:
    """A pool of native threads that green threads hand blocking calls to."""

    def __init__(self, size: int = _POOL_SIZE) -> None:
        self._pool = ThreadPool(size)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of `function(*args)`, run on a native thread while other green threads go on."""
        error, value = self._pool.apply(_caught, (function, args))
        if error is not None:
            raise error
        return value


def _caught(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Exception | None, Any]:
    """gevent's pool writes a trace of each error to our log; where that is impossible (a full disk) it hangs."""
    try:
        return None, function(*args)
    except Exception as error:
        return error, None
