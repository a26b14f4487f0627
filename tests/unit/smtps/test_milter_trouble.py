"""Milters that hang, die, lie, flood or send garbage, at every packet: what is configured, in bounded time."""
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_smtps import MilterConf
from meta1g.conf.opt_tls import SocketConf
from meta1g.mta.errors import StoreError
from meta1g.mta.reply import Reply
from meta1g.proto.dkim.fields import Field
from meta1g.smtps import milter_host
from meta1g.smtps.filter import GO_ON, Act, Answer, InsertField, ReplaceBody
from meta1g.smtps.milter import Milter, MilterFilter
from meta1g.smtps.milter_host import MilterHost, Timeouts
from meta1g.st.sched import now, spawn, wait_until
from tests.lib.badmilter import FLOODS, TROUBLES, BadMilter
from tests.lib.wait import until

TIMEOUT = 0.1
STEPS = {b"O": 0, b"C": 0, b"H": 1, b"M": 2, b"R": 3, b"T": 4, b"L": 5, b"N": 5, b"B": 6, b"E": 7}  # where packets go
CONTENT = (b"L", b"N", b"B")  # is sent in one piece with the end
FIELDS = [Field(b"a", b"A: 1\r\n"), Field(b"b", b"B: 2\r\n")]


class Lines:
    """A log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warning = self.info = self.lines.append


class Facts:
    def __init__(self) -> None:
        self.spooled = 0

    def symbol(self, name: str) -> bytes:
        return {"client_ip": b"192.0.2.1", "hostname": b"mail.test", "client_port": b"25",
                "client_resolve": b"no", "cipher_bits": b"256", "auth_type": b"PLAIN"}.get(name, b"")

    def spool(self) -> "Facts":
        return self

    def append(self, octets: bytes) -> None:
        self.spooled += len(octets)
        if self.spooled > 1_000_000:
            raise ValueError("it is larger than a message may be")


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
def bad(tmp_path: Path) -> Iterator[BadMilter]:
    found = BadMilter(tmp_path / "milter")
    yield found
    found.close()


def made(bad: BadMilter, log: Any, action: str = "tempfail", flags: frozenset[str] = frozenset()) -> MilterHost:
    conf = MilterConf("bad", SocketConf("unix", path=PathValue(str(bad.path), True)), action, flags=flags)
    host = MilterHost(conf, str(bad.path), log)
    host.timeouts = Timeouts(TIMEOUT, TIMEOUT, TIMEOUT)
    return host


@pytest.fixture
def host(bad: BadMilter, log: Lines) -> MilterHost:
    return made(bad, log)


def begun(host: MilterHost) -> MilterFilter:
    found = Milter(host).begin(Facts())
    assert isinstance(found, MilterFilter)
    return found


def session(host: MilterHost) -> list[Act]:
    """What it says to each step of a session until it does not let it go on."""
    own = begun(host)
    steps: list[Callable[[], Answer]] = [
        own.on_connect, lambda: own.on_helo(b"x"), lambda: own.on_mail(b"a@b", []),
        lambda: own.on_rcpt(b"c@d", [], 0, None), own.on_data, lambda: own.on_header(FIELDS),
        lambda: own.on_body(b"x\r\n"), lambda: own.on_end()[0]]
    found = []
    try:
        for step in steps:
            found.append(step().act)
            if found[-1] is not Act.GO_ON:
                break
        return found
    finally:
        own.on_abort()
        own.on_close()


@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize("what", [*TROUBLES, "die", *FLOODS])
def test_trouble(bad: BadMilter, host: MilterHost, log: Lines, at: bytes, what: str) -> None:
    bad.at, bad.what = at, what
    began = time.monotonic()
    said = session(host)
    assert said == [Act.GO_ON] * (STEPS[b"E"] if at in CONTENT else STEPS[at]) + [Act.TEMPFAIL]
    assert time.monotonic() - began < 3
    assert len(log.lines) == 1
    assert "milter=bad, status=away, reason=" in log.lines[0]
    bad.what = ""
    host._rests_until = 0.0
    assert session(host) == [Act.GO_ON] * 8
    assert log.lines[1:] == ["func=smtps, milter=bad, status=back"]


@pytest.mark.parametrize("at", CONTENT)
@pytest.mark.parametrize("what", ["hang", "garbage", "die"])
def test_trouble_without_pipelining(bad: BadMilter, log: Lines, at: bytes, what: str) -> None:
    """It is seen where it is made."""
    bad.at, bad.what = at, what
    assert session(made(bad, log, flags=frozenset({"no_pipelining"}))) == [Act.GO_ON] * STEPS[at] + [Act.TEMPFAIL]


def transaction(own: MilterFilter) -> list[Act]:
    """What it says to MAIL and so on, up to the end."""
    steps: list[Callable[[], Answer]] = [
        lambda: own.on_mail(b"a@b", []), lambda: own.on_rcpt(b"c@d", [], 0, None), own.on_data,
        lambda: own.on_header(FIELDS), lambda: own.on_body(b"x\r\n"), lambda: own.on_end()[0]]
    return [step().act for step in steps]


@pytest.mark.parametrize(("verdict", "act"), [(b"r", Act.REJECT), (b"a", Act.ACCEPT), (b"d", Act.DISCARD)])
@pytest.mark.parametrize("at", CONTENT)
def test_content_that_is_not_heard_to_the_end(
    bad: BadMilter, host: MilterHost, log: Lines, at: bytes, verdict: bytes, act: Act
) -> None:
    """libmilter drops what follows without an answer: the next transaction has a connection of its own."""
    bad.verdicts = {at: b"\0\0\0\1" + verdict}
    own = begun(host)
    assert own.on_connect() == own.on_helo(b"x") == GO_ON
    assert transaction(own) == [Act.GO_ON] * 5 + [act]
    own.on_abort()
    bad.verdicts = {}
    assert transaction(own) == [Act.GO_ON] * 6
    own.on_close()
    until(lambda: b"".join(bad.seen).replace(b"D", b"").endswith(b"OCHMRTLLNBE"))
    assert bad.sessions == 2 and log.lines == []


def test_a_large_body_that_is_of_no_interest(bad: BadMilter, host: MilterHost) -> None:
    """After the first part it may say so, and gets no more of it."""
    bad.verdicts = {b"B": b"\0\0\0\1s"}
    own = begun(host)
    assert own.on_connect() == own.on_helo(b"x") == own.on_mail(b"a@b", []) == GO_ON
    assert own.on_rcpt(b"c@d", [], 0, None) == own.on_data() == own.on_header(FIELDS) == GO_ON
    assert [own.on_body(b"x" * 60_000).act, own.on_body(b"x" * 60_000).act] == [Act.GO_ON, Act.SKIP]
    assert own.on_end() == (GO_ON, [])
    assert bad.seen.count(b"B") == 1
    own.on_close()


@pytest.mark.parametrize(("action", "act"), [
    ("accept", Act.ACCEPT), ("reject", Act.REJECT), ("tempfail", Act.TEMPFAIL), ("quarantine", Act.QUARANTINE)])
def test_default_action_counts_for_the_rest_of_the_session(bad: BadMilter, log: Lines, action: str, act: Act) -> None:
    host = made(bad, log, action)
    bad.at, bad.what = b"R", "die"
    own = begun(host)
    assert own.on_connect() == own.on_mail(b"a", []) == GO_ON
    answers = [own.on_rcpt(b"b", [], 0, None), own.on_data(), own.on_mail(b"a", []), own.on_end()[0]]
    assert {answer.act for answer in answers} == {act}
    assert own.on_unknown(b"FOO") == GO_ON
    own.on_abort()
    own.on_close()


def test_who_is_away_is_left_alone(bad: BadMilter, host: MilterHost, log: Lines,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it but one now and then, and the log has one line."""
    clock = [now()]
    monkeypatch.setattr(milter_host, "now", lambda: clock[0])
    bad.at, bad.what = b"O", "hang"
    began = time.monotonic()
    for _ in range(50):
        assert session(host) == [Act.TEMPFAIL]
    assert time.monotonic() - began < 5 * TIMEOUT
    assert (bad.sessions, len(log.lines)) == (1, 1)
    clock[0] += 6
    for _ in range(10):
        assert session(host) == [Act.TEMPFAIL]
    assert (bad.sessions, len(log.lines)) == (2, 1)
    bad.what = ""
    clock[0] += 6
    assert session(host) == session(host) == [Act.GO_ON] * 8


