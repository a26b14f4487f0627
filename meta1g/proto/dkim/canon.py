"""Canonical forms of header fields and bodies (RFC 6376 3.4); pure.

Rules
    A body comes in pieces of any size, in wire form: transparency dots go first (RFC 5321 4.5.2).
    Nothing is kept but a count of empty lines, a blank, a CR: memory does not grow with the body.
"""
import re
from collections.abc import Callable
from typing import Final

_CRLF: Final = b"\r\n"
_LINE_ENDS: Final = re.compile(rb"(?:\n\r)*")  # seen from behind
_BLOCK: Final = 4096  # empty lines put out at once


def canonical_field(field: bytes, *, is_relaxed: bool) -> bytes:
    """A header field with its CRLF, and the same in canonical form (RFC 6376 3.4.1, 3.4.2)."""
    if not is_relaxed:
        return field
    name, _, value = field.partition(b":")
    return name.rstrip(b" \t").lower() + b":" + _squeezed(value.replace(_CRLF, b"")).strip(b" ") + _CRLF


class CanonicalBody:
    """Pieces of a body in wire form in, its canonical form out to `sink` (RFC 6376 3.4.3, 3.4.4)."""

    __slots__ = ("_at_line_start", "_blank", "_cr", "_empty_lines", "_has_text", "_is_relaxed", "_sink")

    def __init__(self, sink: Callable[[bytes], object], *, is_relaxed: bool) -> None:
        self._sink = sink
        self._is_relaxed = is_relaxed
        self._at_line_start = True
        self._cr = b""  # a CR at the end may be half a line end
        self._blank = b""  # blanks at the end count only if something follows in their line
        self._empty_lines = 0  # and the end of the line before: nothing if the body ends here
        self._has_text = False

    def feed(self, piece: bytes) -> None:
        """The next piece, cut anywhere."""
        text = self._cr + piece
        self._cr = b"\r" if text.endswith(b"\r") else b""
        text = text[: len(text) - len(self._cr)]
        if text:
            self._take(self._unstuffed(text))

    def finish(self) -> None:
        """The body is over: it ends in one CRLF, and relaxed it may be empty."""
        if self._cr:
            self._take(self._cr)
        if self._has_text or not self._is_relaxed:
            self._sink(_CRLF)

    def _unstuffed(self, text: bytes) -> bytes:
        starts, self._at_line_start = self._at_line_start, text.endswith(_CRLF)
        return (text.removeprefix(b".") if starts else text).replace(b"\r\n.", _CRLF)

    def _take(self, text: bytes) -> None:
        if self._is_relaxed:
            text = _squeezed(self._blank + text)
            self._blank = b" " if text.endswith(b" ") else b""
            text = text[: len(text) - len(self._blank)].replace(b" \r\n", _CRLF)
        rest = text.rstrip(_CRLF)
        match = _LINE_ENDS.match(text[len(rest):][::-1])
        ends = match.end() if match else 0
        text = text[: len(text) - ends]
        if text:
            self._put_line_ends()
            self._sink(text)
            self._has_text = True
        self._empty_lines += ends // 2

    def _put_line_ends(self) -> None:
        while self._empty_lines:
            count = min(self._empty_lines, _BLOCK)
            self._sink(_CRLF * count)
            self._empty_lines -= count


def _squeezed(text: bytes) -> bytes:
    """Each run of blanks and tabs as one blank; passes over all of it, as few as a run's length has bits."""
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text
