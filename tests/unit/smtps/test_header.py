"""What filters change in a header: positions, names, and what becomes of odd ones."""
import pytest

from meta1g.smtps.filter import ChangeField, InsertField, ReplaceField
from meta1g.smtps.header import Header, field_of

OURS = b"Received: by us\r\n"
GIVEN = b"A: 1\r\nReceived: by them\r\nB: 2\r\n\tfolded\r\na: 3\r\n"


def written(header: Header) -> bytes:
    return b"".join(header.parts)


@pytest.mark.parametrize(("change", "front", "behind"), [
    (InsertField(0, b"X: y"), b"X: y\r\n", GIVEN),
    (InsertField(1, b"X: y"), b"", b"X: y\r\n" + GIVEN),
    (InsertField(2, b"X: y"), b"", b"A: 1\r\nX: y\r\n" + GIVEN[6:]),
    (InsertField(99, b"X: y"), b"", GIVEN + b"X: y\r\n"),
    (InsertField(None, b"X: y\n"), b"", GIVEN + b"X: y\r\n"),
    (ChangeField(b"received", 1, b"Received: else"), b"", GIVEN.replace(b"Received: by them", b"Received: else")),
    (ChangeField(b"A", 2, b"a: 4"), b"", GIVEN.replace(b"a: 3", b"a: 4")),
    (ChangeField(b"A", 2, b""), b"", GIVEN.replace(b"a: 3\r\n", b"")),
    (ChangeField(b"A", 0, b""), b"", GIVEN.replace(b"A: 1\r\n", b"")),
    (ChangeField(b"A", 3, b"A: 5"), b"", GIVEN + b"A: 5\r\n"),
    (ChangeField(b"A", 3, b""), b"", GIVEN),
    (ReplaceField(1, b"X: y"), b"", GIVEN.replace(b"A: 1", b"X: y")),
    (ReplaceField(3, b""), b"", GIVEN.replace(b"B: 2\r\n\tfolded\r\n", b"")),
])
def test_changes(change: InsertField | ChangeField | ReplaceField, front: bytes, behind: bytes) -> None:
    header = Header(OURS, GIVEN)
    header.apply(change)
    assert header.parts == (front, OURS, behind)


def test_ours_can_be_replaced_by_position_only() -> None:
    header = Header(OURS, GIVEN)
    assert [field.name for field in header.fields] == [b"a", b"received", b"b", b"a"]
    header.apply(ReplaceField(0, b""))
    assert header.parts == (b"", b"", GIVEN)
    header = Header(OURS, GIVEN)
    header.apply(ReplaceField(0, b"Received: by somebody"))
    assert written(header) == b"Received: by somebody\r\n" + GIVEN


@pytest.mark.parametrize(("octets", "field"), [
    (b"A: b", b"A: b\r\n"), (b"A:b\r\n", b"A:b\r\n"), (b"A: b\nc\n d\n\n", b"A: b\r\n\tc\r\n d\r\n"),
    (b"A: b\r\n\r\nBcc: x", b"A: b\r\n\tBcc: x\r\n"), (b"A: b\0\rc", b"A: b\r\n\tc\r\n"), (b"A : b", b"A : b\r\n"),
    (b"A: b\n \t\n c", b"A: b\r\n c\r\n")])
def test_fields_are_made_proper(octets: bytes, field: bytes) -> None:
    assert field_of(octets).octets == field
    assert field_of(octets).name == b"a"


@pytest.mark.parametrize("octets", [b"", b"A", b": b", b"A b: c", b"\nA: b", b"\xe4: b", b"A: " + b"x" * 70_000])
def test_what_is_no_field(octets: bytes) -> None:
    with pytest.raises(ValueError):
        Header(OURS, GIVEN).apply(InsertField(0, octets))


def test_header_does_not_grow_without_end() -> None:
    header = Header(OURS, GIVEN)
    with pytest.raises(ValueError, match="too large"):
        for _ in range(40):
            header.apply(ChangeField(b"A", 1, b"A: " + b"x" * 60_000))


def test_what_is_no_field_belongs_to_the_body() -> None:
    header = Header(OURS, b"A: 1\r\nno field\r\nB: 2\r\n")
    assert [field.octets for field in header.fields] == [b"A: 1\r\n"]
    assert header.rest == b"no field\r\nB: 2\r\n"
    assert Header(OURS, b"").fields == []


def test_dots() -> None:
    header = Header(OURS, b".dot: 1\r\n")
    header.apply(InsertField(0, b".x: y"))
    assert header.parts == (b"..x: y\r\n", OURS, b"..dot: 1\r\n")
