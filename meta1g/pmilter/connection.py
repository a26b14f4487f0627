"""A connection of an SMTP server: many sessions, each with its own order of calls.

Rules
    The leader of the crew reads; a message goes to its session's inbox, and the session to the crew unless it is there.
    The leader's answers leave together, when it has made all calls; others send theirs at once. What the socket does
    not take waits for the hub; a server that does not read for `timeout` seconds, or for which too much waits, is
    dropped, and so is one that breaks the protocol.
    When a connection ends, what is under way in its sessions is ended by `abort` and `close`.
"""
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from meta1g.mta import logfmt
from meta1g.mta.errors import FrameError
from meta1g.pmilter.caller import Caller
from meta1g.pmilter.contexts import Process, Server
from meta1g.pmilter.crew import Crew
from meta1g.pmilter.negotiation import negotiate
from meta1g.pmilter.policy import PolicyMilter
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.messages import TO_MILTER, TO_SERVER, Msg, Offer, Ping, Reader, Refuse, Step
from meta1g.proto.pmilter.numbers import Step as StepKind
from meta1g.proto.rcb import Hello

_LOG: Final = logging.getLogger("pmilter")
_READ: Final = 64 * 1024
_INBOX: Final = 65_536  # messages of one session that wait for its thread: recipients that it is told of, at most
_INBOX_OCTETS: Final = 2 * numbers.WINDOW
_BACKLOG: Final = 16 * 1024 * 1024  # octets that wait for an SMTP server to read


class Connection:
    """One SMTP server; `wake` makes the hub look at `wants_write` and `is_dead`, `to_settle` are those with answers."""

    def __init__(self, sock: socket.socket, policy: PolicyMilter, process: Process, crew: Crew,
                 wake: Callable[[], None], to_settle: set["Connection"]) -> None:
        self.sock = sock
        self._policy = policy
        self._process = process
        self._crew = crew
        self._wake = wake
        self._to_settle = to_settle
        self._reader = Reader(TO_MILTER)
        self._server: Server | None = None
        self._sessions: dict[int, Conversation] = {}
        self._has_hello = self._has_offer = False
        self._lock = threading.Lock()
        self._out = bytearray()
        self._deadline = monotonic() + process.timeout  # for the offer, later for octets to be taken
        self.reason = ""  # why it is of no use any more
        self._farewell = ""  # why it will be when all has been sent

    @property
    def wants_write(self) -> bool:
        """Whether octets wait for the socket."""
        return bool(self._out)

    @property
    def is_dead(self) -> bool:
        """Whether it is to be closed: it is broken, or its server is too slow."""
        if self._farewell and not self._out:
            self.reason = self.reason or self._farewell
        if not self.reason and (self._out or self._server is None) and monotonic() > self._deadline:
            self.reason = "timeout"
        return bool(self.reason)

    def begin(self) -> None:
        """Say Hello."""
        self.send(TO_SERVER.frame(Hello(numbers.VERSION, os.getpid(), 0, type(self._policy).__name__)))

    def read(self) -> None:
        """Take what has come."""
        try:
            data = self.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self.reason = error.strerror or "error"
            return
        if not data:
            self.reason = "closed"
            return
        try:
            for message, number in self._reader.feed(data):
                self._take(message, number)
        except FrameError as error:
            self.reason = str(error)

    def _take(self, message: Any, number: int) -> None:
        match message:
            case Hello():
                self._has_hello = True
            case Ping():
                self.send(TO_SERVER.frame(message))
            case Offer():
                if self._has_offer:
                    raise FrameError("Offer came twice")
                self._has_offer = True
                self._crew.put(lambda: self._negotiate(message))
            case _ if self._server is None:
                raise FrameError(f"{type(message).__name__} came before Wants was sent")
            case _ if not number:
                raise FrameError(f"{type(message).__name__} belongs to no session")
            case _:
                self._pass_on(message, number, self._server)

    def _pass_on(self, message: Any, number: int, server: Server) -> None:
        conversation = self._sessions.get(number)
        if conversation is None:
            if len(self._sessions) == numbers.SESSIONS_MAX:
                raise FrameError("too many sessions")
            conversation = self._sessions[number] = Conversation(
                Caller(self._policy, server), number, self.send, self._crew)
        if isinstance(message, Step) and message.kind == StepKind.CLOSE:
            del self._sessions[number]
        conversation.put(message)

    def _negotiate(self, offer: Offer) -> None:
        server, answer = negotiate(self._policy, self._process, offer)
        if isinstance(answer, Refuse):
            self.send(TO_SERVER.frame(answer))
            self._farewell = "refused"
        else:
            self._server = server  # before the answer leaves, on which sessions may come
            self.send(TO_SERVER.frame(answer))
        if self._process.debug:
            _LOG.info("%s", logfmt.fields(server=server.hostname, status=type(answer).__name__, capabilities=hex(
                server.wanted.capabilities)))
        self._wake()

    def send(self, octets: bytes) -> None:
        """Send this: the leader when it settles, any other thread at once."""
        with self._lock:
            if self.reason:
                return
            if not self._out:
                self._deadline = monotonic() + self._process.timeout
            self._out += octets
            if len(self._out) > _BACKLOG:
                self.reason = "does not read"
        if self._crew.is_leading:
            self._to_settle.add(self)
        if not self._crew.is_leading:  # nor any more, if it was just deposed
            self.write()

    def write(self) -> None:
        """Send what waits, as much of it as the socket takes now; any thread."""
        with self._lock:
            had = len(self._out)
            if not had or self.reason:
                return
            try:
                sent = self.sock.send(self._out)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.reason = error.strerror or "error"
                sent = 0
            if sent:
                del self._out[:sent]
                self._deadline = monotonic() + self._process.timeout
        if sent < had:
            self._wake()

    def close(self) -> None:
        """The connection is over, and so are its sessions."""
        with self._lock:
            self.reason = self.reason or "closed"
            self.sock.close()
        level = logging.INFO if self.reason in ("closed", "refused") else logging.WARNING
        hostname = self._server.hostname if self._server is not None else None
        if level != logging.INFO or self._process.debug:
            _LOG.log(level, "%s", logfmt.fields(server=hostname, status="connection ended", reason=self.reason))
        for conversation in self._sessions.values():
            conversation.put(None)
        self._sessions = {}


