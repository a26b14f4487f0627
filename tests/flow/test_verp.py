"""Whose mail goes out with which sender, and who hears of failures (M1 3.8 item 18, 3.14)."""
import pytest

from meta1g.qmgr.state import Verp
from meta1g.qmgr.verp import replaced
from tests.flow.world import SETTINGS, World, default_route, target

FROM = b"from@host.test"


@pytest.mark.parametrize(("mail", "rcpt", "expected"), [
    (b"lm@mail", b"lr@rcpt", b"lm+lr=rcpt@mail"),
    (b"", b"lr@rcpt", b""),
    (b"postmaster", b"lr@rcpt", b"postmaster"),
    (b"lm@mail", b"postmaster", b"lm+postmaster@mail"),
    (b'"l m"@mail', b"lr@rcpt", b'"l m+lr=rcpt"@mail'),
    (b"lm@mail", b'"a\\"b@c"@rcpt', b'"lm+a\\"b@c=rcpt"@mail'),
    (b"lm@mail", b"lr@[192.0.2.1]", b'"lm+lr=[192.0.2.1]"@mail'),
    (b"lm@mail", b"l" * 200 + b"@" + b"r" * 60, b"lm@mail"),
])
def test_replacement(mail: bytes, rcpt: bytes, expected: bytes) -> None:
    assert replaced(Verp(), mail, rcpt) == expected


def test_delimiters() -> None:
    assert replaced(Verp("", b"-", b"_"), b"lm@mail", b"lr@rcpt") == b"lm-lr_rcpt@mail"


def play(when: str) -> World:
    world = World(SETTINGS._replace(verp=Verp(when))).begin()
    owned = [target(name + b"@x.test", "192.0.2.7", sender=b"owner-list@host.test")._replace(is_verp=True)
             for name in (b"a", b"bad")]
    marked = target(b"c@x.test", "192.0.2.7")._replace(is_verp=True)
    world.route = lambda address: {b"owned@host.test": tuple(owned), b"marked@host.test": (marked,)}.get(
        address, default_route(address))
    world.result = lambda deliver, address: 550 if address.startswith(b"bad") else 0
    return world


def senders(world: World) -> dict[bytes, bytes]:
    return {rcpt.address: deliver.mail for deliver in world.delivers for rcpt in deliver.rcpts}


@pytest.mark.parametrize("params", [b"XVERP", b"ENVID=1 xverp"])
def test_a_client_asks_for_it(params: bytes) -> None:
    world = play("")
    world.send(b"a@x.test", b"b@x.test", mail_params=params)
    world.send(b"a@y.test", b"b@y.test")
    world.run().sleep(5)
    assert [len(deliver.rcpts) for deliver in world.delivers] == [1, 1, 2]
    assert senders(world) == {
        b"a@x.test": b"from+a=x.test@host.test", b"b@x.test": b"from+b=x.test@host.test",
        b"a@y.test": FROM, b"b@y.test": FROM}
    world.check_empty()


@pytest.mark.parametrize(("when", "of_owned", "of_marked", "of_plain"), [
    ("", b"owner-list+a=x.test@host.test", b"from+c=x.test@host.test", FROM),
    ("always", b"owner-list+a=x.test@host.test", b"from+c=x.test@host.test", b"from+d=x.test@host.test"),
    ("never", b"owner-list@host.test", FROM, FROM),
])
def test_lists(when: str, of_owned: bytes, of_marked: bytes, of_plain: bytes) -> None:
    world = play(when)
    world.send(b"owned@host.test", b"marked@host.test", b"d@x.test")
    world.run().sleep(30)
    found = senders(world)
    assert (found[b"a@x.test"], found[b"c@x.test"], found[b"d@x.test"]) == (of_owned, of_marked, of_plain)
    (report,) = world.dsns.values()
    assert report.rcpts[0].address == of_owned.replace(b"+a=", b"+bad=")  # who is told of bad@x.test
    world.check_empty()


def test_failures_of_two_senders_make_two_reports() -> None:
    world = play("")
    world.send(b"owned@host.test", b"bad@y.test")
    world.run().sleep(30)
    assert sorted(report.rcpts[0].address for report in world.dsns.values()) == [
        FROM, b"owner-list+bad=x.test@host.test"]
    world.check_empty()


def test_it_outlives_a_deferral() -> None:
    world = play("")
    world.result = lambda deliver, address: 450 if world.now < 1_000_060 else 0
    world.send(b"marked@host.test", b"d@x.test", mail_params=b"XVERP")
    world.run().sleep(200)
    assert {(sender, rcpt) for _, sender, rcpt in world.delivered} == {
        (b"from+c=x.test@host.test", b"c@x.test"), (b"from+d=x.test@host.test", b"d@x.test")}
    world.check_empty()
