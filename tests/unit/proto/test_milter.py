"""The milter protocol without a socket: packets, options, answers, which step needs which packets."""
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.errors import RemoteProtocolError
from meta1g.mta.reply import Reply
from meta1g.proto.milter import dialog, replies, wire
from meta1g.proto.milter.dialog import NOTHING, Dialog, Peer, Step
from meta1g.proto.milter.replies import (
    AddHeader,
    AddRcpt,
    ChangeFrom,
    ChangeHeader,
    Code,
    DeleteRcpt,
    InsertHeader,
    Quarantine,
    ReplaceBody,
    Verb,
    read_reply,
)
from meta1g.proto.milter.wire import Options, Packets, Steps, packet

ANSWERS = [
    (b"a", b"", Verb.ACCEPT), (b"c", b"", Verb.CONTINUE), (b"d", b"", Verb.DISCARD), (b"p", b"", Verb.PROGRESS),
    (b"r", b"", Verb.REJECT), (b"s", b"", Verb.SKIP), (b"t", b"", Verb.TEMPFAIL), (b"4", b"", Verb.SHUTDOWN),
    (b"f", b"", Verb.CONNECTION_FAILURE), (b"l", b"", None), (b"Z", b"", None), (b"\0", b"", None),
    (b"+", b"<a@b>\0", AddRcpt(b"a@b", b"")), (b"+", b"a@b", AddRcpt(b"a@b", b"")), (b"+", b"a\0b\0", None),
    (b"2", b"<a@b>\0NOTIFY=NEVER\0", AddRcpt(b"a@b", b"NOTIFY=NEVER")), (b"2", b"<a@b>\0", AddRcpt(b"a@b", b"")),
    (b"-", b"<a@b>\0", DeleteRcpt(b"a@b")), (b"+", b"x" * 2000 + b"\0", None),
    (b"e", b"<>\0", ChangeFrom(b"", b"")), (b"e", b"<a@b>\0RET=HDRS\0", ChangeFrom(b"a@b", b"RET=HDRS")),
    (b"b", b"any\0thing", ReplaceBody(b"any\0thing")),
    (b"h", b"X-A\0v\0", AddHeader(b"X-A", b"v")), (b"h", b"X-A\0\0", AddHeader(b"X-A", b"")), (b"h", b"\0v\0", None),
    (b"i", b"\0\0\0\2X\0v\0", InsertHeader(2, b"X", b"v")), (b"i", b"\0\0", None),
    (b"m", b"\0\0\0\1X\0\0", ChangeHeader(1, b"X", b"")), (b"m", b"\0\0\0\1", None),
    (b"q", b"a\r\nb\0", Quarantine("a b")),
    (b"y", b"550 5.7.1 no\0", Code(Reply(550, "5.7.1", "no"))), (b"y", b"450 later", Code(Reply(450, "", "later"))),
    (b"y", b"421 4.7.0 bye\0", Code(Reply(421, "4.7.0", "bye"))), (b"y", b"550\0", Code(Reply(550, "", ""))),
    (b"y", b"550-5.7.1 one\r\n550 5.7.1 100%%\0", Code(Reply(550, "5.7.1", "one\n100%"))),
    (b"y", b"250 fine\0", None), (b"y", b"5x0 no\0", None), (b"y", b"", None), (b"y", b"550x\0", None),
    (b"y", b"550 a\n" * 300, None), (b"y", b"550 " + b"a" * 5000, None),
    (b"y", b"550 a\0b\x1b[1m\0", Code(Reply(550, "", "a?b?[1m"))),
]


@pytest.mark.parametrize(("letter", "data", "found"), ANSWERS)
def test_answers(letter: bytes, data: bytes, found: replies.Answer | None) -> None:
    if found is None:
        with pytest.raises(RemoteProtocolError):
            read_reply(letter, data)
    else:
        assert read_reply(letter, data) == found


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.binary(max_size=50)), max_size=8), st.integers(1, 9))
def test_packets_come_as_they_were_sent(sent: list[tuple[bytes, bytes]], size: int) -> None:
    octets, packets, found = b"".join(packet(*one) for one in sent), Packets(), []
    for at in range(0, len(octets), size):
        packets.feed(octets[at:at + size])
        while (one := packets.next()) is not None:
            found.append(one)
    assert found == sent
    assert packets.is_empty


@pytest.mark.parametrize("length", [0, (1 << 20) + 2, 1 << 31])
def test_packets_have_a_length(length: int) -> None:
    packets = Packets()
    packets.feed(length.to_bytes(4, "big") + b"c")
    with pytest.raises(RemoteProtocolError):
        packets.next()


def test_options() -> None:
    assert wire.options_packet() == b"\0\0\0\x0dO\0\0\0\6\0\0\1\xff\x30\x1f\xff\xff"
    said = struct.pack("!III", 6, 0x11, 0x80) + b"\0\0\0\2i, {auth_type}\0" + b"\0\0\0\6\0"
    assert wire.read_options(said) == Options(6, 0x11, 0x80, {2: ("i", "auth_type"), 6: ()})


