"""Sessions of the SMTP servers follow what the queues can take (M1 9.1), in whole stories."""
import json

from meta1g.proto.msg_ss import SeNew, Statistics
from meta1g.qmgr.effects import DiskFree
from meta1g.qmgr.on_ctl import status
from tests.flow.world import SETTINGS, World

SMALL_IQDB = SETTINGS._replace(iqdb_entries_max=100, aq_entries_max=10_000)


def many(world: World, count: int, first: int = 0) -> list[int]:
    """Transactions with ten recipients each, which IBDB has not taken yet; their tags."""
    return [world.send(*(b"r%d@x%d.test" % (n, i) for i in range(10))) for n in range(first, first + count)]


def sessions(world: World) -> list[int]:
    return [throttle.sessions_max for throttle in world.throttles]


def test_full_iqdb_refuses_until_ibdb_has_taken_some() -> None:
    world = World(SMALL_IQDB).begin()
    tags = many(world, 12)
    assert [world.acks[tag].code for tag in tags if tag in world.acks] == [452, 452]
    world.tick(1)
    assert (world.throttles[-1].sessions_max, world.throttles[-1].text) == (1, "queue")
    world.run().sleep(20)
    assert (world.throttles[-1].sessions_max, world.throttles[-1].text) == (SETTINGS.smtps_sessions_max, "")
    (tag,) = many(world, 1, 50)
    world.run()
    assert world.acks[tag].code == 0
    assert len(world.delivered) == 110
    world.check_empty()


def test_a_transaction_larger_than_iqdb_goes_through_alone() -> None:
    world = World(SMALL_IQDB).begin()
    tag = world.send(*(b"r%d@x.test" % n for n in range(150)))
    world.run()
    assert world.acks[tag].code == 0
    world.check_empty()


def test_sessions_fall_in_proportion_and_rise_in_steps() -> None:
    world = World(SMALL_IQDB).begin()
    world.tick(1)
    seen = len(world.throttles)
    for n in range(9):
        many(world, 1, n)
        world.tick(1)
    assert sessions(world)[seen:] == [40, 30, 20, 10]  # nothing is told while less than half is used
    seen = len(world.throttles)
    world.run().sleep(20)
    assert sessions(world)[seen:] == [15, 20, 25, 30, 35, 40, 45, 50]
    assert all(throttle.text == "" for throttle in world.throttles)
    world.check_empty()


def test_small_changes_and_the_edge_of_full_do_not_swing() -> None:
    world = World(SMALL_IQDB._replace(smtps_sessions_max=1000)).begin()
    many(world, 10)
    world.tick(1)
    assert world.throttles[-1].text == "queue"
    world.step("ibdb")  # one transaction leaves: nine tenths are used, and it stays closed
    for _ in range(5):
        world.tick(1)
    assert (world.throttles[-1].sessions_max, world.throttles[-1].text) == (200, "queue")
    seen = len(world.throttles)
    for _ in range(2):
        world.send(b"one@x.test")
        world.tick(1)
    assert len(world.throttles) == seen
    for _ in range(2):
        world.step("ibdb")
    world.tick(1)
    assert world.throttles[-1].text == ""
    world.run().sleep(20)
    world.check_empty()


def test_new_server_is_told(world: World) -> None:
    world.disconnect(world.smtpc)
    many(world, 40)
    world.run().sleep(3)
    assert world.throttles[-1].sessions_max == 20  # four fifths of AQ are used
    world.connect(world.smtps2)
    seen = len(world.throttles)
    world.run().sleep(1)
    assert sessions(world)[seen:] == [20, 20]
    world.connect(world.smtpc)
    world.run().sleep(20)
    world.check_empty()


def test_disk_and_queue_each_say_why(world: World) -> None:
    world.disconnect(world.smtpc)
    many(world, 50)
    world.run().sleep(1)
    assert world.throttles[-1].text == "queue"
    world.feed(DiskFree(50))
    assert world.throttles[-1].text == "disk space"
    world.feed(DiskFree(1000))
    assert world.throttles[-1].text == "queue"
    world.connect(world.smtpc)
    world.run().sleep(20)
    assert world.throttles[-1].text == ""
    world.check_empty()


def test_status_shows_what_servers_count_and_why_sessions_were_refused(world: World) -> None:
    for n in range(12):
        world.feed((world.smtps, SeNew(f"S{n:018}", "192.0.2.1", ""), n + 1))
    world.feed((world.smtps, Statistics('{"octets": 5}'), 0))
    found = status(world.q, world.now)
    assert json.loads(json.dumps(found))["smtps"] == [
        {"process": 0, "pid": world.smtps.hello.pid, "connections": 10, "octets": 5}]
    counters = found["counters"]
    assert isinstance(counters, dict)
    assert (counters["sessions"], counters["refused"], counters["refused_open"], counters["refused_rate"]) == (
        10, 2, 2, 0)
