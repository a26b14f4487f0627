"""A disk in memory with a page cache: what was not flushed may be lost, and it can stop at any call."""
import random
from collections.abc import Callable, Sequence
from itertools import pairwise

from meta1g.mta.errors import StoreError


class Stopped(Exception):
    """The power went out."""


class FakeDisk:
    """The interface of `shim.safeio.Disk`.

    Each file has its octets, how many of them are flushed, where each write behind them begins and what was written
    over since; each folder its entries as they are and as they are on stable storage. `stop_at` is the number of the
    call that never returns.
    """

    def __init__(self) -> None:
        self.data: dict[int, bytearray] = {}
        self.flushed: dict[int, int] = {}
        self.writes: dict[int, list[int]] = {}
        self.covered: dict[int, list[tuple[int, bytes]]] = {}  # place and octets
        self.entries: dict[str, int] = {}
        self.stable: dict[str, int] = {}
        self.fds: dict[int, int] = {}
        self.calls = 0
        self.stop_at = 0
        self.fail_at = 0
        self.fails_full = False
        self.has_failed = False
        self.ignores: Callable[[str, str], bool] = lambda action, path: False  # flushes that are not done
        self._next = 1

    def count(self, path: str) -> None:
        """One more storage call, which may be the one that never returns."""
        self.calls += 1
        if self.calls == self.stop_at:
            raise Stopped
        if self.calls == self.fail_at:
            self.has_failed = True
            raise StoreError("do", path, "No space left" if self.fails_full else "Input/output error",
                             is_full=self.fails_full)

    def lose_power(self, keep: float, luck: random.Random | None = None) -> "FakeDisk":
        """The disk as it is found afterwards: of what was not flushed the share `keep` survives.

        With `luck` it is any of the writes to each file, the last of them in part, and any of the changes to
        folders.
        """
        after = FakeDisk()
        after._next, after.ignores = self._next, self.ignores
        for path in sorted({*self.stable, *self.entries}):
            is_new = keep >= 1.0 if luck is None else luck.random() < 0.5
            inode = (self.entries if is_new else self.stable).get(path)
            if inode is None:
                continue
            after.entries[path] = after.stable[path] = inode
            left = self._left(inode, keep) if luck is None else self._luckily_left(inode, luck)
            after._inode(inode, self._uncovered(inode, left, keep, luck))
            after.flushed[inode] = len(after.data[inode])
        return after

    def _left(self, inode: int, keep: float) -> bytearray:
        data, flushed = self.data[inode], self.flushed[inode]
        return data[: flushed + int((len(data) - flushed) * keep)]

    def _luckily_left(self, inode: int, luck: random.Random) -> bytearray:
        """A prefix; or only some of the writes: zeros are where the others were."""
        data, begins = self.data[inode], self.writes[inode]
        if luck.random() < 0.5:
            return self._left(inode, luck.random())
        found = data[: self.flushed[inode]]
        for begin, end in pairwise([*begins, len(data)]):
            if luck.random() < 0.5:
                found += bytes(begin - len(found)) + data[begin:end]
        last = max([begin for begin in begins if begin < len(found)], default=len(found))
        return found[: last + int((len(found) - last) * luck.choice([1.0, luck.random()]))]

    def _uncovered(self, inode: int, left: bytearray, keep: float, luck: random.Random | None) -> bytearray:
        """Without what was written over and not flushed, or with some of it."""
        for offset, octets in reversed(self.covered[inode]):
            if offset < len(left) and (keep < 1.0 if luck is None else luck.random() < 0.5):
                left[offset : offset + len(octets)] = octets[: len(left) - offset]
        return left

    def _inode(self, inode: int, data: bytearray) -> None:
        self.data[inode], self.flushed[inode], self.writes[inode], self.covered[inode] = data, 0, [], []

    def survive(self) -> "FakeDisk":
        """The disk after a kill: the page cache has everything, and what was not flushed still is not."""
        self.stop_at = self.fail_at = 0
        return self

    def create(self, path: str, mode: int, gid: int = -1) -> int:
        self.count(path)
        if path in self.entries:
            raise StoreError("create", path, "exists")
        self._next += 1
        self._inode(self._next, bytearray())
        self.entries[path] = self._next
        self.fds[self._next] = self._next
        return self._next

    def append(self, fd: int, path: str, buffers: Sequence[bytes]) -> int:
        octets = b"".join(buffers)
        size = len(self.data[fd])
        self.writes[fd] += [size + sum(map(len, buffers[:at])) for at in range(len(buffers))]
        self.data[fd] += octets[: len(octets) // 2]
        self.count(path)
        self.data[fd] += octets[len(octets) // 2:]
        return len(octets)

    def write_at(self, path: str, octets: bytes, offset: int) -> None:
        inode = self.entries[path]
        half = len(octets) // 2
        for part, at in ((octets[:half], offset), (octets[half:], offset + half)):
            self.covered[inode].append((at, bytes(self.data[inode][at : at + len(part)])))
            self.data[inode][at : at + len(part)] = part
            if at == offset:
                self.count(path)

    def flush(self, fd: int, path: str) -> None:
        self.count(path)
        if not self.ignores("flush", path):
            self.flushed[fd], self.writes[fd], self.covered[fd] = len(self.data[fd]), [], []

    def flush_folder(self, path: str) -> None:
        self.count(path)
        if self.ignores("flush_folder", path):
            return
        inside = {name for name in {*self.entries, *self.stable} if name.rpartition("/")[0] == path.rstrip("/")}
        for name in inside:
            if name in self.entries:
                self.stable[name] = self.entries[name]
            else:
                del self.stable[name]

    def close(self, fd: int) -> None:
        pass

    def rename(self, old: str, new: str) -> None:
        self.count(old)
        self.entries[new] = self.entries.pop(old)

    def unlink(self, path: str) -> bool:
        self.count(path)
        return self.entries.pop(path, None) is not None

    def open_read(self, path: str) -> int:
        if path not in self.entries:
            raise StoreError("open", path, "No such file or directory")
        return self.entries[path]

    def read_at(self, fd: int, path: str, size: int, offset: int) -> bytes:
        return bytes(self.data[fd][offset : offset + size])

    def size(self, fd: int, path: str) -> int:
        return len(self.data[fd])

    def names(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return sorted(name[len(prefix):] for name in self.entries
                      if name.startswith(prefix) and "/" not in name[len(prefix):])

    def exists(self, path: str) -> bool:
        return path in self.entries

    def free(self, path: str) -> int:
        return 1 << 40
