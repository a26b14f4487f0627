"""A policy milter that hangs, dies, lies, floods or says nonsense: the outcome is as configured, nothing is lost."""
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from meta1g.proto.pmilter import messages, numbers
from meta1g.proto.pmilter.messages import TO_SERVER
from meta1g.proto.pmilter.numbers import HdrMod, Step
from tests.lib.instance import Instance, free_port, more_smtps, other_user
from tests.lib.pmilters import FakeMilter, run_policy
from tests.lib.wait import until

pytestmark = [pytest.mark.system]
FLAGS = {"ignore": "", "abort": "flags = { abort };", "again": "flags = { accept_but_reconnect };"}
REAL = {"real": "flags = { abort };"}  # for a policy that is a process
WANTS = messages.Wants(int(numbers.EVERYTHING), int(numbers.EVERY_FUNCTION), 0, 0, b"fake", ())
GO_ON = messages.Answer(numbers.SMTP_R_CONT, False, b"")
REPLACE = messages.Answer(numbers.SMTP_R_RPLCMSG, False, b"")


def is_step(said: object, step: Step) -> bool:
    return isinstance(said, messages.Step) and said.kind == step


STAGES: dict[str, Callable[[object], bool]] = {
    "connect": lambda said: isinstance(said, messages.Connect), "helo": lambda said: isinstance(said, messages.Helo),
    "mail": lambda said: isinstance(said, messages.Mail), "rcpt": lambda said: isinstance(said, messages.Rcpt),
    "data": lambda said: is_step(said, Step.DATA), "msg": lambda said: isinstance(said, messages.Msg),
    "eom": lambda said: is_step(said, Step.EOM), "more": lambda said: is_step(said, Step.MORE),
}
Fault = Callable[[FakeMilter, int], None]


def flood(milter: FakeMilter, number: int) -> None:
    change = TO_SERVER.frame(messages.HdrChange(int(HdrMod.APPEND), 0, b"X: " + b"x" * 900 + b"\r\n"), number)
    for _ in range(100):
        milter.send(change * 100)


FAULTS: dict[str, Fault] = {
    "die": lambda milter, number: milter.hang_up(),
    "garbage": lambda milter, number: milter.send(b"\xa5" * 3000),
    "half": lambda milter, number: (milter.send(TO_SERVER.frame(GO_ON, number)[:-3]), milter.hang_up())[0],
    "another": lambda milter, number: milter.say(GO_ON, number + 1000),
    "twice": lambda milter, number: milter.send(TO_SERVER.frame(GO_ON, number) * 2),
    "ping": lambda milter, number: milter.send(TO_SERVER.frame(messages.Ping(1)) * 1000),
    "piece": lambda milter, number: milter.say(messages.Piece(False, b"x"), number),
    "reply": lambda milter, number: milter.say(messages.Answer(550, False, b"250 2.0.0 Ok\r\nDATA\r\n"), number),
    "code": lambda milter, number: milter.say(messages.Answer(551, False, b"552 5.7.1 No\r\n"), number),
    "flood": flood,
}
CHANGES: dict[str, list[messages.Change]] = {
    "address": [messages.RcptAdd(b"a b", b"")], "nobody left": [messages.RcptDel(0, b"postmaster@local.test")],
    "no such": [messages.RcptDel(3, b"postmaster@local.test")], "sender": [messages.MailRplc(b"x\r\ny@z", b"")],
    "parameter": [messages.MailRplc(b"x@y.z", b"A\r\nRSET")],
    "field": [messages.HdrChange(1, 0, b"X: 1\r\n\r\nbody\r\n")],
    "folding": [messages.HdrChange(5, 0, b"X: 1\nY: 2\r\n")],
    "replies": [messages.Replies((messages.RcptReply(250, b""),) * 2)],
    "replies that close": [messages.Replies((messages.RcptReply(421, b""),))],
}


class Plans:
    """What the milter does in a session: by the address of its client, a fault at a stage."""

    def __init__(self) -> None:
        self._plans: dict[str, tuple[str, Fault | None]] = {}
        self._sessions: dict[tuple[Path, int], tuple[str, Fault | None]] = {}
        self._last = 0

    def add(self, stage: str, fault: Fault | None) -> str:
        self._last += 1
        address = f"127.0.{self._last // 250 + 1}.{self._last % 250 + 1}"
        self._plans[address] = stage, fault
        return address

    def __call__(self, milter: FakeMilter, said: object, number: int) -> None:
        if isinstance(said, messages.Ping):
            milter.say(said, number)
            return
        if isinstance(said, messages.Connect):
            self._sessions[milter.path, number] = self._plans.get(said.address.decode(), ("", None))
        stage, fault = self._sessions.get((milter.path, number), ("", None))
        if stage and STAGES[stage](said):
            if fault is not None:
                fault(milter, number)
            return
        if isinstance(said, messages.Step) and said.kind == Step.EOM:
            milter.say(REPLACE if stage == "more" else GO_ON, number)
        elif not isinstance(said, messages.Symbols | messages.Step | messages.Replaced) or STAGES["data"](said):
            milter.say(GO_ON, number)


