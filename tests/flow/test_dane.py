"""Recipients whose hosts have TLSA records: sessions, next hosts, how long they wait (M1 3.8 item 13, 14.2)."""
from collections.abc import Callable
from typing import Any

import pytest

from meta1g.mta.dane import Tlsa, TlsaSet
from meta1g.proto.msg_ar import Hop, Protocol, Target
from meta1g.proto.msg_da import Deliver, Delivered, Result, SessionEnded, Stage, TlsLevel
from tests.flow.world import SETTINGS, World, default_route

RECORDS = (Tlsa(3, 1, 1, b"\1" * 32),)
NO_MATCH = Result(0, 451, Stage.DANE, False, "4.7.5", "DANE: no TLSA record matches")
NO_TLS = Result(0, 451, Stage.EHLO, False, "4.7.5", "DANE: TLS is required")


def records(host: str, base: str = "") -> TlsaSet:
    return TlsaSet(25, True, host, base or host, "x.test", RECORDS)


def route(*hosts: str, dane: tuple[TlsaSet, ...] = ()) -> Callable[[bytes], tuple[Target, ...]]:
    """Hosts `name=ip`; not for reports."""
    hops = tuple(Hop(0, ip, name) for name, _, ip in (host.partition("=") for host in hosts))
    return lambda address: default_route(address) if address == b"from@host.test" else (
        Target(Protocol.ESMTP, 600, 0, False, False, address, b"", "", "", "", hops, dane),)


class DaneWorld(World):
    """SMTPC finds that hosts with records are not what these say, by name: their results."""

    def __init__(self, settings: Any = SETTINGS) -> None:
        super().__init__(settings)
        self.bad: dict[str, Result] = {}
        self.breaks: set[str] = set()  # hosts whose handshake fails

    def _deliver(self, peer: Any, message: Deliver) -> None:
        bases = {one.base for rcpt in message.rcpts for one in rcpt.dane} | {
            "" for rcpt in message.rcpts if not rcpt.dane}
        assert len(bases) == 1, "one session is for one TLSA base domain"
        if message.is_new:
            self.sessions.add(message.session)
            self.hops[message.session] = message.hop[0]
            if message.hop[0].name in self.breaks and message.tls_level != TlsLevel.NONE:
                self.delivers.append(message)
                self.sessions.discard(message.session)
                self._put(peer, (peer, SessionEnded(message.session, False, True), 0))
                return
        found = [self.bad[one.host]._replace(idx=rcpt.idx)
                 for rcpt in message.rcpts for one in rcpt.dane if one.host in self.bad]
        if not found:
            super()._deliver(peer, message)
            return
        self.delivers.append(message)
        self._put(peer, (peer, Delivered(message.session, message.task, True, False, False, tuple(found)), 0))


def tried(world: World) -> list[str]:
    return [world.hops[deliver.session].name for deliver in world.delivers]


def test_records_of_the_host_whose_turn_it_is() -> None:
    world = DaneWorld().begin()
    world.route = route("a=192.0.2.1", "b=192.0.2.2", dane=(records("a", "real.a"), records("b")))
    world.bad = {"a": NO_MATCH}
    world.send(b"u@x.test")
    world.run().sleep(2)
    assert [deliver.rcpts[0].dane for deliver in world.delivers] == [(records("a", "real.a"),), (records("b"),)]
    world.check_empty()


@pytest.mark.parametrize("result", [NO_MATCH, NO_TLS])
def test_the_next_host_is_tried(result: Result) -> None:
    world = DaneWorld().begin()
    world.route = route("a=192.0.2.1", "b=192.0.2.2", dane=(records("a"),))
    world.bad = {"a": result}
    world.send(b"u@x.test", b"v@x.test")
    world.run().sleep(2)
    assert tried(world) == ["a", "b"]
    assert len(world.delivered) == 2
    world.check_empty()


