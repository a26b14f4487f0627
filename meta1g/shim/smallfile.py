"""A small file that is replaced as a whole: after a loss of power it is the old one or the new one."""
from typing import Final

from meta1g.shim.safeio import Disk

_SIZE_MAX: Final = 16 << 20  # octets that are read at most


def replace(disk: Disk, path: str, octets: bytes) -> None:
    """Make these octets the file's, durably; mode 0600. StoreError."""
    fresh = f"{path}.new"
    disk.unlink(fresh)
    fd = disk.create(fresh, 0o600)
    try:
        disk.append(fd, fresh, [octets])
        disk.flush(fd, fresh)
    finally:
        disk.close(fd)
    disk.rename(fresh, path)
    disk.flush_folder(path.rpartition("/")[0] or ".")


def read(disk: Disk, path: str) -> bytes:
    """The file's octets, none if there is no file. StoreError."""
    if not disk.exists(path):
        return b""
    fd = disk.open_read(path)
    try:
        return disk.read_at(fd, path, _SIZE_MAX, 0)
    finally:
        disk.close(fd)
