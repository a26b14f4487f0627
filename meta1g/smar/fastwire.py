"""The usual DNS messages, coded by hand: dnspython needs thirty times as long for them; pure.

Rules
    `decode` takes answers to A, AAAA, MX, PTR and TXT questions whose names are plain text, and
    gives exactly what `wire` makes of them with dnspython (a test compares both). Everything
    else, also what is malformed, raises Unusual: dnspython then has the word.
    A compressed name points backwards only (RFC 1035 4.1.4), so that reading ends.
"""
import struct
from typing import Final, NamedTuple

import dns.ipv6

from meta1g.smar.ask import DnsAsk, Mx, Rtype

_HEADER: Final = struct.Struct(">HHHHHH")
_FIXED: Final = struct.Struct(">HHIH")  # type, class, TTL, length
_QUESTION: Final = struct.Struct(">HH")
_IN: Final = 1
_OPT: Final = 41
_RD: Final = 0x0100
_AD: Final = 0x0020
QR: Final = 0x8000
_OPCODE: Final = 0x7800
_TTL_MAX: Final = 0x7FFFFFFF  # RFC 2181 8: larger ones are zero
_NAME_MAX: Final = 255  # RFC 1035 2.3.4
_RECORDS_MAX: Final = 4096
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_/*+=")
_READ: Final = frozenset((Rtype.A, Rtype.AAAA, Rtype.MX, Rtype.PTR, Rtype.TXT))


class Unusual(ValueError):
    """Not a message for the fast way."""


class Message(NamedTuple):
    """A reply: flags, the answer section by (name, type), and the negative TTL of a SOA record if there is one."""

    flags: int
    answers: dict[tuple[str, int], tuple[int, list[str], list[Mx]]]
    negative: int | None


def encode(ask: DnsAsk, number: int, payload: int, *, dnssec: bool = False) -> bytes:
    """A query with EDNS (RFC 6891); Unusual if the name is not plain."""
    flags = _RD | _AD if dnssec else _RD
    return b"".join((
        _HEADER.pack(number, flags, 1, 0, 0, 1), _name_octets(ask.name), _QUESTION.pack(ask.rtype, _IN),
        b"\0", _FIXED.pack(_OPT, payload, 0, 0),
    ))


def _name_octets(name: str) -> bytes:
    parts = []
    for label in name.encode("ascii", "replace").split(b"."):
        if not 0 < len(label) < 64 or not _PLAIN.issuperset(label):
            raise Unusual(name)
        parts.append(bytes((len(label),)))
        parts.append(label)
    octets = b"".join(parts) + b"\0"
    if len(octets) > _NAME_MAX:
        raise Unusual(name)
    return octets


def decode(octets: bytes, ask: DnsAsk) -> Message:
    """The reply to `ask`; Unusual if it is anything but that."""
    try:
        return _decode(octets, ask)
    except (struct.error, IndexError, ValueError) as error:
        raise Unusual(str(error)) from None


def _decode(octets: bytes, ask: DnsAsk) -> Message:
    _, flags, questions, answers, authorities, _ = _HEADER.unpack_from(octets)
    if questions != 1 or not flags & QR or flags & _OPCODE or ask.rtype not in _READ or answers > _RECORDS_MAX:
        raise Unusual("header")
    seen: dict[int, str] = {}
    name, at = _name(octets, _HEADER.size, seen)
    if name != ask.name or _QUESTION.unpack_from(octets, at) != (ask.rtype, _IN):
        raise Unusual("question")
    at += _QUESTION.size
    found: dict[tuple[str, int], tuple[int, list[str], list[Mx]]] = {}
    for _ in range(answers):
        at = _record(octets, at, seen, ask.rtype, found)
    negative = None
    if (ask.name, ask.rtype) not in found:
        for _ in range(authorities):
            ttl, at = _soa_ttl(octets, at, seen)
            negative = ttl if negative is None else negative
    return Message(flags, found, negative)


def _record(
    octets: bytes, at: int, seen: dict[int, str], wanted: int,
    found: dict[tuple[str, int], tuple[int, list[str], list[Mx]]],
) -> int:
    """Read one answer; where the next one begins."""
    name, at = _name(octets, at, seen)
    rtype, rclass, ttl, length = _FIXED.unpack_from(octets, at)
    at += _FIXED.size
    end: int = at + length
    if end > len(octets) or rclass != _IN:
        raise Unusual("record")
    if rtype not in (wanted, Rtype.CNAME):
        raise Unusual("a record that was not asked for")
    if ttl > _TTL_MAX:
        ttl = 0
    entry = found.get((name, rtype))
    if entry is None:
        entry = found[name, rtype] = (ttl, [], [])
    elif ttl != entry[0]:
        raise Unusual("different TTLs in one set")
    _data(octets, at, end, rtype, seen, entry)
    return end


def _data(octets: bytes, at: int, end: int, rtype: int, seen: dict[int, str],
          entry: tuple[int, list[str], list[Mx]]) -> None:
    if rtype == Rtype.A:
        if end - at != 4:
            raise Unusual("A record")
        text = ".".join(map(str, octets[at:end]))
    elif rtype == Rtype.AAAA:
        text = dns.ipv6.inet_ntoa(octets[at:end])
    elif rtype == Rtype.MX:
        host, stop = _name(octets, at + 2, seen)
        mx = Mx(octets[at] << 8 | octets[at + 1], host)
        if stop != end or mx in entry[2]:
            raise Unusual("MX record")
        entry[2].append(mx)
        return
    elif rtype == Rtype.TXT:
        parts = []
        while at < end:
            parts.append(octets[at + 1:at + 1 + octets[at]])
            at += 1 + octets[at]
        text = b"".join(parts).decode("ascii")
        if at != end or not parts:
            raise Unusual("TXT record")
    else:
        text, stop = _name(octets, at, seen)
        if stop != end or (rtype == Rtype.CNAME and entry[1]):
            raise Unusual("name record")
    if text in entry[1]:
        raise Unusual("the same record twice")
    entry[1].append(text)


def _soa_ttl(octets: bytes, at: int, seen: dict[int, str]) -> tuple[int | None, int]:
    """The negative TTL if the record at `at` is a SOA (RFC 2308 5), and where the next one begins."""
    _, at = _name(octets, at, seen)
    rtype, rclass, ttl, length = _FIXED.unpack_from(octets, at)
    at += _FIXED.size
    end = at + length
    if end > len(octets) or rclass != _IN or ttl > _TTL_MAX:
        raise Unusual("authority record")
    if rtype != Rtype.SOA:
        return None, end
    minimum = int.from_bytes(octets[end - 4:end], "big")
    return min(ttl, minimum), end


def _name(octets: bytes, at: int, seen: dict[int, str]) -> tuple[str, int]:
    """The name at `at` in lower case without its last dot, and what follows it; `seen` holds names by place."""
    start, after, labels, size = at, -1, [], 0
    limit = at
    while True:
        length = octets[at]
        if length == 0:
            at += 1
            break
        if length < 64:
            label = octets[at + 1:at + 1 + length].lower()
            size += length + 1
            if len(label) != length or size >= _NAME_MAX or not _PLAIN.issuperset(label):
                raise Unusual("label")
            labels.append(label.decode("ascii"))
            at += 1 + length
            continue
        if length < 192:
            raise Unusual("label type")
        target = (length & 0x3F) << 8 | octets[at + 1]
        if after < 0:
            after = at + 2
        if target >= limit:
            raise Unusual("pointer")
        known = seen.get(target)
        if known is not None:
            if known:
                labels.append(known)
            size += len(known) + 1
            break
        at = limit = target
    if size >= _NAME_MAX:
        raise Unusual("name")
    name = ".".join(labels)
    seen[start] = name
    return name, after if after >= 0 else at
