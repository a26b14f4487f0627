"""cdb files, as tinycdb's `cdb` reads and writes them; not the content database, which is shim/cdb.

Rules
    The file begins with 256 pairs of position and length of hash tables, little-endian; then
    come the records (length of key and value, key, value), then the tables, whose slots hold
    a hash and the position of its record, 0 if empty. A key's table is its hash modulo 256,
    the place to begin at the rest modulo the length (https://cr.yp.to/cdb/cdb.txt).
    A table has twice as many slots as entries, so that a search is short.
"""
import mmap
import struct
from collections.abc import Iterable
from typing import BinaryIO, Final

from meta1g.mta.errors import StoreError
from meta1g.shim.newfile import create

PAIR: Final = struct.Struct("<II")
TABLES: Final = 256
HEADER: Final = TABLES * PAIR.size
SIZE_MAX: Final = (1 << 32) - 1  # octets: positions have 32 bits

Slots = list[tuple[int, int]]  # hash and position


def cdb_hash(key: bytes) -> int:
    """The hash of a key: h = ((h << 5) + h) ^ c, beginning with 5381."""
    value = 5381
    for octet in key:
        value = (value * 33 & 0xFFFFFFFF) ^ octet
    return value


def find(data: "bytes | mmap.mmap", key: bytes) -> bytes | None:
    """The first value of `key`, None if it is not there; struct.error if the file is damaged."""
    wanted = cdb_hash(key)
    table, length = PAIR.unpack_from(data, wanted % TABLES * PAIR.size)
    slot = (wanted >> 8) % length if length else 0
    for _ in range(length):
        found, at = PAIR.unpack_from(data, table + slot * PAIR.size)
        if at == 0:
            return None
        if found == wanted:
            key_length, value_length = PAIR.unpack_from(data, at)
            start = at + PAIR.size
            if data[start:start + key_length] == key:
                return _value(data, start + key_length, value_length)
        slot = (slot + 1) % length
    return None


def _value(data: "bytes | mmap.mmap", start: int, length: int) -> bytes:
    value = bytes(data[start:start + length])
    if len(value) != length:
        raise struct.error("a record reaches beyond the end")
    return value


def write(path: str, entries: Iterable[tuple[bytes, bytes]]) -> int:
    """Make a cdb file at `path`, which must not exist; how many entries it has. StoreError if they are too many."""
    tables: list[Slots] = [[] for _ in range(TABLES)]
    with create(path) as file:
        file.write(bytes(HEADER))
        at = HEADER
        for key, value in entries:
            number = cdb_hash(key)
            tables[number % TABLES].append((number, at))
            at += PAIR.size + len(key) + len(value)
            _check(path, at)
            file.write(PAIR.pack(len(key), len(value)) + key + value)
        count = sum(map(len, tables))
        _check(path, at + 2 * count * PAIR.size)
        _write_tables(file, tables, at)
    return count


def _check(path: str, size: int) -> None:
    if size > SIZE_MAX:
        raise StoreError("write", path, f"a cdb file can hold {SIZE_MAX + 1 >> 30} GB; take type hash")


def _write_tables(file: BinaryIO, tables: list[Slots], at: int) -> None:
    header = bytearray()
    for entries in tables:
        length = 2 * len(entries)
        slots = [(0, 0)] * length
        for number, position in entries:
            slot = (number >> 8) % length
            while slots[slot][1]:
                slot = (slot + 1) % length
            slots[slot] = (number, position)
        file.write(b"".join(PAIR.pack(*pair) for pair in slots))
        header += PAIR.pack(at, length)
        at += length * PAIR.size
    file.seek(0)
    file.write(header)
