"""Fields of a header, which of them are signed, and whose the message is (M1 3.10 items 3.5 to 3.8)."""
import time

import pytest

from meta1g.proto.dkim.author import authors
from meta1g.proto.dkim.fields import Choice, Field, Unsignable, check, fields_of, signed
from meta1g.proto.smtp import replies


def fields(*names: str) -> list[Field]:
    return [Field(name.encode(), f"{name}: {at}\r\n".encode()) for at, name in enumerate(names)]


@pytest.mark.parametrize(("header", "expected"), [
    (b"", []),
    (b"From: a@b\r\n", [Field(b"from", b"From: a@b\r\n")]),
    (b"A: 1\r\n 2\r\n\t3\r\nb :4\r\n", [Field(b"a", b"A: 1\r\n 2\r\n\t3\r\n"), Field(b"b", b"b :4\r\n")]),
    (b"A:\r\n \r\n", [Field(b"a", b"A:\r\n \r\n")]),
    (b"X\xe4: 1\r\n", [Field(b"", b"X\xe4: 1\r\n")]),
    (b"no field\r\nA: 1\r\n", [Field(b"", b"no field\r\n"), Field(b"a", b"A: 1\r\n")]),
    (b"From a@b Mon\r\n", [Field(b"", b"From a@b Mon\r\n")]),
    (b" x: 1\r\n", [Field(b"", b" x: 1\r\n")]),
    (b": 1\r\n", [Field(b"", b": 1\r\n")]),
    (b"a b: 1\r\n", [Field(b"", b"a b: 1\r\n")]),
])
def test_fields(header: bytes, expected: list[Field]) -> None:
    found = fields_of(header)
    assert found == expected
    assert b"".join(field.octets for field in found) == header


def test_what_can_not_be_signed() -> None:
    check(fields_of(b"From: a\r\nTo: b\r\nTo: c\r\nX: " + b"x" * 300 + b"\r\n"), 301)
    for header, reply in [
            (b"From: a\r\nx\r\n", replies.HEADER_MALFORMED), (b"From: a\r\nfrom : b\r\n", replies.TWO_FROM),
            (b"X: " + b"x" * 301 + b"\r\n", replies.FIELD_TOO_LONG)]:
        with pytest.raises(Unsignable) as caught:
            check(fields_of(header), 301)
        assert caught.value.reply == reply


@pytest.mark.parametrize(("choice", "names"), [
    (Choice(), b"from to x-a received to subject"),
    (Choice(skip=(b"x-", b"received:")), b"from to to subject"),
    (Choice(skip=(b"rec", b"to")), b"from x-a subject"),
    (Choice(skip=(b"fro:",)), b"from to x-a received to subject"),
    (Choice(sign=frozenset({b"from", b"subject", b"date"})), b"from subject"),
    (Choice(sign=frozenset({b"from", b"x-a"}), skip=(b"x-",)), b"from"),
    (Choice(over=(b"from", b"date")), b"from to x-a received to subject from date"),
    (Choice(sign=frozenset({b"from"}), over=(b"to",)), b"from to to to"),
])
def test_choice(choice: Choice, names: bytes) -> None:
    header = fields("from", "to", "x-a", "received", "to", "subject")
    assert choice.names(header) == names.split()


def test_of_several_the_last_is_signed_first() -> None:  # RFC 6376 5.4.2
    header = fields("to", "from", "to", "to")
    assert signed(header, [b"to", b"from", b"to", b"date", b"from"]) == [b"to: 3\r\n", b"from: 1\r\n", b"to: 2\r\n"]


@pytest.mark.parametrize(("value", "expected"), [
    (b"a@b.c", [b"a@b.c"]),
    (b" Joe <a@b.c>", [b"a@b.c"]),
    (b' "Joe, x@y.z" <a@b.c> (c@d.e)', [b"a@b.c"]),
    (b"\r\n a@b.c (Joe (not x@y.z))", [b"a@b.c"]),
    (b"a@b.c, <d@e.f> , Joe <g@h.i>", [b"a@b.c", b"d@e.f", b"g@h.i"]),
    (b"friends: a@b.c, d@e.f;, g@h.i", [b"a@b.c", b"d@e.f", b"g@h.i"]),
    (b"undisclosed:;", []),
    (b"x@y.z: a@b.c;", [b"a@b.c"]),
    (b'"a b"@c.d', [b'"a b"@c.d']),
    (b'<"a>b"@c.d>', [b'"a>b"@c.d']),
    (b"a . b @ c . d", [b"a.b@c.d"]),
    (b"<@x.y,@z:a@b.c>", [b"a@b.c"]),
    (b"J\xc3\xb6rg <j\xc3\xb6rg@b\xc3\xbccher.test>", [b"j\xc3\xb6rg@b\xc3\xbccher.test"]),
    (b"J\xf6rg <j\xf6rg@b.c>", []),
    (b'"John \\" (x" <a@b.c>', [b"a@b.c"]),
    (b"(unclosed a@b.c", []),
    (b'"unclosed a@b.c', []),
    (b"Joe <a@b.c", [b"a@b.c"]),
    (b"Joe <a@b.c> <d@e.f>", [b"d@e.f"]),
    (b"no address", []),
    (b"", []),
])
def test_authors(value: bytes, expected: list[bytes]) -> None:
    assert authors(b"From:" + value + b"\r\n") == expected


@pytest.mark.parametrize(
    "unit", [b'"', b'\\"', b"(", b")", b"(\\", b"<", b'<"', b",", b"a@b,", b":", b" ", b"\\", b"a"])
def test_authors_take_no_time(unit: bytes) -> None:
    began = time.process_time()
    authors(b"From:" + unit * (200_000 // len(unit)) + b"\r\n")
    assert time.process_time() - began < 1.0  # 0.15
