"""The protocol of policy milters: frames, limits, texts."""
from typing import Any

import pytest

from meta1g.mta.errors import FrameError
from meta1g.mta.reply import Reply
from meta1g.proto.pmilter import messages, numbers, texts
from meta1g.proto.pmilter.messages import TO_MILTER, TO_SERVER, Reader
from meta1g.proto.pmilter.numbers import Pmm, symbol_of
from meta1g.proto.rcb import Hello, Vocabulary

HELLO = Hello(numbers.VERSION, 7, 0, "test")
PARAMS = (messages.Param(b"SIZE=1"), messages.Param(b"PRDR"))
SERVER_SAYS = [
    messages.Offer(3, 1, 1, 0, b"mail.test"), messages.Ping(4),
    messages.Symbols((messages.Symbol(2, b"S1"), messages.Symbol(5, b""))),
    messages.Connect(25, b"client.test", b"192.0.2.1"), messages.Helo(True, b"x"), messages.Mail(b"", PARAMS),
    messages.Rcpt(3, 550, b"a@b.c", b"550 5.1.1 User unknown\r\n", ()), messages.Unknown(b"XYZZY"),
    messages.Msg(True, b"x" * numbers.CHUNK_SIZE), messages.Step(5), messages.Replaced(1),
]
MILTER_SAYS = [
    messages.Wants(3, 1, 0, 1, b"policy", (messages.StageSymbols(5, b"\5\x12"),)), messages.Ping(4),
    messages.Refuse(b"no"), messages.Answer(550, True, b"550 5.7.1 No\r\n"), messages.MailRplc(b"", b"RET=FULL"),
    messages.RcptAdd(b"a@b.c", b""), messages.RcptDel(0, b"a@b.c"), messages.HdrChange(4, 7, b""),
    messages.Replies((messages.RcptReply(250, b""), messages.RcptReply(452, b"452 4.2.2 Full\r\n"))),
    messages.Piece(False, b"x" * numbers.CHUNK_SIZE),
]
SAID = [(TO_MILTER, message) for message in SERVER_SAYS] + [(TO_SERVER, message) for message in MILTER_SAYS]


def read(vocabulary: Vocabulary, *octets: bytes) -> list[Any]:
    reader = Reader(vocabulary)
    reader.feed(vocabulary.frame(HELLO))
    return [message for piece in octets for message, _ in reader.feed(piece)]


@pytest.mark.parametrize(("vocabulary", "message"), SAID, ids=lambda value: type(value).__name__)
def test_what_is_said_is_heard_octet_by_octet(vocabulary: Vocabulary, message: Any) -> None:
    octets = vocabulary.frame(message, 9)
    at = max(len(octets) - 30, 0)
    pieces = [octets[:at], *(octets[place:place + 1] for place in range(at, len(octets)))]
    assert read(vocabulary, *pieces) == [message]


def test_octets_of_a_frame() -> None:
    """What docs/pmilter-protocol.md shows."""
    frame = TO_MILTER.frame(messages.Rcpt(1, 250, b"a@b.c", b"", (messages.Param(b"X=1"),)), 7)
    assert frame.hex(" ") == (
        "28 00 00 00 07 00 07 00 00 00 "
        "01 00 00 00 00 00 00 00 fa 00 00 00 00 00 00 00 05 00 00 00 00 00 00 00 01 00 00 00 "
        "61 40 62 2e 63 03 00 00 00 58 3d 31")


WRONG = [
    (TO_MILTER, messages.Offer(1 << 32, 0, 0, 0, b""), "32 bits"),
    (TO_MILTER, messages.Offer(0, 0, -1, 0, b""), "32 bits"),
    (TO_MILTER, messages.Offer(0, 0, 0, 0, b"x" * 256), "hostname"),
    (TO_MILTER, messages.Symbols((messages.Symbol(1, b""),) * 33), "too many"),
    (TO_MILTER, messages.Symbols((messages.Symbol(1, b"x" * 1025),)), "too long"),
    (TO_MILTER, messages.Connect(65536, b"", b""), "port"),
    (TO_MILTER, messages.Mail(b"x" * 2049, ()), "address"),
    (TO_MILTER, messages.Mail(b"", PARAMS * 33), "parameters"),
    (TO_MILTER, messages.Rcpt(-1, 250, b"", b"", ()), "index"),
    (TO_MILTER, messages.Rcpt(0, 199, b"", b"", ()), "code"),
    (TO_MILTER, messages.Msg(False, b"x" * (numbers.CHUNK_SIZE + 1)), "piece"),
    (TO_MILTER, messages.Step(0), "step"),
    (TO_SERVER, messages.Wants(0, 0, 0, int(numbers.Cap.MSG), b"", ()), "misc"),
    (TO_SERVER, messages.Wants(0, 0, 0, 0, b"", (messages.StageSymbols(9, b""),)), "stages"),
    (TO_SERVER, messages.Wants(0, 0, 0, 0, b"", (messages.StageSymbols(1, b""),) * 2), "stages"),
    (TO_SERVER, messages.Wants(0, 0, 0, 0, b"", (messages.StageSymbols(1, b"\1" * 33),)), "symbols"),
    (TO_SERVER, messages.Answer(251, False, b""), "code"),
    (TO_SERVER, messages.Answer(600, False, b""), "code"),
    (TO_SERVER, messages.Answer(4, False, b""), "code"),
    (TO_SERVER, messages.Answer(550, False, b"x" * 8193), "reply"),
    (TO_SERVER, messages.HdrChange(0, 0, b""), "change"),
    (TO_SERVER, messages.HdrChange(1, 65536, b""), "position"),
    (TO_SERVER, messages.Replies((messages.RcptReply(354, b""),)), "code"),
]


