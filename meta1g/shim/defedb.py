"""DEFEDB, the deferred envelope database: a Berkeley DB environment (M1 7.1, 8.3).

Rules
    One btree holds transactions (`T` + id) and recipients (`R` + id + `-` + index), each
    value a version octet, a CRC-32 of key and record, and a record of `shim.records`. QMGR alone
    writes it. Its first pair is always there, so that a file that has lost its pages is no empty one.
    Readers open a copy of the file and see what was checkpointed (M1 4.7.2): `Snapshot`.
    A file that the library can't read is set aside, and what its pages still hold is put into
    a new one.

Files
    defedb/: 0700 meta1q: `defedb.db`, Berkeley DB's logs and region files.
    defedb/damaged.N/: what was set aside; `salvaged` once that is done.
"""
import itertools
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Final, Generic, NamedTuple, TypeVar

from meta1g.mta.errors import CorruptRecord, CorruptStore, FrameError, StoreError
from meta1g.mta.ids import rcpt_id
from meta1g.shim import btreefile
from meta1g.shim.bdb import Env, Txn, errors
from meta1g.shim.records import DEFEDB_CODEC, DeferredRcpt, DeferredTa

T = TypeVar("T")
R = TypeVar("R", "Waiting", DeferredRcpt)
FILE: Final = "defedb.db"
_VERSION: Final = 2
_FIRST: Final = (b"\0", b"M1DE" + bytes([_VERSION]))
_HEADER: Final = struct.Struct("<BI")
_GLANCE: Final = struct.Struct("<xd8xq")  # type, and of a DeferredRcpt `next_try` and `idx`
_ASIDE: Final = re.compile(r"damaged\.[0-9]+")
_LOG: Final = re.compile(r"log\.[0-9]{10}")
_SALVAGED: Final = "salvaged"
_BATCH: Final = 1000  # salvaged entries in one transaction: bounds its locks

Entry = DeferredTa | DeferredRcpt
Report = Callable[[CorruptRecord], None]


class Waiting(NamedTuple):
    """A recipient that waits until `next_try`, seconds since 1970."""

    next_try: float
    ta: str
    idx: int


def _ta_key(ta: str) -> bytes:
    return b"T" + ta.encode("ascii")


def _rcpt_key(ta: str, idx: int) -> bytes:
    return b"R" + rcpt_id(ta, idx).encode("ascii")


def _encode(entry: Entry) -> tuple[bytes, bytes]:
    key = _ta_key(entry.ta) if isinstance(entry, DeferredTa) else _rcpt_key(entry.ta, entry.idx)
    body = DEFEDB_CODEC.encode(entry)
    return key, _HEADER.pack(_VERSION, zlib.crc32(body, zlib.crc32(key))) + body


def _body(path: str, key: bytes, value: bytes) -> bytes:
    if value[:1] != bytes([_VERSION]):
        raise CorruptRecord(path, 0, f"record {key!r} is of unknown version {value[:1].hex()}")
    body = value[_HEADER.size:]
    if len(value) < _HEADER.size or zlib.crc32(body, zlib.crc32(key)) != _HEADER.unpack_from(value)[1]:
        raise CorruptRecord(path, 0, f"record {key!r} is damaged (checksum)")
    return body


def _decode(path: str, key: bytes, value: bytes) -> Entry:
    body = _body(path, key, value)
    try:
        return DEFEDB_CODEC.decode(body)  # type: ignore[return-value]
    except FrameError as error:
        raise CorruptRecord(path, 0, f"record {key!r}: {error}") from None


def _glance(path: str, key: bytes, value: bytes) -> DeferredTa | Waiting:
    """A transaction, or what EDBC has to know of a recipient: a third of the work of decoding it."""
    if key[:1] == b"R":
        body = _body(path, key, value)
        try:
            next_try, idx = _GLANCE.unpack_from(body)
            return Waiting(next_try, key[1:20].decode("ascii"), idx)
        except (ValueError, struct.error) as error:
            raise CorruptRecord(path, 0, f"record {key!r}: {error}") from None
    entry = _decode(path, key, value)
    if not isinstance(entry, DeferredTa):
        raise CorruptRecord(path, 0, f"record {key!r} is no transaction")
    return entry