def test_one_that_is_slow_keeps_nobody_else_waiting(bad: BadMilter, host: MilterHost) -> None:
    host.timeouts = Timeouts(1, 1, 1)
    bad.at, bad.what = b"M", "hang"
    waiting = [spawn(session, host) for _ in range(3)]
    assert wait_until(lambda: bad.seen.count(b"M") == 3, 1, 0.01)
    began = time.monotonic()
    own = begun(host)
    assert own.on_connect() == own.on_helo(b"x") == GO_ON
    own.on_close()
    assert time.monotonic() - began < 0.5
    assert all(thread.join(3) for thread in waiting)


def test_who_lets_sessions_down_one_after_the_other(bad: BadMilter, host: MilterHost) -> None:
    bad.at, bad.what = b"M", "hang"
    for _ in range(3):
        assert session(host)[-1] is Act.TEMPFAIL
    began = time.monotonic()
    assert session(host) == [Act.TEMPFAIL]
    assert time.monotonic() - began < TIMEOUT / 2


def test_connections_are_used_again(bad: BadMilter, host: MilterHost) -> None:
    for _ in range(5):
        assert session(host) == [Act.GO_ON] * 8
    assert bad.sessions == 1
    host.tend()
    host.tend()
    until(lambda: bad.seen.count(b"K") == 5, 5)
    bad.said = b"\0\0\0\1a"  # libmilter lets no session follow on a message that it accepts
    session(host)
    until(lambda: bad.seen[-1] == b"Q", 5)
    assert bad.seen.count(b"K") == 5


