"""The library at real sockets: many sessions over one connection, threads, garbage, servers that go away."""
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from meta1g.pmilter import SMTP_R_CONT, SMTP_R_TEMP, Cap, PolicyError, PolicyMilter, Session
from meta1g.pmilter import Server as Context
from meta1g.pmilter.listening import listen
from meta1g.proto.pmilter import messages, numbers
from meta1g.proto.pmilter.messages import TO_MILTER
from meta1g.proto.pmilter.numbers import Step
from tests.lib.pmilters import HELLO, OFFER, Server, serving
from tests.lib.wait import until


class Slow(PolicyMilter):
    """Waits in `mail` for a sender `slow`, until it may go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.waiting = 0
        self.calls: list[str] = []
        self._lock = threading.Lock()

    def mail(self, session: Session, sender: str, params: list[str]) -> int:
        if sender == "slow":
            with self._lock:
                self.waiting += 1
            self.go_on.wait(20)
        if sender == "bug":
            raise ValueError("bug")
        return SMTP_R_CONT

    def eom(self, session: Session) -> int:
        return 451 if session.sender == "temp" else 250

    def abort(self, session: Session) -> None:
        self.calls.append(f"abort {session.sender}")

    def close(self, session: Session) -> None:
        self.calls.append(f"close {session.sender}")


@pytest.fixture
def policy(tmp_path: Path) -> Iterator[Slow]:
    found = Slow()
    with serving(found, str(tmp_path / "sock"), threads_soft=1, threads_hard=3):
        yield found
        found.go_on.set()


def mail(sender: str) -> messages.Mail:
    return messages.Mail(sender.encode(), ())


EOM = messages.Step(int(Step.EOM))
CLOSE = messages.Step(int(Step.CLOSE))


def test_many_sessions_over_one_connection(policy: Slow, tmp_path: Path) -> None:
    with Server(tmp_path / "sock") as server:
        assert Cap(server.wants.capabilities) == Cap.CONNECT | Cap.EHLO | Cap.MAIL | Cap.RCPT | Cap.EOM
        assert server.wants.misc == Cap.CONNECT | Cap.EHLO | Cap.RCPT and server.wants.name == b"Slow"
        for number in range(1, 300):
            server.say(mail(f"{'temp' if number % 2 else number}"), number)
        answers = dict(reversed(server.hear()) for _ in range(1, 300))
        assert set(answers) == set(range(1, 300))
        for number in range(1, 300):
            server.say(EOM, number)
        found = dict(reversed(server.hear()) for _ in range(1, 300))
        assert all(answer.code == (451 if number % 2 else 250) for number, answer in found.items())
        for number in range(1, 300):
            server.say(CLOSE, number)
        until(lambda: len(policy.calls) == 299, 10)


def test_a_call_that_waits_keeps_nobody_else_and_threads_are_few(policy: Slow, tmp_path: Path) -> None:
    with Server(tmp_path / "sock") as server:
        for number in (1, 2):
            server.say(mail("slow"), number)
        until(lambda: policy.waiting == 2, 10, "a second thread has come to help")
        assert server.ask(mail("quick"), 3).code == SMTP_R_CONT
        server.say(mail("slow"), 4)
        server.say(mail("slow"), 5)  # there are three threads
        until(lambda: policy.waiting == 3, 10)
        assert server.ask(messages.Ping(9), 0) == messages.Ping(9)
        policy.go_on.set()
        assert {server.hear()[1] for _ in range(4)} == {1, 2, 4, 5}


class Uneven(PolicyMilter):
    """Most calls take no time, some wait for something; `most` is how many there were at once."""

    def __init__(self) -> None:
        self.most = self._now = self._count = 0
        self._lock = threading.Lock()

    def mail(self, session: Session, sender: str, params: list[str]) -> int:
        with self._lock:
            self._now += 1
            self._count += 1
            self.most = max(self.most, self._now)
            pause = 0.02 if self._count % 60 == 0 else 0.003 if self._count % 17 == 0 else 0.0
        if pause:
            threading.Event().wait(pause)
        with self._lock:
            self._now -= 1
        return 550 if sender == "odd" else SMTP_R_CONT


@pytest.mark.parametrize("hard", [1, 4])
def test_each_question_has_its_answer_however_long_calls_take(tmp_path: Path, hard: int) -> None:
    policy = Uneven()
    with serving(policy, str(tmp_path / "sock"), threads_soft=1, threads_hard=hard) as hub, \
            Server(tmp_path / "sock") as server:
        left = dict.fromkeys(range(1, 31), 20)
        for number in left:
            server.say(mail("odd" if number % 2 else "even"), number)
        while left:
            answer, number = server.hear()
            assert answer.code == (550 if number % 2 else SMTP_R_CONT)
            left[number] -= 1
            if not left[number]:
                del left[number]
            else:
                server.say(mail("odd" if number % 2 else "even"), number)
        assert policy.most <= hard and hub.threads <= hard + 1


def test_an_exception_costs_one_session(policy: Slow, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Server(tmp_path / "sock") as server:
        answer = server.ask(mail("bug"))
        assert answer.code == SMTP_R_TEMP and answer.reply.startswith(b"451 4.3.0")
        assert server.ask(mail("good")).code == SMTP_R_CONT
    assert "ValueError" in caplog.text


def test_a_server_that_goes_away_ends_its_sessions(policy: Slow, tmp_path: Path) -> None:
    with Server(tmp_path / "sock") as server:
        server.ask(mail("one"), 1)
        server.ask(mail("two"), 2)
    until(lambda: sorted(policy.calls) == ["abort one", "abort two", "close one", "close two"], 10)
    with Server(tmp_path / "sock") as server:
        server.say(mail("slow"), 1)
        until(lambda: policy.waiting, 10)
    policy.go_on.set()
    until(lambda: policy.calls[-1] == "close slow", 10)


LIES: list[tuple[str, bytes]] = [
    ("a mail without a session", TO_MILTER.frame(mail("x"), 0)),
    ("a second offer", TO_MILTER.frame(OFFER)),
    ("a second Hello", TO_MILTER.frame(HELLO)),
    ("a type that is not there", bytes([0, 0, 0, 0, 99, 0, 1, 0, 0, 0])),
    ("a frame that is too long", b"\xff" * 10),
    ("octets too many", bytes([1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0])),
    ("a step that is not there", TO_MILTER.frame(messages.Step(77), 1)),
    ("an endless message", b"".join(
        TO_MILTER.frame(messages.Msg(False, b"x" * numbers.CHUNK_SIZE), 7) for _ in range(20))),
    ("HTTP", b"GET / HTTP/1.0\r\n\r\n"),
]


@pytest.mark.parametrize(("name", "octets"), LIES, ids=[name for name, _ in LIES])
def test_a_server_that_breaks_the_protocol_is_dropped(
        policy: Slow, tmp_path: Path, name: str, octets: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with Server(tmp_path / "sock") as server, Server(tmp_path / "sock") as other:
        server.say(mail("slow"), 7)
        with suppress(BrokenPipeError, ConnectionResetError):
            server.sock.sendall(octets)
        assert server.is_closed()
        assert other.ask(mail("good")).code == SMTP_R_CONT


def test_before_the_offer_nothing_else_is_heard(policy: Slow, tmp_path: Path) -> None:
    for octets in (TO_MILTER.frame(mail("x"), 1), TO_MILTER.frame(HELLO) + TO_MILTER.frame(mail("x"), 1),
                   TO_MILTER.frame(HELLO._replace(version=99)), b"\0" * 40):
        with Server(tmp_path / "sock", negotiates=False) as server:
            server.sock.sendall(octets)
            assert server.is_closed()


def test_who_says_nothing_or_does_not_read_is_dropped(tmp_path: Path) -> None:
    with serving(Slow(), str(tmp_path / "sock"), timeout=0.3), \
            Server(tmp_path / "sock", negotiates=False) as silent, Server(tmp_path / "sock") as deaf:
        ping = TO_MILTER.frame(messages.Ping(1)) * 1000
        deaf.sock.settimeout(5)
        with pytest.raises(OSError):
            while True:
                deaf.sock.sendall(ping)
        assert silent.is_closed()


def test_random_octets_do_no_harm(policy: Slow, tmp_path: Path) -> None:
    chance = random.Random(5)
    valid = [TO_MILTER.frame(message, 3) for message in (mail("a"), EOM, messages.Msg(True, b"x"), messages.Ping(1))]
    for _ in range(60):
        with Server(tmp_path / "sock") as server:
            octets = bytearray(b"".join(chance.choices(valid, k=5)))
            for _ in range(3):
                octets[chance.randrange(len(octets))] = chance.randrange(256)
            server.sock.sendall(octets)
            server.sock.shutdown(socket.SHUT_WR)
            assert server.is_closed()
    with Server(tmp_path / "sock") as server:
        assert server.ask(mail("good")).code == SMTP_R_CONT


class Refusing(PolicyMilter):
    def negotiate(self, server: Context) -> bool:
        return False


def test_a_server_that_is_refused(tmp_path: Path) -> None:
    with serving(Refusing(), str(tmp_path / "sock")), Server(tmp_path / "sock") as server:
        assert isinstance(server.wants, messages.Refuse)
        assert server.is_closed()


def test_inet_sockets() -> None:
    with serving(Slow(), "inet:0@127.0.0.1") as hub:
        address: Any = hub.address
        with socket.create_connection(address, 10) as sock:
            assert sock.recv(100)


def test_where_a_socket_can_be(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    sock = listen(f"unix:{path}", 1, 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(PolicyError, match="another program"):
        listen(str(path), 1, 0o600)
    sock.close()
    listen(f"local:{path}", 1, 0o660).close()  # nobody listened there any more
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError):
        listen(str(tmp_path / "file"), 1, 0o600)
    assert (tmp_path / "file").read_text() == "precious"
    for where in ("inet:x@127.0.0.1", "inet:99999", "", "unix:"):
        with pytest.raises(PolicyError):
            listen(where, 1, 0o600)


PROGRAM = """
from meta1g.pmilter import PolicyMilter, run
class Told(PolicyMilter):
    "A policy that is told of signals."
    def signal(self, process, number):
        print(process.own, int(number), flush=True)
raise SystemExit(run(Told(), "unix:/nonexistent/sock", own="mine"))
"""


def test_a_program(tmp_path: Path) -> None:
    path = tmp_path / "policy.py"
    path.write_text(PROGRAM)
    command = [sys.executable, str(path), "-p", str(tmp_path / "sock"), "-d", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        until(lambda: (tmp_path / "sock").exists(), 10)
        with Server(tmp_path / "sock"):
            os.kill(program.pid, signal.SIGUSR1)
            assert program.stdout is not None
            assert program.stdout.readline() == f"mine {signal.SIGUSR1:d}\n"
            program.terminate()
            _, errors = program.communicate(timeout=20)
    assert program.returncode == 0 and not (tmp_path / "sock").exists()
    assert "policy=Told, status=ready" in errors
    failed = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=20, check=False)
    assert failed.returncode == 1 and "/nonexistent/sock" in failed.stderr
    failed = subprocess.run([*command, "-n", "0"], capture_output=True, text=True, timeout=20, check=False)
    assert failed.returncode == 1 and "0 is less than 1" in failed.stderr


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
