"""Flush, hold and release in whole stories (M1 4.7.3)."""
import json
from typing import Any

import pytest

from meta1g.mta.ids import rcpt_id
from meta1g.proto.msg_ar import Target
from meta1g.proto.smtp.params import quarantining
from meta1g.qmgr.state import RState
from tests.flow.world import SETTINGS, World, target

HOSTS = {b"x.test": "192.0.2.1", b"y.test": "192.0.2.2"}


def route(address: bytes) -> tuple[Target, ...]:
    return (target(address, HOSTS.get(address.rpartition(b"@")[2], "192.0.2.9")),)


@pytest.fixture
def down(world: World) -> World:
    """Two dead sites with three messages for each, all deferred."""
    return deferring(world)


@pytest.fixture
def long(world: World) -> World:
    """The same, and EDBC has room for some only."""
    world = deferring(World(edbc_max=4).begin())
    assert not world.q.edbc.is_whole
    return world


def deferring(world: World) -> World:
    world.route = route
    world.host_fails = lambda hop: True
    for n in range(3):
        world.send(b"a%d@x.test" % n, b"b%d@y.test" % n)
    world.run()
    assert len(world.defedb) == 6
    assert world.delivered == []
    return world


def told(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.answers[-1].text)
    return found


def arrived(world: World) -> list[bytes]:
    return sorted(address for _, _, address in world.delivered)


def test_flush_all_wakes_resting_hosts(down: World) -> None:
    down.host_fails = lambda hop: False
    down.control("flush")
    down.run()
    assert told(down) == {"due": 6}
    assert len(down.delivered) == 6
    down.check_empty()


@pytest.mark.parametrize(("kind", "word", "expected"), [
    ("site", "192.0.2.1", [b"a0@x.test", b"a1@x.test", b"a2@x.test"]),
    ("site", "X.test", [b"a0@x.test", b"a1@x.test", b"a2@x.test"]),
    ("to", "?1@*", [b"a1@x.test", b"b1@y.test"]),
    ("site", "nowhere.test", []),
])
def test_flush_of_some(down: World, kind: str, word: str, expected: list[bytes]) -> None:
    down.host_fails = lambda hop: False
    down.control("flush", **{kind: [word]})
    down.run()
    assert told(down) == {"due": len(expected)}
    assert arrived(down) == expected
    assert all(rcpt.tries == 1 for rcpt in down.defedb.values())
    down.sleep(700)
    assert len(down.delivered) == 6, "the others come in their own time"
    down.check_empty()


def test_flush_by_id(down: World) -> None:
    down.host_fails = lambda hop: False
    (ta, idx), entry = next(iter(down.defedb.items()))
    down.control("flush", id=[rcpt_id(ta, idx)])
    down.run()
    assert arrived(down) == [entry.address]


def test_flush_of_what_is_on_its_way_to_defedb(world: World) -> None:
    """It was just refused: the flush is meant for it too, though EDBC does not know it yet."""
    world.route = route
    world.host_fails = lambda hop: True
    world.send(b"a@x.test")
    while not any(rcpt.state is RState.STORING for ta in world.q.aq.values() for rcpt in ta.rcpts.values()):
        assert world.step()
    world.control("flush")
    world.host_fails = lambda hop: False
    world.run()
    assert told(world) == {"due": 1}
    assert arrived(world) == [b"a@x.test"]
    world.check_empty()


def test_flush_in_pieces(down: World) -> None:
    """A queue too long for one look."""
    down.scan_max = 1
    down.host_fails = lambda hop: False
    down.control("flush", to=["@x.test"])
    down.run()
    assert told(down) == {"due": 3}
    assert len(down.delivered) == 3


@pytest.mark.parametrize(("wanted", "expected"), [({"to": ["@x.test"]}, 3), ({}, 6)])
def test_flush_of_more_than_is_brought_forward_at_once(
        long: World, wanted: dict[str, list[str]], expected: int) -> None:
    """The rest follows when the first are on their way; those beyond EDBC are found too."""
    long.scan_max = 1
    long.host_fails = lambda hop: False
    long.control("flush", **wanted)
    long.run()
    assert told(long) == {"due": 1, "more": True}
    assert len(long.answers) == 1
    long.sleep(expected + 2)
    assert len(long.delivered) == expected
    long.sleep(700)
    assert len(long.delivered) == 6
    assert len(long.answers) == 1
    long.check_empty()


