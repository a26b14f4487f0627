"""The main thread of a process with real threads: it waits for signals and does nothing else."""
import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

_STOP: Final = (signal.SIGTERM, signal.SIGINT)


def block_signals() -> None:
    """Keep signals for `wait_for_stop`; call it before the first thread is started."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP})


def die_with_any_thread(tell: Callable[[str], Any]) -> None:
    """A thread that ends by an exception takes the process with it, so that MCP starts a whole one."""

    def hook(arguments: threading.ExceptHookArgs) -> None:
        name = arguments.thread.name if arguments.thread else "?"
        trace = traceback.extract_tb(arguments.exc_traceback)
        where = f"{trace[-1].name}:{trace[-1].lineno}" if trace else "?"
        tell(f"thread={name}, bug={arguments.exc_value!r}, at={where}")
        os._exit(os.EX_SOFTWARE)

    threading.excepthook = hook


def wait_for_stop(handlers: Mapping[int, Callable[[], Any]]) -> None:
    """Run the handler of each signal that comes; return at TERM or INT."""
    wanted = {*_STOP, *handlers}
    while True:
        number = signal.sigwait(wanted)
        if number in _STOP:
            return
        handlers[number]()