def _each(
    decode: Callable[[str, bytes, bytes], T], path: str, pairs: Iterable[tuple[bytes, bytes]], on_damage: Report
) -> Iterator[T]:
    """What the pairs say, without the first; damage is told and skipped."""
    for key, value in pairs:
        if key != _FIRST[0]:
            try:
                yield decode(path, key, value)
            except CorruptRecord as error:
                on_damage(error)


class Change(NamedTuple):
    """What to put, which recipients to delete, which transactions have `ended` (their record goes),
    and whose content has `settled` in its own file."""

    puts: tuple[Entry, ...] = ()
    deletes: tuple[tuple[str, int], ...] = ()
    ended: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()


class Tuning(NamedTuple):
    """How the library is set (M1 3.8 item 4, 8.3 item 2): octets of cache, octets of a new file's page (0: its own
    choice), and the folder of its logs (empty: the home)."""

    cache_size: int
    page_size: int = 0
    log_home: str = ""


class Group(NamedTuple, Generic[R]):
    """A transaction and all its recipients; None and [] are what damage has taken."""

    name: str
    ta: DeferredTa | None
    rcpts: list[R]


class Found(NamedTuple):
    """A transaction, some of its recipients and which of them are `damaged`; it has `total` altogether."""

    ta: DeferredTa | None
    rcpts: list[DeferredRcpt]
    damaged: list[int]
    total: int


