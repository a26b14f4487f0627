"""Targets: what milters answer, and what they make of a header."""
import contextlib

from meta1g.mta import limits
from meta1g.mta.errors import RemoteProtocolError
from meta1g.proto.dkim.fields import fields_of
from meta1g.proto.milter import replies, wire
from meta1g.proto.milter.dialog import Dialog, Peer
from meta1g.proto.milter.wire import Packets
from meta1g.proto.smtp.data import unstuff
from meta1g.smtps.filter import ChangeField, InsertField, ReplaceField
from meta1g.smtps.header import Header
from tests.fuzz.source import Source, pieces

OURS = b"Received: from a\r\n\tby b\r\n"


def milter(data: bytes) -> None:
    """Packets are the same however they come, and each is an answer of bounded size or a fault."""
    source = Source(data)
    most, octets = source.number(9), source.rest()
    assert _answers([octets]) == _answers(list(pieces(octets, most)))


def _answers(parts: list[bytes]) -> list[object]:
    packets, found = Packets(), list[object]()
    try:
        for part in parts:
            packets.feed(part)
            while (packet := packets.next()) is not None:
                found.append(_answer(*packet))
    except RemoteProtocolError as error:
        found.append(str(error))
    return found


def _answer(letter: bytes, data: bytes) -> object:
    with contextlib.suppress(RemoteProtocolError):
        if letter == b"O":
            options = wire.read_options(data)
            assert options.steps | wire.ALL_STEPS == wire.ALL_STEPS
            Dialog(options).connect(Peer(b"a", b"4", 1, b"b"))
            return options
    try:
        answer = replies.read_reply(letter, data)
    except RemoteProtocolError as error:
        return str(error)
    if isinstance(answer, replies.Code):
        text = bytes(answer.reply)
        assert 400 <= answer.reply.code < 600
        lines = text.removesuffix(b"\r\n").split(b"\r\n")
        assert len(lines) <= limits.REPLY_LINES
        assert all(line[:3].isdigit() and line.decode().isprintable() for line in lines)
    return answer


def fields(data: bytes) -> None:
    """Whatever is changed, what comes out is a header of proper fields, ours in its place or taken away."""
    source = Source(data)
    given = b"".join(b"%b: %b\r\n" % (name, name) for name in (b"A", b"B", b"A", b"Received"))
    header = Header(OURS, given)
    while source:
        kind, at, octets = source.number(4), source.number(8), source.octets(source.number(40))
        change = (InsertField(at, octets) if kind == 0 else InsertField(None, octets) if kind == 1
                  else ReplaceField(at, octets) if kind == 2 else ChangeField(octets[:1], at, octets))
        with contextlib.suppress(ValueError):
            header.apply(change)
    front, ours, behind = header.parts
    assert ours in (b"", OURS)
    found = fields_of(unstuff(front)) + fields_of(unstuff(behind))
    assert all(field.name for field in found)
    assert sorted(found) == sorted(header.fields)
    for field in found:
        bare = field.octets.replace(b"\r\n", b"")
        assert not any(octet in bare for octet in b"\r\n\0")
        assert b"\r\n\r\n" not in field.octets
    assert header.rest == b""
