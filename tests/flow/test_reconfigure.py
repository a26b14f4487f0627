"""A configuration that changes while mail is on its way, and an SMTP client that leaves."""
import pytest

from meta1g.proto.msg_da import Deliver, Ready, Released
from meta1g.qmgr.host_conf import HostConf
from meta1g.qmgr.reconfigure import Configured
from tests.flow.world import Peer, World


@pytest.fixture
def told(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Peer, object]]:
    """What QMGR says to its peers."""
    found: list[tuple[Peer, object]] = []
    was = world._told

    def note(peer: Peer, message: object, tag: int) -> None:
        found.append((peer, message))
        if not isinstance(message, Released):
            was(peer, message, tag)

    monkeypatch.setattr(world, "_told", note)
    return found


def test_settings_count_from_then_on(world: World) -> None:
    """What waits is decided about by the new ones; what counts after a restart is told; idle sessions end."""
    world.send(b"a@x.test")
    world.run()
    assert world.q.idle and world.sessions
    settings = world.q.settings._replace(retry_delay_min=5, retry_delay_max=5)
    world.feed(Configured(settings, HostConf({}), ("DEFEDB.page_size",)))
    world.run()
    assert not world.q.idle and not world.sessions
    assert (world.q.reloads, world.q.late, world.q.maps_changed) == (1, ("DEFEDB.page_size",), world.now)
    world.result = lambda deliver, address: 450
    world.send(b"a@x.test")
    world.run()
    world.result = lambda deliver, address: 0
    world.sleep(8)
    assert len(world.delivered) == 2
    world.check_empty()


def test_a_client_that_leaves(world: World, told: list[tuple[Peer, object]]) -> None:
    """It finishes what it has; new sessions are another's, and none is opened again at the old one."""
    world.send(b"a@x.test")
    world.run()
    assert world.q.idle
    world.silent.add(world.smtpc)
    world.send(b"b@y.test")
    world.run()
    world.feed((world.smtpc, Ready(0), 0))
    world.run()
    assert (world.smtpc, Released(1)) in told and not world.q.idle
    assert [task.is_told for task in world.q.tasks.values()] == [True]
    told.clear()
    world.send(b"c@z.test")
    world.run()
    assert not any(peer is world.smtpc for peer, _ in told), "it gets nothing more"
    world.silent.clear()
    world.feed((world.smtpc, Ready(20), 0))  # its successor, say
    world.sleep(700)
    assert sorted(entry[2] for entry in world.delivered) == [b"a@x.test", b"b@y.test", b"c@z.test"]
    world.check_empty()


def test_a_client_that_leaves_is_told_of_all_first(world: World, told: list[tuple[Peer, object]]) -> None:
    """An attempt that IBDB is yet to put on record is still the leaving client's: it must not go without it."""
    world.send(b"a@x.test")
    while not world.q.tasks:
        assert world.step()
    assert [task.is_told for task in world.q.tasks.values()] == [False]
    world.feed((world.smtpc, Ready(0), 0))
    world.run()
    kinds = [type(message) for peer, message in told if peer is world.smtpc]
    assert kinds.index(Released) > kinds.index(Deliver)
    assert len(world.delivered) == 1
    world.check_empty()
