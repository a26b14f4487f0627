"""Green threads: deadlines, slots, flags, blocking calls, the acceptor's workers."""
import fcntl
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from meta1g.st.block import Blocking
from meta1g.st.listen import Acceptor
from meta1g.st.netfd import NetFd, connect
from meta1g.st.sched import Flag, Interrupted, Slot, TimedOut, current, give_way, sleep, spawn


def pair() -> tuple[NetFd, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    return NetFd(ours), theirs


@pytest.mark.parametrize("timeout", [0.05, 1.0])
def test_read_times_out_and_the_connection_lives_on(timeout: float) -> None:
    """A short wait has a timer of its own, a long one is ended by the look around."""
    netfd, peer = pair()
    sleep(0)
    time.sleep(0.2)  # the loop was busy for so long: that does not count
    began = time.monotonic()
    with pytest.raises(TimedOut):
        netfd.read(100, timeout)
    assert timeout <= time.monotonic() - began < timeout + 5
    peer.send(b"late")
    assert netfd.read(100, 5) == b"late"
    netfd.close()


def test_write_waits_for_the_reader() -> None:
    netfd, peer = pair()
    data = bytes(4 << 20)
    with pytest.raises(TimedOut):
        netfd.write(data, 0.05)
    seen = bytearray()

    def drain() -> None:
        while part := peer.recv(1 << 16):
            seen.extend(part)

    reader = threading.Thread(target=drain)
    reader.start()
    before = len(data)
    netfd.write(b"end", 10)
    netfd.close()
    reader.join(10)
    assert seen.endswith(b"end") and len(seen) < before + 3  # what timed out was sent in part


def test_last_words_come_with_the_end() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    netfd = connect(socket.AF_INET, listener.getsockname(), 5)
    peer = listener.accept()[0]
    netfd.write(b"221 bye\r\n", 5, is_last=True)
    netfd.close()
    assert (peer.recv(100), peer.recv(100)) == (b"221 bye\r\n", b"")


def test_connect_refused_or_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        connect(socket.AF_INET, address, 5)
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    clients = []
    with pytest.raises(TimedOut):
        for _ in range(10):
            clients.append(connect(socket.AF_INET, full.getsockname(), 0.2))


def test_slot() -> None:
    slot = Slot()
    with pytest.raises(TimedOut):
        slot.get(0.02)
    slot.put(7)  # nobody waits any more, the value stays
    assert slot.get(1) == 7
    failing = Slot()
    spawn(failing.fail, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        failing.get(5)


def test_flag_wakes_everybody_once() -> None:
    flag, woken = Flag(), []
    threads = [spawn(lambda: woken.append(flag.wait(5))) for _ in range(3)]
    assert not flag.wait(0.02)
    flag.raise_()
    assert all(thread.join(5) for thread in threads)
    assert woken == [True] * 3
    flag.lower()
    assert not flag.wait(0.02)


def test_interrupt_ends_a_wait_and_nothing_else() -> None:
    """A late wake-up must not reach a thread that waits for something else by then."""
    slot, ends = Slot(), []

    def waiter() -> None:
        try:
            slot.get(5)
        except Interrupted:
            ends.append("interrupted")
        sleep(0.05)
        ends.append("slept")

    thread = spawn(waiter)
    sleep(0.01)
    thread.interrupt()
    slot.put(1)
    assert thread.join(5)
    assert ends == ["interrupted", "slept"]


def test_blocking_call_lets_others_run_and_brings_its_error() -> None:
    blocking, go_on = Blocking(1), threading.Event()
    found: list[Any] = []
    thread = spawn(lambda: found.append(blocking.run(go_on.wait, 10)))
    spawn(go_on.set)  # runs only if the loop turns while the call blocks
    assert thread.join(10) and found == [True]
    with pytest.raises(ZeroDivisionError):
        blocking.run(lambda: 1 // 0)
    assert blocking.run(len, "abc") == 3


class Server:
    """An acceptor whose sessions tell which thread serves them, and wait for a line."""

    def __init__(self, limit: int, refusal: bytes = b"") -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.threads: list[Any] = []
        self.other = socket.create_server(("127.0.0.1", 0))
        self.acceptor = Acceptor([self.sock, self.other], limit, self.serve, refusal)
        self.acceptor.start()

    def serve(self, netfd: NetFd) -> None:
        self.threads.append(current()._greenlet)
        line = netfd.read(100, 10)
        if line == b"bug":
            raise ValueError(line)
        netfd.write(line, 10)

    def ask(self, text: bytes) -> bytes:
        client = connect(socket.AF_INET, self.sock.getsockname(), 5)
        client.write(text, 5)
        try:
            return client.read(100, 5)
        finally:
            client.close()


def test_workers_serve_again() -> None:
    server = Server(10)
    for number in range(5):
        assert server.ask(b"%d" % number) == b"%d" % number
        sleep(0.01)
    assert len(set(server.threads)) == 1
    assert (server.acceptor.accepted, server.acceptor.active_max) == (5, 1)
    assert server.acceptor.wait_idle(5)


def test_limit_holds_connections_back() -> None:
    server = Server(2)
    clients = [connect(socket.AF_INET, server.sock.getsockname(), 5) for _ in range(4)]
    while server.acceptor.active < 2:
        sleep(0.01)
    for client in clients:
        client.write(b"x", 5)
    assert [client.read(10, 5) for client in clients] == [b"x"] * 4
    assert server.acceptor.active_max == 2


def test_who_is_too_many_is_told_so() -> None:
    server = Server(2, b"421 full")
    clients = [connect(socket.AF_INET, sock.getsockname(), 5) for sock in (server.sock, server.other)]
    while server.acceptor.active < 2:
        sleep(0.01)
    late = connect(socket.AF_INET, server.sock.getsockname(), 5)
    assert (late.read(100, 5), late.read(100, 5)) == (b"421 full", b"")
    server.acceptor.set_limit(1)  # for a time fewer are wanted: they wait
    waits = connect(socket.AF_INET, server.sock.getsockname(), 5)
    for client in (*clients, waits):
        client.write(b"x", 5)
    assert [client.read(10, 5) for client in (*clients, waits)] == [b"x"] * 3
    server.acceptor.set_limit(2)
    assert server.ask(b"again") == b"again"
    assert server.acceptor.refused == 1


def test_threads_are_made_before_they_are_needed_and_kept() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    threads: list[Any] = []

    def serve(netfd: Any) -> None:
        threads.append(current()._greenlet)
        netfd.write(netfd.read(10, 5), 5)

    acceptor = Acceptor([sock], 10, serve, idle_min=2, idle_max=1)
    acceptor.start()
    clients = [connect(socket.AF_INET, sock.getsockname(), 5) for _ in range(3)]
    while acceptor.active < 3:
        sleep(0.01)
    for client in clients:
        client.write(b"x", 5)
    assert [client.read(10, 5) for client in clients] == [b"x"] * 3
    assert acceptor.wait_idle(5)
    assert len(acceptor._pool._resting) == 1


def test_only_one_accepts_at_a_time(tmp_path: Path) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    path = tmp_path / "turn"
    acceptor = Acceptor([sock], 10, lambda netfd: netfd.write(b"hello", 5), turn_file=str(path))
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        acceptor.start()
        client = connect(socket.AF_INET, sock.getsockname(), 5)
        with pytest.raises(TimedOut):
            client.read(10, 0.05)
    assert client.read(10, 5) == b"hello"


def test_error_in_a_session_costs_only_that() -> None:
    server = Server(2)
    assert server.ask(b"bug") == b""
    assert server.ask(b"fine") == b"fine"
    assert server.acceptor.wait_idle(5)


def test_a_reader_that_trickles_does_not_stretch_the_whole() -> None:
    netfd, peer = pair()
    end = time.monotonic() + 0.5

    def drain() -> None:
        while time.monotonic() < end + 5 and peer.recv(4096):
            time.sleep(0.02)

    reader = threading.Thread(target=drain)
    reader.start()
    with pytest.raises(TimedOut):
        netfd.write(bytes(16 << 20), 0.5, in_all=True)
    assert time.monotonic() - end < 2.0
    netfd.close()
    reader.join(10)


def test_who_gives_way_lets_sockets_have_their_turn() -> None:
    netfd, peer = pair()
    heard = Flag()

    def listen() -> None:
        netfd.read(1, 10)
        heard.raise_()

    spawn(listen)
    sleep(0)
    peer.send(b"x")
    for _ in range(3):
        give_way()
    assert heard.is_up
    netfd.close()
