"""DNS messages: a question to octets, octets to an answer; pure.

Rules
    The codec is dnspython's, with a fast way for what is usual (`fastwire`); nothing else in
    SMAR knows either.
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

from meta1g.mta.dane import Tlsa
from meta1g.smar import fastwire
from meta1g.smar.ask import DnsAsk, Mx, Rtype, Status

PAYLOAD: Final = 1232  # DNS flag day 2020: the largest UDP answer that is not fragmented
CNAME_MAX: Final = 10  # links of a chain that we follow; BIND follows 16, unbound 11
NEGATIVE_TTL: Final = 300  # seconds for a negative answer without SOA record
_RECORDS_MAX: Final = 256  # of one answer: more is an attack on our memory
_TTL_MAX: Final = 2**31 - 1  # RFC 2181 8
_RCODE: Final = 0x000F  # RFC 1035 4.1.1
_TC: Final = int(dns.flags.TC)  # as plain numbers: an enum's & costs more than the rest of the header
_AD: Final = int(dns.flags.AD)
_NOERROR: Final = 0
_NXDOMAIN: Final = 3
_REFUSALS: Final = frozenset((1, 4, 5))  # FORMERR, NOTIMP, REFUSED: the same question gets the same answer


class Reply(NamedTuple):
    """What a nameserver says.

    `alias` is where a CNAME chain leads; the records themselves are not in the reply if it `goes_on` there. `is_cut`
    asks for TCP, `is_failed` for another nameserver; `is_refused`: this one will not answer it later either.
    """

    status: Status
    ttl: int
    records: tuple[str, ...] = ()
    mx: tuple[Mx, ...] = ()
    alias: str = ""
    reason: str = ""
    is_cut: bool = False
    is_failed: bool = False
    is_refused: bool = False
    is_secure: bool = False
    tlsa: tuple[Tlsa, ...] = ()
    goes_on: bool = False


class Records(NamedTuple):
    """The records of one name and type."""

    ttl: int
    texts: list[str]
    mx: list[Mx]
    tlsa: tuple[Tlsa, ...] = ()


class BadReply(ValueError):
    """The octets are no answer to this question; wait on for the real one."""


def encode(ask: DnsAsk, number: int, *, dnssec: bool = False) -> bytes:
    """A query with this id; ValueError if the name cannot be asked for."""
    try:
        return fastwire.encode(ask, number, PAYLOAD, dnssec=dnssec)
    except fastwire.Unusual:
        return encode_slowly(ask, number, dnssec=dnssec)


def encode_slowly(ask: DnsAsk, number: int, *, dnssec: bool = False) -> bytes:
    """The same by dnspython."""
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
        message = fastwire.decode(octets, ask)
    except fastwire.Unusual:
        return decode_slowly(octets, ask)
    sets = {key: Records(*entry) for key, entry in message.answers.items()}
    return _reply(message.flags, sets, message.negative, ask)


def decode_slowly(octets: bytes, ask: DnsAsk) -> Reply:
    """The same by dnspython."""
    try:
        message = dns.message.from_wire(octets, ignore_trailing=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError, IndexError) as error:
        raise BadReply(f"malformed: {error}") from None
    _check_question(message, ask)
    sets = {
        (text_of(rrset.name), int(rrset.rdtype)): _records(rrset)
        for rrset in message.answer if rrset.rdclass == dns.rdataclass.IN and len(rrset)
    }
    return _reply(int(message.flags), sets, _negative_ttl(message), ask)


def _check_question(message: Any, ask: DnsAsk) -> None:
    if not message.flags & dns.flags.QR or len(message.question) != 1:
        raise BadReply("not a reply to one question")
    asked = message.question[0]
    if asked.rdtype != ask.rtype or asked.rdclass != dns.rdataclass.IN or text_of(asked.name) != ask.name:
        raise BadReply("a reply to another question")


def _reply(flags: int, sets: "dict[tuple[str, int], Records]", negative: int | None, ask: DnsAsk) -> Reply:
    """What a reply says: follow the chain of CNAMEs from the name asked for."""
    code = flags & _RCODE
    if flags & _TC:
        return Reply(Status.TEMP, 0, is_cut=True, reason="truncated")
    if code not in (_NOERROR, _NXDOMAIN):
        reason = dns.rcode.to_text(dns.rcode.Rcode(code))
        return Reply(Status.TEMP, 0, is_failed=True, is_refused=code in _REFUSALS, reason=reason)
    is_secure = bool(flags & _AD)
    name, ttl = ask.name, _TTL_MAX
    for _ in range(CNAME_MAX + 1):
        found = sets.get((name, ask.rtype))
        if found is not None:
            texts, mx = tuple(found.texts[:_RECORDS_MAX]), tuple(found.mx[:_RECORDS_MAX])
            tlsa = found.tlsa[:_RECORDS_MAX]
            alias = name if name != ask.name else ""
            return Reply(Status.OK, min(ttl, found.ttl), texts, mx, alias, is_secure=is_secure, tlsa=tlsa)
        link = sets.get((name, Rtype.CNAME))
        if link is None:
            break
        ttl = min(ttl, link.ttl)
        name = link.texts[0]
    else:
        return Reply(Status.TEMP, 0, reason="CNAME chain is too long or a loop")
    if code == _NXDOMAIN:
        return Reply(Status.NXDOMAIN, min(ttl, NEGATIVE_TTL if negative is None else negative), is_secure=is_secure)
    if name != ask.name and negative is None:
        return Reply(Status.OK, ttl, alias=name, is_secure=is_secure, goes_on=True)
    return Reply(Status.NODATA, min(ttl, NEGATIVE_TTL if negative is None else negative), is_secure=is_secure)


def _records(rrset: Any) -> "Records":
    if rrset.rdtype == Rtype.MX:
        return Records(rrset.ttl, [], [Mx(rdata.preference, text_of(rdata.exchange)) for rdata in rrset])
    if rrset.rdtype in (Rtype.A, Rtype.AAAA):
        return Records(rrset.ttl, [rdata.address for rdata in rrset], [])
    if rrset.rdtype == Rtype.TXT:
        return Records(rrset.ttl, [b"".join(rdata.strings).decode("utf-8", "replace") for rdata in rrset], [])
    if rrset.rdtype in (Rtype.PTR, Rtype.CNAME):
        return Records(rrset.ttl, [text_of(rdata.target) for rdata in rrset], [])
    if rrset.rdtype == Rtype.TLSA:
        tlsa = [Tlsa(rdata.usage, rdata.selector, rdata.mtype, rdata.cert) for rdata in rrset]
        return Records(rrset.ttl, [], [], tuple(tlsa))
    return Records(rrset.ttl, [], [])  # DNAME, RRSIG and the like: the CNAMEs beside them suffice


def _negative_ttl(message: Any) -> int | None:
    for rrset in message.authority:
        if rrset.rdtype == Rtype.SOA:
            return min(int(rrset.ttl), int(rrset[0].minimum))  # RFC 2308 5
    return None


def text_of(name: Any) -> str:
    """A DNS name as text in lower case without its trailing dot; the root is the empty string."""
    text: str = name.to_text(omit_final_dot=True).lower()
    return "" if text == "." else text
