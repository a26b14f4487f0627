"""Mail with 8-bit octets for a server that takes none: parts become quoted-printable (RFC 6152 3, RFC 2045); pure.

Rules
    The content is read twice: to find the parts that have such octets, and to convert those and no others,
    so that what is signed in 7 bits stays as it is. Parts are counted in the order of their headers.
    Octets in a header can't be converted so, nor can what nests too deeply or has a header beyond HEADER_MAX:
    Unconvertible says which.
"""
import binascii
import re
from collections.abc import Container, Iterable, Iterator
from typing import Final

HEADER_MAX: Final = 256 << 10  # octets of one part's header; twice what Postfix keeps (header_size_limit)
DEPTH_MAX: Final = 100  # nested multiparts; Postfix's mime_nesting_limit
_LINE_MAX: Final = 1 << 20  # octets without a line end
_TYPE_MAX: Final = 2048  # octets of Content-Type; a boundary has 70 (RFC 2046 5.1.1)
_NO_PART: Final = -1
_ENCODED: Final = (b"base64", b"quoted-printable")
_BOUNDARY: Final = re.compile(rb';[ \t]*boundary[ \t]*=[ \t]*(?:"([^"]+)"|([^ \t;"]+))', re.IGNORECASE)
_OCTET: Final = re.compile(rb"[\x80-\xff]")
_EIGHT_BIT: Final = bytes(range(128, 256))
_QUESTION_MARKS: Final = bytes(range(128)) + b"?" * 128
_NAME: Final = b"content-transfer-encoding:"


class Unconvertible(Exception):
    """Why the content can't be had in 7 bits."""


class _Parts:
    """Lines in, and for each what it is: a part's header, or a line of the body of part `number`.

    `is_leaf` is not so before, between and behind the parts of a multipart; `encoding` is a leaf's, in lower case.
    """

    def __init__(self) -> None:
        self.number = -1
        self.is_leaf = True
        self.encoding = b""
        self._header: list[bytes] | None = []
        self._header_size = 0
        self._boundaries: list[bytes] = []

    def take(self, line: bytes) -> list[bytes] | None:
        """A line without its end. A header is returned when it is complete, with the line that ended it; for
        what is in a header an empty list; None for a line of a body."""
        if self._header is not None:
            self._header.append(line)
            self._header_size += len(line)
            if self._header_size > HEADER_MAX:
                raise Unconvertible("a header is too long")
            if line and not self._ends_part(line):
                return []
            header, self._header = self._header, None
            self._header_size = 0
            self.number += 1
            self._begin(header[:-1])
            if line:
                self._between(line)
            return header
        if self._ends_part(line):
            self._between(line)
        return None

    def finish(self) -> list[bytes]:
        """What is left of a header that nothing ended."""
        return self._header or []

    def _ends_part(self, line: bytes) -> bool:
        return line[:2] == b"--" and any(line.startswith(boundary) for boundary in self._boundaries)

    def _between(self, line: bytes) -> None:
        """A boundary: a header follows, or what is behind the last part."""
        depth = next(at for at in reversed(range(len(self._boundaries))) if line.startswith(self._boundaries[at]))
        is_last = line[len(self._boundaries[depth]):].startswith(b"--")
        del self._boundaries[depth if is_last else depth + 1:]
        self.is_leaf = False
        self._header = None if is_last else []

    def _begin(self, lines: list[bytes]) -> None:
        fields = _fields(lines)
        kind = _value(fields, b"content-type:")
        boundary = _BOUNDARY.search(kind) if kind.lower().startswith(b"multipart/") else None
        self.encoding = _value(fields, _NAME).lower()
        self.is_leaf = boundary is None
        if boundary is not None:
            self._boundaries.append(b"--" + (boundary[1] or boundary[2]))
        elif kind.partition(b";")[0].strip().lower() == b"message/rfc822" and self.encoding not in _ENCODED:
            self._header = []
        if len(self._boundaries) > DEPTH_MAX:
            raise Unconvertible("its parts nest too deeply")


