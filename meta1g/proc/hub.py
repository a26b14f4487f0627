"""Sockets of a process with real threads: one thread reads and writes all its peers.

Rules
    The hub's thread calls `on_batch` with all that arrived in one turn, so that the
    receiver is woken once; `PeerUp` and `PeerDown` come in the same stream, in order.
    Any thread may send. A send goes straight to the socket while that takes it, the
    rest is kept and written by the hub; a peer that lets PEER_BACKLOG octets wait is cut off.
    A peer speaks only after Hello of the right version, and only from an allowed user.

Peers
    QMGR listens for SMTPS, SMTPC and tools and connects to SMAR; SMAR listens for both.
"""
import os
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from meta1g.mta import limits
from meta1g.mta.errors import FrameError
from meta1g.proc.log import Log
from meta1g.proto.rcb import PROTOCOL_VERSION, FrameReader, Hello, PeerDown, PeerUp, Vocabulary, check_hello

_RETRY_DELAY: Final = 0.05  # seconds between two tries to reach a process that MCP may be restarting
_HELLO_TIMEOUT: Final = 10.0  # seconds until a peer must have said Hello
_COMPLAINT_PERIOD: Final = 10.0  # seconds in which it is said once that there are too many connections
_LOOK: Final = 0.2  # seconds between two looks at who should be connected, and who is silent

Batch = list[tuple["Peer", Any, int]]


class Peer:
    """One connection to another process."""

    def __init__(self, sock: socket.socket, vocabulary: Vocabulary, role: str, wake: Callable[[], None]) -> None:
        self.role = role
        self.hello: Hello | None = None
        self.since = time.monotonic()
        self.sock = sock
        self.reader = FrameReader(vocabulary)
        self._vocabulary = vocabulary
        self._wake = wake
        self._lock = threading.Lock()
        self._rest = b""
        self.is_down = False

    def __str__(self) -> str:
        return f"{self.role}/{self.hello.pid}" if self.hello else self.role

    def frame(self, message: Any, tag: int = 0) -> bytes:
        """The octets of a message in this link's vocabulary."""
        return self._vocabulary.frame(message, tag)

    def send(self, message: Any, tag: int = 0) -> None:
        """Send one message; if the peer is down it is dropped, PeerDown tells or has told."""
        self.send_octets(self._vocabulary.frame(message, tag))

    def send_octets(self, octets: bytes) -> None:
        """Send framed messages as one write."""
        with self._lock:
            if self.is_down:
                return
            if self._rest:
                self._rest += octets
            else:
                self._rest = self._try(octets)
                if not self._rest:
                    return
            if len(self._rest) > limits.PEER_BACKLOG:
                self.is_down = True
        self._wake()

    def flush(self) -> None:
        """Write what is waiting; the hub calls it when the socket takes more."""
        with self._lock:
            self._rest = self._try(self._rest)

    @property
    def has_rest(self) -> bool:
        """Whether octets are waiting for the socket."""
        return bool(self._rest)

    def _try(self, octets: bytes) -> bytes:
        try:
            return octets[self.sock.send(octets):]
        except BlockingIOError:
            return octets
        except OSError:
            self.is_down = True  # the hub's read sees the same and tells
            return b""


class _Listener(NamedTuple):
    sock: socket.socket
    vocabulary: Vocabulary
    role: str
    uids: frozenset[int] | None
    peers_max: int


class _Outgoing:
    """A process that we connect to, again and again."""

    def __init__(self, path: str, vocabulary: Vocabulary, role: str) -> None:
        self.path, self.vocabulary, self.role = path, vocabulary, role
        self.peer: Peer | None = None
        self.next_try = 0.0
        self.is_logged = False


