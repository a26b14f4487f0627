"""The file of a Berkeley DB btree, read page by page without the library: is it sound, and what does it hold?

Rules
    The library trusts what it reads: a page of zeros makes it loop for ever. So a
    `Reader` looks at every page before the library does, and goes through a file of any size in the order of keys,
    with a page at a time in memory; `pairs` saves what a bad file still holds.
    A page that makes no sense costs its own pairs. Nothing here proves that a pair is intact:
    who stored it must be able to tell.

Format
    Berkeley DB 5.3: a page begins with LSN (8), number, previous, next (4 each), entries, free
    offset (2 each), level, type (1 each); then the offsets of its items, in a leaf of keys and data in turn.
    An item is length (2), type (1), octets; a large one names a chain of pages instead. A branch has
    length (2), type (1), a spare octet, page (4), number of records (4), key; its first key counts as less than
    all. The first page tells the size of pages, the number of the last one that is in use, and the root's.
"""
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from meta1g.mta.errors import CorruptRecord

_META: Final = struct.Struct("<12xIII8xI")  # magic, version, page size, last page
_MAGIC: Final = 0x053162
_HEADER: Final = struct.Struct("<8xIIIHHBB")
_OFFSET: Final = struct.Struct("<H")
_ITEM: Final = struct.Struct("<HB")
_LARGE_ITEM: Final = struct.Struct("<2xBxII")  # type, first page of the chain, length
_CHILD: Final = struct.Struct("<HBxI4x")  # length of the key, type, page
_ROOT: Final = struct.Struct("<88xI")
_SIZES: Final = frozenset(1 << bits for bits in range(9, 17))  # of a page: 512 octets to 64 KiB
_SIZE: Final = 4096  # of a page when the first one does not tell: a file system's usual block
_FREE, _BRANCH, _LEAF, _CHAIN, _FIRST = 0, 3, 5, 7, 9  # types of pages
_PLAIN, _LARGE = 1, 3  # types of items; a deleted one has a bit more


class _Page(NamedTuple):
    number: int
    before: int
    after: int
    entries: int
    used: int
    level: int
    kind: int


class _Pages(Protocol):
    """Pages of a file; `last` is the number of the last one in use, less than 0 if its first one makes no sense."""

    @property
    def size(self) -> int: ...
    @property
    def last(self) -> int: ...
    def octets(self, number: int) -> bytes: ...
    def header(self, number: int) -> _Page: ...


class _File(NamedTuple):
    data: bytes
    size: int
    last: int

    def octets(self, number: int) -> bytes:
        return self.data[number * self.size:(number + 1) * self.size]

    def header(self, number: int) -> _Page:
        return _Page(*_HEADER.unpack_from(self.data, number * self.size))


