"""Berkeley DB behind one thin, typed door: the only module that imports the binding.

Rules
    The binding is bsddb3 (Python before 3.14) or berkeleydb, its successor with the
    same interface; what differs between them is evened out here.
    Every error of the library becomes StoreError with the path and its reason.
    A handle is closed by its last user's reference, never under another thread's feet.
"""
import errno
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from meta1g.mta.errors import CorruptStore, StoreError

try:
    from bsddb3 import db
except ImportError:
    from berkeleydb import db

T = TypeVar("T")
DEADLOCK_TRIES: Final = 10  # a victim of lock detection tries again so often
FILE_MODE: Final = 0o640  # M1 2.4.1: maps and DEFEDB are not for everybody
_WRITE_CACHE: Final = 64 << 20  # octets: a million entries are hashed in memory
_READ_CACHE: Final = 4 << 20  # octets per open map; the library's default of 256 KB thrashes
_CORRUPT: Final = (db.DB_RUNRECOVERY, db.DB_PAGE_NOTFOUND)  # besides EINVAL: what it makes of nonsense in a file
BINDING: Final = f"{db.__name__.partition('.')[0]} {db.__version__}, Berkeley DB {'.'.join(map(str, db.version()))}"


@contextmanager
def errors(action: str, path: str) -> Iterator[None]:
    """Turn errors of the library or the system into StoreError."""
    try:
        yield
    except db.DBError as error:
        raise _store_error(action, path, error) from error
    except OSError as error:
        raise StoreError(action, path, error.strerror or str(error), is_full=_is_full(error.errno)) from error


def _store_error(action: str, path: str, error: Any) -> StoreError:
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    reason = str(error.args[-1]) if error.args else type(error).__name__
    if number in _CORRUPT or (number == errno.EINVAL and os.path.isfile(path)):
        return CorruptStore(action, path, reason)
    return StoreError(action, path, reason, is_full=_is_full(number))


def _is_full(number: int | None) -> bool:
    return number in (errno.ENOSPC, errno.EDQUOT)


class Txn:
    """One transaction of an Env; made by `Env.transact` only."""

    __slots__ = ("handle",)

    def __init__(self, handle: Any) -> None:
        self.handle = handle


