"""Reports of delays: when, to whom, how often; and that no recipient is lost by one (M1 3.8 item 13.2)."""
import random

import pytest

from meta1g.proto.dsn import Form
from meta1g.proto.msg_ar import Protocol
from meta1g.qmgr.state import RState
from tests.flow.world import SETTINGS, World, default_route

LATER = 450
DELAY = 600
SUBJECT = b"Subject: Delayed mail (still being retried)\r\n"


def world(form: Form = Form.RFC, **changes: object) -> World:
    settings = SETTINGS._replace(dsn_delay=DELAY, dsn_form=form)
    made = World(settings._replace(**changes)).begin()  # type: ignore[arg-type]
    made.result = lambda deliver, address: LATER if deliver.mail else 0
    return made


@pytest.mark.parametrize("form", list(Form))
def test_delay_then_bounce(form: Form) -> None:
    play = world(form)
    play.send(b"a@x.test", b"b@x.test", b"c@y.test")
    play.run().sleep(DELAY - 1, 5)
    assert not play.composed
    play.sleep(900, 5)
    (delayed,) = play.composed.values()  # one for all of them, and they are still here
    assert SUBJECT in delayed.head
    assert delayed.header_only
    assert all(name in delayed.head for name in (b"<a@x.test>", b"<b@x.test>", b"<c@y.test>"))
    assert delayed.head.count(b"\r\nAction: delayed\r\n") == (3 if form is Form.RFC else 0)
    assert len(play.defedb) == 3
    assert all(rcpt.is_warned for rcpt in play.defedb.values())
    play.sleep(3600, 5)
    _, failed = play.composed.values()
    assert b"Subject: Undeliverable mail\r\n" in failed.head
    assert not failed.header_only
    assert [rcpt for _, _, rcpt in play.delivered] == [b"from@host.test"] * 2
    play.check_empty()


def test_recipients_of_a_message_are_tried_together() -> None:
    """Whatever the dice say, they share the report, and transactions."""
    play = world()
    play.q.luck = random.Random(1).random
    play.send(b"a@x.test", b"b@x.test", b"c@x.test", b"d@y.test")
    play.run().sleep(2000)
    (report,) = play.composed.values()
    assert report.head.count(b"\r\nAction: delayed\r\n") == 4
    assert all(len(deliver.rcpts) == 3 for deliver in play.delivers if deliver.rcpts[0].address.endswith(b"x.test"))


def test_diagnosis_is_what_the_server_said() -> None:
    play = world()
    play.send(b"a@x.test", params=b"ORCPT=rfc822;o@x.test", mail_params=b"ENVID=Q+2B1")
    play.run().sleep(4600, 5)
    delayed, failed = (report.head for report in play.composed.values())
    for head in (delayed, failed):
        assert b"\r\nDiagnostic-Code: smtp; 450 said so\r\n" in head
        assert b"\r\nOriginal-Envelope-Id: Q+1\r\n" in head
        assert b"\r\nOriginal-Recipient: rfc822; o@x.test\r\n" in head
        assert b"\r\nRemote-MTA: dns; [192.0.2." in head
    assert b"\r\nWill-Retry-Until: " in delayed
    assert b"\r\nStatus: 5.4.7\r\n" in failed


def test_hosts_that_are_not_there_say_nothing() -> None:
    play = world()
    play.host_fails = lambda hop: play.now < 1_004_000
    play.send(b"a@x.test")
    play.run().sleep(2000, 5)
    (delayed,) = play.composed.values()
    assert b"\r\nAction: delayed\r\nStatus: 4.4.1\r\nLast-Attempt-Date: " in delayed.head
    assert b"Diagnostic-Code" not in delayed.head


@pytest.mark.parametrize(("params", "mail", "reported"), [
    (b"", b"from@host.test", True), (b"ORCPT=rfc822;a@b", b"from@host.test", True),
    (b"NOTIFY=DELAY", b"from@host.test", True), (b"NOTIFY=success,delay", b"from@host.test", True),
    (b"NOTIFY=NEVER", b"from@host.test", False), (b"NOTIFY=FAILURE", b"from@host.test", False),
    (b"NOTIFY=SUCCESS", b"from@host.test", False), (b"", b"", False), (b"", b"double@host.test", False),
])
def test_who_hears_of_it(params: bytes, mail: bytes, reported: bool) -> None:
    play = world()
    play.result = lambda deliver, address: LATER if address == b"a@x.test" else 0
    play.send(b"a@x.test", params=params, mail=mail)
    play.run().sleep(2000, 5)
    assert bool(play.composed) is reported
    assert len(play.defedb) == 1