def eight_bit_parts(content: Iterable[bytes]) -> set[int]:
    """Numbers of the parts that have 8-bit octets, and _NO_PART for what is between parts; the content has no
    transparency dots. Unconvertible."""
    parts, found = _Parts(), set()
    for line in _lines(content):
        header = parts.take(line)
        if header is None:
            if not line.isascii():
                found.add(parts.number if parts.is_leaf else _NO_PART)
        elif not all(text.isascii() for text in header):
            raise Unconvertible("its header has 8-bit octets")
    if not all(text.isascii() for text in parts.finish()):
        raise Unconvertible("its header has 8-bit octets")
    return found


def seven_bit(content: Iterable[bytes], eight_bit: Container[int]) -> Iterator[bytes]:
    """The content, without transparency dots, with those parts in quoted-printable and CRLF at its end."""
    parts = _Parts()
    for line in _lines(content):
        header = parts.take(line)
        if header is None:
            yield _body(line, parts, eight_bit)
        elif header:
            converts = parts.is_leaf and parts.number in eight_bit and parts.encoding not in _ENCODED
            yield _header(header, is_first=parts.number == 0, converts=converts)
    rest = parts.finish()
    if rest:
        yield b"\r\n".join(rest) + b"\r\n"


def _body(line: bytes, parts: _Parts, eight_bit: Container[int]) -> bytes:
    if not parts.is_leaf:
        line = line.translate(_QUESTION_MARKS)  # nobody is shown what is between the parts
    elif parts.number in eight_bit and parts.encoding == b"base64":
        line = line.translate(None, _EIGHT_BIT)  # as decoders do (RFC 2045 6.8)
    elif parts.number in eight_bit and parts.encoding == b"quoted-printable":
        line = _OCTET.sub(lambda octet: b"=%02X" % octet[0][0], line)
    elif parts.number in eight_bit:
        line = binascii.b2a_qp(line, istext=True).replace(b"\n", b"\r\n")
    return line + b"\r\n"


def _header(lines: list[bytes], *, is_first: bool, converts: bool) -> bytes:
    """A part's header with the encoding that the part now has, and the line that ended it."""
    *lines, end = lines
    kept, was_8bit = [], False
    for field in _fields(lines):
        is_encoding = field.lower().startswith(_NAME)
        is_8bit = is_encoding and field[len(_NAME):].strip().lower() in (b"8bit", b"binary")
        was_8bit |= is_8bit
        if not is_8bit and not (converts and is_encoding):
            kept.append(field)
    if converts:
        kept += _mime(lines) if is_first else []
        kept.append(b"Content-Transfer-Encoding: quoted-printable")
    elif was_8bit:
        kept.append(b"Content-Transfer-Encoding: 7bit")
    return b"\r\n".join([*kept, end]) + b"\r\n"


def _value(fields: list[bytes], name: bytes) -> bytes:
    """The first field of that name, unfolded; empty if there is none. Unconvertible if it is very long."""
    for field in fields:
        if field[:len(name)].lower() == name:
            if len(field) > _TYPE_MAX:
                raise Unconvertible("its Content-Type is too long")
            return b" ".join(field[len(name):].split())
    return b""


def _fields(lines: list[bytes]) -> list[bytes]:
    """Header fields with their continuation lines."""
    fields: list[bytes] = []
    at = 0
    while at < len(lines):
        end = at + 1
        while end < len(lines) and lines[end].startswith((b" ", b"\t")):
            end += 1
        fields.append(b"\r\n".join(lines[at:end]))
        at = end
    return fields


def _mime(lines: list[bytes]) -> list[bytes]:
    """What a message that is not MIME needs to be (RFC 2045 4, RFC 1428 3)."""
    names = {line.partition(b":")[0].strip().lower() for line in lines}
    added = [] if b"mime-version" in names else [b"MIME-Version: 1.0"]
    return added if b"content-type" in names else [*added, b"Content-Type: text/plain; charset=unknown-8bit"]


def _lines(content: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in content:
        *lines, rest = (rest + piece).split(b"\r\n")
        yield from lines
        if len(rest) > _LINE_MAX:
            raise Unconvertible("a line is too long")
    if rest:
        yield rest
