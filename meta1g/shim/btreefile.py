"""The file of a Berkeley DB btree, read page by page without the library: is it sound, and what does it hold?

Rules
    The library trusts what it reads: a page of zeros makes it loop for ever. So `load` looks
    at every page before the library does, and `pairs` saves what a bad file still holds.
    A page that makes no sense costs its own pairs. Nothing here proves that a pair is intact:
    who stored it must be able to tell.

Format
    Berkeley DB 5.3: a page begins with LSN (8), number, previous, next (4 each), entries, free
    offset (2 each), level, type (1 each); then the offsets of its items, in a leaf of keys and data in turn.
    An item is length (2), type (1), octets; a large one names a chain of pages instead. The first page
    tells the size of pages and the number of the last one that is in use.
"""
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from meta1g.mta.errors import CorruptRecord

_META: Final = struct.Struct("<12xIII8xI")  # magic, version, page size, last page
_MAGIC: Final = 0x053162
_HEADER: Final = struct.Struct("<8xIIIHHBB")
_OFFSET: Final = struct.Struct("<H")
_ITEM: Final = struct.Struct("<HB")
_LARGE_ITEM: Final = struct.Struct("<2xBxII")  # type, first page of the chain, length
_CHILD: Final = struct.Struct("<4xI")
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


class _File(NamedTuple):
    data: bytes
    size: int
    last: int

    def octets(self, number: int) -> bytes:
        return self.data[number * self.size:(number + 1) * self.size]

    def header(self, number: int) -> _Page:
        return _Page(*_HEADER.unpack_from(self.data, number * self.size))

    def offsets(self, number: int, entries: int) -> list[int]:
        start = number * self.size + _HEADER.size
        room = self.data[start:start + min(2 * entries, self.size - _HEADER.size)]
        return [at for (at,) in _OFFSET.iter_unpack(room)]


def _open(data: bytes) -> _File:
    magic, _, size, last = _META.unpack_from(data) if len(data) >= _META.size else (0, 0, 0, 0)
    if magic != _MAGIC or size not in _SIZES:
        return _File(data, _SIZE, -1)
    return _File(data, size, last)


def load(path: str, data: bytes) -> list[tuple[bytes, bytes]]:
    """All keys and values, in no order; CorruptRecord names the first page that the library should not see."""
    file = _open(data)
    if file.last < 0:
        raise CorruptRecord(path, 0, "the file does not begin as a btree of Berkeley DB does")
    if len(data) < (file.last + 1) * file.size:
        raise CorruptRecord(path, len(data), f"the file ends before its page {file.last}")
    heads = [file.header(number) for number in range(file.last + 1)]
    found: list[tuple[bytes, bytes]] = []
    for number, head in enumerate(heads):
        reason = _page_fault(file, heads, number, head, found)
        if reason:
            raise CorruptRecord(path, number * file.size, f"page {number}: {reason}")
    if sum(head.kind == _LEAF and not head.before for head in heads) > 1:
        raise CorruptRecord(path, 0, "the leaves are no chain")
    return found


def _page_fault(
    file: _File, heads: list[_Page], number: int, head: _Page, found: list[tuple[bytes, bytes]]
) -> str:
    """What is wrong with a page; if nothing is, a leaf's pairs are in `found`."""
    if head.number != number:
        return f"it says that it is page {head.number}"
    if head.kind == _LEAF:
        after = heads[head.after] if head.after <= file.last else None
        if after is None or (head.after and (after.kind != _LEAF or after.before != number)):
            return "the next leaf does not follow it"
        items = _items(file, number, head)
        if head.entries % 2 or None in items:
            return "an item is not inside"
        found += _paired(items)
    elif head.kind == _BRANCH:
        for at in file.offsets(number, head.entries):
            child = _CHILD.unpack_from(file.octets(number), at)[0] if at <= file.size - _CHILD.size else 0
            if not 0 < child <= file.last or heads[child].kind not in (_BRANCH, _LEAF) or (
                    heads[child].level != head.level - 1):
                return "a page below it is none"
    elif head.kind not in (_FREE, _CHAIN, _FIRST) or (head.kind == _FIRST) != (number == 0):
        return f"unknown type {head.kind}"
    return ""


def pairs(path: str, data: bytes, on_damage: Callable[[CorruptRecord], None]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of all leaves, in no order; what can't be read is told with its offset."""
    file = _open(data)
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


def _items(file: _File, number: int, head: _Page) -> list[bytes | None]:
    """The items of a page: None for one that makes no sense, b"" for one that was deleted."""
    page = file.octets(number)
    found: list[bytes | None] = []
    first, last = _HEADER.size, len(page) - _ITEM.size
    for at in file.offsets(number, head.entries):  # 200,000 of them at the start with a long queue
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


def _chain(file: _File, page: bytes, at: int) -> bytes | None:
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
