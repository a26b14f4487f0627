"""A copy of the queue while the server runs, and the way back from it (design 5, M1 7.1).

Rules
    The copy is a queue of its own, with the same layout: IBDB, DEFEDB, and a file in CDB for each message.
    IBDB is read first, then DEFEDB is checkpointed and read: what moves from the one to the other meanwhile is in
    both, never in none. Content goes only after the last recipient has ended, so an envelope whose content can't be
    found any more has ended since, and is left out.
    What was delivered after the copy was made is delivered again from it.
"""
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from meta1g.cli.queue_audit import content_db
from meta1g.cli.queue_files import defedb_folders, open_defedb, read_ibdb
from meta1g.cli.queued import bring_up_to_date
from meta1g.conf.load import Config
from meta1g.mcp import status as mcp_status
from meta1g.mta.errors import CorruptRecord, StoreError
from meta1g.proto.msg_ss import Content
from meta1g.qmgr.recover import Replayed
from meta1g.shim import defedb, ibdb, layout
from meta1g.shim.cdb import FOLDERS, ContentDb
from meta1g.shim.defedb import Change, Defedb, Tuning
from meta1g.shim.records import Attempt, DeferredRcpt, DeferredTa, IbdbRecord, IdsGiven, Tried
from meta1g.shim.safeio import Disk

_DEFEDB: Final = "defedb"
_REGIONS: Final = "__db."  # Berkeley DB's shared memory, which is made anew
_BATCH: Final = 200  # messages in one transaction of DEFEDB
_TUNING: Final = Tuning(8 << 20)

Progress = Callable[[int], None]  # told how many messages are done


class Copied(NamedTuple):
    """What is in a copy: messages, recipients; `ended` meanwhile and left out; `damaged`, a line each."""

    messages: int
    rcpts: int
    ended: int
    damaged: list[str]


class _Copy:
    """A copy that is being made in `folder`."""

    def __init__(self, config: Config, folder: str, progress: Progress) -> None:
        layout.create("queue", folder, None)
        self._folder = folder
        self._from, self._to = content_db(config), ContentDb(Disk(), os.path.join(folder, ""))
        self._is_running = mcp_status.is_running(config.queue_directory)
        self._progress = progress
        self.messages = self.rcpts = self.ended = 0
        self.damaged: list[str] = []

    def deferred(self, messages: Iterator[tuple[DeferredTa, list[DeferredRcpt]]]) -> dict[str, set[int]]:
        """Copy these into DEFEDB; the recipients that it has."""
        there: dict[str, set[int]] = {}
        store = Defedb(os.path.join(self._folder, _DEFEDB), _TUNING)
        try:
            changes: list[Change] = []
            for ta, rcpts in messages:
                size = self._content(ta.ta, ta.content[0])
                if size is None:
                    continue
                changes.append(Change((ta._replace(content=(Content(0, size, ""),)), *rcpts)))
                there[ta.ta] = {rcpt.idx for rcpt in rcpts}
                self._count(len(rcpts))
                if len(changes) >= _BATCH:
                    store.write(changes)
                    changes = []
            store.write(changes)
        finally:
            store.close()
        return there

    def fresh(self, said: Replayed, there: dict[str, set[int]]) -> None:
        """Copy what IBDB has and DEFEDB has not."""
        keep: list[IbdbRecord] = [IdsGiven(said.ids_last)]
        for ta, (begin, rcpts) in sorted(said.fresh.items()):
            left = [rcpt for idx, rcpt in rcpts.items() if idx not in there.get(ta, ())]
            size = self._content(ta, begin.content[0]) if left else None
            if size is not None:
                keep.append(begin._replace(rcpts=tuple(left), content=(Content(0, size, ""),)))
                there.setdefault(ta, set()).update(rcpt.idx for rcpt in left)
                self._count(len(left))
        keep += [Attempt(True, ta, (Tried(idx),)) for ta, idx in sorted(said.tried) if idx in there.get(ta, ())]
        ibdb.Ibdb(Disk(), os.path.join(self._folder, ibdb.FOLDER), 1 << 30).write(keep)

    def _count(self, rcpts: int) -> None:
        self.messages += 1
        self.rcpts += rcpts
        self._progress(self.messages)

    def _content(self, ta: str, place: Content) -> int | None:
        """Copy a message's content; its size, None if it can't be had."""
        if self._to.has_file(ta):
            return os.path.getsize(self._to.path(ta))
        for is_last in (False, True):
            writer = self._to.writer(ta)
            try:
                for piece in self._from.pieces(ta, place):
                    writer.append(piece)
                writer.commit()
                return writer.size
            except (StoreError, CorruptRecord) as error:
                writer.abort()
                if not (self._is_running and isinstance(error, StoreError)):
                    self.damaged.append(str(error))
                    break
                if not self._from.has_file(ta):
                    self.ended += 1
                    break
                if is_last:  # at first it may have moved from the journal into its own file meanwhile
                    self.damaged.append(str(error))
        return None


