"""The configuration of a queue's tools, and DEFEDB for them, without disturbing QMGR (M1 4.7.2)."""
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Final, NoReturn

import click

from meta1g.conf.errors import ConfErrors
from meta1g.conf.load import Config, load_file
from meta1g.mcp import status as mcp_status
from meta1g.mta.errors import CorruptRecord, CorruptStore, StoreError, TornTail
from meta1g.qmgr.recover import Replayed, replay
from meta1g.shim import defedb, ibdb
from meta1g.shim.defedb import Snapshot
from meta1g.shim.safeio import Disk

_COPIES: Final = 5  # of a running server's DEFEDB, until one is whole
_PAUSE: Final = 0.3  # seconds between them


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


def open_defedb(config: Config, on_damage: Callable[[CorruptRecord], None]) -> Snapshot | None:
    """A copy of DEFEDB's file: what was checkpointed, at one moment; None if there is none. StoreError.

    A copy may be taken while pages are written, so a running server's is taken again if it is not whole. Where no
    server runs the copy has what is only in the logs, too: the last one may have been killed.
    """
    home, log_home = defedb_folders(config)
    path = os.path.join(home, defedb.FILE)
    is_running = mcp_status.is_running(config.queue_directory)
    for tries in range(_COPIES if is_running else 1):
        time.sleep(_PAUSE if tries else 0.0)
        try:
            found = None if is_running else _recovered(home, log_home, on_damage)
            return found or _copied(path, on_damage)
        except CorruptStore as error:
            last = error
    on_damage(CorruptRecord(
        path, last.offset, f"{last.reason}; the next start of the server sets it aside and saves what it can"))
    return None


def read_ibdb(config: Config, on_damage: Callable[[CorruptRecord], None]) -> Replayed:
    """What IBDB says. StoreError.

    A running server's files may go while they are read, then they are read again; and that a batch is being written
    just now is no damage.
    """
    is_running = mcp_status.is_running(config.queue_directory)
    folder, reads = os.path.join(config.queue_directory, ibdb.FOLDER), _COPIES if is_running else 1
    while True:
        found: list[CorruptRecord] = []
        try:
            said = replay(ibdb.read(Disk(), folder, found.append))
            break
        except StoreError:
            reads -= 1
            if reads <= 0:
                raise
            time.sleep(_PAUSE)
    for error in found:
        if not (is_running and isinstance(error, TornTail)):
            on_damage(error)
    return said


def defedb_folders(config: Config) -> tuple[str, str]:
    """DEFEDB's own folder, and that of its logs, empty if it is the same."""
    conf = config.module("qmgr").defedb
    log_home = os.path.join(config.queue_directory, config.queue_path(conf.log_directory)) if conf.log_directory else ""
    return os.path.join(config.queue_directory, config.queue_path(conf.base_directory)), log_home


def _recovered(home: str, log_home: str, on_damage: Callable[[CorruptRecord], None]) -> Snapshot | None:
    """The copy with what the logs have; None if there is nothing to copy, or the logs can't be used."""
    path = os.path.join(home, defedb.FILE)
    with tempfile.TemporaryDirectory(prefix="mailq.") as folder:
        try:
            if not os.path.exists(path):
                return None
            defedb.recovered(home, log_home, folder)
        except StoreError as error:
            on_damage(CorruptRecord(path, 0, f"its logs can't be used, what is only there is missing: {error}"))
            return None
        return Snapshot(folder, on_damage)


def _copied(path: str, on_damage: Callable[[CorruptRecord], None]) -> Snapshot | None:
    with tempfile.TemporaryDirectory(prefix="mailq.") as folder:  # an open file outlives its name
        try:
            shutil.copyfile(path, os.path.join(folder, defedb.FILE))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError("read", path, error.strerror or str(error)) from None
        return Snapshot(folder, on_damage)
