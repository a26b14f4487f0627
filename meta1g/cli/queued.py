"""What waits in the queue, message by message, in the order of ids: one at a time is in memory (M1 4.7.2)."""
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from meta1g.cli import control
from meta1g.cli.queue_files import open_defedb, read_ibdb
from meta1g.conf.load import Config
from meta1g.mcp import status as mcp_status
from meta1g.mta.errors import CorruptRecord, LinkDown
from meta1g.proto.smtp.params import quarantine
from meta1g.qmgr import holds
from meta1g.qmgr.recover import Replayed
from meta1g.shim import smallfile
from meta1g.shim.records import DeferredRcpt, DeferredTa
from meta1g.shim.safeio import Disk

_PATIENCE: Final = 5.0  # seconds for QMGR to bring DEFEDB up to date


class QueuedRcpt(NamedTuple):
    """A recipient that waits; `next_try` 0 for what is being worked on; `reason` may be empty.

    `hosts` are names and IP addresses in its route, in order; empty before the first try. It `is_held` by an
    administrator, or kept back as a filter wants it.
    """

    idx: int
    address: bytes
    next_try: float
    tries: int
    reason: str
    hosts: tuple[str, ...]
    is_held: bool = False


class Queued(NamedTuple):
    """A message in the queue; `store` is `ibdb` or `defedb`."""

    ta: str
    store: str
    mail: bytes
    size: int
    received: float
    rcpts: list[QueuedRcpt]


def read_queue(config: Config, damage: list[str]) -> Iterator[Queued]:
    """All messages in IBDB and DEFEDB; damaged records are named in `damage` meanwhile. StoreError.

    IBDB comes first: a recipient that moves to DEFEDB meanwhile is in both, and shown once.
    """
    queue = _read_stores(config, damage)
    held = _read_holds(config, damage)
    return map(held, queue) if held else queue


def _read_holds(config: Config, damage: list[str]) -> Callable[[Queued], Queued] | None:
    """What marks the recipients that are held, None if nothing is."""
    try:
        octets = smallfile.read(Disk(), os.path.join(config.queue_directory, holds.FILE))
        found = holds.parse(octets.decode()) if octets else holds.Holds()
    except ValueError as error:
        damage.append(f"{holds.FILE}: {error}; QMGR holds everything")
        found = holds.Holds(True)

    def mark(message: Queued) -> Queued:
        rcpts = [rcpt._replace(is_held=rcpt.is_held or found.covers(rcpt.address, rcpt.hosts))
                 for rcpt in message.rcpts]
        return message._replace(rcpts=rcpts)

    return mark if found else None


def _read_stores(config: Config, damage: list[str]) -> Iterator[Queued]:
    def on_damage(error: CorruptRecord) -> None:
        damage.append(str(error))

    fresh = _fresh(read_ibdb(config, on_damage))
    if mcp_status.is_running(config.queue_directory):
        bring_up_to_date(config)
    snapshot = open_defedb(config, on_damage)
    if snapshot is None:
        yield from fresh
        return
    try:
        yield from merge(fresh, (deferred(ta, rcpts) for ta, rcpts in snapshot.messages()))
    finally:
        snapshot.close()


def bring_up_to_date(config: Config) -> None:
    """Have QMGR checkpoint DEFEDB; where that can't be, what is shown may be seconds old (M1 4.7.2)."""
    path = os.path.join(config.queue_directory, config.queue_path(config.module("qmgr").control_socket))
    try:
        control.checkpoint(path, _PATIENCE)
    except LinkDown:
        pass


def merge(fresh: Iterable[Queued], stored: Iterable[Queued]) -> Iterator[Queued]:
    """IBDB's and DEFEDB's messages, both in the order of ids; a recipient of both is shown as DEFEDB has it."""
    waiting = deque(fresh)
    for message in stored:
        while waiting and waiting[0].ta <= message.ta:
            first = waiting.popleft()
            known = {rcpt.idx for rcpt in message.rcpts} if first.ta == message.ta else set()
            rcpts = [rcpt for rcpt in first.rcpts if rcpt.idx not in known]
            if rcpts:
                yield first._replace(rcpts=rcpts)
        yield message
    yield from waiting


def deferred(ta: DeferredTa, rcpts: list[DeferredRcpt]) -> Queued:
    """A message as DEFEDB has it."""
    return Queued(ta.ta, "defedb", ta.mail, ta.size, ta.received, [_rcpt(rcpt) for rcpt in rcpts])


def _rcpt(entry: DeferredRcpt) -> QueuedRcpt:
    estat = f"{entry.estat} " if entry.estat else ""
    reason = f"{entry.code} {estat}{entry.text}" if entry.code else ""
    hosts = tuple(name for hop in entry.hops for name in (hop.name, hop.ip) if name)
    return QueuedRcpt(entry.idx, entry.address, entry.next_try, entry.tries, reason, hosts,
                      quarantine(entry.params) is not None)


def _fresh(replayed: Replayed) -> list[Queued]:
    """What IBDB has, in the order of ids."""
    messages = []
    for ta, (begin, rcpts) in sorted(replayed.fresh.items()):
        waiting = [QueuedRcpt(rcpt.idx, rcpt.address, 0.0, 0, "", ()) for rcpt in rcpts.values()]
        messages.append(Queued(ta, "ibdb", begin.mail, begin.size, begin.received, waiting))
    return messages