@pytest.mark.parametrize(("vocabulary", "message", "words"), WRONG)
def test_wrong_values_are_refused(vocabulary: Vocabulary, message: Any, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        read(vocabulary, vocabulary.frame(message))


def test_hello_comes_first_once_and_in_this_version() -> None:
    with pytest.raises(FrameError, match="before Hello"):
        Reader(TO_SERVER).feed(TO_SERVER.frame(messages.Ping(1)))
    with pytest.raises(FrameError, match="version 2"):
        Reader(TO_SERVER).feed(TO_SERVER.frame(HELLO._replace(version=2)))
    with pytest.raises(FrameError, match="twice"):
        read(TO_SERVER, TO_SERVER.frame(HELLO))


def test_a_frame_that_is_too_long_is_refused_before_it_has_come() -> None:
    with pytest.raises(FrameError, match="longer than allowed"):
        read(TO_MILTER, (numbers.FRAME_MAX + 1).to_bytes(4, "little") + bytes(6))


REPLIES = [
    (b"550 5.7.1 No\r\n", Reply(550, "5.7.1", "No")),
    (b"550-5.7.1 One\r\n550 5.7.1 Two\r\n", Reply(550, "5.7.1", "One\nTwo")),
    (b"250 2.0.0 Yes\r\n", Reply(250, "2.0.0", "Yes")),
    (b"250 Yes\r\n", Reply(250, "", "Yes")),
    (b"550 No\r\n", None),
    (b"550 4.7.1 No\r\n", None),
    (b"550 5.7.1 No", None),
    (b"550 5.7.1 No\n", None),
    (b"550 5.7.1 No\r\n550 5.7.1 No\r\n", None),
    (b"550-5.7.1 No\r\n", None),
    (b"550-5.7.1 No\r\n551 5.7.1 No\r\n", None),
    (b"5505.7.1 No\r\n", None),
    (b"650 5.7.1 No\r\n", None),
    (b"550 5.7.1 \0\r\n", None),
    (b"550 5.7.1 a\rb\r\n", None),
    (b"550 5.7.1 " + b"x" * 600 + b"\r\n", None),
    (b"550-5.7.1 x\r\n" * 40 + b"550 5.7.1 x\r\n", None),
    (b"", None), (b"\r\n", None),
]


@pytest.mark.parametrize(("octets", "reply"), REPLIES)
def test_replies(octets: bytes, reply: Reply | None) -> None:
    assert texts.parse_reply(octets) == reply


FIELDS = [
    (b"X-Spam: yes\r\n", b"x-spam"), (b"Subject:\r\n", b"subject"), (b"A:b\r\n\tc\r\n d\r\n", b"a"),
    (b"X-Spam: yes", None), (b"X-Spam: yes\n", None), (b"no colon\r\n", None), (b": x\r\n", None),
    (b"A: b\r\nB: c\r\n", None), (b"A: b\r\n\r\n", None), (b"A: b\rc\r\n", None), (b"A: \0\r\n", None),
    (b"A: " + b"x" * 1000 + b"\r\n", None), (b"A b: c\r\n", None),
]


@pytest.mark.parametrize(("octets", "name"), FIELDS)
def test_fields(octets: bytes, name: bytes | None) -> None:
    assert texts.field_name(octets) == name


PATHS = [
    (b"a@b.c", b"a@b.c"), (b"<a@b.c>", b"a@b.c"), (b"Postmaster", b"Postmaster"), (b"<@x.y:a@b.c>", b"a@b.c"),
    (b"", None), (b"<>", None), (b"a", None), (b"a@b.c>", None), (b"a b@c.d", None), (b"a@b.c\r\nDATA", None),
]


@pytest.mark.parametrize(("octets", "address"), PATHS)
def test_paths(octets: bytes, address: bytes | None) -> None:
    assert texts.parse_path(octets, may_be_null=False) == address
    assert texts.parse_path(b"<>", may_be_null=True) == b""


def test_names_of_symbols_are_those_of_the_manual() -> None:
    assert symbol_of("tls_cn_issuer") is Pmm.TLS_CN_ISSUER
    assert symbol_of("PMM_SEID") is Pmm.SEID
    assert symbol_of("end") is None and symbol_of("x") is None