def backup(config: Config, folder: str, progress: Progress) -> Copied:
    """Copy the queue into `folder`, which is made, for its owner's eyes only. StoreError, OSError."""
    os.mkdir(folder, 0o700)
    copy = _Copy(config, folder, progress)

    def on_damage(error: CorruptRecord) -> None:
        copy.damaged.append(str(error))

    said = read_ibdb(config, on_damage)
    bring_up_to_date(config)
    snapshot = open_defedb(config, on_damage)
    there: dict[str, set[int]] = {}
    if snapshot is not None:
        try:
            there = copy.deferred(snapshot.messages())
        finally:
            snapshot.close()
    copy.fresh(said, there)
    return Copied(copy.messages, copy.rcpts, copy.ended, copy.damaged)


def is_empty(config: Config) -> bool:
    """Whether a queue has no mail at all: no content, and nothing in IBDB or DEFEDB, or damaged there. StoreError.

    A message in DEFEDB may have its content in the journal still.
    """
    if next(content_db(config).transactions(), None) is not None:
        return False
    damaged: list[CorruptRecord] = []
    said = read_ibdb(config, damaged.append)
    snapshot = open_defedb(config, damaged.append)
    if snapshot is None:
        return not said.fresh and not damaged
    try:
        return not said.fresh and next(iter(snapshot), None) is None and not damaged
    finally:
        snapshot.close()


def restore(config: Config, folder: str, gid: int) -> int:
    """Put a copy into the empty queue of a server that is stopped; how many messages. OSError.

    Each file gets the owner of its folder there; content gets the group `gid`, SMTPC's, -1 for none. Envelopes come
    last.
    """
    queue = config.queue_directory
    count = 0
    for name in FOLDERS:
        target = os.path.join(queue, config.cdb_base_directory or "", name)
        for file in sorted(os.listdir(os.path.join(folder, name))):
            _put(os.path.join(folder, name, file), os.path.join(target, file), 0o640, gid)
            count += 1
    home, log_home = defedb_folders(config)
    if log_home:
        if not os.path.exists(log_home):  # QMGR makes it at its first start
            layout.make_folder(log_home, 0o700, (os.stat(home).st_uid, os.stat(home).st_gid))
        for path in defedb.logs(log_home):
            os.unlink(path)  # they are about pages of another file
    for name, target in ((_DEFEDB, home), (ibdb.FOLDER, os.path.join(queue, ibdb.FOLDER))):
        for file in os.listdir(target):
            if os.path.isfile(os.path.join(target, file)):
                os.unlink(os.path.join(target, file))  # of an empty queue
        source = os.path.join(folder, name)
        own_logs = defedb.logs(source)
        for path in sorted(os.path.join(source, file) for file in os.listdir(source)):
            if os.path.isfile(path) and not os.path.basename(path).startswith(_REGIONS):
                to = log_home if log_home and path in own_logs else target
                _put(path, os.path.join(to, os.path.basename(path)), 0o600, -1)
        for made in {target, log_home or target}:
            Disk().flush_folder(made)
    content_db(config).flush_folders()
    return count


def _put(source: str, target: str, mode: int, gid: int) -> None:
    """A file with its owner and mode from the start, on stable storage under its name or not there."""
    owner = os.stat(os.path.dirname(target))
    fd = os.open(f"{target}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as made, open(source, "rb") as file:
        if os.geteuid() == 0:
            os.fchown(made.fileno(), owner.st_uid, gid if gid >= 0 else owner.st_gid)
        shutil.copyfileobj(file, made)
        made.flush()
        os.fchmod(made.fileno(), mode)
        os.fsync(made.fileno())
    os.rename(f"{target}.new", target)
