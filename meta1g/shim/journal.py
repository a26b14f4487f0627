"""The content journal: messages appended to segments, one writer per SMTPS process (design 5).

Rules
    A segment is a sequence of records: magic, transaction id, length and CRC-32 of the
    content, then the content. `Content.offset` points to the content, behind the header.
    Nothing counts before `flush` returns. After a failed write or flush the segment is
    given up: the next record begins a new one.
    Names are unique for ever, because a transaction id is part of them.

Files
    CDB/journal/J<id>: 0640 meta1s:meta1c, appended by SMTPS, read by SMTPC, removed by QMGR.
"""
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from meta1g.mta import limits
from meta1g.mta.errors import CorruptRecord, StoreError
from meta1g.mta.ids import is_ta_id
from meta1g.proto.msg_ss import Content
from meta1g.shim.safeio import Disk

FOLDER: Final = "journal"
MODE: Final = 0o640  # M1 2.4.1, as content files
_MAGIC: Final = b"MJ1\n"
_HEADER: Final = struct.Struct("<4s19sxII")
_NAME: Final = re.compile(r"J[0-9A-F]{18}")


class Entry(NamedTuple):
    """A message to append: its transaction and its content in pieces."""

    ta: str
    pieces: Sequence[bytes]


def is_segment(name: str) -> bool:
    """Whether `name` has the form of a segment's name, so that it may become part of a path."""
    return _NAME.fullmatch(name) is not None


class JournalWriter:
    """Appends messages; not safe for two threads at once.

    `gid` is the group that may read (CDB_gid), -1 keeps the process's own.
    """

    def __init__(self, disk: Disk, base: str, gid: int = -1) -> None:
        self._disk = disk
        self._folder = base + FOLDER
        self._gid = gid
        self._fd = -1
        self._path = ""
        self._end = 0
        self.segment = ""

    def write(self, entries: Sequence[Entry]) -> list[Content]:
        """Append messages and flush them; where each lies. StoreError: none of them counts."""
        if self._fd < 0 or self._end > limits.JOURNAL_SEGMENT:
            self._begin(entries[0].ta)
        buffers: list[bytes] = []
        places = []
        at = self._end
        for ta, pieces in entries:
            length = sum(map(len, pieces))
            crc = 0
            for piece in pieces:
                crc = zlib.crc32(piece, crc)
            buffers.append(_HEADER.pack(_MAGIC, ta.encode("ascii"), length, crc))
            buffers.extend(pieces)
            places.append(Content(at + _HEADER.size, length, self.segment))
            at += _HEADER.size + length
        try:
            self._disk.append(self._fd, self._path, buffers)
            self._disk.flush(self._fd, self._path)
        except StoreError:
            self.end_segment()
            raise
        self._end = at
        return places

    def end_segment(self) -> None:
        """Write no more into the present segment."""
        if self._fd >= 0:
            self._disk.close(self._fd)
        self._fd, self.segment = -1, ""

    def _begin(self, ta: str) -> None:
        self.end_segment()
        name = "J" + ta[1:]
        path = f"{self._folder}/{name}"
        self._fd = self._disk.create(path, MODE, self._gid)
        self._path, self._end, self.segment = path, 0, name
        try:
            self._disk.flush_folder(self._folder)
        except StoreError:
            self.end_segment()
            raise


def read_content(disk: Disk, base: str, ta: str, content: Content) -> bytes:
    """The content of a message in the journal; StoreError or CorruptRecord if it can't be had intact."""
    reader = JournalReader(disk, base)
    try:
        return reader.read(ta, content)
    finally:
        reader.close()


class JournalReader:
    """Reads messages and keeps the segment open that was read last; one thread uses it."""

    def __init__(self, disk: Disk, base: str) -> None:
        self._disk = disk
        self._folder = base + FOLDER
        self._segment = ""
        self._fd = -1

    def close(self) -> None:
        """Let go of the open segment, so that its space is free once it is removed."""
        if self._fd >= 0:
            self._disk.close(self._fd)
        self._segment, self._fd = "", -1

    def read(self, ta: str, content: Content) -> bytes:
        """The content of a message; StoreError or CorruptRecord if it can't be had intact."""
        path = f"{self._folder}/{content.segment}"
        if content.segment != self._segment:
            self.close()
            if not is_segment(content.segment):
                raise CorruptRecord(content.segment, content.offset, "not a segment's name")
            self._fd, self._segment = self._disk.open_read(path), content.segment
        start = content.offset - _HEADER.size
        data = self._disk.read_at(self._fd, path, _HEADER.size + content.length, start)
        if len(data) != _HEADER.size + content.length:
            raise CorruptRecord(path, start, "record is cut short")
        magic, owner, length, crc = _HEADER.unpack_from(data)
        body = data[_HEADER.size:]
        if magic != _MAGIC or owner.decode("ascii", "replace") != ta or length != content.length:
            raise CorruptRecord(path, start, f"no record of {ta} here")
        if zlib.crc32(body) != crc:
            raise CorruptRecord(path, start, f"content of {ta} is damaged (checksum)")
        return body


def scan(disk: Disk, base: str, segment: str) -> Iterator[tuple[str, Content]]:
    """The records of a segment in order, for checks and repair; ends at a torn tail."""
    path = f"{base}{FOLDER}/{segment}"
    fd = disk.open_read(path)
    try:
        at, end = 0, disk.size(fd, path)
        while at + _HEADER.size <= end:
            magic, owner, length, _ = _HEADER.unpack(disk.read_at(fd, path, _HEADER.size, at))
            ta = owner.decode("ascii", "replace")
            if magic != _MAGIC or not is_ta_id(ta) or at + _HEADER.size + length > end:
                return
            yield ta, Content(at + _HEADER.size, length, segment)
            at += _HEADER.size + length
    finally:
        disk.close(fd)
