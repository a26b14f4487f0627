"""CDB, journal and DEFEDB on a real disk."""
import os
from pathlib import Path

import pytest

from meta1g.mta.errors import CorruptRecord, FrameError, StoreError
from meta1g.mta.ids import ss_id
from meta1g.proto.msg_ar import Hop
from meta1g.proto.msg_ss import Content
from meta1g.shim import journal, layout
from meta1g.shim.cdb import ContentDb
from meta1g.shim.defedb import Change, Defedb, Snapshot, Tuning, Waiting, set_aside
from meta1g.shim.journal import Entry, JournalWriter, read_content, scan
from meta1g.shim.records import DEFEDB_CODEC, DeferredRcpt, DeferredTa
from meta1g.shim.safeio import Disk

TA = ss_id(0x1A, 0)


@pytest.fixture
def base(tmp_path: Path) -> str:
    layout.create("queue", str(tmp_path), None)
    return f"{tmp_path}/"


def test_layout_is_what_the_table_says(base: str) -> None:
    assert layout.check("queue", base, None) == []
    os.chmod(f"{base}defedb", 0o755)
    os.rmdir(f"{base}smtps")
    found = layout.check("queue", base, None)
    assert len(found) == 2
    assert "mode is 755 instead of 700" in found[0]
    assert "create it with mode 750" in found[1]


def test_content_file(base: str) -> None:
    cdb = ContentDb(Disk(), base)
    writer = cdb.writer(TA)
    writer.append(b"one\r\n")
    assert not cdb.has_file(TA)
    writer.commit()
    path = Path(base, "A", TA)
    assert (path.read_bytes(), oct(path.stat().st_mode & 0o777)) == (b"one\r\n", "0o640")
    assert list(cdb.pieces(TA, Content(0, 5, ""))) == [b"one\r\n"]
    with pytest.raises(CorruptRecord, match="5 octets instead of 6"):
        list(cdb.pieces(TA, Content(0, 6, "")))
    assert list(cdb.transactions()) == [TA]
    assert cdb.unlink(TA)
    assert not cdb.unlink(TA)
    with pytest.raises(ValueError, match="not a transaction id"):
        cdb.path("../../etc/passwd")


def test_content_written_over(base: str) -> None:
    """Room that was left in front is filled last, wherever the file's end is."""
    cdb = ContentDb(Disk(), base)
    writer = cdb.writer(TA)
    for piece in (b"one\r\n", bytes(5), b"three\r\n"):
        writer.append(piece)
    writer.fill(5, b"two\r\n")
    writer.append(b"four\r\n")
    writer.commit()
    assert b"".join(cdb.pieces(TA, Content(0, writer.size, ""))) == b"one\r\ntwo\r\nthree\r\nfour\r\n"
    os.mkdir(f"{base}B/{ss_id(0x1B, 0)}.new")
    with pytest.raises(StoreError, match="create"):
        cdb.writer(ss_id(0x1B, 0))
    other = cdb.writer(ss_id(0x1C, 0))
    os.unlink(f"{base}C/{ss_id(0x1C, 0)}.new")
    with pytest.raises(StoreError, match=r"write .*No such file"):
        other.fill(0, b"x")


def test_abandoned_file_is_swept(base: str) -> None:
    cdb = ContentDb(Disk(), base)
    cdb.writer(TA).append(b"x")
    other = cdb.writer(ss_id(1, 0))
    other.abort()
    assert cdb.sweep() == 1
    assert list(cdb.transactions()) == []


def test_journal_round_trip_and_settling(base: str) -> None:
    disk = Disk()
    writer = JournalWriter(disk, base)
    entries = [Entry(ss_id(number, 0), [b"head %d\r\n" % number, b"body\r\n"]) for number in range(3)]
    places = writer.write(entries)
    for entry, place in zip(entries, places, strict=True):
        assert read_content(disk, base, entry.ta, place) == b"".join(entry.pieces)
    assert [ta for ta, _ in scan(disk, base, places[0].segment)] == [entry.ta for entry in entries]
    with pytest.raises(CorruptRecord, match="no record of"):
        read_content(disk, base, TA, places[0])
    with pytest.raises(CorruptRecord, match="cut short"):
        read_content(disk, base, entries[2].ta, places[2]._replace(length=1000))
    with pytest.raises(CorruptRecord, match="not a segment"):
        read_content(disk, base, TA, Content(0, 1, "../x"))
    cdb = ContentDb(disk, base)
    cdb.settle(entries[0].ta, places[0])
    cdb.settle(entries[0].ta, places[0])
    os.unlink(f"{base}{journal.FOLDER}/{places[0].segment}")
    assert b"".join(cdb.pieces(entries[0].ta, places[0])) == b"head 0\r\nbody\r\n"
    with pytest.raises(StoreError, match="No such file"):
        list(cdb.pieces(entries[1].ta, places[1]))


def test_damaged_content_is_seen(base: str) -> None:
    disk = Disk()
    (place,) = JournalWriter(disk, base).write([Entry(TA, [b"content"])])
    path = Path(base, journal.FOLDER, place.segment)
    data = bytearray(path.read_bytes())
    data[place.offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptRecord, match="checksum"):
        read_content(disk, base, TA, place)


