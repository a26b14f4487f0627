"""Hub (threads) and Link (green threads) over a real socket: answers, versions, restarts, large messages."""
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meta1g.mta.errors import LinkDown
from meta1g.proc.hub import Hub
from meta1g.proc.link import Link
from meta1g.proc.log import Log
from meta1g.proto.msg_ctl import VOCABULARY, Answer, Command
from meta1g.proto.rcb import PROTOCOL_VERSION, Hello, PeerDown, PeerUp
from meta1g.st.sched import TimedOut, sleep, spawn
from tests.lib.wait import until


class Server:
    """A hub that answers commands, except those called `silent`."""

    def __init__(self, path: str, log: Log, uids: set[int] | None = None, **options: int) -> None:
        self.seen: list[Any] = []
        self.hub = Hub("server", log, self.on_batch)
        self.hub.listen(path, VOCABULARY, "control", uids, **options)
        self.hub.start()

    def on_batch(self, batch: list[Any]) -> None:
        for peer, message, tag in batch:
            self.seen.append(message)
            if isinstance(message, Command) and message.name != "silent":
                peer.send(Answer(False, message.arguments), tag)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sock")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log("test", fd=os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR))


@pytest.fixture
def logged(tmp_path: Path) -> Callable[[], str]:
    return (tmp_path / "log").read_text


@pytest.fixture
def server(path: str, log: Log) -> Iterator[Server]:
    made = Server(path, log)
    yield made
    made.hub.stop()


@pytest.fixture
def link(path: str, log: Log) -> Link:
    made = Link(path, VOCABULARY, "client", 3, log)
    made.start()
    return made


def test_questions_and_answers(server: Server, link: Link, path: str) -> None:
    assert link.wait_up(10)
    assert link.is_up
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    answers: list[str] = []
    for number in range(50):
        spawn(lambda number=number: answers.append(link.call(Command("x", str(number)), 10).text))
    while len(answers) < 50:
        sleep(0.01)
    assert sorted(map(int, answers)) == list(range(50))
    assert isinstance(server.seen[0], PeerUp)
    assert server.seen[0].hello.process == 3


def test_large_messages_pass_both_ways(server: Server, link: Link) -> None:
    assert link.wait_up(10)
    text = "x" * (8 << 20)
    assert link.call(Command("x", text), 30).text == text


def test_too_slow(server: Server, link: Link) -> None:
    assert link.wait_up(10)
    with pytest.raises(TimedOut):
        link.call(Command("silent", ""), 0.05)


def test_peer_goes_away_and_comes_back(path: str, log: Log, link: Link, logged: Callable[[], str]) -> None:
    downs: list[bool] = []
    link.on_down = lambda: downs.append(True)
    first = Server(path, log)
    assert link.wait_up(10)
    failed: list[Exception] = []

    def ask() -> None:
        try:
            link.call(Command("silent", ""), 20)
        except LinkDown as error:
            failed.append(error)

    spawn(ask)
    while not any(isinstance(message, Command) for message in first.seen):
        sleep(0.01)
    for peer in list(first.hub._peers):
        peer.sock.shutdown(socket.SHUT_RDWR)
    while not downs:
        sleep(0.01)
    assert "closed" in str(failed[0])
    assert link.call(Command("x", "again"), 10).text == "again"  # the call waits for the new connection
    assert until(lambda: any(isinstance(message, PeerDown) for message in first.seen))
    assert "status=down" in logged()
    first.hub.stop()


def test_too_many_are_turned_away(path: str, log: Log, logged: Callable[[], str]) -> None:
    server = Server(path, log, peers_max=2)
    socks = []
    for _ in range(4):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(path)
        socks.append((sock, sock.recv(4096)))  # its Hello, or the end
    assert [bool(data) for _, data in socks] == [True, True, False, False]
    assert logged().count("peers=2, status=refused, reason=too many connections (fds_max)") == 1
    socks[0][0].close()
    until(lambda: len(server.hub._peers) == 1)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        assert sock.recv(4096)
    server.hub.stop()


def test_nobody_there(path: str, log: Log) -> None:
    link = Link(path, VOCABULARY, "client", 0, log)
    link.start()
    assert not link.send(Command("x", ""))
    with pytest.raises(LinkDown, match="not connected"):
        link.call(Command("x", ""), 0.05)


@pytest.mark.parametrize(("octets", "reason"), [
    (VOCABULARY.frame(Hello(PROTOCOL_VERSION + 1, 1, 0, "old")), "restart all processes"),
    (VOCABULARY.frame(Command("x", "")), "before Hello"),
    (struct.pack("<IHI", 1 << 31, 0, 0), "longer than allowed"),
    (VOCABULARY.frame(Hello(PROTOCOL_VERSION, 1, 0, "x")) + struct.pack("<IHI", 1, 77, 0) + b"x", "unknown message"),
])
def test_who_breaks_the_protocol_is_dropped(
    server: Server, path: str, octets: bytes, reason: str, logged: Callable[[], str]
) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        sock.sendall(octets)
        while sock.recv(4096):
            pass
    until(lambda: reason in logged())


def test_other_users_are_refused(
    path: str, log: Log, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(struct, "unpack", lambda *arguments: (1, 54321, 1))
    server = Server(path, log, {12345})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        assert sock.recv(100) == b""
    until(lambda: "uid=54321, status=refused" in logged())
    server.hub.stop()


def test_log_lines(tmp_path: Path) -> None:
    target = tmp_path / "x.log"
    log = Log("x", 9, os.open(target, os.O_CREAT | os.O_RDWR | os.O_APPEND))
    log.write("func=a", 9)
    log.write("func=hidden", 12)
    log.warning("func=b")
    log.error("two\nlines")
    log.info("func=c")
    assert log.wants(9)
    assert not log.wants(12)
    lines = [line[24:] for line in target.read_text().splitlines()]
    assert lines == ["func=a", "sev=WARN, func=b", "sev=ERR, two%0Alines", "func=c"]
    log.rewind()
    assert target.read_text() == ""
