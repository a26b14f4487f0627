"""Which reports a sender gets, as RFC 3461's parameters ask for them."""
import pytest

from meta1g.proto.dsn import Form
from meta1g.proto.msg_ar import Protocol
from tests.flow.world import SETTINGS, World, default_route, target

LATER, NEVER = 450, 550


def world() -> World:
    made = World().begin()
    made.result = lambda deliver, address: NEVER if address.startswith(b"bad") else 0
    return made


@pytest.mark.parametrize(("params", "reported"), [
    (b"", True), (b"NOTIFY=FAILURE", True), (b"NOTIFY=success,failure", True), (b"NOTIFY=NEVER", False),
    (b"NOTIFY=SUCCESS", False), (b"NOTIFY=DELAY", False), (b"ORCPT=rfc822;a@b", True),
])
def test_failure(params: bytes, reported: bool) -> None:
    play = world()
    play.send(b"bad@x.test", params=params)
    play.run().sleep(30)
    assert bool(play.composed) is reported
    assert any("no report is wanted" in line for line in play.log) is not reported
    play.check_empty()


@pytest.mark.parametrize("has_dsn", [True, False])
def test_success_is_reported_unless_the_next_server_does_so(has_dsn: bool) -> None:
    play = world()
    play.has_dsn = has_dsn
    play.send(b"good@x.test", b"bad@x.test", params=b"NOTIFY=SUCCESS")
    play.run().sleep(30)
    assert len(play.delivered) == (1 if has_dsn else 2)
    if not has_dsn:
        (report,) = play.composed.values()
        assert report.header_only
        assert b"Subject: Mail was delivered" in report.head
        assert b"250 2.0.0 <good@x.test>... said so" in report.head
        assert b"bad@x.test" not in report.head
    play.check_empty()


def test_success_and_failure() -> None:
    play = world()
    play.send(b"good@x.test", b"bad@x.test", params=b"NOTIFY=SUCCESS,FAILURE")
    play.run().sleep(30)
    heads = b"".join(report.head for report in play.composed.values())
    assert b"250 2.0.0 <good@x.test>" in heads
    assert b"550 <bad@x.test>" in heads
    play.check_empty()


def test_success_of_deferred_mail_and_after_a_crash() -> None:
    play = world()
    play.result = lambda deliver, address: LATER if play.now < 1_000_100 else 0
    play.send(b"late@x.test", params=b"NOTIFY=SUCCESS")
    play.run().sleep(10)
    play.crash(loss=lambda disk: disk.lose_power(0.0))
    for peer in play.peers[:2] + play.peers[3:]:
        play.connect(peer)
    play.run().sleep(1000, 10)
    assert [rcpt for _, _, rcpt in play.delivered] == [b"late@x.test", b"from@host.test"]
    assert len(play.composed) == 1
    play.check_empty()


def test_nobody_is_told_about_mail_from_nobody() -> None:
    play = world()
    play.send(b"good@x.test", mail=b"", params=b"NOTIFY=SUCCESS")
    play.run().sleep(30)
    assert not play.composed
    play.check_empty()


@pytest.mark.parametrize(("params", "whole"), [
    (b"", True), (b"RET=FULL", True), (b"RET=HDRS", False), (b"ret=hdrs", False)])
def test_how_much_comes_back(params: bytes, whole: bool) -> None:
    play = world()
    play.send(b"bad@x.test", mail_params=params)
    play.run().sleep(30)
    (report,) = play.composed.values()
    assert report.header_only is not whole


def test_parameters_go_on_to_servers_and_members() -> None:
    play = world()
    owner = target(b"c@x.test", "192.0.2.7", sender=b"owner-list@host.test")
    play.route = lambda address: {
        b"one@host.test": (target(b"a@x.test", "192.0.2.7"),),
        b"two@host.test": (target(b"a@x.test", "192.0.2.7"), target(b"b@x.test", "192.0.2.7")),
        b"list@host.test": (owner,),
    }.get(address, default_route(address))
    params = b"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y"
    play.has_dsn = True
    for name in (b"one", b"two", b"list"):
        play.send(name + b"@host.test", params=params, mail_params=b"ENVID=1")
        play.run().sleep(10)
    found = [(rcpt.address, rcpt.params) for deliver in play.delivers if deliver.mail for rcpt in deliver.rcpts]
    members = b"NOTIFY=FAILURE ORCPT=rfc822;x@y"
    assert found == [(b"a@x.test", params), (b"a@x.test", members), (b"b@x.test", members), (b"c@x.test", b"")]
    assert {deliver.mail_params for deliver in play.delivers if deliver.mail} == {b"ENVID=1"}


def test_whole_message_comes_back_once() -> None:
    play = World(SETTINGS._replace(dsn_errors_max=1)).begin()
    play.result = lambda deliver, address: NEVER if address.startswith(b"bad") else 0
    play.send(b"bad1@x.test", b"bad2@x.test", b"bad3@x.test")
    play.run().sleep(30)
    assert [report.header_only for report in play.composed.values()] == [False, True, True]
    play.send(b"bad1@x.test", b"bad2@x.test", mail_params=b"RET=FULL")
    play.run().sleep(30)
    assert [report.header_only for report in play.composed.values()][3:] == [False, False]
    play.check_empty()


