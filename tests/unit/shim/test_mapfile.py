import os
import sqlite3
from pathlib import Path

import pytest

from meta1g.maps.m_hash import HashMap
from meta1g.maps.m_lmdb import LmdbMap
from meta1g.maps.m_sqlite import SqliteMap
from meta1g.maps.m_tinycdb import TinycdbMap
from meta1g.maps.map import NOT_FOUND, Found, Map
from meta1g.mta.errors import MissingExtra, StoreError
from meta1g.shim import extra, tinycdb
from meta1g.shim.mapfile import WRITERS, kind_of, write_map

READERS = {"hash": HashMap, "cdb": TinycdbMap, "lmdb": LmdbMap, "sqlite": SqliteMap}
ENTRIES = [(b"key", b"value"), (b"other", b"two words"), (b"empty", b""), (b"\xff\xfe", b"\x80")]
MANY = [(b"key%d" % n, b"value %d" % n) for n in range(3000)]


@pytest.fixture(params=list(WRITERS))
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "lmdb":
        pytest.importorskip("lmdb")
    name: str = request.param
    return name


def open_map(kind: str, path: str) -> Map:
    found: Map = READERS[kind]("m", path)
    return found


@pytest.mark.parametrize("entries", [[], ENTRIES, MANY], ids=["none", "few", "many"])
def test_what_is_written_is_read(tmp_path: Path, kind: str, entries: list[tuple[bytes, bytes]]) -> None:
    path = str(tmp_path / "a")
    for nul in (False, True) if kind != "sqlite" else (False,):
        assert write_map(path, iter(entries), kind=kind, nul=nul) == len(entries)
        found = open_map(kind, path)
        assert [found.lookup(key) for key, _ in entries] == [Found(*entry) for entry in entries]
        for key in (b"none", b"", b"x" * 5000):
            assert found.lookup(key) is NOT_FOUND
    assert os.listdir(tmp_path) == ["a"]


def test_mode_and_replacing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    write_map(str(path), [(b"k", b"1")], kind=kind, mode=0o604)
    assert path.stat().st_mode & 0o777 == 0o604
    found = open_map(kind, str(path))
    assert found.lookup(b"k") == Found(b"k", b"1")
    write_map(str(path), [(b"k", b"2")], kind=kind, mode=0o640)
    assert path.stat().st_mode & 0o777 == 0o640
    assert found.lookup(b"k") == Found(b"k", b"1")  # M1 4.8: until told
    assert found.reopen() == ""
    assert found.lookup(b"k") == Found(b"k", b"2")


def test_failure_leaves_the_old_map(tmp_path: Path, kind: str) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield b"k", b"v"
        raise ValueError("bad line")

    path = str(tmp_path / "a")
    write_map(path, ENTRIES, kind=kind)
    with pytest.raises(ValueError, match="bad line"):
        write_map(path, broken(), kind=kind)
    assert open_map(kind, path).lookup(b"key") == Found(b"key", b"value")
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(StoreError, match="No such file"):
        write_map(str(tmp_path / "no" / "a"), ENTRIES, kind=kind)


def test_a_link_under_the_new_name_is_not_followed(tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / f"a.new.{os.getpid()}").symlink_to(victim)
    write_map(str(tmp_path / "a"), ENTRIES, kind=kind)
    assert victim.read_bytes() == b"untouched"
    assert not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize(("path", "kind"), [
    ("a.db", "hash"), ("a", "hash"), ("a.cdb", "cdb"), ("/x.cdb/a", "hash"), ("a.lmdb", "lmdb"), ("a.sqlite", "sqlite"),
    ("a.hash", "hash"), ("a.CDB", "hash"),
])
def test_kind_of(path: str, kind: str) -> None:
    assert kind_of(path) == kind


@pytest.mark.parametrize("size", [2048 + 3 * 10, 2048 + 3 * 10 + 3 * 16 - 1])
def test_cdb_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(tinycdb, "SIZE_MAX", size)
    with pytest.raises(StoreError, match="a cdb file can hold"):
        write_map(str(tmp_path / "a"), [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], kind="cdb")
    assert os.listdir(tmp_path) == []


def test_lmdb_grows_and_has_a_longest_key(tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    path = str(tmp_path / "a.lmdb")
    entries = [(b"key%d" % n, b"v" * 2100) for n in range(3000)]  # each needs a page of its own
    assert write_map(path, entries, kind="lmdb") == 3000
    assert LmdbMap("a", path).lookup(b"key2999") == Found(b"key2999", b"v" * 2100)
    with pytest.raises(StoreError, match="a key has 512 octets; lmdb takes 511"):
        write_map(path, [(b"k" * 512, b"v")], kind="lmdb")


def test_sqlite_reads_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sqlite")
    write_map(path, ENTRIES, kind="sqlite")
    database = sqlite3.connect(path)
    assert sorted(database.execute("SELECT key, value FROM map")) == sorted(ENTRIES)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_missing_extra() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'meta1g\[no_such_package\]'"):
        extra.load("no_such_package")
