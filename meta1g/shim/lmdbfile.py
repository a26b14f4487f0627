"""LMDB files as Postfix's `lmdb` tables have them: one file, its unnamed database, no lock file.

Rules
    Readers take no locks, since they may not write beside the map: who changes a map
    replaces the file, as createmap does. Every look sees the file's last commit.
    The library opens a file once in a process.
    A new file is made in a folder of our own and then copied: the library opens files by
    their names, which in somebody else's folder might change under it.
"""
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from meta1g.mta.errors import StoreError
from meta1g.shim import extra
from meta1g.shim.newfile import create

_SIZE: Final = 1 << 20  # octets to begin with; doubled until all fits
_GROWTH: Final = 4  # times the octets of all entries: pages of a tree are half full, and old ones are kept


@contextmanager
def errors(action: str, path: str) -> Iterator[Any]:
    """Turn the library's errors into StoreError; gives the library. MissingExtra if it is not installed."""
    library = extra.load("lmdb")
    try:
        yield library
    except library.Error as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise StoreError(action, path, reason, is_full=_is_full(reason)) from error


def _is_full(reason: str) -> bool:
    return any(os.strerror(number) in reason for number in (errno.ENOSPC, errno.EDQUOT))


class LmdbFile:
    """A file open for reading; any thread may ask."""

    def __init__(self, path: str) -> None:
        """Open `path`; StoreError if that fails."""
        self.path = path
        with errors("open", path) as library:
            self._env = library.open(path, subdir=False, readonly=True, create=False, lock=False)
            self.key_max = int(self._env.max_key_size())

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None if it is not there; StoreError if the file cannot be read."""
        if not 0 < len(key) <= self.key_max:
            return None
        with errors("read", self.path), self._env.begin() as transaction:
            value: bytes | None = transaction.get(key)
        return value


def write(path: str, entries: Iterable[tuple[bytes, bytes]]) -> int:
    """Make a file at `path`, which must not exist; how many entries it has. StoreError if the library refuses one."""
    pairs = list(entries)
    size = _SIZE + _GROWTH * sum(len(key) + len(value) for key, value in pairs)
    with tempfile.TemporaryDirectory(prefix="createmap") as folder, errors("write", path) as library:
        made = os.path.join(folder, "map")
        while True:
            try:
                _fill(library, made, pairs, size)
                break
            except library.MapFullError:
                os.unlink(made)
                size *= 2
        with open(made, "rb") as source, create(path) as target:
            shutil.copyfileobj(source, target)
    return len(pairs)


def _fill(library: Any, path: str, pairs: list[tuple[bytes, bytes]], size: int) -> None:
    with library.open(path, subdir=False, lock=False, map_size=size, sync=False) as env:
        key_max = env.max_key_size()
        with env.begin(write=True) as transaction:
            for key, value in pairs:
                if len(key) > key_max:
                    raise StoreError("write", path, f"a key has {len(key)} octets; lmdb takes {key_max}")
                transaction.put(key, value)