class Defedb:
    """The writer's view; one thread uses it."""

    def __init__(self, home: str, tuning: Tuning) -> None:
        """Open it, after Berkeley DB's own recovery; StoreError, CorruptStore if the file makes no sense."""
        self._home = home
        self.path = os.path.join(home, FILE)
        self.is_new = not os.path.exists(self.path)
        self._env = Env(home, cache_size=tuning.cache_size, log_home=tuning.log_home, mode=0o600)
        self._reader: btreefile.Reader | None = None
        try:
            if not self.is_new:
                self._reader = self._read_file()
            self._table = self._env.btree(FILE, first=_FIRST, page_size=tuning.page_size)
            if self.is_new:
                self._env.checkpoint()  # readers see its first pair
        except StoreError:
            with suppress(StoreError):
                self._env.close()  # its files may be set aside next
            raise

    def write(self, changes: Sequence[Change]) -> None:
        """Make all changes, in order, in one transaction. StoreError: nothing of it happened."""

        def work(txn: Txn) -> None:
            for change in changes:
                self._apply(change, txn)

        self._env.transact(work)

    def _apply(self, change: Change, txn: Txn) -> None:
        for entry in change.puts:
            self._table.put(*_encode(entry), txn)
        for ta, idx in change.deletes:
            self._table.delete(_rcpt_key(ta, idx), txn)
        for ta in change.ended:
            self._table.delete(_ta_key(ta), txn)
        for ta in change.settled:
            self._settle(ta, txn)

    def _settle(self, ta: str, txn: Txn) -> None:
        entry = self._get(_ta_key(ta), txn)
        if isinstance(entry, DeferredTa):
            content = tuple(place._replace(segment="", offset=0) for place in entry.content)
            self._table.put(*_encode(entry._replace(content=content)), txn)

    def _get(self, key: bytes, txn: Txn | None = None) -> Entry | None:
        value = self._table.get(key, txn)
        return None if value is None else _decode(self.path, key, value)

    def load(self, ta: str, idxs: Sequence[int]) -> Found:
        """A transaction and those of its recipients that are there.

        StoreError; CorruptRecord if the transaction's own record is damaged, or gone without them.
        """
        found = self._get(_ta_key(ta))
        rcpts, damaged = [], []
        for idx in idxs:
            try:
                entry = self._get(_rcpt_key(ta, idx))
            except CorruptRecord:
                damaged.append(idx)  # it must not keep the others back
                continue
            if isinstance(entry, DeferredRcpt):
                rcpts.append(entry)
        if not isinstance(found, DeferredTa):
            if rcpts or damaged:
                raise CorruptRecord(self.path, 0, f"the record of {ta} is gone")
            return Found(None, [], [], 0)
        return Found(found, rcpts, damaged, self._count(ta))

    def _count(self, ta: str) -> int:
        key = b"R" + ta.encode("ascii")
        with closing(self._table.items(start=key)) as pairs:
            return sum(1 for _ in itertools.takewhile(lambda pair: pair[0].startswith(key), pairs))

    def scan(self, start: bytes, most: int) -> tuple[list[DeferredRcpt], bytes]:
        """Up to `most` recipients from the key `start` on (b"": the first), and the key to go on with, b"" at the end.

        What is damaged is passed over; StoreError.
        """
        found, more = self._piece(_decode, start, most)
        return [entry for entry in found if isinstance(entry, DeferredRcpt)], more

    def survey(self, start: bytes, most: int) -> tuple[list[Waiting], bytes]:
        """When recipients are due, as `scan` has them."""
        found, more = self._piece(_glance, start, most)
        return [entry for entry in found if isinstance(entry, Waiting)], more

    def _piece(self, decode: Callable[[str, bytes, bytes], T], start: bytes, most: int) -> tuple[list[T], bytes]:
        found: list[T] = []
        with closing(self._table.items(start=max(start, b"R"))) as pairs:  # its cursor holds a lock
            for count, (key, value) in enumerate(pairs):
                if key[:1] != b"R":
                    break
                if count >= most:
                    return found, key
                with suppress(CorruptRecord):
                    found.append(decode(self.path, key, value))
        return found, b""

    def _read_file(self) -> btreefile.Reader:
        """The file as it is on disk; StoreError, CorruptStore if the library would stumble over a page."""
        self._env.checkpoint()  # what its recovery mended, or was written, is in the file
        return _reader(self.path)

    def loaded(self, on_damage: Report) -> Iterator[Group[Waiting]]:
        """What was there when the file was opened, by transaction in the order of ids, once.

        Damage is told and skipped. StoreError, CorruptStore. Nothing may be written meanwhile.
        """
        reader, self._reader = self._reader, None
        if reader is None:
            return
        with closing(reader):
            is_headless = next(_pairs(self.path, reader), None) not in (_FIRST, None)
            rcpts = _each(_glance, self.path, _range(self.path, reader, b"R"), on_damage)
            tas = _each(_glance, self.path, _range(self.path, reader, b"T"), on_damage)
            yield from _joined((entry for entry in tas if isinstance(entry, DeferredTa)),
                               (entry for entry in rcpts if isinstance(entry, Waiting)))
        if is_headless:
            on_damage(_headless(self.path))
            self._env.transact(lambda txn: self._table.add(*_FIRST, txn))  # told once

    def salvage(self, on_damage: Report) -> int:
        """Put what earlier files still hold that were set aside into this one; how many entries."""
        count = 0
        with errors("salvage", self._home):
            for name in sorted(filter(_ASIDE.fullmatch, os.listdir(self._home))):
                folder = os.path.join(self._home, name)
                if os.path.exists(os.path.join(folder, _SALVAGED)):
                    continue
                found = list(_salvaged(os.path.join(folder, FILE), on_damage))
                for at in range(0, len(found), _BATCH):
                    self.write([Change(tuple(found[at:at + _BATCH]))])
                self.checkpoint(removes_logs=False)
                _mark(os.path.join(folder, _SALVAGED))
                count += len(found)
        if count:
            if self._reader is not None:
                self._reader.close()
            self._reader = self._read_file()
        return count

    def checkpoint(self, *, removes_logs: bool, kbytes: int = 0) -> None:
        """Make recovery short and let readers see what was written; only if there are `kbytes` KB of new log."""
        self._env.checkpoint(kbytes)
        if removes_logs:
            self._env.remove_logs()

    def close(self) -> None:
        """Close after a last checkpoint."""
        if self._reader is not None:
            self._reader.close()
        self._env.checkpoint()
        self._table.close()
        self._env.close()


class Snapshot:
    """A copy of a DEFEDB's file for a reader that must not disturb QMGR; a page at a time is in memory."""

    def __init__(self, home: str, on_damage: Report) -> None:
        """Open and check it; StoreError, CorruptStore. The file may be removed then."""
        self._path = os.path.join(home, FILE)
        self._on_damage = on_damage
        self._reader = _reader(self._path)
        if next(_pairs(self._path, self._reader), None) != _FIRST:
            on_damage(_headless(self._path))

    def __iter__(self) -> Iterator[Entry]:
        """All recipients, then all transactions, each in the order of their ids."""
        return self._entries(b"")

    def messages(self) -> Iterator[tuple[DeferredTa, list[DeferredRcpt]]]:
        """Each transaction that has recipients with them, in the order of ids; StoreError."""
        rcpts = (entry for entry in self._entries(b"R") if isinstance(entry, DeferredRcpt))
        tas = (entry for entry in self._entries(b"T") if isinstance(entry, DeferredTa))
        for group in _joined(tas, rcpts):
            if group.ta is not None and group.rcpts:
                yield group.ta, group.rcpts

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()

    def _entries(self, start: bytes) -> Iterator[Entry]:
        pairs = _range(self._path, self._reader, start) if start else _pairs(self._path, self._reader)
        return _each(_decode, self._path, pairs, self._on_damage)


