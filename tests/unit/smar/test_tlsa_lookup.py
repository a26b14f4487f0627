"""Which hosts must be as TLSA records say, and which can't be used (M1 14.2, RFC 7672 2.2)."""
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from play import EXPIRES, SETUP, Play, keep_order

from meta1g.mta.dane import Tlsa, TlsaSet
from meta1g.proto.msg_ar import Target
from meta1g.smar.ask import DnsAnswer, Mx, Rtype, Status
from meta1g.smar.dane import ALWAYS, NEVER, OCTETS_MAX, RECORDS_MAX, SECURE, bounded
from meta1g.smar.resolve import resolve

RECORD = Tlsa(3, 1, 1, b"\1" * 32)
SECOND = Tlsa(2, 0, 1, b"\2" * 32)


def a(ip: str, *, secure: bool = True, alias: str = "") -> DnsAnswer:
    return DnsAnswer(Status.OK, EXPIRES, (ip,), is_secure=secure, alias=alias)


def mx(*hosts: str, secure: bool = True) -> DnsAnswer:
    return DnsAnswer(Status.OK, EXPIRES, mx=tuple(Mx(10 * n, host) for n, host in enumerate(hosts)), is_secure=secure)


def tlsa(*records: Tlsa, secure: bool = True, expires: float = EXPIRES) -> DnsAnswer:
    return DnsAnswer(Status.OK, expires, tlsa=records or (RECORD,), is_secure=secure)


def cname(to: str, *, secure: bool) -> DnsAnswer:
    return DnsAnswer(Status.OK, EXPIRES, (to,), is_secure=secure)


DNS: dict[str, Any] = {
    "good.dom MX": mx("mx.good.dom"), "mx.good.dom A": a("192.0.2.1"), "_25._tcp.mx.good.dom TLSA": tlsa(),
    "_26._tcp.mx.good.dom TLSA": tlsa(SECOND), "_27._tcp.mx.good.dom TLSA": "nx",
    "via-insecure.dom MX": mx("mx.good.dom", secure=False),
    "none.dom MX": mx("mx.none.dom"), "mx.none.dom A": a("192.0.2.2"),
    "plain.dom MX": mx("mx.plain.dom"), "mx.plain.dom A": a("192.0.2.3", secure=False),
    "_25._tcp.mx.plain.dom TLSA": "temp",
    "forged.dom MX": mx("mx.forged.dom"), "mx.forged.dom A": a("192.0.2.4"),
    "_25._tcp.mx.forged.dom TLSA": tlsa(secure=False),
    "bogus.dom MX": mx("mx.bogus.dom"), "mx.bogus.dom A": a("192.0.2.5"), "_25._tcp.mx.bogus.dom TLSA": "temp",
    "two.dom MX": mx("mx.bogus.dom", "mx.good.dom", "mx.none.dom"),
    "six.dom MX": mx("mx.six.dom"), "mx.six.dom A": a("192.0.2.6", secure=False), "mx.six.dom AAAA": a("2001:db8::6"),
    "_25._tcp.mx.six.dom TLSA": tlsa(),
    # aliases: records at the end, at the beginning, at both, at an end that fails; an end that is not secure
    "end.dom MX": mx("end.alias.dom"), "end.alias.dom A": a("192.0.2.1", alias="mx.good.dom"),
    "begin.dom MX": mx("begin.alias.dom"), "begin.alias.dom A": a("192.0.2.2", alias="mx.none.dom"),
    "_25._tcp.begin.alias.dom TLSA": tlsa(SECOND),
    "both.dom MX": mx("both.alias.dom"), "both.alias.dom A": a("192.0.2.1", alias="mx.good.dom"),
    "_25._tcp.both.alias.dom TLSA": tlsa(SECOND),
    "late.dom MX": mx("late.alias.dom"), "late.alias.dom A": a("192.0.2.5", alias="mx.bogus.dom"),
    "_25._tcp.late.alias.dom TLSA": tlsa(SECOND),
    "out.dom MX": mx("out.alias.dom"), "out.alias.dom A": a("192.0.2.3", secure=False, alias="mx.plain.dom"),
    "out.alias.dom CNAME": cname("mx.plain.dom", secure=True), "_25._tcp.out.alias.dom TLSA": tlsa(SECOND),
    "open.dom MX": mx("open.alias.dom"), "open.alias.dom A": a("192.0.2.3", secure=False, alias="mx.plain.dom"),
    "open.alias.dom CNAME": cname("mx.plain.dom", secure=False), "_25._tcp.open.alias.dom TLSA": tlsa(SECOND),
    "mute.dom MX": mx("mute.alias.dom"), "mute.alias.dom A": a("192.0.2.3", secure=False, alias="mx.plain.dom"),
    "mute.alias.dom CNAME": "temp",
    # without MX
    "bare.dom A": a("192.0.2.7"), "_25._tcp.bare.dom TLSA": tlsa(),
    "barealias.dom A": a("192.0.2.1", alias="mx.good.dom"),
}
MT: dict[bytes, bytes] = {
    b"fixed.dom": b"[192.0.2.1]", b"port.dom": b"{ host=good.dom; port=26; }",
    b"host.dom": b"{ host=mx.good.dom; flags=no_MX_lookup; port=26; }", b"lmtp.dom": b"26^lmtp:mx.good.dom",
    b"gate.dom": b"via-insecure.dom",
}


def ask(domain: bytes, mode: str = SECURE, dns: dict[str, Any] | None = None, port: int = 25) -> tuple[Target, Play]:
    play = Play({"mailertable": MT}, {**DNS, **(dns or {})})
    setup = replace(SETUP, has_aliases=False, dane=mode, smtp_port=port)
    (found,) = play.run(resolve(setup, b"u@" + domain, is_expanded=True))
    return found.target(0.0, keep_order), play