class Table:
    """A btree or hash database; keys and values are octets."""

    def __init__(self, handle: Any, path: str) -> None:
        self._handle = handle
        self._path = path

    def get(self, key: bytes, txn: Txn | None = None) -> bytes | None:
        """The value of `key`, None if it is not there."""
        try:
            value: bytes | None = self._handle.get(key, txn=_raw(txn))
        except db.DBLockDeadlockError:
            raise
        except db.DBError as error:
            raise _store_error("read", self._path, error) from error
        return value

    def put(self, key: bytes, value: bytes, txn: Txn | None = None) -> None:
        """Store `value`, replacing what was there (or adding, where duplicates are allowed)."""
        try:
            self._handle.put(key, value, txn=_raw(txn))
        except db.DBLockDeadlockError:
            raise
        except db.DBError as error:
            raise _store_error("write", self._path, error) from error

    def add(self, key: bytes, value: bytes, txn: Txn | None = None) -> bool:
        """Store `value` unless the key is there; whether it was stored."""
        try:
            self._handle.put(key, value, txn=_raw(txn), flags=db.DB_NOOVERWRITE)
        except db.DBKeyExistError:
            return False
        except db.DBLockDeadlockError:
            raise
        except db.DBError as error:
            raise _store_error("write", self._path, error) from error
        return True

    def delete(self, key: bytes, txn: Txn | None = None) -> bool:
        """Remove `key`; whether it was there."""
        try:
            self._handle.delete(key, txn=_raw(txn))
        except db.DBNotFoundError:
            return False
        except db.DBLockDeadlockError:
            raise
        except db.DBError as error:
            raise _store_error("delete", self._path, error) from error
        return True

    def items(self, txn: Txn | None = None, start: bytes | None = None) -> Generator[tuple[bytes, bytes], None, None]:
        """All pairs, or those from `start` on in a btree; the cursor lives as long as the iterator."""
        with errors("read", self._path):
            cursor = self._handle.cursor(_raw(txn))
        try:
            with errors("read", self._path):
                pair = cursor.first() if start is None else cursor.set_range(start)
            while pair is not None:
                yield pair
                with errors("read", self._path):
                    pair = cursor.next()
        finally:
            cursor.close()

    def associate(self, index: "Table", key_of: Callable[[bytes, bytes], bytes | None]) -> None:
        """Keep `index` a secondary index: for each pair here the key there, None for none. An empty one is filled."""

        def call(key: bytes, value: bytes) -> Any:
            found = key_of(key, value)
            return db.DB_DONOTINDEX if found is None else found

        with errors("index", self._path):
            self._handle.associate(index._handle, call, flags=db.DB_CREATE)

    def index_pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Of a secondary index: its keys in order, and the primary keys that they stand for."""
        with errors("read", self._path):
            cursor = self._handle.cursor()
        try:
            while True:
                with errors("read", self._path):
                    found = cursor.pget(db.DB_NEXT)
                if found is None:
                    return
                yield found[0], found[1]
        finally:
            cursor.close()

    def sync(self) -> None:
        """Write what is cached to the file."""
        with errors("sync", self._path):
            self._handle.sync()

    def close(self) -> None:
        """Close the handle; only when no other thread uses it."""
        with errors("close", self._path):
            self._handle.close()


def _raw(txn: Txn | None) -> Any:
    return None if txn is None else txn.handle


class Env:
    """A transactional environment in one folder, recovered when it is opened.

    One process owns it; others read single files, or join it as it is with `joins`. `cache_size` and
    `log_size` are octets; logs lie in the folder `log_home` if that is not empty.
    """

    def __init__(
        self, home: str, *, cache_size: int = 8 << 20, log_size: int = 10 << 20, log_home: str = "",
        mode: int = FILE_MODE, joins: bool = False
    ) -> None:
        self._home = home
        self._mode = mode
        with errors("open", home):
            self._env = db.DBEnv()
            self._env.set_cachesize(0, cache_size, 1)
            self._env.set_lg_max(log_size)
            if log_home:
                self._env.set_lg_dir(os.path.abspath(log_home))
            self._env.set_lk_detect(db.DB_LOCK_DEFAULT)
            flags = db.DB_INIT_MPOOL | db.DB_INIT_TXN | db.DB_INIT_LOG | db.DB_INIT_LOCK
            flags |= 0 if joins else db.DB_CREATE | db.DB_RECOVER
            self._env.open(home, flags | db.DB_THREAD, mode)

    def btree(self, name: str, *, duplicates: bool = False, first: tuple[bytes, bytes] | None = None,
              page_size: int = 0) -> Table:
        """The btree `name` in this environment, created if need be, never without the pair `first`.

        A new one has pages of `page_size` octets, 0 for the library's choice.
        """
        return self._open(name, db.DB_BTREE, duplicates, first, page_size)

    def hash(self, name: str, *, duplicates: bool = False) -> Table:
        """The hash table `name` in this environment, created if need be."""
        return self._open(name, db.DB_HASH, duplicates)

    def _open(self, name: str, kind: int, duplicates: bool, first: tuple[bytes, bytes] | None = None,
              page_size: int = 0) -> Table:
        path = os.path.join(self._home, name)
        is_new = not os.path.exists(path)

        def work(txn: Txn) -> Table:
            with errors("open", path):
                handle = db.DB(self._env)
                if duplicates:
                    handle.set_flags(db.DB_DUPSORT)
                if is_new and page_size:
                    handle.set_pagesize(page_size)
                handle.open(name, None, kind, db.DB_CREATE | db.DB_THREAD, self._mode, txn=txn.handle)
            table = Table(handle, path)
            if is_new and first is not None:
                table.put(*first, txn)
            return table

        return self.transact(work)

    def transact(self, work: Callable[[Txn], T], *, durable: bool = True) -> T:
        """Run `work` in one transaction: commit if it returns, abort if it raises.

        A deadlock's victim is run again, so `work` must have no other effects. Without
        `durable` the commit may be lost by a crash, but not torn.
        """
        for _ in range(DEADLOCK_TRIES):
            with errors("begin", self._home):
                raw = self._env.txn_begin()
            try:
                result = work(Txn(raw))
            except db.DBLockDeadlockError:
                raw.abort()
                continue
            except BaseException:
                raw.abort()
                raise
            with errors("commit", self._home):
                raw.commit(0 if durable else db.DB_TXN_NOSYNC)
            return result
        raise StoreError("commit", self._home, f"deadlocked {DEADLOCK_TRIES} times")

    def checkpoint(self, kbytes: int = 0) -> None:
        """Make recovery short, so that old logs can go; only if there are `kbytes` KB of new log."""
        with errors("checkpoint", self._home):
            self._env.txn_checkpoint(kbytes, 0, 0 if kbytes else db.DB_FORCE)

    def unused_logs(self) -> list[str]:
        """Paths of log files that no recovery needs any more."""
        with errors("list logs of", self._home):
            return sorted(os.fsdecode(name) for name in self._env.log_archive(db.DB_ARCH_ABS))

    def remove_logs(self) -> int:
        """Remove the log files that no recovery needs; how many."""
        paths = self.unused_logs()
        for path in paths:
            with errors("remove", path):
                os.unlink(path)
        return len(paths)

    def close(self) -> None:
        """Close the environment; its tables must be closed before."""
        with errors("close", self._home):
            self._env.close()


def open_readonly(path: str) -> Table:
    """Any Berkeley DB file outside an environment, to be read by any thread."""
    with errors("open", path):
        os.stat(path)  # the library's own message for a missing file says less
        handle = db.DB()
        handle.set_cachesize(0, _READ_CACHE, 1)
        handle.open(path, None, db.DB_UNKNOWN, db.DB_RDONLY | db.DB_THREAD)
    return Table(handle, path)


def create_hash(path: str, mode: int = FILE_MODE) -> Table:
    """A new hash file at `path`, which must not exist; for one thread."""
    with errors("create", path):
        handle = db.DB()
        handle.set_cachesize(0, _WRITE_CACHE, 1)
        handle.open(path, None, db.DB_HASH, db.DB_CREATE | db.DB_EXCL, mode)
    return Table(handle, path)
