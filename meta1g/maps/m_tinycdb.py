"""Map type `cdb`: a constant database as tinycdb makes it (M1 3.9.1). Not the content database.

Rules
    The file begins with 256 pairs of position and length of hash tables, little-endian; a
    key's table is its hash modulo 256, the place to begin at the rest modulo the length
    (https://cr.yp.to/cdb/cdb.txt).
"""
import mmap
import struct
from typing import Final

from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail

_PAIR: Final = struct.Struct("<II")
_HEADER: Final = 256 * _PAIR.size


def cdb_hash(key: bytes) -> int:
    """The hash of a key: h = ((h << 5) + h) ^ c, beginning with 5381."""
    value = 5381
    for octet in key:
        value = (value * 33 & 0xFFFFFFFF) ^ octet
    return value


def find(data: "bytes | mmap.mmap", key: bytes) -> bytes | None:
    """The first value of `key`, None if it is not there; struct.error if the file is damaged."""
    wanted = cdb_hash(key)
    table, length = _PAIR.unpack_from(data, (wanted & 0xFF) * _PAIR.size)
    slot = (wanted >> 8) % length if length else 0
    for _ in range(length):
        found, at = _PAIR.unpack_from(data, table + slot * _PAIR.size)
        if at == 0:
            return None
        if found == wanted:
            key_length, value_length = _PAIR.unpack_from(data, at)
            start = at + _PAIR.size
            if data[start:start + key_length] == key:
                return bytes(data[start + key_length:start + key_length + value_length])
        slot = (slot + 1) % length
    return None


class TinycdbMap:
    """A cdb file mapped into memory; one that cannot be read fails temporarily."""

    is_stable = True
    is_slow = False

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self._data: mmap.mmap | None = None
        self._failure = TempFail(f"map {name}: not open")
        self.reopen()

    def lookup(self, key: bytes) -> Result:
        """The entry for `key`, written with or without a NUL."""
        data = self._data
        if data is None:
            return self._failure
        try:
            value = find(data, key)
            if value is None:
                value = find(data, key + b"\0")
        except (struct.error, IndexError):
            return TempFail(f"map {self.name}: {self.path} is damaged")
        return NOT_FOUND if value is None else Found(key, value.removesuffix(b"\0"))

    def reopen(self) -> str:
        """Use the file that is at the path now; the old one stays in use if that fails."""
        try:
            with open(self.path, "rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            if len(data) >= _HEADER:
                self._data = data
                return ""
            reason = "too short for a cdb file"
        self._failure = TempFail(f"map {self.name}: read {self.path}: {reason}")
        return self._failure.reason