class _OnDisk:
    """Pages read when they are wanted, the last one kept."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size, self.last = _measures(os.pread(fd, _SIZE, 0))
        self._kept = (-1, b"")

    def octets(self, number: int) -> bytes:
        if number != self._kept[0]:
            self._kept = (number, os.pread(self._fd, self.size, number * self.size))
        return self._kept[1]

    def header(self, number: int) -> _Page:
        octets = self._kept[1] if number == self._kept[0] else os.pread(self._fd, _HEADER.size, number * self.size)
        return _Page(*_HEADER.unpack_from(octets))


def _measures(first: bytes) -> tuple[int, int]:
    magic, _, size, last = _META.unpack_from(first) if len(first) >= _META.size else (0, 0, 0, 0)
    return (size, last) if magic == _MAGIC and size in _SIZES else (_SIZE, -1)


def _offsets(file: _Pages, number: int, entries: int) -> list[int]:
    room = file.octets(number)[_HEADER.size:]
    return [at for (at,) in _OFFSET.iter_unpack(room[:min(2 * entries, len(room) & ~1)])]


def _check(path: str, file: _Pages, length: int) -> None:
    """CorruptRecord names the first page that the library should not see."""
    if file.last < 0:
        raise CorruptRecord(path, 0, "the file does not begin as a btree of Berkeley DB does")
    if length < (file.last + 1) * file.size:
        raise CorruptRecord(path, length, f"the file ends before its page {file.last}")
    chains = 0
    for number in range(file.last + 1):
        head = file.header(number)
        reason = _page_fault(file, number, head)
        if reason:
            raise CorruptRecord(path, number * file.size, f"page {number}: {reason}")
        chains += head.kind == _LEAF and not head.before
    if chains > 1:
        raise CorruptRecord(path, 0, "the leaves are no chain")


def _page_fault(file: _Pages, number: int, head: _Page) -> str:
    """What is wrong with a page."""
    if head.number != number:
        return f"it says that it is page {head.number}"
    if head.kind == _LEAF:
        after = file.header(head.after) if head.after <= file.last else None
        if after is None or (head.after and (after.kind != _LEAF or after.before != number)):
            return "the next leaf does not follow it"
        if head.entries % 2 or None in _items(file, number, head):
            return "an item is not inside"
    elif head.kind == _BRANCH:
        for at in _offsets(file, number, head.entries):
            child = _CHILD.unpack_from(file.octets(number), at)[2] if at <= file.size - _CHILD.size else 0
            below = file.header(child) if 0 < child <= file.last else None
            if below is None or below.kind not in (_BRANCH, _LEAF) or below.level != head.level - 1:
                return "a page below it is none"
    elif head.kind not in (_FREE, _CHAIN, _FIRST) or (head.kind == _FIRST) != (number == 0):
        return f"unknown type {head.kind}"
    return ""


class Reader:
    """A file that nobody writes any more, in the order of its keys; OSError as it is opened or read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._file = _OnDisk(self._fd)

    def check(self) -> None:
        """CorruptRecord names the first page that makes no sense; the rest may be asked only if there is none."""
        _check(self._path, self._file, os.fstat(self._fd).st_size)

    def pairs(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from `start` on; several may be under way at once."""
        file = _OnDisk(self._fd)  # a page of its own
        number = self._leaf(file, start)
        for _ in range(file.last + 1):  # in a chain that was checked this many at most
            head = file.header(number)
            for key, value in _paired(_items(file, number, head)):
                if key >= start:
                    yield key, value
            number = head.after
            if not number:
                return

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _leaf(self, file: _OnDisk, start: bytes) -> int:
        """The leaf where `start` is, or would be."""
        number: int = _ROOT.unpack_from(file.octets(0))[0]
        if not 0 < number <= file.last:
            raise CorruptRecord(self._path, 0, f"page {number} can't be the root")
        while (head := file.header(number)).kind == _BRANCH and head.entries:
            number = _child(file, number, head, start)
        if head.kind != _LEAF:
            raise CorruptRecord(self._path, number * file.size, f"page {number} is no leaf")
        return number


def _child(file: _Pages, number: int, head: _Page, start: bytes) -> int:
    """The page below a branch where `start` is; a key too large to stand in the branch is passed over."""
    page, found = file.octets(number), 0
    for nth, at in enumerate(_offsets(file, number, head.entries)):
        length, kind, child = _CHILD.unpack_from(page, at)
        key = page[at + _CHILD.size:at + _CHILD.size + length]
        if nth == 0 or (kind == _PLAIN and key <= start):
            found = child
    return found


def pairs(path: str, data: bytes, on_damage: Callable[[CorruptRecord], None]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of all leaves, in no order; what can't be read is told with its offset."""
    file = _File(data, *_measures(data))
    if len(data) % file.size:
        on_damage(CorruptRecord(path, len(data), "the file ends within a page"))
        file = file._replace(data=data + bytes(-len(data) % file.size))
    for number in range(len(file.data) // file.size):
        head = file.header(number)
        if head.kind == _LEAF:
            yield from _paired(_items(file, number, head))
        elif head.kind not in (_FREE, _BRANCH, _CHAIN, _FIRST) or (number and head.number != number):
            on_damage(CorruptRecord(path, number * file.size, f"page {number} can't be read"))


def _paired(items: list[bytes | None]) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in zip(items[::2], items[1::2], strict=False) if key and value]


def _items(file: _Pages, number: int, head: _Page) -> list[bytes | None]:
    """The items of a page: None for one that makes no sense, b"" for one that was deleted."""
    page = file.octets(number)
    found: list[bytes | None] = []
    first, last = _HEADER.size, len(page) - _ITEM.size
    for at in _offsets(file, number, head.entries):  # 200,000 of them at the start with a long queue
        if not first <= at <= last:
            found.append(None)
            continue
        length, kind = _ITEM.unpack_from(page, at)
        start = at + _ITEM.size
        octets: bytes | None = page[start:start + length]
        if kind == _LARGE:
            octets = _chain(file, page, at)
        elif start + length > len(page):
            octets = None
        elif kind != _PLAIN:
            octets = b""
        found.append(octets)
    return found


def _chain(file: _Pages, page: bytes, at: int) -> bytes | None:
    if at > len(page) - _LARGE_ITEM.size:
        return None
    _, number, length = _LARGE_ITEM.unpack_from(page, at)
    parts = []
    for _ in range(length // (file.size - _HEADER.size) + 1):
        octets = file.octets(number)
        if len(octets) < file.size:
            return None
        head = file.header(number)
        if head.kind != _CHAIN:
            return None
        parts.append(octets[_HEADER.size:_HEADER.size + head.used])
        number = head.after
        if not number:
            break
    found = b"".join(parts)
    return found if len(found) == length else None
