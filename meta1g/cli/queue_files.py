"""What the queue's files say, without disturbing QMGR (M1 4.7.2)."""
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

import click

from meta1g.conf.errors import ConfErrors
from meta1g.conf.load import Config, load_file
from meta1g.mcp import status as mcp_status
from meta1g.mta.errors import CorruptRecord, CorruptStore, StoreError, TornTail
from meta1g.shim import defedb, ibdb
from meta1g.shim.records import DeferredRcpt, DeferredTa, RcptEnd, RcptsAdded, TaNew
from meta1g.shim.safeio import Disk

_COPIES: Final = 5  # of a running server's DEFEDB, until one is whole
_PAUSE: Final = 0.3  # seconds between them


class QueuedRcpt(NamedTuple):
    """A recipient that waits; `next_try` 0 for what is being worked on; `reason` may be empty."""

    idx: int
    address: bytes
    next_try: float
    tries: int
    reason: str


class Queued(NamedTuple):
    """A message in the queue; `store` is `ibdb` or `defedb`."""

    ta: str
    store: str
    mail: bytes
    size: int
    received: float
    rcpts: list[QueuedRcpt]


def fail(text: str, code: int) -> NoReturn:
    """End with a message."""
    click.echo(text, err=True)
    raise SystemExit(code)


def locate(conf: str) -> Config:
    """The configuration at `conf`; ends the program if it can't be used."""
    try:
        return load_file(os.path.abspath(conf))
    except ConfErrors as error:
        fail(str(error), os.EX_CONFIG)
    except OSError as error:
        fail(f"{conf}: {error.strerror}; name the configuration with -f", os.EX_NOINPUT)


def read_queue(config: Config, damage: list[str]) -> list[Queued]:
    """All messages in IBDB and DEFEDB, oldest first; damaged records are named in `damage`. StoreError."""
    is_running = mcp_status.is_running(config.queue_directory)

    def on_damage(error: CorruptRecord) -> None:
        if not (is_running and isinstance(error, TornTail)):  # it is being written just now
            damage.append(str(error))

    found = _fresh(os.path.join(config.queue_directory, ibdb.FOLDER), on_damage)
    deferred = _deferred(config, on_damage)
    known = {(message.ta, rcpt.idx) for message in deferred for rcpt in message.rcpts}
    fresh = []
    for message in found:
        rcpts = [rcpt for rcpt in message.rcpts if (message.ta, rcpt.idx) not in known]
        if rcpts:
            fresh.append(message._replace(rcpts=rcpts))
    return sorted([*fresh, *deferred], key=lambda message: message.received)


def _fresh(folder: str, on_damage: Callable[[CorruptRecord], None]) -> list[Queued]:
    found: dict[str, Queued] = {}
    open_rcpts: dict[str, dict[int, QueuedRcpt]] = {}
    for record in ibdb.read(Disk(), folder, on_damage):
        if isinstance(record, TaNew):
            found[record.ta] = Queued(record.ta, "ibdb", record.mail, record.size, record.received, [])
            open_rcpts[record.ta] = {r.idx: QueuedRcpt(r.idx, r.address, 0.0, 0, "") for r in record.rcpts}
        elif isinstance(record, RcptEnd):
            open_rcpts.get(record.ta, {}).pop(record.idx, None)
        elif isinstance(record, RcptsAdded) and record.ta in found:
            open_rcpts[record.ta].pop(record.idx, None)
            open_rcpts[record.ta].update({r.idx: QueuedRcpt(r.idx, r.address, 0.0, 0, "") for r in record.rcpts})
    return [message._replace(rcpts=list(open_rcpts[ta].values())) for ta, message in found.items()]


def read_defedb(config: Config, on_damage: Callable[[CorruptRecord], None]) -> list[DeferredTa | DeferredRcpt]:
    """DEFEDB from a copy of its file: what was checkpointed, at one moment. StoreError.

    A copy may be taken while pages are written, so a running server's is taken again if it is not whole.
    """
    home = config.queue_path(config.module("qmgr").defedb.base_directory)
    path = os.path.join(config.queue_directory, home, defedb.FILE)
    for tries in range(_COPIES if mcp_status.is_running(config.queue_directory) else 1):
        time.sleep(_PAUSE if tries else 0.0)
        try:
            return _copied(path, on_damage)
        except CorruptStore as error:
            last = error
    on_damage(CorruptRecord(
        path, last.offset, f"{last.reason}; the next start of the server sets it aside and saves what it can"))
    return []


def _copied(path: str, on_damage: Callable[[CorruptRecord], None]) -> list[DeferredTa | DeferredRcpt]:
    with tempfile.TemporaryDirectory(prefix="mailq.") as folder:
        try:
            shutil.copyfile(path, os.path.join(folder, defedb.FILE))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError("read", path, error.strerror or str(error)) from None
        return list(defedb.read_file(folder, on_damage))


def _deferred(config: Config, on_damage: Callable[[CorruptRecord], None]) -> list[Queued]:
    transactions: dict[str, DeferredTa] = {}
    rcpts: dict[str, list[QueuedRcpt]] = {}
    for entry in read_defedb(config, on_damage):
        if isinstance(entry, DeferredRcpt):
            estat = f"{entry.estat} " if entry.estat else ""
            reason = f"{entry.code} {estat}{entry.text}" if entry.code else ""
            rcpts.setdefault(entry.ta, []).append(
                QueuedRcpt(entry.idx, entry.address, entry.next_try, entry.tries, reason))
        else:
            transactions[entry.ta] = entry
    return [
        Queued(ta, "defedb", entry.mail, entry.size, entry.received, rcpts[ta])
        for ta, entry in transactions.items() if ta in rcpts
    ]
