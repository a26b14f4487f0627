"""What the queue's files say of each other: envelopes without content, content without an envelope, damage."""
import os
from typing import NamedTuple

from meta1g.cli.queue_files import open_defedb, read_ibdb
from meta1g.conf.load import Config
from meta1g.mta.errors import CorruptRecord, StoreError
from meta1g.proto.msg_ss import Content
from meta1g.qmgr.recover import Replayed
from meta1g.shim import cdb, journal
from meta1g.shim.records import DeferredRcpt, DeferredTa
from meta1g.shim.safeio import Disk


class Survey(NamedTuple):
    """Everything in IBDB and DEFEDB, and where CDB has what; `damage` names file and offset."""

    replayed: Replayed
    deferred: dict[str, DeferredTa]
    rcpts: list[DeferredRcpt]
    files: set[str]
    leftovers: list[str]
    damage: list[str]

    def places(self) -> dict[str, Content]:
        """Where each envelope says that its content is."""
        found = {ta: entry.content[0] for ta, entry in self.deferred.items()}
        return found | {ta: fresh.begin.content[0] for ta, fresh in self.replayed.fresh.items()}


def content_db(config: Config) -> cdb.ContentDb:
    """CDB, from wherever the tool runs."""
    base = os.path.join(config.queue_directory, config.cdb_base_directory or "")
    return cdb.ContentDb(Disk(), os.path.join(base, ""))


def survey(config: Config) -> Survey:
    """Read all of it; StoreError if a store can't be read at all."""
    damage: list[str] = []

    def on_damage(error: CorruptRecord) -> None:
        damage.append(str(error))

    contents = content_db(config)
    files, leftovers = set(contents.transactions()), list(contents.others())
    replayed = read_ibdb(config, on_damage)
    deferred: dict[str, DeferredTa] = {}
    rcpts: list[DeferredRcpt] = []
    snapshot = open_defedb(config, on_damage)
    if snapshot is not None:
        for entry in snapshot:
            if isinstance(entry, DeferredTa):
                deferred[entry.ta] = entry
            else:
                rcpts.append(entry)
        snapshot.close()
    return Survey(replayed, deferred, rcpts, files, leftovers, damage)


def problems(found: Survey, contents: cdb.ContentDb) -> list[str]:
    """What does not fit, a line each."""
    lines = [f"damaged: {text}" for text in found.damage]
    places = found.places()
    lines += [f"recipient without its transaction in DEFEDB: {rcpt.ta} {rcpt.address.decode('ascii', 'replace')}"
              for rcpt in found.rcpts if rcpt.ta not in found.deferred]
    for ta, place in places.items():
        trouble = unreadable(contents, ta, place)
        if trouble:
            lines.append(f"content of {ta} can't be had: {trouble}")
    lines += [f"content without an envelope: {contents.path(ta)}" for ta in sorted(found.files - set(places))]
    lines += [f"left over by a crash: {path}" for path in found.leftovers]
    return lines


def unreadable(contents: cdb.ContentDb, ta: str, place: Content) -> str:
    """Why a message's content can't be read whole and intact; empty if it can."""
    try:
        for _ in contents.pieces(ta, place):
            pass
    except (StoreError, CorruptRecord) as error:
        return str(error)
    return ""


def journal_content(contents: cdb.ContentDb) -> dict[str, Content]:
    """What lies in the journal's segments, by transaction."""
    found: dict[str, Content] = {}
    for name in contents.disk.names(contents.base + journal.FOLDER):
        if journal.is_segment(name):
            found.update(journal.scan(contents.disk, contents.base, name))
    return found