@pytest.mark.parametrize("what", ["hang", "die"])
def test_one_that_does_not_know_of_another_session(bad: BadMilter, host: MilterHost, log: Lines, what: str) -> None:
    bad.after_next = what
    for _ in range(3):
        assert session(host) == [Act.GO_ON] * 8
    assert bad.sessions == 3
    told = ["func=smtps, milter=bad, status=takes one session a connection"] if what == "hang" else []
    assert log.lines == told


def test_packets_that_need_no_answer_wait(bad: BadMilter, host: MilterHost) -> None:
    """A whole message is one write, and a session that brings none tells all the same."""
    bad.steps = 0xFF080
    own = begun(host)
    assert own.on_connect() == own.on_helo(b"x") == own.on_mail(b"a", []) == own.on_header(FIELDS) == GO_ON
    assert bad.seen == [b"O"]
    assert own.on_end() == (GO_ON, [])
    assert [letter for letter in bad.seen if letter != b"D"] == [b"O", b"C", b"H", b"M", b"L", b"L", b"N", b"E"]
    own.on_close()


def test_macros(host: MilterHost) -> None:
    own = begun(host)
    own.on_connect()
    own.on_helo(b"h.test")
    own.on_mail(b"a@b.test", [])
    own.on_rcpt(b"c@d.test", [], 0, Reply(550, "5.1.1", "User\nunknown"))
    values = {name: own._macro(name) for name in (
        "j", "_", "client_name", "client_resolve", "s", "cipher_bits", "auth_type", "mail_host", "rcpt_mailer",
        "rcpt_host", "rcpt_addr", "no_such")}
    assert values == {
        "j": b"mail.test", "_": b"[192.0.2.1]", "client_name": b"[192.0.2.1]", "client_resolve": b"FAIL",
        "s": b"h.test", "cipher_bits": b"256", "auth_type": b"PLAIN", "mail_host": b"b.test", "rcpt_mailer": b"error",
        "rcpt_host": b"5.1.1", "rcpt_addr": b"User unknown", "no_such": b""}
    own.on_close()


def test_changes(bad: BadMilter, host: MilterHost, log: Lines) -> None:
    """Those it has no right to are made all the same, and that is said once."""
    bad.actions = 0x2
    bad.at, bad.what = b"E", "changes"
    TROUBLES["changes"] = b"\0\0\0\x05hX\0y\0" + b"\0\0\0\4bone" + b"\0\0\0\1p" + b"\0\0\0\4btwo" + b"\0\0\0\1c"
    try:
        for _ in range(2):
            own = begun(host)
            own.on_connect()
            answer, changes = own.on_end()
            assert answer == GO_ON
            assert changes[0] == InsertField(None, b"X: y")
            assert isinstance(changes[1], ReplaceBody)
            assert len(changes) == 2
            own.on_close()
    finally:
        del TROUBLES["changes"]
    assert [line.rpartition(", ")[2] for line in log.lines] == ["action=AddHeader"]