def test_a_session_is_for_one_base_domain() -> None:
    """Hosts of several domains at one address may show several certificates; who has no records goes by another."""
    world = DaneWorld().begin()
    hosts = {b"a.test": (records("a"),), b"b.test": (records("b"),), b"c.test": ()}

    def by_domain(address: bytes) -> tuple[Target, ...]:
        domain = address.partition(b"@")[2]
        return route(f"{domain[:1].decode()}=192.0.2.1", dane=hosts[domain])(address)

    world.route = by_domain
    world.send(b"u@a.test", b"v@a.test", b"u@b.test", b"u@c.test")
    world.run().sleep(3)
    assert len(world.delivered) == 4
    assert sorted(len(deliver.rcpts) for deliver in world.delivers) == [1, 1, 2]
    assert len({deliver.session for deliver in world.delivers}) == 3
    world.check_empty()


def test_never_without_tls() -> None:
    """A host whose handshakes fail is given up for the next one; others would go without TLS (M1 14.1)."""
    world = DaneWorld().begin()
    world.breaks = {"a"}
    world.route = route("a=192.0.2.1", "b=192.0.2.2", dane=(records("a"),))
    for _ in range(3):
        world.send(b"u@x.test")
        world.run().sleep(2)
    levels = [deliver.tls_level for deliver in world.delivers if world.hops[deliver.session].name == "a"]
    assert levels == [TlsLevel.ALL, TlsLevel.OLD, TlsLevel.OLD, TlsLevel.OLD]
    assert len(world.delivered) == 3
    world.route = route("a=192.0.2.1")
    world.send(b"w@y.test")
    world.run().sleep(2)
    assert world.delivers[-1].tls_level == TlsLevel.NONE
    world.check_empty()


def test_waits_without_a_next_host_and_is_resolved_anew() -> None:
    world = DaneWorld().begin()
    world.route = route("a=192.0.2.1", dane=(records("a"),))
    world.bad = {"a": NO_MATCH}
    world.send(b"u@x.test")
    world.run().sleep(2)
    (waiting,) = world.defedb.values()
    assert (waiting.code, waiting.stage, waiting.route_expires) == (451, Stage.DANE, 0.0)
    assert any("where=DANE" in line for line in world.log)
    world.route = route("a=192.0.2.1")  # the records are gone
    world.sleep(200, 5)
    assert len(world.delivered) == 1
    world.check_empty()


@pytest.mark.parametrize(("result", "delay", "end"), [(NO_MATCH, 6, 48), (NO_TLS, 4, 24)])
def test_times_of_their_own(result: Result, delay: int, end: int) -> None:
    """DANE_no_match counts where a certificate did not match, the default for all else; in hours."""
    hour = 3600
    world = DaneWorld(SETTINGS._replace(queue_return=24.0 * hour, dsn_delay=4 * hour, dane_return=48.0 * hour,
                                        dane_delay=6.0 * hour)).begin()
    world.route = route("a=192.0.2.1", dane=(records("a"),))
    world.bad = {"a": result}
    world.send(b"u@x.test")
    began = world.run().now
    for until, reports in ((delay - 0.1, 0), (delay + 0.5, 1), (end - 0.1, 1), (end + 0.5, 2)):
        world.sleep(began + until * hour - world.now, 60)
        assert len(world.composed) == reports
    world.check_empty()


def test_another_failure_has_the_usual_time() -> None:
    world = DaneWorld(SETTINGS._replace(dane_return=100 * 3600.0)).begin()
    world.route = route("a=192.0.2.1", dane=(records("a"),))
    world.bad = {"a": NO_MATCH}
    world.send(b"u@x.test")
    world.run().sleep(2 * 3600.0, 60)
    assert len(world.defedb) == 1
    world.route = lambda address: (Target(0, 60, 451, False, False, address, b"", "4.7.5", "lookup failed", "", ()),)
    world.sleep(900, 60)
    (dsn,) = world.composed.values()
    assert b"lookup failed" in dsn.head
