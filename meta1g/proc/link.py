"""The calling side of a link, for green threads: SMTPS and SMTPC to QMGR and SMAR.

Rules
    One green thread reads and hands each answer to who asked; messages that answer
    nothing go to `on_message`. What is sent in one turn of the loop leaves in one write.
    While the other process is away, the link tries to reach it again and again.
"""
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from meta1g.mta import limits
from meta1g.mta.errors import FrameError, LinkDown
from meta1g.proc.log import Log
from meta1g.proto.rcb import PROTOCOL_VERSION, FrameReader, Hello, Vocabulary, check_hello
from meta1g.st.netfd import NetFd, connect
from meta1g.st.outbox import Outbox
from meta1g.st.sched import Flag, Slot, TimedOut, sleep, spawn, wait_until

_RETRY_DELAY: Final = 0.05  # seconds between tries to connect: what waits for it is a whole start
_FLUSH_CHECK: Final = 0.002  # seconds; only the end of a process waits for it
_PATIENCE: Final = 5.0  # seconds that a call waits for a peer that MCP is restarting; that takes 0.5 to 2
_CONNECT_TIMEOUT: Final = 5.0
_WRITE_TIMEOUT: Final = 30.0  # unless somebody says otherwise
_IDLE: Final = 10**8  # a link may be silent for as long as it likes


class Link:
    """A connection to a process that listens at `path`, made again whenever it breaks.

    `on_message(message, tag)` gets what is no answer, `on_up()` runs after each Hello and
    `on_down()` when the connection is lost; neither may block for long. Who does not read for `write_timeout`
    seconds is given up.
    """

    def __init__(self, path: str, vocabulary: Vocabulary, name: str, process: int, log: Log,
                 write_timeout: float = _WRITE_TIMEOUT) -> None:
        self.path = path
        self._vocabulary = vocabulary
        self._hello = Hello(PROTOCOL_VERSION, os.getpid(), process, name)
        self._log = log
        self._write_timeout = write_timeout
        self._outbox: Outbox | None = None
        self._waiting: dict[int, Slot] = {}
        self._tag = 0
        self._up = Flag()
        self.on_message: Callable[[Any, int], Any] = lambda message, tag: None
        self.on_up: Callable[[], Any] = lambda: None
        self.on_down: Callable[[], Any] = lambda: None

    def start(self) -> None:
        """Begin to connect."""
        spawn(self._run)

    @property
    def is_up(self) -> bool:
        """Whether the other side has said Hello."""
        return self._up.is_up

    def wait_up(self, timeout: float) -> bool:
        """Wait for the connection; False if there is none within `timeout` seconds."""
        return self._up.wait(timeout)

    def call(self, message: Any, timeout: float) -> Any:
        """The answer to `message`; TimedOut if the peer is too slow.

        LinkDown if it goes away, or does not come back while it is being restarted (PATIENCE).
        """
        if not self._up.is_up and not self._up.wait(min(_PATIENCE, timeout)):
            raise LinkDown(f"{self.path}: not connected")
        self._tag = self._tag % 0xFFFFFFF0 + 1
        tag, slot = self._tag, Slot()
        self._waiting[tag] = slot
        try:
            self._put(self._vocabulary.frame(message, tag))
            return slot.get(timeout)
        finally:
            self._waiting.pop(tag, None)

    def send(self, message: Any, tag: int = 0) -> bool:
        """Send a message that expects no answer (or is one, with its tag); False if the peer is away."""
        if not self._up.is_up:
            return False
        self._put(self._vocabulary.frame(message, tag))
        return True

    def flush(self, timeout: float) -> None:
        """Wait until what was sent has left this process, at most `timeout` seconds."""
        wait_until(lambda: self._outbox is None or self._outbox.is_empty, timeout, _FLUSH_CHECK)

    def _put(self, octets: bytes) -> None:
        if self._outbox is not None:
            self._outbox.put(octets)

    def _run(self) -> None:
        is_logged = False
        while True:
            try:
                netfd = connect(socket.AF_UNIX, self.path, _CONNECT_TIMEOUT)
            except (OSError, TimedOut) as error:
                if not is_logged:
                    self._log.info(f"func=link, path={self.path}, status={error or 'timeout'}")
                    is_logged = True
                sleep(_RETRY_DELAY)
                continue
            is_logged = False
            reason = self._serve(netfd)
            self._end(netfd, reason)
            sleep(_RETRY_DELAY)

    def _serve(self, netfd: NetFd) -> str:
        reader = FrameReader(self._vocabulary)
        greeted = False
        self._outbox = Outbox(
            netfd, self._write_timeout, limits.PEER_BACKLOG, lambda reason: self._drop(netfd, reason))
        try:
            netfd.write(self._vocabulary.frame(self._hello), self._write_timeout)
            while True:
                data = netfd.read(limits.LINK_READ, _IDLE)
                if not data:
                    return "closed"
                for message, tag in reader.feed(data):
                    if not greeted:
                        check_hello(message)
                        greeted = True
                        self._up.raise_()
                        self.on_up()
                    else:
                        self._dispatch(message, tag)
        except (OSError, TimedOut) as error:
            return str(error) or "timeout"
        except FrameError as error:
            self._log.error(f"func=link, path={self.path}, status=dropped, reason={error}")
            return str(error)

    def _drop(self, netfd: NetFd, reason: str) -> None:
        self._log.error(f"func=link, path={self.path}, status=dropped, reason={reason}")
        netfd.sock.shutdown(socket.SHUT_RDWR)

    def _dispatch(self, message: Any, tag: int) -> None:
        slot = self._waiting.pop(tag, None) if tag else None
        if slot is not None:
            slot.put(message)
        else:
            self.on_message(message, tag)

    def _end(self, netfd: NetFd, reason: str) -> None:
        if self._outbox is not None:
            self._outbox.close()
        self._outbox = None
        was_up = self._up.is_up
        self._up.lower()
        netfd.close()
        waiting, self._waiting = self._waiting, {}
        for slot in waiting.values():
            slot.fail(LinkDown(f"{self.path}: {reason}"))
        if was_up:
            self._log.info(f"func=link, path={self.path}, status=down, reason={reason}")
            self.on_down()