def test_disk_trouble_is_not_its_fault(bad: BadMilter, host: MilterHost) -> None:
    class Full(Facts):
        def append(self, octets: bytes) -> None:
            raise StoreError("write", "x", "full", is_full=True)

    bad.at, bad.what = b"E", "bodies"
    own = Milter(host).begin(Full())
    own.on_connect()
    with pytest.raises(StoreError):
        own.on_end()
    assert own.on_mail(b"a", []).act is Act.TEMPFAIL
    own.on_close()
    assert not host._idle


def test_conf_of_no_reuse(bad: BadMilter, log: Any) -> None:
    conf = MilterConf("bad", SocketConf("unix", path=PathValue(str(bad.path), True)), flags=frozenset({"no_reuse"}))
    host = MilterHost(dataclasses.replace(conf, connect_timeout=1), str(bad.path), log)
    assert session(host) == session(host) == [Act.GO_ON] * 8
    assert bad.sessions == 2
    host.tend()


def test_a_body_in_pieces_ends_with_an_empty_one(bad: BadMilter, host: MilterHost) -> None:
    """As who copies a file until nothing is left gives it; nothing but an empty piece is an empty body."""
    bad.steps = 0x1FF & ~0x80 & ~0x100 | 0x200
    for pieces, size in ((b"\0\0\0\4bnew" + b"\0\0\0\1b", 3), (b"\0\0\0\1b", 0)):
        bad.said = pieces + b"\0\0\0\1c"
        own = begun(host)
        assert own.on_connect() is own.on_data() is GO_ON
        answer, changes = own.on_end()
        assert answer.act is Act.GO_ON and [type(change) for change in changes] == [ReplaceBody]
        assert isinstance(own._facts, Facts) and own._facts.spooled == size
        own.on_close()


def test_helo_after_a_connection_that_was_given_up(bad: BadMilter, host: MilterHost, log: Lines) -> None:
    """It is told of it with the next MAIL, on the next connection."""
    bad.verdicts = {b"L": b"\0\0\0\1r"}
    own = begun(host)
    assert own.on_connect() == own.on_helo(b"x") == GO_ON
    assert transaction(own)[-1] is Act.REJECT
    own.on_abort()
    bad.verdicts = {}
    assert own.on_helo(b"y") == own.on_unknown(b"z") == GO_ON
    assert transaction(own) == [Act.GO_ON] * 6
    own.on_close()
    assert bad.seen.count(b"H") == 2 and log.lines == []


def test_content_that_is_broken_off(bad: BadMilter, host: MilterHost) -> None:
    """A disk that can't be read, say: answers to what was sent are none to the next transaction."""
    own = begun(host)
    assert own.on_connect() == own.on_helo(b"x") == GO_ON
    for body in (b"x", b"x" * 70_000):  # that waits, and that was sent
        assert own.on_mail(b"a@b", []) == own.on_header(FIELDS) == own.on_body(body) == GO_ON
        own.on_abort()
        bad.verdicts = {b"R": b"\0\0\0\1r"}
        assert own.on_mail(b"a@b", []) == GO_ON
        assert own.on_rcpt(b"c@d", [], 0, None).act is Act.REJECT
        own.on_abort()
        bad.verdicts = {}
    own.on_close()


@pytest.mark.parametrize("at", [b"C", b"H"])
def test_another_answer_to_a_session_that_begins_again(bad: BadMilter, host: MilterHost, at: bytes) -> None:
    """It counts for each transaction."""
    bad.verdicts = {b"L": b"\0\0\0\1r"}
    own = begun(host)
    assert own.on_connect() == own.on_helo(b"x") == GO_ON
    assert transaction(own)[-1] is Act.REJECT
    bad.verdicts = {at: b"\0\0\0\1r"}
    assert [own.on_mail(b"a@b", []).act for _ in range(2)] == [Act.REJECT] * 2
    bad.verdicts = {}
    assert transaction(own) == [Act.GO_ON] * 6
    own.on_close()


def test_a_session_that_begins_again_on_a_connection_that_has_ended(bad: BadMilter, host: MilterHost) -> None:
    """As with the first one: that says nothing about the milter."""
    assert session(host) == [Act.GO_ON] * 8  # leaves its connection
    bad.verdicts = {b"L": b"\0\0\0\1r"}
    line, host._idle = host._idle, []
    own = begun(host)
    assert own.on_connect() == own.on_helo(b"x") == GO_ON
    assert transaction(own)[-1] is Act.REJECT
    bad.verdicts, bad.after_next, host._idle = {}, "die", line
    assert transaction(own) == [Act.GO_ON] * 6
    own.on_close()