def test_too_many_commands_wait(long: World) -> None:
    long.scan_max = 1
    long.control("hold")
    long.run()
    for _ in range(20):
        long.control("flush", to=["*"])
        long.run()
    assert "too many" in told(long)["error"]


def test_hold_of_all_keeps_new_and_old_mail(down: World) -> None:
    down.host_fails = lambda hop: False
    down.control("hold")
    down.run()
    assert told(down) == {"holds": {"all": True, "sites": []}}
    tried = len(down.delivers)
    down.send(b"new@x.test")
    down.run().sleep(2000, 50)
    assert len(down.delivers) == tried
    assert sorted(rcpt.tries for rcpt in down.defedb.values()) == [0, 1, 1, 1, 1, 1, 1]
    down.control("flush")
    down.run()
    assert told(down) == {"due": 7, "holds": {"all": True, "sites": []}}
    assert len(down.delivers) == tried
    down.control("release")
    down.run().sleep(2)
    assert told(down) == {"holds": {"all": False, "sites": []}}
    assert len(down.delivered) == 7
    down.check_empty()


@pytest.mark.parametrize("site", ["x.test", "192.0.2.1"])
def test_hold_of_a_site(world: World, site: str) -> None:
    world.route = route
    world.control("hold", site=[site])
    world.send(b"a@x.test", b"b@y.test")
    world.run().sleep(2000, 50)
    assert arrived(world) == [b"b@y.test"]
    (entry,) = world.defedb.values()
    assert (entry.address, entry.tries, entry.code) == (b"a@x.test", 0, 0)
    world.control("release", site=[site.upper()])
    world.run()
    assert told(world) == {"holds": {"all": False, "sites": []}, "due": 1}
    assert arrived(world) == [b"a@x.test", b"b@y.test"]
    world.check_empty()


def test_a_hold_takes_back_what_waits_for_a_session_only(world: World) -> None:
    world.silent.add(world.smtpc)
    for n in range(5):
        world.send(b"r%d@x.test" % n)
    world.run()
    under_way = len(world.q.tasks)
    assert 0 < under_way < 5
    world.control("hold", site=["x.test"])
    world.run()
    assert len(world.q.tasks) == under_way
    assert len(world.defedb) == 5 - under_way
    assert not any(site.waiting for site in world.q.sites.values())


def test_held_mail_does_not_grow_too_old(world: World) -> None:
    world.control("hold")
    world.send(b"a@x.test")
    world.run().sleep(SETTINGS.queue_return * 2, 60)
    world.control("release")
    world.run().sleep(2)
    assert (arrived(world), world.composed) == ([b"a@x.test"], {})
    world.check_empty()


def test_release_right_after_the_recipient_was_parked(world: World) -> None:
    """DEFEDB has it, IBDB does not say so yet: the release finds it all the same."""
    world.control("hold", site=["x.test"])
    world.run()
    world.send(b"a@x.test")
    while not world.defedb:
        world.step()
    world.control("release", site=["x.test"])
    world.run()
    assert arrived(world) == [b"a@x.test"]


def test_a_hold_outlives_qmgr(world: World) -> None:
    world.control("hold", site=["x.test"])
    world.send(b"a@x.test")
    world.run()
    world.crash()
    for peer in (world.smar, world.smtps, world.smtpc):
        world.connect(peer)
    world.run().sleep(1000, 50)
    assert world.delivered == []
    world.control("release", site=["x.test"])
    world.run()
    assert len(world.delivered) == 1
    world.check_empty()


def test_fresh_mail_is_held_after_a_crash(world: World) -> None:
    world.silent.add(world.smar)
    world.send(b"a@x.test")
    world.run()
    world.control("hold")
    world.run()
    world.crash()
    world.silent.clear()
    for peer in (world.smar, world.smtps, world.smtpc):
        world.connect(peer)
    world.run().sleep(1000, 50)
    assert (world.delivers, len(world.defedb)) == ([], 1)
    world.control("release")
    world.run().sleep(2)
    assert len(world.delivered) == 1
    world.check_empty()


def test_a_hold_that_can_not_be_stored_counts_and_says_so(world: World) -> None:
    world.holds_error = "No space left on device"
    world.control("hold")
    world.run()
    assert world.answers[-1].is_error
    assert "not for longer than this QMGR runs: No space" in told(world)["error"]
    world.send(b"a@x.test")
    world.run()
    assert world.delivered == []


