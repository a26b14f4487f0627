"""Stops the workload at a storage call, loses what was not flushed, recovers, and checks the law (design 5).

Rules
    A stop kills everybody. After a kill the page cache is still there; after a loss of power any prefix of
    what was appended since a file's last flush is there, and any subset of the folder entries changed since
    the folder's last flush. A DEFEDB transaction has happened or not.
    Half of the stories stop once more while they recover or soon after it, and lose power then: what recovery
    relies on must be durable too.
    In the end everybody works, time passes, and the books must balance.
"""
import random
import sys
from collections.abc import Callable

from meta1g.mta.errors import CorruptRecord, StoreError
from tests.crash.disk import FakeDisk, Stopped
from tests.crash.workload import Workload

Site = str
Violation = (AssertionError, StoreError, CorruptRecord, KeyError)


def calls() -> int:
    """Storage calls of the whole workload."""
    work = Workload()
    work.play()
    return work.world.disk.calls


def explore(stop_at: int, seed: int, ignores: Callable[[str, str], bool] | None = None) -> None:
    """One story; AssertionError (or what a broken store raises) if the law does not hold."""
    luck = random.Random(f"{stop_at}.{seed}")
    work = Workload()
    if ignores is not None:
        work.world.disk.ignores = ignores
    work.world.disk.stop_at = stop_at
    try:
        work.play()
    except Stopped:
        pass
    is_kill = luck.random() < 0.3
    _come_back(work, FakeDisk.survive if is_kill else lambda disk: disk.lose_power(0.0, luck), 0)
    if is_kill or luck.random() < 0.4:
        _again(work, luck)
    work.calm_down()
    work.check()


def explore_error(fail_at: int, *, is_full: bool) -> None:
    """One storage call fails, with EIO or for lack of space; everything goes on, and the books balance."""
    work = Workload()
    work.world.disk.fail_at, work.world.disk.fails_full = fail_at, is_full
    try:
        work.play()
    except StoreError:  # recovery could not read or write: QMGR ends, and MCP starts it again
        _come_back(work, FakeDisk.survive, 0)
    assert work.world.disk.has_failed
    work.calm_down()
    work.check()


def _again(work: Workload, luck: random.Random) -> None:
    """Power goes too, soon after that start, or while the next one recovers."""
    try:
        work.world.disk.calls, work.world.disk.stop_at = 0, luck.randrange(1, 30)
        work.world.run()
        work.world.sleep(luck.choice([1, 70]), 10)
    except Stopped:
        pass
    _come_back(work, lambda disk: disk.lose_power(0.0, luck), luck.choice([0, luck.randrange(1, 25)]))


def _come_back(work: Workload, loss: Callable[[FakeDisk], FakeDisk], stop_at: int) -> None:
    """Start again; the recovery itself may stop at its call `stop_at`, then power goes once more."""

    def after(disk: FakeDisk) -> FakeDisk:
        found = loss(disk)
        found.calls, found.stop_at = 0, stop_at
        return found

    try:
        work.world.crash(loss=after)
    except Stopped:
        luck = random.Random(stop_at)
        work.world.crash(loss=lambda disk: disk.lose_power(0.0, luck))
    work.world.disk.stop_at = 0
    for peer in (work.world.smar, work.world.smtps, work.world.smtpc):
        work.world.connect(peer)


def flush_site() -> Site:
    """Who called the disk: the place of the flush in meta1g's code."""
    frame = sys._getframe(1)
    while "/meta1g/" not in frame.f_code.co_filename or "/tests/" in frame.f_code.co_filename:
        assert frame.f_back is not None
        frame = frame.f_back
    name = frame.f_code.co_filename.rpartition("/meta1g/")[2]
    return f"{name}:{frame.f_lineno} {frame.f_code.co_qualname}"


def flush_sites() -> list[Site]:
    """Every place from which the workload and a recovery flush something."""
    found: set[Site] = set()

    def note(action: str, path: str) -> bool:
        found.add(flush_site())
        return False

    work = Workload()
    work.world.disk.ignores = note
    work.play()
    return sorted(found)


def missed(site: Site, seeds: int, total: int) -> tuple[int, int] | None:
    """The first story (stop, seed) that goes wrong without the flush at `site`; None if nobody misses it."""

    def ignores(action: str, path: str) -> bool:
        return flush_site() == site

    for seed in range(seeds):
        for stop_at in random.Random(seed).sample(range(1, total + 1), total):
            try:
                explore(stop_at, seed, ignores)
            except Violation:
                return stop_at, seed
    return None
