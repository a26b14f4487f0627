"""Line ends of content: CRLF made of what came instead; pure.

Rules
    A bare LF ends a line, a bare CR is a space: what other servers may take for the end of a line or of the
    message is none any more (RFC 5321 2.3.8).
    Transparency dots go first (RFC 5321 4.5.2), and only behind CRLF: they are put anew when every line end is one.
"""
import re
from typing import Final

_PLAIN: Final = re.compile(rb"\r\n|\r|\n")
_STUFFED: Final = re.compile(rb"\r\n\.?|\r|\n")


class LineEnds:
    """Content with any line ends in, the same with CRLF out; `is_stuffed` if it has transparency dots, which go."""

    __slots__ = ("_is_first", "_tail", "_token")

    def __init__(self, is_stuffed: bool) -> None:
        self._token = _STUFFED if is_stuffed else _PLAIN
        self._tail = b""
        self._is_first = is_stuffed

    def feed(self, piece: bytes) -> bytes:
        """Take octets; return what surely is content. A line end at the end waits for what follows."""
        if self._is_first and piece:
            piece, self._is_first = piece.removeprefix(b"."), False
        buffer = self._tail + piece
        keep = held_back(buffer)
        self._tail = buffer[len(buffer) - keep:]
        return self._token.sub(_normal, buffer[: len(buffer) - keep])

    def finish(self) -> bytes:
        """The last octets."""
        rest, self._tail = self._tail, b""
        return self._token.sub(_normal, rest)


def held_back(buffer: bytes) -> int:
    """How many octets at the end may be part of a line end with a dot behind it."""
    return 2 if buffer.endswith(b"\r\n") else 1 if buffer.endswith(b"\r") else 0


def _normal(token: re.Match[bytes]) -> bytes:
    return b" " if token[0] == b"\r" else b"\r\n"