class Hub:
    """The thread that owns a process's Unix sockets."""

    def __init__(self, name: str, log: Log, on_batch: Callable[[Batch], None]) -> None:
        self._hello = Hello(PROTOCOL_VERSION, os.getpid(), 0, name)
        self._log = log
        self._on_batch = on_batch
        self._selector = selectors.DefaultSelector()
        self._outgoing: list[_Outgoing] = []
        self._peers: set[Peer] = set()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._is_stopping = False
        self._next_look = 0.0
        self._next_complaint = 0.0
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)

    def listen(self, path: str, vocabulary: Vocabulary, role: str, uids: Iterable[int] | None = None, *,
               peers_max: int = sys.maxsize) -> None:
        """Listen at `path` (mode 0660; the folder guards it, M1 2.4.1).

        `uids` None admits everybody who gets there. Who comes when `peers_max` are connected is turned away.
        """
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o117)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(limits.LISTEN_BACKLOG)
        sock.setblocking(False)
        allowed = frozenset(uids) | {0, os.getuid()} if uids is not None else None
        self._selector.register(sock, selectors.EVENT_READ, _Listener(sock, vocabulary, role, allowed, peers_max))

    def connect(self, path: str, vocabulary: Vocabulary, role: str) -> None:
        """Keep a connection to the process that listens at `path`; call before `start`."""
        self._outgoing.append(_Outgoing(path, vocabulary, role))

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, for a second at most, and end the thread."""
        self._is_stopping = True
        self._wake()
        self._thread.join(2.0)

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            pass

    def _run(self) -> None:
        deadline = None
        while True:
            if self._is_stopping:
                deadline = deadline or time.monotonic() + 1.0
                if time.monotonic() > deadline or not any(peer.has_rest for peer in self._peers):
                    return
            batch: Batch = []
            for key, mask in self._selector.select(max(0.0, self._next_look - time.monotonic())):
                self._handle(key, mask, batch)
            if time.monotonic() >= self._next_look:
                self._look(batch)
            if batch:
                self._on_batch(batch)

    def _look(self, batch: Batch) -> None:
        """What need not be done in each turn, but at once when somebody called `_wake`."""
        self._connect_all(batch)
        is_whole = all(outgoing.peer for outgoing in self._outgoing)
        self._next_look = time.monotonic() + (_LOOK if is_whole else _RETRY_DELAY)
        self._expire(batch)
        for peer in self._peers:
            self._arm_writer(peer)

    def _handle(self, key: selectors.SelectorKey, mask: int, batch: Batch) -> None:
        if key.data is None:
            os.read(self._wake_read, 4096)
            self._next_look = 0.0
        elif isinstance(key.data, _Listener):
            self._accept(key.data)
        else:
            if mask & selectors.EVENT_WRITE:
                key.data.flush()
                self._arm_writer(key.data)
            if mask & selectors.EVENT_READ:
                self._read(key.data, batch)

    def _accept(self, listener: _Listener) -> None:
        try:
            sock, _ = listener.sock.accept()
        except OSError as error:
            self._log.error(f"func=hub, socket={listener.role}, accept={error.strerror}")
            return
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if listener.uids is not None and uid not in listener.uids:
            self._log.warning(f"func=hub, socket={listener.role}, uid={uid}, status=refused, reason=user not allowed")
            sock.close()
            return
        if sum(peer.role == listener.role for peer in self._peers) >= listener.peers_max:
            self._complain_of_many(listener)
            sock.close()
            return
        self._add(Peer(sock, listener.vocabulary, listener.role, self._wake))

    def _complain_of_many(self, listener: _Listener) -> None:
        now = time.monotonic()
        if now >= self._next_complaint:  # who is refused tries again at once, and again
            self._next_complaint = now + _COMPLAINT_PERIOD
            self._log.warning(f"func=hub, socket={listener.role}, peers={listener.peers_max}, status=refused, "
                              "reason=too many connections (fds_max)")

    def _add(self, peer: Peer) -> None:
        peer.sock.setblocking(False)
        self._peers.add(peer)
        self._selector.register(peer.sock, selectors.EVENT_READ, peer)
        peer.send(self._hello)

    def _read(self, peer: Peer, batch: Batch) -> None:
        try:
            data = peer.sock.recv(limits.LINK_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(peer, error.strerror or "error", batch)
            return
        if not data:
            self._drop(peer, "closed", batch)
            return
        try:
            for message, tag in peer.reader.feed(data):
                if peer.hello is None:
                    peer.hello = check_hello(message)
                    batch.append((peer, PeerUp(peer.hello), 0))
                else:
                    batch.append((peer, message, tag))
        except FrameError as error:
            self._log.error(f"func=hub, peer={peer}, status=dropped, reason={error}")
            self._drop(peer, str(error), batch)

    def _drop(self, peer: Peer, reason: str, batch: Batch) -> None:
        peer.is_down = True
        self._selector.unregister(peer.sock)
        self._peers.discard(peer)
        peer.sock.close()
        for outgoing in self._outgoing:
            if outgoing.peer is peer:
                outgoing.peer = None
                outgoing.next_try = time.monotonic() + _RETRY_DELAY
        if peer.hello is not None:
            batch.append((peer, PeerDown(reason), 0))

    def _connect_all(self, batch: Batch) -> None:
        now = time.monotonic()
        for outgoing in self._outgoing:
            if outgoing.peer is not None or now < outgoing.next_try:
                continue
            outgoing.next_try = now + _RETRY_DELAY
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(outgoing.path)
            except OSError as error:
                sock.close()
                if not outgoing.is_logged:
                    self._log.info(f"func=hub, peer={outgoing.role}, path={outgoing.path}, status={error.strerror}")
                    outgoing.is_logged = True
                continue
            outgoing.is_logged = False
            outgoing.peer = Peer(sock, outgoing.vocabulary, outgoing.role, self._wake)
            self._add(outgoing.peer)

    def _expire(self, batch: Batch) -> None:
        limit = time.monotonic() - _HELLO_TIMEOUT
        for peer in [p for p in self._peers if p.is_down or (p.hello is None and p.since < limit)]:
            self._drop(peer, "not reading" if peer.is_down else "no Hello in time", batch)

    def _arm_writer(self, peer: Peer) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.has_rest else 0)
        if self._selector.get_key(peer.sock).events != wanted:
            self._selector.modify(peer.sock, wanted, peer)