def asked(play: Play) -> list[str]:
    return [one.name for one in play.asked if one.rtype == Rtype.TLSA]


@pytest.mark.parametrize(("domain", "expected"), [
    (b"good.dom", [("mx.good.dom", "mx.good.dom", "good.dom", RECORD)]),
    (b"via-insecure.dom", []), (b"none.dom", []), (b"plain.dom", []), (b"forged.dom", []),
    (b"six.dom", [("mx.six.dom", "mx.six.dom", "six.dom", RECORD)]),
    (b"end.dom", [("end.alias.dom", "mx.good.dom", "end.dom", RECORD)]),
    (b"begin.dom", [("begin.alias.dom", "begin.alias.dom", "begin.dom", SECOND)]),
    (b"both.dom", [("both.alias.dom", "mx.good.dom", "both.dom", RECORD)]),
    (b"out.dom", [("out.alias.dom", "out.alias.dom", "out.dom", SECOND)]), (b"open.dom", []),
    (b"bare.dom", [("bare.dom", "bare.dom", "bare.dom", RECORD)]),
    (b"barealias.dom", [("barealias.dom", "mx.good.dom", "barealias.dom", RECORD)]),
    (b"fixed.dom", []), (b"lmtp.dom", []), (b"[192.0.2.1]", []), (b"gate.dom", []),
])
def test_secure(domain: bytes, expected: list[tuple[str, str, str, Tlsa]]) -> None:
    target, play = ask(domain)
    assert target.code == 0
    assert list(target.dane) == [TlsaSet(25, True, host, base, name, (found,)) for host, base, name, found in expected]
    if domain in (b"plain.dom", b"via-insecure.dom", b"open.dom"):
        assert asked(play) == [], "RFC 7672 2.1.3"


@pytest.mark.parametrize(("domain", "port", "base", "name", "record"), [
    (b"port.dom", 26, "mx.good.dom", "good.dom", SECOND), (b"host.dom", 26, "mx.good.dom", "mx.good.dom", SECOND),
    (b"good.dom", 26, "mx.good.dom", "good.dom", SECOND),
])
def test_other_ports(domain: bytes, port: int, base: str, name: str, record: Tlsa) -> None:
    """That of the mailertable, or of SMTPC's remote_port."""
    target, play = ask(domain, port=25 if domain in MT else port)
    assert target.dane == (TlsaSet(port, True, "mx.good.dom", base, name, (record,)),)
    assert asked(play) == ["_26._tcp.mx.good.dom"]


@pytest.mark.parametrize(("domain", "reason"), [
    (b"bogus.dom", "DANE: TLSA lookup of _25._tcp.mx.bogus.dom: timeout"),
    (b"late.dom", "DANE: TLSA lookup of _25._tcp.mx.bogus.dom: timeout"),  # not: the name itself has records
    (b"mute.dom", "DANE: CNAME lookup of mute.alias.dom: timeout"),
])
def test_what_can_not_be_looked_up_is_not_used(domain: bytes, reason: str) -> None:
    target, _ = ask(domain)
    assert (target.code, target.estat, target.text) == (451, "4.7.5", reason)
    assert target.ttl <= 5, "asked again soon"


def test_other_hosts_are_used() -> None:
    target, _ = ask(b"two.dom")
    assert [hop.name for hop in target.hops] == ["mx.good.dom", "mx.none.dom"]
    assert [one.host for one in target.dane] == ["mx.good.dom"]


@pytest.mark.parametrize("domain", [name.removesuffix(" MX").encode() for name in DNS if name.endswith(" MX")])
def test_never(domain: bytes) -> None:
    target, play = ask(domain, NEVER)
    assert (target.code, target.dane, asked(play)) == (0, (), [])


@pytest.mark.parametrize(("domain", "is_secure", "record"), [
    (b"good.dom", True, RECORD), (b"forged.dom", False, RECORD), (b"via-insecure.dom", False, RECORD),
    (b"plain.dom", False, None), (b"open.dom", False, SECOND), (b"none.dom", False, None),
])
def test_always(domain: bytes, is_secure: bool, record: Tlsa | None) -> None:
    dns = {"_25._tcp.mx.plain.dom TLSA": ""} if domain == b"open.dom" else {}
    target, _ = ask(domain, ALWAYS, dns)
    assert target.code == 0
    assert [(one.is_secure, one.records) for one in target.dane] == ([(is_secure, (record,))] if record else [])


def test_always_fails_where_it_is_secure() -> None:
    assert ask(b"bogus.dom", ALWAYS)[0].code == 451


def test_how_long_it_holds_and_how_much() -> None:
    target, _ = ask(b"good.dom", dns={"_25._tcp.mx.good.dom TLSA": tlsa(*[RECORD] * 100, expires=70.0)})
    assert target.ttl == 70
    assert len(target.dane[0].records) == RECORDS_MAX
    target, _ = ask(b"none.dom", dns={"_25._tcp.mx.none.dom TLSA": DnsAnswer(Status.NXDOMAIN, 60.0, is_secure=True)})
    assert target.ttl == 60, "records that are new are seen then"


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=60))
def test_a_recipient_carries_no_more_than_it_can(sizes: list[int]) -> None:
    """Digests go before whole certificates; what is left out does not lift the duty of TLS."""
    kept = bounded(tuple(Tlsa(3, 1, 0, bytes(size)) for size in sizes))
    assert 1 <= len(kept) <= RECORDS_MAX
    assert sum(len(record.data) for record in kept) <= OCTETS_MAX
    assert bounded((*[Tlsa(2, 0, 0, bytes(3000))] * 5, RECORD))[0] == RECORD
