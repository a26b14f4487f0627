"""The content of a message on its way in: where it ends, and whether it may pass; pure.

Rules
    Content ends at CRLF . CRLF and nowhere else. A bare CR or LF is never a line end: it
    spoils the message, so that nothing can be smuggled past this server or the next
    (RFC 5321 2.3.8, 4.1.1.4). Readers that normalise take it out instead.
    Octets come out as received, transparency dots included (RFC 5321 4.5.2): that is the
    form of CDB and of the next transfer.
    Neither those dots nor a line end that is added count for the size (RFC 1870 5).
"""
from collections.abc import Iterable, Iterator
from typing import Final

from meta1g.mta import limits
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.command import Bdat
from meta1g.proto.smtp.line_ends import LineEnds, held_back

_END: Final = b"\r\n.\r\n"


class ContentFacts:
    """What is known of content that has come so far: `size`, `is_8bit`, `has_bare_line_end`, `has_nul` and
    `longest_line` (octets, CRLF not counted, but a transparency dot is)."""

    __slots__ = ("_line", "has_bare_line_end", "has_nul", "is_8bit", "longest_line", "size")

    def __init__(self) -> None:
        self._line = 0
        self.size = 0
        self.is_8bit = False
        self.has_bare_line_end = False
        self.has_nul = False
        self.longest_line = 0

    def _judge(self, piece: bytes) -> None:
        self.size += len(piece)
        if not self.is_8bit and not piece.isascii():
            self.is_8bit = True
        if not self.has_nul and b"\0" in piece:
            self.has_nul = True
        lines = piece.split(b"\r\n")
        ends = len(lines) - 1
        if piece.count(b"\n") != ends or piece.count(b"\r") != ends:
            self.has_bare_line_end = True
        if ends:
            longest = max(self._line + len(lines[0]), max(map(len, lines)))
            self._line = len(lines[-1])
        else:
            longest = self._line = self._line + len(piece)
        self.longest_line = max(longest, self.longest_line)


class ContentReader(ContentFacts):
    """Octets after DATA in, the content out.

    `feed` returns what may be passed on; when `is_done`, `rest` holds the octets behind
    the final dot. The facts grow meanwhile.
    """

    __slots__ = ("_is_first", "_tail", "is_done", "rest")

    def __init__(self) -> None:
        super().__init__()
        self._tail = b"\r\n"  # DATA's own line end: a dot may follow at once
        self._is_first = True
        self.is_done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take octets from the peer; return those that surely are content."""
        first = self._is_first
        buffer = self._tail + data
        end = buffer.find(_END)
        if end >= 0:
            self.is_done = True
            self.rest = buffer[end + len(_END):]
            piece = buffer[: end + 2]
        else:
            keep = len(_END) - 1
            cut = len(buffer) - keep
            if cut > 0 and buffer[cut - 1: cut + 1] == b"\r\n":  # which are never parted
                cut -= 1
            if (cut < 2 and first) or cut <= 0:
                self._tail = buffer
                return b""
            piece, self._tail = buffer[:cut], buffer[cut:]
        if first:
            self._is_first = False
            piece = piece[2:]
        if piece:
            self.size -= piece.count(b"\r\n.") + (not self._line and piece.startswith(b"."))
            self._judge(piece)
        return piece


class ChunkReader(ContentFacts):
    """Octets of BDAT in, content in wire form out: with a dot more where a line begins with one (RFC 3030)."""

    __slots__ = ("_is_first", "_line_ends", "_tail")

    def __init__(self, line_ends: LineEnds | None = None) -> None:
        super().__init__()
        self._line_ends = line_ends
        self._tail = b""
        self._is_first = True

    def feed(self, data: bytes) -> bytes:
        """Take octets of a chunk; return those that can be passed on. A line end at the end waits for what follows."""
        buffer = self._tail + (self._line_ends.feed(data) if self._line_ends else data)
        keep = held_back(buffer)
        piece, self._tail = buffer[: len(buffer) - keep], buffer[len(buffer) - keep:]
        return self._out(piece)

    def finish(self) -> bytes:
        """The last octets; a line end is added if the content has none there."""
        rest = self._tail + (self._line_ends.finish() if self._line_ends else b"")
        self._tail = b""
        if not rest.endswith(b"\r\n") and (self.size or rest):
            rest += b"\r\n"
            self.size -= 2
        return self._out(rest)

    def _out(self, piece: bytes) -> bytes:
        if not piece:
            return b""
        self._judge(piece)
        stuffed = piece.replace(b"\r\n.", b"\r\n..")
        if self._is_first and stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        self._is_first = False
        return stuffed


class NormalReader(ChunkReader):
    """A `ContentReader` whose content comes out with CRLF at the end of each line, whatever it came with."""

    __slots__ = ("_wire",)

    def __init__(self) -> None:
        super().__init__(LineEnds(is_stuffed=True))
        self._wire = ContentReader()

    @property
    def is_done(self) -> bool:
        """Whether the final dot has come."""
        return self._wire.is_done

    @property
    def rest(self) -> bytes:
        """The octets behind the final dot."""
        return self._wire.rest

    def feed(self, data: bytes) -> bytes:
        """Take octets from the peer; return those that surely are content."""
        piece = super().feed(self._wire.feed(data))
        return piece + self.finish() if self.is_done else piece


def stuff(content: bytes) -> bytes:
    """Content with a dot put before each line that begins with one, and CRLF at its end."""
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..")


def unstuff(content: bytes) -> bytes:
    """Content as the author wrote it: one dot taken from each line that begins with one.

    Works on whole content or on pieces that begin at a line's start.
    """
    if content.startswith(b"."):
        content = content[1:]
    return content.replace(b"\r\n.", b"\r\n")


def unstuffed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What `unstuff` makes of content that comes in pieces, wherever they begin and end."""
    tail, is_first = b"", True
    for piece in pieces:
        if is_first and piece:
            piece, is_first = piece.removeprefix(b"."), False
        buffer = tail + piece
        keep = held_back(buffer)
        tail = buffer[len(buffer) - keep:]
        yield buffer[: len(buffer) - keep].replace(b"\r\n.", b"\r\n")
    yield tail


class ChunkComing:
    """A chunk on its way: octets that are still to come, and the reply that it gets all the same if it is refused."""

    __slots__ = ("is_last", "left", "refusal", "size")

    def __init__(self, command: Bdat) -> None:
        self.left = self.size = command.size
        self.is_last = command.is_last
        self.refusal: Reply | None = None


def fault_of(content: ContentReader | ChunkReader, size_max: int, *, is_binary: bool) -> Reply | None:
    """Why complete content can't be accepted as it is; None if it can."""
    if not is_binary:
        if content.has_bare_line_end:
            return replies.BARE_LINE_END
        if content.has_nul:
            return replies.NUL
    if content.size > size_max:
        return replies.TOO_LARGE
    if content.longest_line > limits.TEXT_LINE_LENIENT and not is_binary:
        return replies.CONTENT_LINE_TOO_LONG
    return None