@pytest.mark.parametrize("said", [
    b"", struct.pack("!III", 1, 0, 0), struct.pack("!III", 7, 0, 0), struct.pack("!III", 6, 0x200, 0),
    struct.pack("!III", 6, 0, 0x40000000), struct.pack("!III", 6, 0, 0) + b"\0\0\0\7i\0",
    struct.pack("!III", 6, 0, 0) + b"\0\0\0\1i"])
def test_options_that_are_none(said: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        wire.read_options(said)


def made(steps: int = 0, version: int = 6, symbols: dict[int, tuple[str, ...]] | None = None) -> Dialog:
    none: dict[int, tuple[str, ...]] = dict.fromkeys(range(7), ())
    found = Dialog(Options(version, 0, steps, none if symbols is None else symbols))
    found.value = lambda name: name.encode()[:5]
    return found


PEER = Peer(b"h.test", b"4", 258, b"192.0.2.1")


def test_steps() -> None:
    at = made()
    assert at.connect(PEER) == Step(packet(b"C", b"h.test\x004\1\x02192.0.2.1\0"), True)
    assert at.connect(Peer(b"x", b"U", 0, b"")) == Step(packet(b"C", b"x\0U"), True)
    assert at.helo(b"a\0b") == Step(packet(b"H", b"ab\0"), True)
    assert at.mail(b"", [b"SIZE=1", b"BODY=7BIT"]) == Step(packet(b"M", b"<>\0SIZE=1\0BODY=7BIT\0"), True)
    assert at.rcpt(b"a@b", []) == Step(packet(b"R", b"<a@b>\0"), True)
    assert at.data() == Step(packet(b"T"), True)
    assert at.unknown(b"FOO x") == Step(packet(b"U", b"FOO x\0"), True)
    assert at.header(b"A", b" \tb\r\n c") == Step(packet(b"L", b"A\0b\n c\0"), True)
    assert at.end_of_header() == Step(packet(b"N"), True)
    assert list(at.body(b"x" * 65536)) == [Step(packet(b"B", b"x" * 65535), True), Step(packet(b"B", b"x"), True)]
    assert at.end() == Step(packet(b"E"), True)
    assert at.field(b"A", b"b") == b"A: b"


def test_steps_that_are_not_wanted_or_not_answered() -> None:
    none = made(0x37F)
    steps = [none.connect(PEER), none.helo(b"x"), none.mail(b"", []), none.rcpt(b"", []), none.data(),
             none.unknown(b""), none.header(b"a", b"b"), none.end_of_header(), *none.body(b"x")]
    assert set(steps) == {NOTHING}
    silent = made(0xFF080)
    steps = [silent.connect(PEER), silent.helo(b"x"), silent.mail(b"", []), silent.rcpt(b"", []), silent.data(),
             silent.unknown(b""), silent.header(b"a", b"b"), silent.end_of_header(), *silent.body(b"x")]
    assert all(step.octets and not step.is_answered for step in steps)
    assert silent.end().is_answered


def test_what_older_versions_do_not_know() -> None:
    assert made(version=3).data() == made(version=2).unknown(b"x") == NOTHING
    assert made(version=3).unknown(b"x") != NOTHING == made(version=3).unknown(b"x", has_rcpts=True)
    assert made(version=6).unknown(b"x", has_rcpts=True) != NOTHING


def test_leading_space_and_sizes() -> None:
    at = made(Steps.LEADING_SPACE | Steps.MDS_256K)
    assert at.header(b"A", b"  b").octets == packet(b"L", b"A\0  b\0")
    assert at.field(b"A", b" b") == b"A: b"
    assert len(list(at.body(b"x" * ((1 << 18) - 1)))) == 1
    assert len(list(made(Steps.MDS_1M).body(b"x" * (1 << 20)))) == 2


def test_macros() -> None:
    at = made(symbols={dialog.HELO: ("j", "tls_version"), dialog.END: ()})
    assert at.helo(b"x").octets == packet(b"D", b"Hj\0j\0{tls_version}\0tls_v\0") + packet(b"H", b"x\0")
    assert at.end().octets == packet(b"E")
    assert at.data().octets.startswith(packet(b"D", b"Ti\0i\0{nrcpts}\0nrcpt\0"))


def test_names_of_macros_are_bounded() -> None:
    """Each is looked for at each step of each session."""
    options = b"\0\0\0\6" + b"\0" * 8 + b"\0\0\0\2"
    most = wire.SYMBOLS_MAX - 5
    assert len(wire.read_options(options + b"x" * most + b"\0").symbols[2]) == 1
    with pytest.raises(RemoteProtocolError, match="too many"):
        wire.read_options(options + b"x" * (most + 1) + b"\0")