@pytest.mark.parametrize(("name", "arguments", "reason"), [
    ("hold", {"to": ["a@b"]}, "sites can be held"), ("hold", {"site": [""]}, "a site is"),
    ("release", {"site": ["x.test"]}, "not held: x.test"), ("flush", {"sites": ["x"]}, "the arguments are"),
    ("flush", {"site": [1]}, "the arguments are"), ("hold", {"site": ["x" * 256]}, "a site is")])
def test_wrong_commands(world: World, name: str, arguments: dict[str, Any], reason: str) -> None:
    world.control(name, **arguments)
    world.run()
    assert world.answers[-1].is_error
    assert reason in told(world)["error"]
    assert not world.q.holds


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize(("command", "dsns"), [("delete", 0), ("expire", 1)])
def test_giving_up(long: World, command: str, dsns: int, is_held: bool) -> None:
    """Some deferred recipients end, with or without a report, also while all is held; the others go on."""
    long.scan_max = 1
    if is_held:
        long.control("hold")
        long.run()
    (ta, idx), entry = next(item for item in long.defedb.items() if item[1].address == b"b1@y.test")
    long.control(command, id=[rcpt_id(ta, idx)])
    long.run().sleep(10)
    assert told(long)["due"] == 1
    assert any("by an administrator" in line and entry.address.decode() in line for line in long.log)
    assert (ta, idx) not in long.defedb
    assert len(long.dsns) == dsns
    long.control(command)
    assert "say whom" in told(long)["error"]
    long.control(command, to=["@x.test"])
    long.run().sleep(20)
    long.host_fails = lambda hop: False
    long.control("release")
    long.run().sleep(1200, 10)
    assert [rcpt for rcpt in arrived(long) if rcpt != b"from@host.test"] == [b"b0@y.test", b"b2@y.test"]
    assert not long.q.verdicts
    long.check_empty()


def test_what_is_being_worked_on_is_given_up(world: World) -> None:
    """One waits at its site, one for SMAR, one is with the server: that one is delivered."""
    world.route = route
    world.silent.add(world.smtpc)
    world.send(*(b"u%d@x.test" % n for n in range(40)))
    world.run()
    waiting = [rcpt for site in world.q.sites.values() for _, rcpts in site.waiting for rcpt in rcpts]
    assert waiting
    world.silent.add(world.smar)
    world.send(b"other@x.test")
    world.run()
    world.control("delete", to=["*"])
    world.run()
    assert told(world) == {"due": 41}
    world.silent.clear()
    world.disconnect(world.smtpc)
    world.connect(world.smtpc)
    world.disconnect(world.smar)
    world.connect(world.smar)
    world.run().sleep(1200, 10)
    assert world.delivered == []
    assert sum("deleted by an administrator" in line for line in world.log) == 41
    world.check_empty()


def quarantined(world: World) -> None:
    world.send(b"a@x.test", b"b@x.test", params=quarantining(b"NOTIFY=NEVER", "a virus, perhaps"))
    world.run().sleep(SETTINGS.queue_return * 2, 600)
    assert not world.delivers
    assert {rcpt.text for rcpt in world.defedb.values()} == {"Quarantine: a virus, perhaps"}
    assert [rcpt.tries for rcpt in world.defedb.values()] == [0, 0]


def test_quarantine_lasts_until_it_is_released(world: World) -> None:
    quarantined(world)
    (ta,) = {rcpt.ta for rcpt in world.defedb.values()}
    world.control("release")
    world.run().sleep(SETTINGS.retry_delay_max + 60, 600)
    assert not world.delivers
    world.control("release", id=[ta])
    world.run().sleep(2)
    assert told(world) == {"due": 2}
    assert arrived(world) == [b"a@x.test", b"b@x.test"]
    world.check_empty()


def test_quarantine_outlives_qmgr_and_can_be_deleted(world: World) -> None:
    quarantined(world)
    world.crash()
    for peer in (world.smar, world.smtps, world.smtpc):
        world.connect(peer)
    world.run().sleep(SETTINGS.retry_delay_max + 60, 600)
    assert not world.delivers
    world.control("delete", to=["a@x.test"])
    world.control("release", to=["b@x.test"])
    world.run().sleep(2)
    assert arrived(world) == [b"b@x.test"]
    world.check_empty()
