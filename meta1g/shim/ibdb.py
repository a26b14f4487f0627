"""IBDB, the envelope log: append-only files with a running number (M1 7.1, design 5).

Rules
    A file begins with magic, version and its number. A record is magic, length, CRC-32,
    body. What follows a damaged record is looked for by the magic, so that damage costs one
    record and is reported with file and offset.
    The first record of a batch has a magic of its own: all before it was on stable storage
    when it was written. A loss of power can leave any part of the last batch, and nobody can
    tell whether what is missing there was never flushed or is damaged: it is reported as torn.
    A file may go when every transaction and attempt that began in it or before it has
    ended: so the oldest go first, and no end is forgotten before its beginning.

Files
    ibdb/ibdb/NNNNNNNN.ibdb: 0600 meta1q, written by QMGR alone.
"""
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from meta1g.mta.errors import CorruptRecord, FrameError, StoreError, TornTail
from meta1g.shim.records import IBDB_CODEC, VERSION, Attempt, IbdbRecord, IdsGiven, RcptEnd, TaNew
from meta1g.shim.safeio import Disk

FOLDER: Final = "ibdb/ibdb"
MODE: Final = 0o600
_FILE_MAGIC: Final = b"M1IB"
_FILE_HEADER: Final = struct.Struct("<4sIQ")
_MAGIC: Final = b"\xa7IR\n"
_FIRST: Final = b"\xa7IB\n"  # of a batch
_NEXT: Final = re.compile(rb"\xa7I[RB]\n")
_HEADER: Final = struct.Struct("<4sII")
_NAME: Final = re.compile(r"([0-9A-F]{8})\.ibdb")


def _name(number: int) -> str:
    return f"{number:08X}.ibdb"


def encode(record: IbdbRecord, *, is_first: bool = False) -> bytes:
    """A record with its header; `is_first` of a batch."""
    body = IBDB_CODEC.encode(record)
    return _HEADER.pack(_FIRST if is_first else _MAGIC, len(body), zlib.crc32(body)) + body


class Ibdb:
    """The writer; one thread uses it.

    `size_max` is the size in octets beyond which a new file begins (M1 3.8 item 7.2).
    """

    def __init__(self, disk: Disk, folder: str, size_max: int) -> None:
        self._disk = disk
        self._folder = folder
        self._size_max = size_max
        self._fd = -1
        self._path = ""
        self._size = 0
        self._number = max((number for number, _ in files(disk, folder)), default=0)
        self._began: dict[str, int] = {}
        self._tried: dict[tuple[str, int], int] = {}
        self._live: dict[int, int] = {}
        self._ids_last = 0

    def write(self, records: Sequence[IbdbRecord]) -> None:
        """Append records and flush them; StoreError: none of them may be taken as stored.

        After an error the file is given up, since its tail can't be trusted any more.
        """
        if self._fd < 0 or self._size > self._size_max:
            self._begin()
        buffers = [encode(record, is_first=at == 0) for at, record in enumerate(records)]
        try:
            self._size += self._disk.append(self._fd, self._path, buffers)
            self._disk.flush(self._fd, self._path)
        except StoreError:
            self._close()
            raise
        for record in records:
            self._account(record)

    def remove_old(self) -> int:
        """Remove files that nothing refers to any more, the oldest first; how many went."""
        count = 0
        for number in sorted(self._live):
            if number == self._number or self._live[number]:
                break
            self._remove(number)
            del self._live[number]
            count += 1
        return count

    def close(self) -> None:
        """The end of an orderly run: if nothing lives here, the next start shall not have to read what was."""
        if self._fd >= 0 and not any(self._live.values()):
            self.forget_before(())

    def _remove(self, number: int) -> None:
        """One file at a time: if a beginning stayed and its end went, mail would come back from the dead."""
        self._disk.unlink(f"{self._folder}/{_name(number)}")
        self._disk.flush_folder(self._folder)

    @property
    def live(self) -> int:
        """Transactions that have not ended here."""
        return len(self._began)

    def forget_before(self, keep: Sequence[IbdbRecord]) -> None:
        """Start afresh after recovery: write `keep` into a new file, then remove all older ones."""
        old = [number for number, _ in files(self._disk, self._folder)]
        self._begin()
        self.write(keep)
        for number in old:
            self._remove(number)

    def _account(self, record: IbdbRecord) -> None:
        if isinstance(record, TaNew):
            self._began[record.ta] = self._number
            self._live[self._number] += 1
            for ended in record.ended:
                self._end(record.origin, ended.idx, is_last=ended.is_last)
        elif isinstance(record, Attempt):
            for tried in record.rcpts:
                self._end_attempt(record.ta, tried.idx)
                self._tried[record.ta, tried.idx] = self._number
                self._live[self._number] += 1
        elif isinstance(record, RcptEnd):
            self._end(record.ta, record.idx, is_last=record.is_last)
        elif isinstance(record, IdsGiven):
            self._ids_last = max(self._ids_last, record.last)

    def _end(self, ta: str, idx: int, *, is_last: bool) -> None:
        self._end_attempt(ta, idx)
        if is_last and ta in self._began:
            self._live[self._began.pop(ta)] -= 1

    def _end_attempt(self, ta: str, idx: int) -> None:
        number = self._tried.pop((ta, idx), 0)
        if number:
            self._live[number] -= 1

    def _begin(self) -> None:
        self._close()
        self._number += 1
        self._path = f"{self._folder}/{_name(self._number)}"
        self._fd = self._disk.create(self._path, MODE)
        self._live[self._number] = 0
        start = [_FILE_HEADER.pack(_FILE_MAGIC, VERSION, self._number), encode(IdsGiven(self._ids_last))]
        try:
            self._size = self._disk.append(self._fd, self._path, start)
            self._disk.flush(self._fd, self._path)
            self._disk.flush_folder(self._folder)
        except StoreError:
            self._close()
            self._abandon(self._number)
            raise

    def _abandon(self, number: int) -> None:
        """Remove a file that could not be begun: a full disk must not be filled with headers too."""
        try:
            self._disk.unlink(f"{self._folder}/{_name(number)}")
            del self._live[number]
        except StoreError:
            pass  # `remove_old` tries again

    def _close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
        self._fd = -1


