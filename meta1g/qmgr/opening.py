"""QMGR's stores as it starts: opened, recovered, and replaced where they can't be read.

Rules
    A DEFEDB that Berkeley DB can't read is set aside whole, and what its pages still hold comes
    into a new one: mail that is fresh must not wait for an administrator. Its content stays
    in CDB (`recover`), so that `meta1g queue repair` can put back the rest.
    With a full disk nothing is set aside: then the library may fail for lack of space only.
"""
import time
from contextlib import suppress
from typing import Final, NamedTuple

from meta1g.mta.errors import CorruptRecord, CorruptStore, StoreError, TornTail
from meta1g.proc.log import Log
from meta1g.qmgr.edbc import ENTRIES_MAX
from meta1g.qmgr.recover import Found, recover
from meta1g.shim import defedb, ibdb
from meta1g.shim.cdb import ContentDb
from meta1g.shim.defedb import Defedb, Tuning
from meta1g.shim.safeio import Disk

_SPACE: Final = 64 << 20  # octets that must be free before a DEFEDB is taken for damaged


class Stores(NamedTuple):
    """What is open, and what recovery found in it."""

    defedb: Defedb
    found: Found


def open_stores(
    disk: Disk, home: str, tuning: Tuning, cdb: ContentDb, log: Log, edbc_max: int = ENTRIES_MAX
) -> Stores:
    """Open DEFEDB at `home` and recover, `edbc_max` as in `recover`; StoreError if that can't be."""
    began = time.monotonic()
    try:
        stores = _open(disk, home, tuning, cdb, log, edbc_max)
    except CorruptStore as error:
        if disk.free(home) < _SPACE:
            raise
        folder = defedb.set_aside(home, tuning.log_home)
        log.error(f"func=q_recover, file={error.path}, offset={error.offset}, reason={error.reason}, "
                  f"status=set aside in {folder}")
        stores = _open(disk, home, tuning, cdb, log, edbc_max)
    found = stores.found
    log.info(f"func=q_recover, transactions={len(found.fresh)}, deferred={found.stored.rcpts}, "
             f"orphans={found.orphans}, kept={found.kept}, seconds={time.monotonic() - began:.2f}")
    if found.kept:
        log.error(f"func=q_recover, kept={found.kept}, status=content without an envelope is kept "
                  "because of damage; stop the server and run meta1g queue repair")
    return stores


def _open(disk: Disk, home: str, tuning: Tuning, cdb: ContentDb, log: Log, edbc_max: int) -> Stores:
    def on_damage(error: CorruptRecord) -> None:
        tell = log.warning if isinstance(error, TornTail) else log.error
        tell(f"func=q_recover, file={error.path}, offset={error.offset}, reason={error.reason}")

    db = Defedb(home, tuning)
    try:
        salvaged = db.salvage(on_damage)
        if salvaged:
            log.error(f"func=q_recover, file={db.path}, salvaged={salvaged}")
        is_whole = not (db.is_new or salvaged)
        found = recover(disk, ibdb.FOLDER, db, cdb, on_damage, is_whole=is_whole, edbc_max=edbc_max)
        return Stores(db, found)
    except CorruptStore:
        with suppress(StoreError):
            db.close()  # its files are set aside next
        raise