class Conversation:
    """A session's messages, handled one after another on the crew's threads."""

    def __init__(self, caller: Caller, number: int, send: Callable[[bytes], None], crew: Crew) -> None:
        self._caller = caller
        self._number = number
        self._send = send
        self._crew = crew
        self._inbox: deque[Any] = deque()
        self._octets = 0
        self._is_with_crew = False
        self._lock = threading.Lock()

    def put(self, message: Any) -> None:
        """Handle this when what came before is done; None: the server is gone. FrameError if too much waits."""
        with self._lock:
            if isinstance(message, Msg):
                self._octets += len(message.octets)
            self._inbox.append(message)
            is_too_much = len(self._inbox) > _INBOX or self._octets > _INBOX_OCTETS
            is_new, self._is_with_crew = not self._is_with_crew, True
        if is_new:
            self._crew.put(self._run)
        if is_too_much and message is not None:
            raise FrameError("more than a session may have under way")

    def _run(self) -> None:
        """Handle what is there; then others have their turn."""
        while (message := self._next()) is not _NOTHING:
            if message is None:
                self._caller.lose()
                continue
            answers = self._caller.handle(message)
            if answers:
                self._send(b"".join([TO_SERVER.frame(answer, self._number) for answer in answers]))

    def _next(self) -> Any:
        with self._lock:
            if not self._inbox:
                self._is_with_crew = False
                return _NOTHING
            message = self._inbox.popleft()
            if isinstance(message, Msg):
                self._octets -= len(message.octets)
            return message


_NOTHING: Final = object()
