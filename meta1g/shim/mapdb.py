"""Map files as createmap, Postfix's postmap and sendmail's makemap write them (M1 3.9, 4.8).

Rules
    Some writers end keys and values with a NUL, others do not. A key is looked up as it
    is, then with a NUL; the form that hits first is used from then on. One NUL at the
    end of a value is dropped.
    A new map replaces the old file in one step: a reader has the old or the new one.
    A read that fails is tried once more on a fresh handle: somebody may have rewritten
    the file in place.
"""
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Final

from meta1g.mta.errors import StoreError
from meta1g.shim import bdb

_NUL: Final = b"\0"


class MapDb:
    """A map file open for reading; any thread may ask."""

    def __init__(self, path: str) -> None:
        """Open `path`; StoreError if that fails."""
        self.path = path
        self._lock = threading.Lock()
        self._table = bdb.open_readonly(path)
        self._has_nul: bool | None = None

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None if it is not there; StoreError if the file cannot be read."""
        try:
            return self._find(self._table, key)
        except StoreError:
            self.reopen()
            return self._find(self._table, key)

    def _find(self, table: bdb.Table, key: bytes) -> bytes | None:
        if self._has_nul is not None:
            value = table.get(key + _NUL if self._has_nul else key)
            return value if value is None else value.removesuffix(_NUL)
        for has_nul in (False, True):
            value = table.get(key + _NUL if has_nul else key)
            if value is not None:
                self._has_nul = has_nul
                return value.removesuffix(_NUL)
        return None

    def reopen(self) -> None:
        """Use the file that is at the path now; the old one stays in use if that fails."""
        with self._lock:
            self._table = bdb.open_readonly(self.path)
            self._has_nul = None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, without NULs, in the file's own order."""
        for key, value in self._table.items():
            yield key.removesuffix(_NUL), value.removesuffix(_NUL)


def write_map(
    path: str, entries: Iterable[tuple[bytes, bytes]], *,
    mode: int = bdb.FILE_MODE, nul: bool = False, owner: tuple[int, int] | None = None,
) -> int:
    """Make a hash map of `entries` at `path`, replacing an old one at once; how many were written.

    `nul` ends keys and values with a NUL, `owner` is a user's and a group's number.
    The new file is on stable storage before it gets its name. StoreError leaves the old map as it was.
    """
    fresh = f"{path}.new.{os.getpid()}"
    end = _NUL if nul else b""
    try:
        count = _fill(fresh, entries, mode, end)
        with bdb.errors("write", path):
            _dress(fresh, mode, owner)
            os.rename(fresh, path)
            _flush(os.path.dirname(path) or ".")
    except BaseException:
        try:
            os.unlink(fresh)
        except OSError:
            pass
        raise
    return count


def _fill(path: str, entries: Iterable[tuple[bytes, bytes]], mode: int, end: bytes) -> int:
    with bdb.errors("remove", path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
    table = bdb.create_hash(path, mode)
    count = 0
    try:
        for key, value in entries:
            table.put(key + end, value + end)
            count += 1
    finally:
        table.close()
    return count


def _dress(path: str, mode: int, owner: tuple[int, int] | None) -> None:
    """Give the new file its looks and flush it.

    Root may write into somebody else's folder, who might put another file in its place: only our own is touched.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise StoreError("write", path, "somebody put another file in its place")
        os.fchmod(fd, mode)
        if owner is not None:
            os.fchown(fd, *owner)
        os.fsync(fd)
    finally:
        os.close(fd)


def _flush(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