def recovered(home: str, log_home: str, folder: str) -> None:
    """Make a copy of a DEFEDB that nobody has open in `folder`, with all that its logs have and its file has not.

    A process that was killed leaves it so. StoreError, CorruptStore.
    """
    with errors("read", home):
        shutil.copyfile(os.path.join(home, FILE), os.path.join(folder, FILE))
        *earlier, last = logs(log_home or home) or [""]
        for path in earlier:
            os.symlink(os.path.abspath(path), os.path.join(folder, os.path.basename(path)))
        if last:  # the only one that recovery writes to
            shutil.copyfile(last, os.path.join(folder, os.path.basename(last)))
    Env(folder).close()


def logs(folder: str) -> list[str]:
    """Paths of Berkeley DB's logs in a folder, the oldest first; OSError."""
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if _LOG.fullmatch(name))


def set_aside(home: str, log_home: str = "") -> str:
    """Move the files of a DEFEDB that can't be read, logs included, into a folder of their own; its path.

    Nobody may use them.
    """
    with errors("set aside", home):
        folder = next(path for path in (os.path.join(home, f"damaged.{n}") for n in itertools.count(1))
                      if not os.path.exists(path))
        paths = [os.path.join(log_home, name) for name in os.listdir(log_home or home)
                 if log_home and _LOG.fullmatch(name)]
        names = [name for name in os.listdir(home) if not _ASIDE.fullmatch(name)]
        paths += [path for path in (os.path.join(home, name) for name in names)
                  if not log_home or os.path.realpath(path) != os.path.realpath(log_home)]
        os.mkdir(folder, 0o700)
        for path in paths:
            shutil.move(path, folder)
    return folder


def _reader(path: str) -> btreefile.Reader:
    """The file page by page; StoreError, CorruptStore if one of its pages makes no sense."""
    with errors("read", path):
        reader = btreefile.Reader(path)
        try:
            reader.check()
        except CorruptRecord as error:
            reader.close()
            raise CorruptStore("read", path, error.reason, error.offset) from None
        return reader


def _range(path: str, reader: btreefile.Reader, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The pairs whose keys begin with this octet; StoreError, CorruptStore if they are not in order."""
    last = b""
    for key, value in _pairs(path, reader, kind):
        if key[:1] != kind:
            return
        if key <= last:
            raise CorruptStore("read", path, f"keys are not in order: {key!r}", 0)
        last = key
        yield key, value


def _pairs(path: str, reader: btreefile.Reader, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """The pairs from this key on; StoreError, CorruptStore."""
    with errors("read", path):
        try:
            yield from reader.pairs(start)
        except CorruptRecord as error:
            raise CorruptStore("read", path, error.reason, error.offset) from None


def _joined(tas: Iterator[DeferredTa], rcpts: Iterator[R]) -> Iterator[Group[R]]:
    """Both in the order of transactions' ids, brought together."""
    ta = next(tas, None)
    for name, group in itertools.groupby(rcpts, lambda rcpt: rcpt.ta):
        while ta is not None and ta.ta < name:
            yield Group(ta.ta, ta, [])
            ta = next(tas, None)
        if ta is not None and ta.ta == name:
            yield Group(name, ta, list(group))
            ta = next(tas, None)
        else:
            yield Group(name, None, list(group))
    while ta is not None:
        yield Group(ta.ta, ta, [])
        ta = next(tas, None)


def _headless(path: str) -> CorruptRecord:
    return CorruptRecord(path, 0, f"the first pair of a DEFEDB of version {_VERSION} is not there")


def _salvaged(path: str, on_damage: Report) -> Iterator[Entry]:
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        data = file.read()
    yield from _each(_decode, path, btreefile.pairs(path, data, on_damage), on_damage)


def _mark(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
