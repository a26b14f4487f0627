"""Canonical forms of DKIM: the RFC's examples, and bodies in any pieces against a plain implementation."""
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.proto.dkim.canon import CanonicalBody, canonical_field
from meta1g.proto.smtp.data import stuff
from tests.fuzz.source import pieces

LINES = st.lists(st.sampled_from([b"\r\n", b" ", b"\t", b"x", b".", b"\r", b"\n", b"  ", b"\xe4"]), max_size=30)


def canonical(wire: bytes, most: int, *, is_relaxed: bool) -> bytes:
    out: list[bytes] = []
    body = CanonicalBody(out.append, is_relaxed=is_relaxed)
    for piece in pieces(wire, most):
        body.feed(piece)
    body.finish()
    return b"".join(out)


def plainly(text: bytes, *, is_relaxed: bool) -> bytes:
    """RFC 6376 3.4.3 and 3.4.4, word by word."""
    if is_relaxed:
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in text.split(b"\r\n")]
        text = b"\r\n".join(lines)
    while text.endswith(b"\r\n"):
        text = text[:-2]
    return text + b"\r\n" if text or not is_relaxed else b""


@pytest.mark.parametrize(("is_relaxed", "expected"), [
    (True, b" C\r\nD E\r\n"), (False, b" C \r\nD \t E\r\n")])
def test_body_of_the_rfc(is_relaxed: bool, expected: bytes) -> None:  # RFC 6376 3.4.5
    assert canonical(b" C \r\nD \t E\r\n\r\n\r\n", 0, is_relaxed=is_relaxed) == expected


@pytest.mark.parametrize(("is_relaxed", "expected"), [
    (True, b"a:X\r\nb:Y Z\r\n"), (False, b"A: X\r\nB : Y\t\r\n\tZ  \r\n")])
def test_header_of_the_rfc(is_relaxed: bool, expected: bytes) -> None:  # RFC 6376 3.4.5
    fields = [b"A: X\r\n", b"B : Y\t\r\n\tZ  \r\n"]
    assert b"".join(canonical_field(field, is_relaxed=is_relaxed) for field in fields) == expected


@pytest.mark.parametrize(("field", "relaxed"), [
    (b"Subject:\r\n", b"subject:\r\n"),
    (b"X:\r\n \r\n\t\r\n", b"x:\r\n"),
    (b"X: a:b  c\r\n", b"x:a:b c\r\n"),
    (b"X:\t\xe4  \xf6 \r\n", b"x:\xe4 \xf6\r\n"),
])
def test_relaxed_fields(field: bytes, relaxed: bytes) -> None:
    assert canonical_field(field, is_relaxed=True) == relaxed


@given(LINES, st.integers(0, 9), st.booleans())
def test_any_body_in_any_pieces(parts: list[bytes], most: int, is_relaxed: bool) -> None:
    text = b"".join(parts)
    wire = stuff(text)  # which adds CRLF where it is missing
    full = text if text.endswith(b"\r\n") or not text else text + b"\r\n"
    assert canonical(wire, most, is_relaxed=is_relaxed) == plainly(full, is_relaxed=is_relaxed)


@pytest.mark.parametrize("text", [b"x", b"x ", b"x\r", b"\r", b"\t"])
@pytest.mark.parametrize("is_relaxed", [True, False])
def test_no_line_end(text: bytes, is_relaxed: bool) -> None:
    assert canonical(text, 1, is_relaxed=is_relaxed) == plainly(text, is_relaxed=is_relaxed)


@pytest.mark.parametrize("unit", [b"\r\n", b" ", b"\t", b" \r\n", b".\r\n", b"\r", b"a\r\n\r\n", b" \t"])
@pytest.mark.parametrize("is_relaxed", [True, False])
def test_nothing_takes_long(unit: bytes, is_relaxed: bool) -> None:
    wire = unit * (8_000_000 // len(unit))
    body = CanonicalBody(len, is_relaxed=is_relaxed)
    began = time.process_time()
    for at in range(0, len(wire), 65_536):
        body.feed(wire[at:at + 65_536])
    body.finish()
    assert time.process_time() - began < 2.0  # 0.1
