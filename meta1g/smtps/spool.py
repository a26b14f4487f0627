"""What a filter gives in place of a body or a message, on its way to the disk if it is large.

Rules
    It is kept in wire form: line ends become CRLF, transparency dots are put in (RFC 5321 4.5.2).
"""
from collections.abc import Iterator
from typing import Final

from meta1g.mta import limits
from meta1g.proto.smtp.data import ChunkReader
from meta1g.proto.smtp.line_ends import LineEnds
from meta1g.smtps.incoming import Incoming, Store

GROWTH: Final = 1 << 20  # octets that a message may get larger by filters


class ContentSpool:
    """One of them; `size_max` in octets."""

    def __init__(self, store: Store, ta: str, mark: str, size_max: int) -> None:
        self._incoming = Incoming(store, ta, mark)
        self._reader = ChunkReader(LineEnds(is_stuffed=False))
        self._size_max = size_max

    def append(self, octets: bytes) -> None:
        """More of it. StoreError if the disk refuses, ValueError if it is more than may be."""
        piece = self._reader.feed(octets)
        if self._reader.size > self._size_max:
            raise ValueError("it is larger than a message may be")
        if piece:
            self._incoming.append(piece)

    def finish(self) -> None:
        """That is all. StoreError, ValueError if no message may have it."""
        piece = self._reader.finish()
        if piece:
            self._incoming.append(piece)
        if self._reader.has_nul:
            raise ValueError("it contains NUL")
        if self._reader.longest_line > limits.TEXT_LINE_LENIENT:
            raise ValueError("it has a line that is too long")

    def read(self, start: int) -> Iterator[bytes]:
        """What came, in wire form, from this offset on."""
        return self._incoming.read(start)

    def abort(self) -> None:
        """It is not needed any more."""
        self._incoming.abort()
