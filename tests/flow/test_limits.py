"""Limits of single servers and domains, sources and session features, as qmgr_conf gives them (M1 3.8.1)."""
import random

import pytest

from meta1g.qmgr.host_conf import HostConf
from meta1g.qmgr.occ import OutLimits
from tests.flow.world import SETTINGS, World, target

LIMITED = SETTINGS._replace(
    limit_classes={"low": OutLimits(1, 2, 3)}, sources={"net10": ("10.0.0.1", "10.0.0.2", "2001:db8::1")},
    looks_up_sessions=True)
ENTRIES = {
    b"ocm:192.0.2.1": b"3", b"oci:192.0.2.1": b"3", b"ocr:192.0.2.2": b"4",
    b"smtpc_conf_rcpt_domain:low.test": b"connection_limits = low;",
    b"smtpc_conf_mail:bulk.test": b"source = net10;",
    b"smtpc_session_conf:192.0.2.5": b"session_feature = plain;",
    b"smtpc_session_conf:192.0.2.6": b"session_feature = palin;",
}
IPS = {b"a.test": "192.0.2.1", b"rate.test": "192.0.2.2", b"low.test": "192.0.2.3", b"plain.test": "192.0.2.5",
       b"wrong.test": "192.0.2.6"}


@pytest.fixture
def limited() -> World:
    world = World(LIMITED).begin()
    world.q.take_hosts(HostConf(ENTRIES, ["low"], ["net10"], ["plain"]))
    world.route = lambda address: (target(address, IPS[address.partition(b"@")[2]]),)
    return world


def _most_open(world: World, count: int, domain: bytes) -> int:
    most = 0
    for n in range(count):
        world.send(b"r%d@%b" % (n, domain))
        world.step()
        most = max(most, *(entry.occ.open for entry in world.q.sites.values()), 0)
    world.run()
    return most


def test_connections_to_a_host(limited: World) -> None:
    assert _most_open(limited, 50, b"a.test") == 3
    limited.sleep(5)
    assert len(limited.delivered) == 50


def test_connections_by_domain_of_the_recipient(limited: World) -> None:
    assert _most_open(limited, 50, b"low.test") == 2
    limited.sleep(5)
    assert len(limited.delivered) == 50
    new = [deliver for deliver in limited.delivers if deliver.is_new]
    assert len(new) >= 50 / 3  # transactions in a session


def test_connections_a_minute(limited: World) -> None:
    limited.q.settings = LIMITED._replace(reuses_connections=False)
    for n in range(10):
        limited.send(b"r%d@rate.test" % n)
    limited.run()
    assert len(limited.delivered) == 4
    limited.sleep(59)
    assert len(limited.delivered) == 4
    limited.sleep(3)
    assert len(limited.delivered) == 8
    limited.sleep(60)
    assert len(limited.delivered) == 10
    limited.check_empty()


def test_all_of_a_source_are_used_and_keep_to_the_family(limited: World) -> None:
    limited.q.settings = LIMITED._replace(reuses_connections=False)
    limited.q.luck = random.Random(1).random
    for n in range(20):
        limited.send(b"r%d@a.test" % n, mail=b"news@bulk.test")
    limited.send(b"x@a.test", mail=b"me@other.test")
    limited.run()
    sources = {deliver.mail: set[str]() for deliver in limited.delivers}
    for deliver in limited.delivers:
        sources[deliver.mail].add(deliver.source)
    assert sources == {b"news@bulk.test": {"10.0.0.1", "10.0.0.2"}, b"me@other.test": {""}}


def test_sessions_of_a_source_are_for_its_mail_only(limited: World) -> None:
    """Both kinds of mail wait for the same host, whose limit counts all sessions together."""
    for n in range(20):
        limited.send(b"r%d@a.test" % n, mail=b"news@bulk.test" if n % 2 else b"me@other.test")
        limited.step()
        assert sum(site.open for site in limited.q.sites.values()) <= 3
    limited.run().sleep(5)
    assert len(limited.delivered) == 20
    source = {}
    for deliver in limited.delivers:
        if deliver.is_new:
            source[deliver.session] = deliver.source
        assert bool(source[deliver.session]) is (deliver.mail == b"news@bulk.test")
    limited.check_empty()


def test_features_and_their_mistakes(limited: World) -> None:
    limited.send(b"a@plain.test")
    limited.send(b"a@wrong.test")
    limited.run()
    assert [deliver.feature for deliver in limited.delivers] == ["plain"]
    assert any("Configuration for this host has a mistake" in line for line in limited.log)
    limited.q.take_hosts(HostConf({}))
    limited.sleep(100)
    assert len(limited.delivered) == 2


def test_a_limit_changes_by_reading_the_map_again(limited: World) -> None:
    assert _most_open(limited, 30, b"a.test") == 3
    limited.q.take_hosts(HostConf({b"ocm:192.0.2.1": b"1"}))
    limited.sleep(5)
    assert _most_open(limited, 30, b"a.test") == 1
    assert len(limited.delivered) == 60


def test_who_is_missing_is_said_once() -> None:
    world = World(SETTINGS._replace(wait_for_client=4.0)).begin()
    world.disconnect(world.smtpc)
    world.sleep(3)
    assert not any("status=not there" in line for line in world.log)
    world.sleep(60)
    assert ["peer=smtpc, status=not there" in line for line in world.log].count(True) == 1
    world.connect(world.smtpc)
    world.sleep(2)
    world.disconnect(world.smtpc)
    world.sleep(60)
    assert ["peer=smtpc, status=not there" in line for line in world.log].count(True) == 2
