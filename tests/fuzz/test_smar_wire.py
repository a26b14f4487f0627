"""The fast DNS codec against dnspython: same octets, same answers; and nonsense never breaks it."""
import random

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.smar import fastwire, wire
from meta1g.smar.ask import DnsAsk, Rtype

LABELS = st.sampled_from(["a", "b", "MX", "Mail-1", "_x", "x" * 63, "caf\\233", "sp\\032ace", "dot\\."])
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
TYPES = st.sampled_from([Rtype.A, Rtype.AAAA, Rtype.MX, Rtype.PTR, Rtype.TXT])
TEXTS = st.sampled_from(['"plain"', '"\\200\\201"', '""', '"a b"'])
TTLS = st.sampled_from([0, 1, 300, 2**31 - 1])


@st.composite
def records(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    kind = draw(st.sampled_from(["A", "AAAA", "MX", "PTR", "TXT", "CNAME", "NS"]))
    values = {
        "A": st.ip_addresses(v=4).map(str), "AAAA": st.ip_addresses(v=6).map(str),
        "MX": st.builds("{} {}.".format, st.integers(0, 65535), NAMES), "PTR": NAMES.map("{}.".format),
        "TXT": st.lists(TEXTS, min_size=1, max_size=3).map(" ".join),
        "CNAME": NAMES.map("{}.".format), "NS": NAMES.map("{}.".format),
    }[kind]
    return draw(NAMES) + ".", kind, draw(st.lists(values, min_size=1, max_size=1 if kind == "CNAME" else 4))


@st.composite
def messages(draw: st.DrawFn) -> tuple[dns.message.Message, DnsAsk]:
    name = draw(NAMES)
    rtype = draw(TYPES)
    query = dns.message.make_query(dns.name.from_text(name + "."), dns.rdatatype.RdataType(rtype), use_edns=0)
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.Rcode(draw(st.sampled_from([0, 0, 0, 3, 2, 5]))))
    reply.flags |= draw(st.sampled_from([0, dns.flags.AD, dns.flags.TC, dns.flags.AA]))
    owner = name + "."
    for _ in range(draw(st.integers(0, 3))):
        target = draw(NAMES) + "."
        if draw(st.booleans()):
            reply.answer.append(dns.rrset.from_text(owner, draw(TTLS), "IN", "CNAME", target))
            owner = target
    for other, kind, values in draw(st.lists(records(), max_size=3)):
        where = draw(st.sampled_from([reply.answer, reply.authority, reply.additional]))
        where.append(dns.rrset.from_text(draw(st.sampled_from([owner, other])), draw(TTLS), "IN", kind, *values))
    if draw(st.booleans()):
        soa = f"ns.x. me.x. 1 2 3 4 {draw(TTLS)}"
        reply.authority.append(dns.rrset.from_text("x.", draw(TTLS), "IN", "SOA", soa))
    return reply, DnsAsk(wire.text_of(dns.name.from_text(name + ".")), rtype)


def outcome(octets: bytes, ask: DnsAsk, *, slow: bool) -> object:
    try:
        return wire.decode_slowly(octets, ask) if slow else wire.decode(octets, ask)
    except wire.BadReply:
        return "bad"


@given(messages())
def test_same_as_dnspython(message: tuple[dns.message.Message, DnsAsk]) -> None:
    octets, ask = message[0].to_wire(max_size=65535), message[1]
    assert outcome(octets, ask, slow=False) == outcome(octets, ask, slow=True)


@given(messages(), st.integers(0, 2**32))
def test_damaged_messages(message: tuple[dns.message.Message, DnsAsk], seed: int) -> None:
    octets, ask = message[0].to_wire(max_size=65535), message[1]
    rng = random.Random(seed)
    damaged = bytearray(octets)
    for _ in range(rng.randrange(1, 6)):
        damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 12, 63, 64, 192, 193, 255, rng.randrange(256)))
    cut = bytes(damaged[: rng.randrange(len(damaged) + 1)]) if rng.random() < 0.3 else bytes(damaged)
    fast, slow = outcome(cut, ask, slow=False), outcome(cut, ask, slow=True)
    assert slow in ("bad", fast)  # what is broken behind the answer does not matter to the fast way


@given(st.binary(max_size=300), TYPES)
def test_noise(octets: bytes, rtype: int) -> None:
    outcome(octets, DnsAsk("a.dom", rtype), slow=False)


@given(st.lists(st.text("abcxyz0189-_", min_size=1, max_size=63), min_size=1, max_size=5), TYPES, st.booleans())
def test_query_is_dnspythons(labels: list[str], rtype: int, dnssec: bool) -> None:
    ask = DnsAsk(".".join(labels), rtype)
    try:
        expected = wire.encode_slowly(ask, 4711, dnssec=dnssec)
    except ValueError:
        with pytest.raises(ValueError):
            wire.encode(ask, 4711, dnssec=dnssec)
        return
    assert wire.encode(ask, 4711, dnssec=dnssec) == expected
    assert fastwire.encode(ask, 4711, wire.PAYLOAD, dnssec=dnssec) == expected


def test_pointer_loops_end() -> None:
    ask = DnsAsk("a.dom", Rtype.A)
    query = fastwire.encode(ask, 1, 1232)
    head = bytearray(query[:12])
    head[2:4], head[6:8], head[10:12] = b"\x84\x00", b"\x00\x01", b"\x00\x00"
    question = query[12:23]
    for pointer in (len(head) + len(question), 12 + 0x3FFF, 22):
        octets = bytes(head) + question + (0xC000 | pointer & 0x3FFF).to_bytes(2, "big") + b"\0\1\0\1\0\0\0\1\0\4abcd"
        outcome(octets, ask, slow=False)
