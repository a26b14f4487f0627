"""CDB, the content database: one file per message in 16 folders (M1 2.4.1, 3.4, 7.1).

Rules
    A message lies in the journal or in its own file, in wire form without the final dot
    (formats.md). A file is written under a temporary name and renamed when it is flushed,
    so that a file with a transaction's name is always complete.

Files
    CDB/<0-9A-F>/S...: 0640 meta1s:meta1c.
"""
from collections.abc import Iterator
from typing import Final

from meta1g.mta.errors import CorruptRecord, StoreError
from meta1g.mta.ids import cdb_folder, is_ta_id
from meta1g.proto.msg_ss import Content
from meta1g.shim import journal
from meta1g.shim.safeio import Disk

FOLDERS: Final = tuple("0123456789ABCDEF")
MODE: Final = 0o640  # M1 2.4.1
_PIECE: Final = 256 * 1024  # octets read at once


class ContentDb:
    """The folders under `base` (CDB_base_directory: empty or with a trailing slash, M1 3.4)."""

    def __init__(self, disk: Disk, base: str, gid: int = -1) -> None:
        self.disk = disk
        self.base = base
        self._gid = gid

    def path(self, ta: str) -> str:
        """Path of a transaction's file; ValueError unless `ta` is a transaction id."""
        if not is_ta_id(ta):
            raise ValueError(f"not a transaction id: {ta!r}")
        return f"{self.base}{cdb_folder(ta)}/{ta}"

    def writer(self, ta: str, mark: str = "") -> "ContentWriter":
        """Begin a transaction's file; `mark` tells it from another that is being written for the same one."""
        return ContentWriter(self.disk, self.path(ta), self._gid, mark)

    def has_file(self, ta: str) -> bool:
        """Whether the transaction has a file of its own."""
        return self.disk.exists(self.path(ta))

    def pieces(self, ta: str, content: Content) -> Iterator[bytes]:
        """The content, piece by piece; its own file wins over the journal (it may have settled there).

        StoreError or CorruptRecord if it can't be had.
        """
        path = self.path(ta)
        if content.segment and not self.disk.exists(path):
            yield journal.read_content(self.disk, self.base, ta, content)
            return
        fd = self.disk.open_read(path)
        try:
            at = 0
            while piece := self.disk.read_at(fd, path, _PIECE, at):
                yield piece
                at += len(piece)
            if content.length and at != content.length:
                raise CorruptRecord(path, at, f"file has {at} octets instead of {content.length}")
        finally:
            self.disk.close(fd)

    def settle(self, ta: str, content: Content) -> None:
        """Copy content from the journal into the transaction's file, on stable storage."""
        if self.has_file(ta):
            return
        writer = self.writer(ta)
        try:
            for piece in self.pieces(ta, content):
                writer.append(piece)
            writer.commit()
        except BaseException:
            writer.abort()
            raise

    def unlink(self, ta: str) -> bool:
        """Remove a transaction's file; False if there was none."""
        return self.disk.unlink(self.path(ta))

    def transactions(self) -> Iterator[str]:
        """Ids of all transactions that have a file."""
        for folder in FOLDERS:
            for name in self.disk.names(self.base + folder):
                if is_ta_id(name):
                    yield name

    def others(self) -> Iterator[str]:
        """Paths of all files that are no transaction's."""
        for folder in FOLDERS:
            for name in self.disk.names(self.base + folder):
                if not is_ta_id(name):
                    yield f"{self.base}{folder}/{name}"

    def flush_folders(self) -> None:
        """A file that is seen is also there after a loss of power."""
        for folder in FOLDERS:
            self.disk.flush_folder(self.base + folder)

    def sweep(self) -> int:
        """Remove what a crash left of files that were being written; how many there were."""
        return sum(self.disk.unlink(path) for path in self.others() if path.endswith(".new"))


class ContentWriter:
    """A file that becomes a transaction's content by `commit`."""

    def __init__(self, disk: Disk, path: str, gid: int, mark: str = "") -> None:
        self._disk = disk
        self._path = path
        self._temporary = f"{path}{mark}.new"
        self._fd = disk.create(self._temporary, MODE, gid)
        self.size = 0

    def append(self, piece: bytes) -> None:
        """Add a piece."""
        self.size += self._disk.append(self._fd, self._temporary, [piece])

    def fill(self, offset: int, octets: bytes) -> None:
        """Write over octets that were added before."""
        self._disk.write_at(self._temporary, octets, offset)

    def read(self, offset: int) -> bytes:
        """A piece of what was added, from there on; b"" at its end."""
        fd = self._disk.open_read(self._temporary)
        try:
            return self._disk.read_at(fd, self._temporary, _PIECE, offset)
        finally:
            self._disk.close(fd)

    def commit(self) -> None:
        """Flush the file, give it its name, flush its folder: then it counts."""
        self._disk.flush(self._fd, self._temporary)
        self._disk.close(self._fd)
        self._fd = -1
        self._disk.rename(self._temporary, self._path)
        self._disk.flush_folder(self._path.rpartition("/")[0])

    def abort(self) -> None:
        """Remove what was written; never raises."""
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1
        try:
            self._disk.unlink(self._temporary)
        except StoreError:
            pass  # the sweep at the next start finds it