def test_whole_message_comes_back_although_the_first_try_to_write_it_failed() -> None:
    play = world()
    play.compose_error = "full"
    play.send(b"bad@x.test")
    play.run().sleep(5)
    play.compose_error = ""
    play.sleep(30)
    (report,) = play.composed.values()
    assert not report.header_only
    play.check_empty()


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize(("is_8bit", "is_utf8"), [(False, False), (True, False), (True, True)])
def test_what_a_report_needs_of_the_next_server(form: Form, is_8bit: bool, is_utf8: bool) -> None:
    play = World(SETTINGS._replace(dsn_form=form)).begin()
    play.result = lambda deliver, address: NEVER if deliver.mail else 0
    play.send(b"bad@x.test", is_8bit=is_8bit, is_utf8=is_utf8)
    play.run().sleep(30)
    deliver = play.delivers[-1]
    assert (deliver.mail, deliver.is_8bit) == (b"", is_8bit)
    assert deliver.is_utf8 is (is_utf8 and form is not Form.PLAIN)


@pytest.mark.parametrize(("has_dsn", "protocol", "action"), [
    (False, Protocol.ESMTP, b"relayed"), (False, Protocol.LMTP, b"delivered"), (True, Protocol.ESMTP, b"")])
def test_success_as_rfc_3464_says(has_dsn: bool, protocol: int, action: bytes) -> None:
    play = World(SETTINGS._replace(dsn_form=Form.RFC)).begin()
    play.has_dsn = has_dsn
    play.route = lambda address: tuple(target._replace(protocol=protocol) for target in default_route(address))
    play.send(b"good@x.test", params=b"NOTIFY=SUCCESS")
    play.run().sleep(30)
    heads = b"".join(report.head for report in play.composed.values())
    assert (b"\r\nAction: " + action + b"\r\nStatus: 2.0.0\r\n" in heads) is bool(action)
    play.check_empty()


def test_double_bounce_has_the_header_only_and_no_ids() -> None:
    play = World(SETTINGS._replace(dsn_form=Form.RFC)).begin()
    play.result = lambda deliver, address: NEVER if address != b"double@host.test" else 0
    play.send(b"a@x.test", mail_params=b"ENVID=1")
    play.run().sleep(30)
    first, second = play.composed.values()
    assert (first.header_only, second.header_only) == (False, True)
    assert b"Original-Envelope-Id: 1\r\n" in first.head
    assert b"Original-Envelope-Id" not in second.head
    assert b"Content-Type: text/rfc822-headers\r\n" in second.head
    assert [rcpt for _, _, rcpt in play.delivered] == [b"double@host.test"]
    play.check_empty()


def expanding(members: int, **changes: object) -> World:
    play = World(SETTINGS._replace(dsn_form=Form.RFC)).begin()
    made = [target(b"%d@x.test" % number, "192.0.2.7", **changes) for number in range(members)]  # type: ignore[arg-type]
    play.route = lambda address: tuple(made) if address == b"list@host.test" else default_route(address)
    return play


@pytest.mark.parametrize(("params", "members", "sender", "action"), [
    (b"NOTIFY=SUCCESS", 2, None, b"expanded"), (b"NOTIFY=SUCCESS", 1, b"owner-list@host.test", b"delivered"),
    (b"NOTIFY=FAILURE", 2, None, b""), (b"", 2, None, b""), (b"NOTIFY=NEVER", 2, None, b"")])
def test_success_of_an_alias(params: bytes, members: int, sender: bytes | None, action: bytes) -> None:
    play = expanding(members, sender=sender)
    play.send(b"list@host.test", params=params)
    play.run().sleep(30)
    assert len(play.delivered) == members + bool(action)
    heads = [report.head for report in play.composed.values()]
    assert [b"\r\nFinal-Recipient: rfc822; list@host.test\r\nAction: " + action + b"\r\nStatus: 2.1.5\r\n" in head
            for head in heads] == [True] * bool(action)
    play.check_empty()


def test_members_fail_after_their_alias_was_expanded() -> None:
    play = expanding(2)
    play.result = lambda deliver, address: NEVER if address == b"1@x.test" else 0
    play.send(b"list@host.test", params=b"NOTIFY=SUCCESS,FAILURE")
    play.run().sleep(30)
    heads = b"".join(report.head for report in play.composed.values())
    assert heads.count(b"\r\nAction: expanded\r\n") == 1
    assert heads.count(b"\r\nAction: failed\r\n") == 1
    play.check_empty()


@pytest.mark.parametrize("is_late", [False, True])
def test_crash_at_every_step_of_an_expansion(is_late: bool) -> None:
    for step in range(40):
        play = expanding(2)
        members = play.route
        if is_late:
            play.route = lambda address: (target(address, code=LATER),) if address.startswith(b"list") else (
                default_route(address))
        tag = play.send(b"list@host.test", params=b"NOTIFY=SUCCESS")
        if is_late:
            play.run().sleep(50)
        play.route = members
        play.tick(20)
        for _ in range(step):
            play.step()
        play.crash(loss=lambda disk: disk.lose_power(0.0))
        play.begin().sleep(300)
        if tag in play.acks:
            reports = [rcpt for _, mail, rcpt in play.delivered if not mail]
            assert 1 <= len(reports) <= 1 + sum("status=uncertain" in line for line in play.log)
            assert {rcpt for _, mail, rcpt in play.delivered if mail} == {b"0@x.test", b"1@x.test"}
        play.check_empty()
