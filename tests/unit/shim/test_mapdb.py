import os
import threading
from pathlib import Path

import pytest

from meta1g.mta.errors import StoreError
from meta1g.shim import bdb
from meta1g.shim.mapdb import MapDb
from meta1g.shim.mapfile import write_map

ENTRIES = [(b"key", b"value"), (b"other", b"two words"), (b"empty", b"")]


@pytest.mark.parametrize("nul", [False, True])
def test_both_forms(tmp_path: Path, nul: bool) -> None:
    path = str(tmp_path / "a.db")
    assert write_map(path, ENTRIES, nul=nul) == 3
    found = MapDb(path)
    assert found.get(b"none") is None
    assert [found.get(key) for key, _ in ENTRIES] == [value for _, value in ENTRIES]
    assert found.get(b"none") is None
    assert sorted(found.items()) == sorted(ENTRIES)
    raw = bdb.open_readonly(path)
    assert raw.get(b"key\0" if nul else b"key") == (b"value\0" if nul else b"value")


def test_reopen_sees_the_new_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    write_map(path, [(b"k", b"1")])
    found = MapDb(path)
    assert found.get(b"k") == b"1"
    write_map(path, [(b"k", b"2")], nul=True)
    assert found.get(b"k") == b"1"  # M1 4.8: until told
    found.reopen()
    assert found.get(b"k") == b"2"
    os.unlink(path)
    with pytest.raises(StoreError) as caught:
        found.reopen()
    assert caught.value.path == path
    assert found.get(b"k") == b"2"


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        MapDb(str(tmp_path / "none.db"))
    (tmp_path / "text.db").write_text("no database")
    with pytest.raises(StoreError):
        MapDb(str(tmp_path / "text.db"))
    with pytest.raises(StoreError):
        write_map(str(tmp_path / "no" / "a.db"), ENTRIES)


def test_failed_write_leaves_the_old_map(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    write_map(str(path), ENTRIES)

    def broken():  # type: ignore[no-untyped-def]
        yield b"k", b"v"
        raise ValueError("bad line")

    with pytest.raises(ValueError, match="bad line"):
        write_map(str(path), broken())
    assert MapDb(str(path)).get(b"key") == b"value"
    assert os.listdir(tmp_path) == ["a.db"]


def test_a_lookup_that_a_reopening_overtakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it learns about the old file's keys says nothing about the new one's."""
    path = str(tmp_path / "a.db")
    write_map(path, ENTRIES)
    found = MapDb(path)
    old = found._file.table.get

    def overtaken(key: bytes) -> bytes | None:
        write_map(path, ENTRIES, nul=True)
        found.reopen()
        return old(key)

    monkeypatch.setattr(found._file.table, "get", overtaken)
    assert found.get(b"key") == b"value"
    assert found.get(b"key") == b"value"
    assert found.get(b"other") == b"two words"


def test_readers_and_reopening_in_parallel(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    entries = [(b"k%d" % n, b"v%d" % n) for n in range(1000)]
    write_map(path, entries)
    found = MapDb(path)
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            wrong.extend((key, value) for key, value in entries[:200] if found.get(key) != value)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        write_map(path, entries, nul=bool(turn % 2))
        found.reopen()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
