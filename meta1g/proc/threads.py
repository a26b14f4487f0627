"""The main thread of a process with real threads: it waits for signals and does nothing else."""
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

_STOP: Final = (signal.SIGTERM, signal.SIGINT)


def block_signals() -> None:
    """Keep signals for `wait_for_stop`; call it before the first thread is started."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP})


def wait_for_stop(handlers: Mapping[int, Callable[[], Any]]) -> None:
    """Run the handler of each signal that comes; return at TERM or INT."""
    wanted = {*_STOP, *handlers}
    while True:
        number = signal.sigwait(wanted)
        if number in _STOP:
            return
        handlers[number]()
