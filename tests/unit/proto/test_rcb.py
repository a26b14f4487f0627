"""Messages between processes: round trips, framing, nonsense."""
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.dane import Tlsa, TlsaSet
from meta1g.mta.errors import FrameError
from meta1g.proto import msg_ar, msg_ctl, msg_da, msg_ss
from meta1g.proto.codec import Codec
from meta1g.proto.rcb import PROTOCOL_VERSION, FrameReader, Hello, Vocabulary, check_hello

CONTENT = msg_ss.Content(10, 20, "J1")
RCPT = msg_ss.Rcpt(0, b"c@d", b"")
HOP = msg_ar.Hop(25, "192.0.2.1", "mx.test")
DANE = TlsaSet(25, True, "mx.test", "real.test", "test", (Tlsa(3, 1, 1, b"\0\xff"), Tlsa(255, 0, 0, b"")))
MESSAGES = [
    (msg_ss.VOCABULARY, msg_ss.TaCommit(1.5, 3, 99, True, False, "S1", "S2", "192.0.2.1", b"a@b", b"", (RCPT, RCPT),
                                        (CONTENT,))),
    (msg_ss.VOCABULARY, msg_ss.SeAck(421, "4.7.0", "grün")),
    (msg_ss.VOCABULARY, msg_ss.JournalOpen((msg_ss.Segment("J1"),))),
    (msg_ss.VOCABULARY, msg_ss.Compose(True, "S1", "S2", b"head", b"", (CONTENT,))),
    (msg_da.VOCABULARY, msg_da.Deliver(1, 2, 0, 3, 1, True, False, False, "S1", "", "x", "", "AB", b"", b"",
                                       (msg_da.DaRcpt(0, "", b"x", b"", (DANE,)), msg_da.DaRcpt(1, "", b"y", b"")),
                                       (CONTENT,), (HOP,))),
    (msg_da.VOCABULARY, msg_da.Delivered(1, 2, True, False, True, (msg_da.Result(0, 550, 4, True, "5.1.1", "no"),))),
    (msg_ar.VOCABULARY, msg_ar.Resolved((msg_ar.Target(0, 60, 0, False, False, b"a@b", b"", "", "", "", (HOP, HOP),
                                                       (DANE, DANE)),))),
    (msg_ctl.VOCABULARY, msg_ctl.Answer(False, "{}")),
]


@pytest.mark.parametrize(("vocabulary", "message"), MESSAGES, ids=lambda value: type(value).__name__)
def test_round_trip_in_any_pieces(vocabulary: Vocabulary, message: NamedTuple) -> None:
    octets = vocabulary.frame(message, 7) + vocabulary.frame(message)
    for step in (1, 3, 1000):
        reader = FrameReader(vocabulary)
        found = []
        for at in range(0, len(octets), step):
            found += reader.feed(octets[at : at + step])
        assert found == [(message, 7), (message, 0)]


@given(st.binary(max_size=200))
def test_nonsense_is_a_frame_error_or_waits(octets: bytes) -> None:
    for vocabulary in (msg_ss.VOCABULARY, msg_ar.VOCABULARY, msg_da.VOCABULARY):
        try:
            FrameReader(vocabulary).feed(octets)
        except FrameError:
            pass


@given(st.binary(max_size=120), st.integers(0, 12))
def test_damaged_body_is_a_frame_error(body: bytes, number: int) -> None:
    try:
        message = msg_ss.VOCABULARY.decode(number, body)
    except FrameError:
        return
    assert msg_ss.VOCABULARY.frame(message)[10:] == body or True in message or False in message


def test_limits_and_versions() -> None:
    with pytest.raises(FrameError, match="longer than allowed"):
        FrameReader(msg_ctl.VOCABULARY).feed(b"\xff\xff\xff\x7f\0\0\0\0\0\0")
    with pytest.raises(FrameError, match="unknown message type"):
        FrameReader(msg_ctl.VOCABULARY).feed(b"\0\0\0\0\x63\0\0\0\0\0")
    with pytest.raises(FrameError, match="more than a frame"):
        msg_ctl.VOCABULARY.frame(msg_ctl.Answer(False, "x" * (17 << 20)))
    assert check_hello(Hello(PROTOCOL_VERSION, 1, 0, "x")).pid == 1
    with pytest.raises(FrameError, match="restart all"):
        check_hello(Hello(PROTOCOL_VERSION + 1, 1, 0, "x"))
    with pytest.raises(FrameError, match="before Hello"):
        check_hello(msg_ctl.Answer(False, ""))


class Misordered(NamedTuple):
    text: str
    number: int


class Odd(NamedTuple):
    value: complex


def test_declarations_are_checked() -> None:
    with pytest.raises(TypeError, match="numbers, then"):
        Codec(Misordered)
    with pytest.raises(TypeError, match="can't be part"):
        Codec(Odd)