class Server(Instance):
    """A server for each kind of flags, each with a milter of its own."""

    def __init__(self) -> None:
        super().__init__("local.test", user=other_user())
        text = self.conf.read_text()
        base = text[text.index("\nsmtps {"):]
        self.sockets = self.base / "sockets"
        self.sockets.mkdir()
        self.at = {}
        for number, (name, flags) in enumerate({**FLAGS, **REAL}.items(), 1):
            where = f"socket {{ type = unix; path = {self.sockets}/{name}; }}"
            self.at[name] = free_port()
            text += more_smtps(base, name, number, self.at[name], f"policy_milter {{ {where} timeout = 1; {flags} }}")
        self.conf.write_text(text)
        self.accepted = 0

    def deliver(self, name: str, address: str = "127.0.0.1") -> str:
        """Send a message, whatever happens: the last reply."""
        with Client(self, name, address) as raw:
            said = raw.read()
            for line in (b"EHLO x\r\n", b"MAIL FROM:<a@b.test>\r\n", b"RCPT TO:<postmaster@local.test>\r\n",
                         b"DATA\r\n", b"Subject: x\r\n\r\nx\r\n.\r\n"):
                if said[:1] not in "23":
                    break
                said = raw.say(line)
            self.accepted += said.startswith("250 2.0.0")
            return said


class Client:
    """Like `Raw`, at one of the servers."""

    def __init__(self, server: Server, name: str, address: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", server.at[name]), 20, source_address=(address, 0))
        self._file = self._sock.makefile("rb")

    def say(self, octets: bytes) -> str:
        self._sock.sendall(octets)
        return self.read()

    def read(self) -> str:
        while (line := self._file.readline())[3:4] == b"-":
            pass
        return line.decode().rstrip()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *unused: object) -> None:
        self._file.close()
        self._sock.close()


@pytest.fixture(scope="module")
def plans() -> Plans:
    return Plans()


@pytest.fixture(scope="module")
def server(plans: Plans) -> Iterator[Server]:
    found = Server()
    milters = [FakeMilter(found.sockets / name, WANTS, plans) for name in FLAGS]
    with found:
        yield found
        until(found.is_empty, 20, "all is delivered")
        assert len(found.mail("postmaster")) == found.accepted
    for milter in milters:
        milter.end()


def is_as_configured(name: str, said: str) -> bool:
    return said.startswith("421 4.3.2 Policy not available") if name == "abort" else said.startswith("250 2.0.0")


def test_each_stage_hangs(server: Server, plans: Plans) -> None:
    cases = [(name, stage, plans.add(stage, None)) for name in FLAGS for stage in STAGES]
    since = time.monotonic()
    with ThreadPoolExecutor(len(cases)) as pool:
        found = list(pool.map(lambda case: server.deliver(case[0], case[2]), cases))
    assert [case for case, said in zip(cases, found, strict=True) if not (
        said.startswith("451") if case[1] == "more" and case[0] != "abort" else is_as_configured(case[0], said))] == []
    assert time.monotonic() - since < 8  # the time of one call, or of a few


@pytest.mark.parametrize("fault", FAULTS)
def test_each_stage_goes_wrong(server: Server, plans: Plans, fault: str) -> None:
    for stage in STAGES:
        address = plans.add(stage, FAULTS[fault])
        for name in ("abort", "again"):
            said = server.deliver(name, address)
            is_refusal = stage == "more" and said.startswith("451")  # a message half replaced is not accepted
            is_late = fault == "twice" and said.startswith("250")  # the second answer came when all was over
            assert is_as_configured(name, said) or is_refusal or is_late, f"{stage}: {said}"
        said = server.deliver("abort")
        assert said.startswith("250"), server.log("abort")[-3000:]


@pytest.mark.parametrize("what", CHANGES)
def test_changes_that_make_no_sense(server: Server, plans: Plans, what: str) -> None:
    def change(milter: FakeMilter, number: int) -> None:
        milter.send(b"".join(TO_SERVER.frame(change, number) for change in CHANGES[what]))
        milter.say(GO_ON, number)

    address = plans.add("eom", change)
    for name in ("abort", "again"):
        assert is_as_configured(name, server.deliver(name, address))


def test_answers_that_come_too_late_do_no_harm(server: Server, plans: Plans) -> None:
    def late(milter: FakeMilter, number: int) -> None:
        milter.say_later(GO_ON, number, 1.02)

    before, since = len(server.log("again")), time.monotonic()
    assert server.deliver("again", plans.add("mail", late)).startswith("250")
    until(lambda: server.deliver("again").startswith("250") and time.monotonic() > since + 1.3, 5)
    assert server.deliver("again").startswith("250")
    assert "status=dropped" not in server.log("again")[before:]


def test_by_default_nobody_waits_for_a_milter_that_is_gone(server: Server, plans: Plans) -> None:
    address = plans.add("rcpt", FAULTS["die"])
    assert server.deliver("ignore", address).startswith("250")
    since = time.monotonic()
    for _ in range(10):
        assert server.deliver("ignore").startswith("250")
    assert time.monotonic() - since < 3
    assert "status=session goes on without it" in server.log("ignore")


def test_a_real_policy_that_is_stopped_and_killed(tmp_path: Path, server: Server) -> None:
    """A process that hangs as a whole is noticed; one that is killed and started again is found again."""
    command = [*run_policy(POLICY, tmp_path), "-p", str(server.sockets / "real"), "-m", "666"]
    assert server.deliver("real").startswith("421 4.3.2")
    with running(command) as first:
        until(lambda: server.deliver("real").startswith("554 5.7.1 No"), 20)
        os.kill(first.pid, signal.SIGSTOP)
        assert server.deliver("real").startswith("421 4.3.2")
        until(lambda: "status=dropped, reason=timeout" in server.log("real"), 20, "nobody is there")
    with running(command):
        until(lambda: server.deliver("real").startswith("554 5.7.1 No"), 20)


@contextmanager
def running(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


POLICY = """
from meta1g.pmilter import PolicyMilter, run
class No(PolicyMilter):
    def eom(self, session):
        return session.refuse("554 5.7.1 No")
raise SystemExit(run(No(), "unix:x"))
"""
