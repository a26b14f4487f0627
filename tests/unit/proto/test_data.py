"""Readers of content: what they keep is bounded, and what they count is what RFC 1870 5 counts."""
import pytest

from meta1g.proto.smtp.data import ChunkReader, ContentReader, NormalReader


@pytest.mark.parametrize("octet", [b"\r", b"\n", b".", b"\r\n", b"\r\n."])
@pytest.mark.parametrize("reader", [ContentReader, ChunkReader, NormalReader])
def test_nothing_is_kept_back(reader: type[ContentReader | ChunkReader], octet: bytes) -> None:
    """All but a possible end goes on at once: a flood of CR was once kept whole, and looked at again each time."""
    content, out = reader(), 0
    for number in range(1000):
        out += len(content.feed(octet))
        assert out >= len(octet) * (number + 1) - 8


def test_size_is_that_of_the_message() -> None:
    content = ContentReader()
    assert content.feed(b"..\r\nx.\r\n...\r\n.y\r\n.\r\n") == b"..\r\nx.\r\n...\r\n.y\r\n"
    assert content.size == len(b".\r\nx.\r\n..\r\ny\r\n")


@pytest.mark.parametrize("step", range(1, 8))
def test_size_does_not_depend_on_cuts(step: int) -> None:
    wire = b"..\r\n..x\r\n\r\n..\r\n.\r\n"
    content = ContentReader()
    for at in range(0, len(wire), step):
        content.feed(wire[at : at + step])
    assert content.is_done
    assert content.size == len(b".\r\n.x\r\n\r\n.\r\n")


def test_an_added_line_end_is_not_of_the_message() -> None:
    chunks = ChunkReader()
    assert chunks.feed(b".x") + chunks.finish() == b"..x\r\n"
    assert chunks.size == 2