def test_segments_end_when_they_are_large(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meta1g.mta.limits.JOURNAL_SEGMENT", 100)
    writer = JournalWriter(Disk(), base)
    names = {writer.write([Entry(ss_id(number, 0), [b"x" * 60])])[0].segment for number in range(6)}
    assert len(names) == 3


def deferred(ta: str, idx: int, next_try: float = 5.0) -> DeferredRcpt:
    return DeferredRcpt(next_try, 9.0, idx, 1, 0, 4, 451, False, True, False, ta, b"a@b", b"", b"s@b", "4.2.0", "later",
                        (Hop(25, "192.0.2.1", "mx"),))


def transaction(ta: str) -> DeferredTa:
    return DeferredTa(1.0, 10, 2, False, False, ta, "192.0.2.9", b"x@y", b"", (Content(4, 10, "J" + "0" * 18),))


def test_defedb(tmp_path: Path) -> None:
    home = str(tmp_path)
    store = Defedb(home, Tuning(1 << 20))
    damage: list[CorruptRecord] = []
    assert list(Snapshot(home, damage.append)) == []
    assert damage == []  # a new file is sound from the first moment on
    store.write([Change((transaction(TA), deferred(TA, 0), deferred(TA, 1)))])
    assert store.load(TA, [0, 1, 7]) == (transaction(TA), [deferred(TA, 0), deferred(TA, 1)], [], 2)
    assert store.load(ss_id(9, 9), [0]) == (None, [], [], 0)
    store.write([Change(settled=(TA, ss_id(9, 9))), Change((), ((TA, 0),))])
    found = store.load(TA, [0, 1])
    assert found.ta is not None and found.ta.content[0].segment == ""
    assert found.rcpts == [deferred(TA, 1)]
    # A transaction that ends and comes again in one batch is there afterwards.
    store.write([Change((), ((TA, 1),), (TA,)), Change((transaction(TA), deferred(TA, 5)))])
    assert store.load(TA, [5]).rcpts == [deferred(TA, 5)]
    store.checkpoint(removes_logs=True)
    assert list(Snapshot(home, damage.append)) == [deferred(TA, 5), transaction(TA)]
    store.close()
    again = Defedb(home, Tuning(1 << 20))
    assert list(again.loaded(damage.append)) == [(TA, transaction(TA), [Waiting(5.0, TA, 5)])]
    assert list(again.loaded(damage.append)) == []
    again._table.put(b"Rbad", b"\x63junk")
    again._table.put(b"Rbad2", b"\x02\x02junk")
    again.close()
    third = Defedb(home, Tuning(1 << 20))
    assert len(list(third.loaded(damage.append))) == 1
    third.close()
    assert len(list(Snapshot(home, damage.append))) == 2
    assert ["unknown version" in error.reason for error in damage] == [True, False] * 2


@pytest.mark.parametrize("where", ["logs", "home/logs"])
def test_defedb_as_it_is_tuned(tmp_path: Path, where: str) -> None:
    """Logs in a folder of their own, also when all is set aside; pages of another size; checkpoints by need."""
    home, logs = tmp_path / "home", tmp_path / where
    home.mkdir()
    logs.mkdir()
    tuning = Tuning(1 << 20, 16384, str(logs))
    store = Defedb(str(home), tuning)
    damage: list[CorruptRecord] = []
    store.write([Change((transaction(TA), deferred(TA, 0)))])
    store.checkpoint(removes_logs=True, kbytes=100)
    assert list(Snapshot(str(home), damage.append)) == []
    for _ in range(300):
        store.write([Change(tuple(deferred(TA, idx) for idx in range(20)))])
    store.checkpoint(removes_logs=True, kbytes=100)
    assert len(list(Snapshot(str(home), damage.append))) == 21
    store.close()
    assert (home / "defedb.db").read_bytes()[20:24] == (16384).to_bytes(4, "little")
    assert [path.name for path in logs.iterdir()] == ["log.0000000001"]
    assert not list(home.glob("log.*"))
    again = Defedb(str(home), tuning._replace(page_size=4096))
    assert [len(group.rcpts) for group in again.loaded(damage.append)] == [20]
    again.close()
    folder = Path(set_aside(str(home), str(logs)))
    assert {path.name for path in folder.iterdir()} >= {"defedb.db", "log.0000000001"}
    assert not list(logs.iterdir())
    Defedb(str(home), tuning).close()


def test_codec_refuses_unknown_types() -> None:
    with pytest.raises(FrameError, match="unknown record type"):
        DEFEDB_CODEC.decode(b"\x09x")
    with pytest.raises(FrameError):
        DEFEDB_CODEC.decode(b"")


def test_disk_errors_say_what_and_where(tmp_path: Path) -> None:
    disk = Disk()
    path = str(tmp_path / "file")
    fd = disk.create(path, 0o640)
    with pytest.raises(StoreError, match=r"create .*file: File exists"):
        disk.create(path, 0o640)
    assert disk.append(fd, path, [b"x"] * 3000) == 3000
    assert disk.size(fd, path) == 3000
    disk.close(fd)
    disk.close(fd)
    with pytest.raises(StoreError, match="write"):
        disk.append(fd, path, [b"x"])
    with pytest.raises(StoreError, match="flush"):
        disk.flush(fd, path)
    missing = str(tmp_path / "no" / "where")
    for call in (lambda: disk.open_read(missing), lambda: disk.names(missing), lambda: disk.flush_folder(missing),
                 lambda: disk.rename(missing, path), lambda: disk.free(missing),
                 lambda: disk.make_folder(missing, 0o700)):
        with pytest.raises(StoreError, match="No such file"):
            call()
    assert disk.free(str(tmp_path)) > 0
    with pytest.raises(StoreError):
        disk.append(os.open("/dev/full", os.O_WRONLY), "/dev/full", [b"x"])