def test_zero_turns_it_off() -> None:
    play = world(dsn_delay=0)
    play.send(b"a@x.test")
    play.run().sleep(3000, 5)
    assert not play.composed


@pytest.mark.parametrize(("by_lmtp", "expected"), [(True, 2), (False, 1)])
def test_lmtp(by_lmtp: bool, expected: int) -> None:
    play = world(dsn_delay_by_lmtp=by_lmtp)
    play.route = lambda address: tuple(
        target._replace(protocol=Protocol.LMTP if address == b"local@host.test" else Protocol.ESMTP)
        for target in default_route(address))
    play.send(b"local@host.test", b"a@x.test")
    play.run().sleep(2000, 5)
    (report,) = play.composed.values()
    assert report.head.count(b"\r\nAction: delayed\r\n") == expected


def test_at_most_so_many_in_one() -> None:
    play = world(dsn_errors_max=2)
    play.send(b"a@x.test", b"b@x.test", b"c@x.test")
    play.run().sleep(1500, 5)
    assert sorted(report.head.count(b"\r\nAction: delayed\r\n") for report in play.composed.values()) == [1, 2]


def test_warned_once_even_after_a_restart() -> None:
    play = world()
    play.send(b"a@x.test")
    play.run().sleep(1500, 5)
    play.crash(loss=lambda disk: disk.lose_power(0.0))
    play.begin()
    play.sleep(1500, 5)
    assert len(play.composed) == 1
    assert len(play.delivered) == 1


@pytest.mark.parametrize("trouble", ["error", "away", "silent"])
def test_mail_does_not_wait_for_its_report(trouble: str) -> None:
    play = world()
    play.send(b"a@x.test")
    play.run().sleep(DELAY - 60, 5)
    if trouble == "error":
        play.compose_error = "full"
    elif trouble == "away":
        play.disconnect(play.smtps)
    else:
        play.silent.add(play.smtps)
    before = len(play.delivers)
    play.sleep(1200, 5)
    assert len(play.delivers) > before + 1
    assert not any(rcpt.is_warned for rcpt in play.defedb.values())
    play.compose_error = ""
    play.silent.clear()
    if trouble == "away":
        play.connect(play.smtps)
    play.sleep(1400, 5)
    assert [rcpt for _, _, rcpt in play.delivered] == [b"from@host.test"]
    assert SUBJECT in list(play.composed.values())[-1].head
    play.sleep(1000, 5)
    play.check_empty()


def step_until_warning(play: World) -> None:
    while not any(rcpt.state is RState.WARNING for ta in play.q.aq.values() for rcpt in ta.rcpts.values()):
        play.tick(1)
        play.step()


@pytest.mark.parametrize("is_composing", [False, True])
def test_last_server_goes_while_a_report_waits(is_composing: bool) -> None:
    play = world()
    play.send(b"a@x.test", b"b@y.test")
    play.run().sleep(DELAY - 60, 5)
    step_until_warning(play)
    if is_composing:
        play.silent.add(play.smtps)
        play.sleep(10)
    assert bool(play.q.composing) is is_composing
    play.disconnect(play.smtps)
    play.run()
    assert len(play.defedb) == 2
    assert not play.q.aq


def test_crash_at_every_step_of_a_report() -> None:
    """Two reports at most, and the recipients stay."""
    seen = set()
    for step in range(40):
        play = world()
        play.send(b"a@x.test", b"b@y.test")
        play.run().sleep(DELAY - 30, 5)
        step_until_warning(play)
        for _ in range(step):
            play.tick(0.5)
            play.step()
        play.crash(loss=lambda disk: disk.lose_power(0.0))
        play.begin()
        play.sleep(1500, 5)
        waiting = {rcpt.address for rcpt in play.defedb.values()}
        assert waiting == {b"a@x.test", b"b@y.test"}
        reports = [rcpt for _, _, rcpt in play.delivered]
        assert 1 <= len(reports) <= 2
        seen.add(len(reports))
        play.result = lambda deliver, address: 0
        play.sleep(1000, 5)
        play.check_empty()
    assert 1 in seen
