"""Every storage call of the mail path, in one place: the seam where tests inject faults.

Stores take a `Disk` and call nothing of `os` themselves. Each call raises StoreError
with the path and the reason; a flush that failed must never be taken as done by trying
again, since the page cache may have dropped the data.
"""
import errno
import os
from collections.abc import Sequence
from typing import Final, NoReturn

from meta1g.mta.errors import StoreError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_IOV_MAX: Final = 1024  # buffers per writev(2), Linux's limit


class Disk:
    """The real disk."""

    def create(self, path: str, mode: int, gid: int = -1) -> int:
        """A new file for appending, with its final mode and group from the start; fails if it is there."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                if gid >= 0:
                    os.fchown(fd, -1, gid)
                os.fchmod(fd, mode)
            except OSError:
                os.close(fd)
                os.unlink(path)
                raise
        except OSError as error:
            _fail("create", path, error)
        return fd

    def append(self, fd: int, path: str, buffers: Sequence[bytes]) -> int:
        """Write all buffers at the end; returns how many octets that were."""
        total = sum(map(len, buffers))
        try:
            if len(buffers) <= _IOV_MAX:
                done = os.writev(fd, buffers)
                if done == total:
                    return total
                data = b"".join(buffers)[done:]
            else:
                data = b"".join(buffers)
            while data:
                data = data[os.write(fd, data):]
        except OSError as error:
            _fail("write", path, error)
        return total

    def write_at(self, path: str, octets: bytes, offset: int) -> None:
        """Write over what is there; the next flush of the file includes it."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)  # with O_APPEND Linux heeds no offset
            try:
                while octets:
                    done = os.pwrite(fd, octets, offset)
                    octets, offset = octets[done:], offset + done
            finally:
                os.close(fd)
        except OSError as error:
            _fail("write", path, error)

    def flush(self, fd: int, path: str) -> None:
        """Put the file's data on stable storage."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            _fail("flush", path, error)

    def flush_folder(self, path: str) -> None:
        """Put a folder's entries (creations, renames, removals) on stable storage."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            _fail("flush", path, error)

    def close(self, fd: int) -> None:
        """Close a file; nothing is lost by an error here, since what counts was flushed."""
        try:
            os.close(fd)
        except OSError:
            pass

    def rename(self, old: str, new: str) -> None:
        """Give a file its final name, replacing what had it."""
        try:
            os.rename(old, new)
        except OSError as error:
            _fail("rename", old, error)

    def unlink(self, path: str) -> bool:
        """Remove a file; False if it was not there."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            _fail("remove", path, error)
        return True

    def open_read(self, path: str) -> int:
        """Open for reading."""
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            _fail("open", path, error)

    def read_at(self, fd: int, path: str, size: int, offset: int) -> bytes:
        """Up to `size` octets from `offset`."""
        try:
            return os.pread(fd, size, offset)
        except OSError as error:
            _fail("read", path, error)

    def size(self, fd: int, path: str) -> int:
        """Size of an open file in octets."""
        try:
            return os.fstat(fd).st_size
        except OSError as error:
            _fail("stat", path, error)

    def names(self, path: str) -> list[str]:
        """Sorted names in a folder."""
        try:
            return sorted(os.listdir(path))
        except OSError as error:
            _fail("list", path, error)

    def make_folder(self, path: str, mode: int) -> None:
        """Create a folder unless it is there."""
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            pass
        except OSError as error:
            _fail("create", path, error)

    def exists(self, path: str) -> bool:
        """Whether there is a file at `path`."""
        return os.path.lexists(path)

    def free(self, path: str) -> int:
        """Octets of free space that an ordinary user may fill, where `path` lies."""
        try:
            stat = os.statvfs(path)
        except OSError as error:
            _fail("statvfs", path, error)
        return stat.f_bavail * stat.f_frsize


def _fail(action: str, path: str, error: OSError) -> NoReturn:
    raise StoreError(action, path, error.strerror or str(error), is_full=error.errno in _FULL) from error
