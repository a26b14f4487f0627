"""A running policy milter: its sockets, at which SMTP servers are accepted and heard (M1 15.1.2)."""
import logging
import os
import selectors
import socket
from typing import Final

from meta1g.mta import logfmt
from meta1g.pmilter.connection import Connection
from meta1g.pmilter.contexts import Process
from meta1g.pmilter.crew import LOOK, Crew
from meta1g.pmilter.listening import listen
from meta1g.pmilter.policy import PolicyMilter

_LOG: Final = logging.getLogger("pmilter")
_CONNECTIONS_MAX: Final = 64  # SMTP servers: a machine has up to seven processes of one
_LOOK_AROUND: Final = 1.0  # seconds between two looks at who is too slow
_STOP: Final = 10.0  # seconds that calls get to end


class Hub:
    """A running policy milter."""

    def __init__(self, policy: PolicyMilter, process: Process, mode: int) -> None:
        """PolicyError or OSError if the socket can't be had; `mode` is that of a Unix socket."""
        self._policy = policy
        self._process = process
        self._listener = listen(process.connection, process.backlog, mode)
        self._listener.setblocking(False)
        self._crew = Crew(process.threads_soft, process.threads_hard, self._turn, self._settle, self._finish)
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._connections: set[Connection] = set()
        self._to_settle: set[Connection] = set()

    def start(self) -> None:
        """Begin to serve, sm_pmfi_start; returns at once."""
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._crew.start()

    @property
    def address(self) -> object:
        """Where it listens, as the socket says it."""
        return self._listener.getsockname()

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._crew.size

    def stop(self) -> None:
        """End: no more connections, those that are there are closed when their calls are done; sm_pmfi_stop."""
        if not self._crew.stop(self._wake, _STOP):
            _LOG.warning("status=a call did not end in time")

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # it is awake already, or has ended

    def _turn(self, is_urgent: bool) -> None:
        for key, events in self._selector.select(LOOK if is_urgent else _LOOK_AROUND):
            self._serve(key, events)
        for connection in [found for found in self._connections if found.is_dead]:
            self._end(connection)

    def _settle(self) -> None:
        while self._to_settle:
            try:
                connection = self._to_settle.pop()
            except KeyError:
                return  # another thread has it
            connection.write()

    def _finish(self) -> None:
        for connection in list(self._connections):
            self._end(connection)
        self._close()

    def _serve(self, key: selectors.SelectorKey, events: int) -> None:
        connection = key.data
        if connection is None:
            if key.fileobj is self._listener:
                self._accept()
            else:
                self._look_at_all()
            return
        if events & selectors.EVENT_READ:
            connection.read()
        if events & selectors.EVENT_WRITE:
            connection.write()
            self._watch(connection)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # gone again, or no descriptor is left
        if len(self._connections) >= _CONNECTIONS_MAX:
            _LOG.warning("status=too many connections")
            sock.close()
            return
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(
            sock, self._policy, self._process, self._crew, self._wake, self._to_settle)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)
        connection.begin()

    def _look_at_all(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass
        for connection in self._connections:
            self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.wants_write else 0)
        if self._selector.get_key(connection.sock).events != events:
            self._selector.modify(connection.sock, events, connection)

    def _end(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.close()

    def _close(self) -> None:
        name = self._listener.getsockname()
        self._listener.close()
        if isinstance(name, str):
            try:
                os.unlink(name)
            except OSError as error:
                _LOG.warning("%s", logfmt.fields(socket=name, status=error.strerror))
        self._selector.close()
        self._waker.close()
        self._woken.close()
