"""The examples in contrib/pmilter: driven in memory, and as programs; spamd by a stand-in."""
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrib.pmilter import example0, harvest, spamd
from meta1g.pmilter.testing import Client, Rig
from tests.lib.pmilters import Server
from tests.lib.wait import until

FOLDER = Path(__file__).parents[3] / "contrib" / "pmilter"
CONTENT = b"X-Spam-Status: No, I swear\r\n\tit is good\r\nSubject: x\r\nx-spam-flag: NO\r\n\r\nbody\r\n"


def test_the_smallest_one() -> None:
    client = Rig(example0.Example()).client("192.0.2.9")
    assert client.mail("spammer@example.com").reply == "550 5.7.1 Your mail is not wanted here"
    client.mail("a@b.c")
    client.rcpt()
    client.rcpt()
    assert client.message(b"x").fields == ["X-Example: from 192.0.2.9, 2 recipients"]


def test_who_tries_addresses_out_is_refused_for_a_while() -> None:
    now = 1000.0
    rig = Rig(harvest.Harvest(most=3, seconds=60, clock=lambda: now))
    client = rig.client("192.0.2.1")
    client.mail()
    for _ in range(3):
        assert client.rcpt("nobody@example.org", refused="550 5.1.1 User unknown").is_go_on
    assert client.rcpt("me@example.org").is_go_on
    assert client.rcpt("x@example.org", refused="452 4.5.3 Too many recipients").is_go_on
    assert client.rcpt("nobody@example.org", refused="550 5.1.1 User unknown").code == 421
    assert rig.client("192.0.2.1").said[0].reply.startswith("421 4.7.1 Too many")
    assert rig.client("192.0.2.2").said[0].is_go_on
    now += 61
    assert rig.client("192.0.2.1").said[0].is_go_on


def test_what_is_remembered_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "CLIENTS_MAX", 5)
    policy = harvest.Harvest()
    for number in range(20):
        policy._count(f"192.0.2.{number}", 1)
    assert len(policy._seen) == 5


class StandIn:
    """A spamd that answers with what it is told to; `heard` are the requests."""

    def __init__(self) -> None:
        self.answer = b""
        self.heard: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.where = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def says(self, is_spam: bool, score: float, symbols: str) -> None:
        body = symbols.encode()
        self.answer = (f"SPAMD/1.1 0 EX_OK\r\nContent-length: {len(body)}\r\n"
                       f"Spam: {is_spam} ; {score} / 5.0\r\n\r\n").encode() + body

    def end(self) -> None:
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                request = b""
                while data := sock.recv(1 << 16):
                    request += data
                self.heard.append(request)
                sock.sendall(self.answer)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    found = StandIn()
    yield found
    found.end()


def client_of(where: str, reject: float = 10.0, *, tempfail: bool = False) -> Client:
    client = Rig(spamd.Spamd(where, reject, user="joe", tempfail=tempfail)).client("192.0.2.1", "c.example.", "helo")
    client.mail("a@b.c")
    client.rcpt()
    return client


def test_spam_is_marked_and_much_of_it_refused(stand_in: StandIn) -> None:
    stand_in.says(True, 7.5, "BAYES_99,URIBL_BLACK")
    end = client_of(stand_in.where).message(CONTENT, chunk=7)
    assert end.fields == ["X-Spam-Flag: YES", "X-Spam-Status: Yes, score=7.5 required=5\r\n"
                          "\ttests=BAYES_99,\r\n\tURIBL_BLACK"]
    assert [(position, field) for kind, position, field in end.headers if kind == 4] == [(1, ""), (3, "")]
    [request] = stand_in.heard
    head, _, message = request.partition(b"\r\n\r\n")
    assert head == b"SYMBOLS SPAMC/1.2\r\nContent-length: %d\r\nUser: joe" % len(message)
    assert message.endswith(CONTENT) and message.startswith(
        b"Received: from helo (c.example [192.0.2.1])\r\n\tby mail.test (envelope-from <a@b.c>)\r\n")
    stand_in.says(True, 12, "X")
    assert client_of(stand_in.where).message(CONTENT).said.reply == "550 5.7.1 This looks like spam, score 12"
    assert client_of(stand_in.where, reject=0).message(CONTENT).code == 0
    stand_in.says(False, -1.5, "")
    [field] = client_of(stand_in.where).message(b"x").fields
    assert field == "X-Spam-Status: No, score=-1.5 required=5\r\n\ttests=none"


NONSENSE = [b"", b"SPAMD/1.1 76 Bad header line\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nSpam: True ; 1 / 1", b"\0" * 200_000,
            b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1.2.3 / 5\r\n\r\n"]


@pytest.mark.parametrize("answer", NONSENSE)
def test_a_spamd_that_says_nonsense(stand_in: StandIn, answer: bytes) -> None:
    stand_in.answer = answer
    assert client_of(stand_in.where).message(b"x").code == 0
    assert client_of(stand_in.where, tempfail=True).message(b"x").code == 451


def test_no_spamd_and_large_messages(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nobody")
    assert client_of(nowhere).message(b"x").code == 0
    assert client_of(nowhere, tempfail=True).message(b"x").said.reply.startswith("451 4.7.1")
    assert client_of(nowhere, tempfail=True).message(b"x" * (spamd.SIZE_MAX + 1)).code == 0


@pytest.mark.parametrize("name", ["example0", "harvest", "spamd"])
def test_they_are_programs(tmp_path: Path, name: str) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "-p", str(tmp_path / "sock"), "-n", "3"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as program:
        try:
            until(lambda: (tmp_path / "sock").exists(), 10)
            with Server(tmp_path / "sock") as server:
                assert server.wants.capabilities
        finally:
            program.terminate()
    assert program.returncode == 0
