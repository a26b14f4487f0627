"""Writing of map files of every type, so that a reader has the old or the new one (M1 4.8).

Rules
    The new file is made under another name in the same folder, gets mode and owner, is
    flushed, and then takes the name of the old one. Whatever fails leaves the old map.
    hash is what M1 3.9.1 calls Berkeley DB hash, cdb is tinycdb's; lmdb and sqlite are
    meta1g's own additions.
"""
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from meta1g.mta.errors import StoreError
from meta1g.shim import bdb, lmdbfile, sqlitefile, tinycdb
from meta1g.shim.bdb import FILE_MODE

Entries = Iterable[tuple[bytes, bytes]]
Writer = Callable[[str, Entries], int]  # makes a file that must not exist, for its owner only; how many entries

_NUL: Final = b"\0"
_PRIVATE: Final = 0o600  # until the file is complete


def _fill_hash(path: str, entries: Entries) -> int:
    table = bdb.create_hash(path, _PRIVATE)
    count = 0
    try:
        for key, value in entries:
            table.put(key, value)
            count += 1
    finally:
        table.close()
    return count


WRITERS: Final[Mapping[str, Writer]] = {
    "hash": _fill_hash, "cdb": tinycdb.write, "lmdb": lmdbfile.write, "sqlite": sqlitefile.write,
}


def kind_of(path: str) -> str:
    """The type that goes with a file's extension; hash, which has `.db`, if it goes with none."""
    extension = os.path.splitext(path)[1].removeprefix(".")
    return extension if extension in WRITERS else "hash"


def write_map(
    path: str, entries: Entries, *,
    kind: str = "hash", mode: int = FILE_MODE, nul: bool = False, owner: tuple[int, int] | None = None,
) -> int:
    """Make a map of type `kind` at `path`, replacing an old one at once; how many entries were written.

    `nul` ends keys and values with a NUL, `owner` is a user's and a group's number.
    The new file is on stable storage before it gets its name. StoreError leaves the old map as it
    was; so does MissingExtra.
    """
    fresh = f"{path}.new.{os.getpid()}"
    if nul:
        entries = ((key + _NUL, value + _NUL) for key, value in entries)
    try:
        with bdb.errors("write", path):
            _remove(fresh)
            count = WRITERS[kind](fresh, entries)
            _dress(fresh, mode, owner)
            os.rename(fresh, path)
            _flush(os.path.dirname(path) or ".")
    except BaseException:
        try:
            _remove(fresh)
        except OSError:
            pass
        raise
    return count


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


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
