"""DNS messages: a question to octets, octets to an answer; pure.

Rules
    The codec is dnspython's; nothing else in SMAR knows it.
    A reply counts only if it carries the question that was asked (RFC 5452 9.1).
    Records are taken from the answer section alone, and only if they belong to the name
    asked for or to what its CNAME chain leads to: additional records may be forged.
    A negative answer lives as long as its SOA record says (RFC 2308 5).
"""
from typing import Any, Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from meta1g.smar.ask import DnsAsk, Mx, Rtype, Status

PAYLOAD: Final = 1232  # DNS flag day 2020: the largest UDP answer that is not fragmented
CNAME_MAX: Final = 10  # links of a chain that we follow; BIND follows 16, unbound 11
NEGATIVE_TTL: Final = 300  # seconds for a negative answer without SOA record
_RECORDS_MAX: Final = 256  # of one answer: more is an attack on our memory


class Reply(NamedTuple):
    """What a nameserver says.

    `alias` is where a CNAME chain leads if the records themselves are not in the reply. `is_cut` asks for
    TCP, `is_refused` for another nameserver.
    """

    status: Status
    ttl: int
    records: tuple[str, ...] = ()
    mx: tuple[Mx, ...] = ()
    alias: str = ""
    reason: str = ""
    is_cut: bool = False
    is_refused: bool = False
    is_secure: bool = False


class BadReply(ValueError):
    """The octets are no answer to this question; wait on for the real one."""


def encode(ask: DnsAsk, number: int, *, dnssec: bool = False) -> bytes:
    """A query with this id; ValueError if the name cannot be asked for."""
    try:
        name = dns.name.from_text(ask.name + ".")
        rtype = dns.rdatatype.RdataType(ask.rtype)
        query = dns.message.make_query(name, rtype, use_edns=0, payload=PAYLOAD, id=number)
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"{ask.name}: {error}") from None
    if dnssec:
        query.flags |= dns.flags.AD  # RFC 6840 5.7: tell us whether it was validated
    return query.to_wire()


def decode(octets: bytes, ask: DnsAsk) -> Reply:
    """The answer to `ask` in `octets`; BadReply if they belong to something else."""
    try:
        message = dns.message.from_wire(octets, ignore_trailing=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError, IndexError) as error:
        raise BadReply(f"malformed: {error}") from None
    _check_question(message, ask)
    code = message.rcode()
    if message.flags & dns.flags.TC:
        return Reply(Status.TEMP, 0, is_cut=True, reason="truncated")
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Reply(Status.TEMP, 0, is_refused=True, reason=dns.rcode.to_text(code))
    return _read(message, ask, code == dns.rcode.NXDOMAIN)


def _check_question(message: Any, ask: DnsAsk) -> None:
    if not message.flags & dns.flags.QR or len(message.question) != 1:
        raise BadReply("not a reply to one question")
    asked = message.question[0]
    if asked.rdtype != ask.rtype or asked.rdclass != dns.rdataclass.IN or text_of(asked.name) != ask.name:
        raise BadReply("a reply to another question")


def _read(message: Any, ask: DnsAsk, is_nxdomain: bool) -> Reply:
    sets = {(text_of(rrset.name), int(rrset.rdtype)): rrset for rrset in message.answer}
    secure = bool(message.flags & dns.flags.AD)
    name, ttl = ask.name, 2**31 - 1
    for _ in range(CNAME_MAX + 1):
        found = sets.get((name, ask.rtype))
        if found is not None:
            return _positive(found, ask.rtype, min(ttl, found.ttl), secure)
        link = sets.get((name, Rtype.CNAME))
        if link is None:
            break
        ttl = min(ttl, link.ttl)
        name = text_of(link[0].target)
    else:
        return Reply(Status.TEMP, 0, reason="CNAME chain is too long or a loop")
    negative = _negative_ttl(message)
    if is_nxdomain:
        return Reply(Status.NXDOMAIN, min(ttl, NEGATIVE_TTL if negative is None else negative), is_secure=secure)
    if name != ask.name and negative is None:
        return Reply(Status.OK, ttl, alias=name, is_secure=secure)
    return Reply(Status.NODATA, min(ttl, NEGATIVE_TTL if negative is None else negative), is_secure=secure)


def _positive(rrset: Any, rtype: int, ttl: int, secure: bool) -> Reply:
    records = list(rrset)[:_RECORDS_MAX]
    if rtype == Rtype.MX:
        mx = tuple(Mx(rdata.preference, text_of(rdata.exchange)) for rdata in records)
        return Reply(Status.OK, ttl, mx=mx, is_secure=secure)
    if rtype in (Rtype.A, Rtype.AAAA):
        texts = tuple(rdata.address for rdata in records)
    elif rtype == Rtype.TXT:
        texts = tuple(b"".join(rdata.strings).decode("utf-8", "replace") for rdata in records)
    else:
        texts = tuple(text_of(rdata.target) for rdata in records)
    return Reply(Status.OK, ttl, texts, is_secure=secure)


def _negative_ttl(message: Any) -> int | None:
    for rrset in message.authority:
        if rrset.rdtype == Rtype.SOA:
            return min(int(rrset.ttl), int(rrset[0].minimum))  # RFC 2308 5
    return None


def text_of(name: Any) -> str:
    """A DNS name as text in lower case without its trailing dot; the root is the empty string."""
    text: str = name.to_text(omit_final_dot=True).lower()
    return "" if text == "." else text