def files(disk: Disk, folder: str) -> list[tuple[int, str]]:
    """Numbers and names of the log's files, oldest first."""
    found = []
    for name in disk.names(folder):
        match = _NAME.fullmatch(name)
        if match:
            found.append((int(match[1], 16), name))
    return sorted(found)


def read(
    disk: Disk, folder: str, on_damage: Callable[[CorruptRecord], None]
) -> Iterator[IbdbRecord]:
    """All records in order. Damage is told to `on_damage` and skipped, in a file's last batch as TornTail."""
    for _, name in files(disk, folder):
        path = f"{folder}/{name}"
        fd = disk.open_read(path)
        try:
            data = disk.read_at(fd, path, disk.size(fd, path), 0)
        finally:
            disk.close(fd)
        yield from _read_file(path, data, on_damage)


def _read_file(path: str, data: bytes, on_damage: Callable[[CorruptRecord], None]) -> Iterator[IbdbRecord]:
    last_batch = data.rfind(_FIRST)

    def tell(at: int, reason: str) -> None:
        on_damage((CorruptRecord if at < last_batch else TornTail)(path, at, reason))

    if len(data) < _FILE_HEADER.size:
        tell(0, f"the file has {len(data)} octets, less than its header")
        return
    magic, version, _ = _FILE_HEADER.unpack_from(data)
    if magic != _FILE_MAGIC:
        tell(0, "the file does not begin as IBDB does")
    elif version != VERSION:
        tell(0, f"not an IBDB file of version {VERSION}")
        return
    at = _FILE_HEADER.size
    while at < len(data):
        record, end, reason = _read_record(data, at)
        if record is not None:
            yield record
            at = end
            continue
        match = _NEXT.search(data, at + 1)
        end = match.start() if match else len(data)
        tell(at, f"{reason}: {end - at} octets")
        at = end


def _read_record(data: bytes, at: int) -> tuple[IbdbRecord | None, int, str]:
    if at + _HEADER.size > len(data):
        return None, at, "record is cut short"
    magic, length, crc = _HEADER.unpack_from(data, at)
    start = at + _HEADER.size
    body = data[start : start + length]
    if magic not in (_MAGIC, _FIRST) or len(body) != length:
        return None, at, "record is cut short or has no magic"
    if zlib.crc32(body) != crc:
        return None, at, "record is damaged (checksum)"
    try:
        record = IBDB_CODEC.decode(body)
    except FrameError as error:
        return None, at, str(error)
    return record, start + length, ""  # type: ignore[return-value]
