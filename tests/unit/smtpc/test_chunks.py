"""Content that is kept in wire form, as BDAT takes it."""
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.limits import CHUNK, JOURNAL_MESSAGE
from meta1g.proto.smtp.data import stuff, unstuff
from meta1g.smtpc.fitting import chunks

PIECE = 64 * 1024


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[at:at + size] for at in range(0, len(content), size)]


@given(st.lists(st.sampled_from([b".", b"..", b"\r\n", b"x" * 50_000, b"", b".\r\n"]), max_size=20),
       st.sampled_from([7919, PIECE, 1 << 20]))
def test_chunks_are_the_content_without_dots(parts: list[bytes], size: int) -> None:
    content = b"".join([*parts, b"\r\n"])
    found = list(chunks(cut(stuff(content), size)))
    assert b"".join(octets for octets, _ in found) == content
    assert [is_last for _, is_last in found] == [False] * (len(found) - 1) + [True]
    assert all(octets for octets, _ in found)


def test_what_the_journal_holds_is_one_chunk() -> None:
    content = (b"x" * 998 + b"\r\n") * (JOURNAL_MESSAGE // 1000)
    assert list(chunks([content])) == [(content, True)]
    assert list(chunks(cut(content, PIECE))) == [(content, True)]


def test_a_file_makes_few_of_them() -> None:
    content = (b"." + b"x" * 69 + b"\r\n") * 100_000
    found = [octets for octets, _ in chunks(cut(stuff(content), PIECE))]
    assert b"".join(found) == content == unstuff(stuff(content))
    assert all(CHUNK - PIECE <= len(octets) <= CHUNK for octets in found[:-1])


def test_nothing_is_a_chunk_too() -> None:
    assert list(chunks([])) == [(b"", True)]
