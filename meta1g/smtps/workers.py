"""More processes on the same listening sockets (M1 3.10 item 21, 9.3).

The process that MCP started keeps the sockets, serves like the others, and starts a worker
again when it ends. Workers end with it.
"""
import os
import signal
import socket
import subprocess
import sys
from typing import Final

from meta1g.proc.log import Log
from meta1g.proc.ready import VARIABLE
from meta1g.proc.start import WORKER
from meta1g.st.sched import every, wait_until

NUMBER_STEP: Final = 32  # process numbers are id, id + 32, ...: ids of sections stay below 32
PROCESSES_MAX: Final = 255 // NUMBER_STEP
_END_CHECK: Final = 0.05  # seconds
_LOOK: Final = 0.5  # seconds between two looks at the workers


class Workers:
    """`count` further processes with this one's command line `argv`."""

    def __init__(self, argv: list[str], socks: list[socket.socket], first: int, count: int, log: Log) -> None:
        self._argv = argv
        self._socks = socks
        self._first = first
        self._log = log
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._wanted = list(range(1, count + 1))
        self._is_stopping = False

    def start(self) -> None:
        """Start them, and look after them from now on."""
        self._tend()
        every(_LOOK, self._tend)

    def leave(self) -> None:
        """Let them finish their sessions and end; none is started again."""
        self._is_stopping = True
        for process in self._running.values():
            process.send_signal(signal.SIGHUP)

    def stop(self, timeout: float) -> None:
        """Let them end in order; who has not after `timeout` seconds is killed."""
        self._is_stopping = True
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        if not wait_until(self._have_ended, timeout, _END_CHECK):
            for process in self._running.values():
                process.kill()

    def _have_ended(self) -> bool:
        return all(process.poll() is not None for process in self._running.values())

    def _tend(self) -> None:
        if self._is_stopping:
            return
        for place in self._wanted:
            process = self._running.get(place)
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                self._log.error(f"func=smtps, worker={place}, status=ended, exit={process.returncode}")
            self._running[place] = self._spawn(place)

    def _spawn(self, place: int) -> "subprocess.Popen[bytes]":
        number = self._first + place * NUMBER_STEP
        fds = [sock.fileno() for sock in self._socks]
        environment = {**os.environ, WORKER: ",".join(map(str, fds))}
        environment.pop(VARIABLE, None)
        return subprocess.Popen(
            [sys.argv[0], "smtps", *self._argv, "-i", str(number)], stdin=subprocess.DEVNULL, pass_fds=fds,
            env=environment)


def inherited_sockets() -> list[socket.socket]:
    """The sockets that this process got as a worker, none if it is none."""
    return [socket.socket(fileno=int(text)) for text in os.environ.get(WORKER, "").split(",") if text.isdigit()]
