import sqlite3
import threading
import time
from pathlib import Path

import pytest

from meta1g.maps.m_sqlite import SqliteMap
from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail
from meta1g.maps.open import Declared, open_maps
from meta1g.shim.mapfile import write_map


def make(path: Path, *statements: str) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    return database


def test_default_query_and_text_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    make(path, "CREATE TABLE map (key TEXT, value)", "INSERT INTO map VALUES ('k', 'v'), ('n', 5), ('null', NULL), "
         "('\u00fc', '\u00e4'), ('twice', 'first'), ('twice', 'second'), ('both', 'text')",
         "INSERT INTO map VALUES (CAST('both' AS BLOB), x'80ff')",
         "INSERT INTO map VALUES ('odd', CAST(x'ff' AS TEXT)), ('real', 1.5)").close()
    found = open_maps([Declared("a", "sqlite", file=str(path))])["a"]
    for _ in range(2):
        for key, value in ((b"k", b"v"), (b"n", b"5"), ("\u00fc".encode(), "\u00e4".encode()), (b"twice", b"first"),
                           (b"odd", b"\xff"), (b"real", b"1.5")):
            assert found.lookup(key) == Found(key, value)
        for key in (b"null", b"none", b"", b"\xff\xfe", b"k' OR '1'='1", b"k\0"):
            assert found.lookup(key) is NOT_FOUND
    assert found.is_slow and not found.is_stable


def test_query_and_changes_in_place(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    query = "SELECT 'local:' FROM users WHERE mail = lower(?) AND active"
    database = make(path, "CREATE TABLE users (mail TEXT, active INT)", "INSERT INTO users VALUES ('a', 1), ('b', 0)")
    found = open_maps([Declared("u", "sqlite", file=str(path), query=query)])["u"]
    assert found.lookup(b"a") == Found(b"a", b"local:")
    assert found.lookup(b"b") is NOT_FOUND
    database.execute("INSERT INTO users VALUES ('a', 1)")
    database.commit()
    assert found.lookup(b"a") == Found(b"a", b"local:")  # the first of two rows
    database.execute("UPDATE users SET active = 1")  # which keeps no writer out
    database.commit()
    assert found.lookup(b"b") == Found(b"b", b"local:")
    database.close()


@pytest.mark.parametrize(("query", "words"), [
    ("SELECT nonsense FROM map WHERE key = ?", "no such column"), ("SELEC ?", "syntax error"),
    ("SELECT 1", "bindings"), ("SELECT 1; SELECT ?", "one statement"), ("DELETE FROM map WHERE key = ?", "readonly"),
])
def test_bad_query(tmp_path: Path, query: str, words: str) -> None:
    path = tmp_path / "a.sqlite"
    write_map(str(path), [(b"k", b"v")], kind="sqlite")
    found = SqliteMap("a", str(path), query)
    result = found.lookup(b"k")
    assert isinstance(result, TempFail) and words in result.reason and str(path) in result.reason
    assert words in found.reopen()
    assert SqliteMap("a", str(path)).lookup(b"k") == Found(b"k", b"v")


def test_missing_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "what? a #name%20.sqlite"
    found = SqliteMap("a", str(path))
    assert found.lookup(b"k") == TempFail(f"map a: {path}: unable to open database file")
    assert not path.exists()
    path.write_bytes(b"no database" * 1000)
    assert found.lookup(b"k") == TempFail(f"map a: {path}: file is not a database")
    write_map(str(path), [(b"k", b"v")], kind="sqlite")
    assert found.lookup(b"k") == Found(b"k", b"v")  # from nothing there is no old one to stay with
    path.unlink()
    assert str(path) in found.reopen()
    assert found.lookup(b"k") == Found(b"k", b"v")  # the old one stays in use
    path.write_bytes(b"no database" * 1000)
    assert str(path) in found.reopen()
    assert found.lookup(b"k") == Found(b"k", b"v")


def test_deadlines(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    database = make(path, "CREATE TABLE map (key BLOB, value BLOB)", "INSERT INTO map VALUES (x'6b', x'31')")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n WHERE ? <> i"
    started = time.monotonic()
    reason = f"map a: {path}: no answer in 0.2 s"
    assert SqliteMap("a", str(path), endless, timeout=0.2).lookup(b"k") == TempFail(reason)
    found = SqliteMap("a", str(path), timeout=0.2)
    assert found.lookup(b"k") == Found(b"k", b"1")
    database.execute("BEGIN EXCLUSIVE")
    assert found.lookup(b"k") == TempFail(f"map a: {path}: database is locked")
    assert time.monotonic() - started < 3
    database.rollback()
    assert found.lookup(b"k") == Found(b"k", b"1")
    database.close()


def test_threads(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sqlite")
    entries = [(b"k%d" % n, b"v%d" % n) for n in range(200)]
    write_map(path, entries, kind="sqlite")
    found = SqliteMap("a", path)
    wrong: list[Result] = []

    def ask() -> None:
        for key, value in entries:
            result = found.lookup(key)
            if result != Found(key, value):
                wrong.append(result)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        write_map(path, entries, kind="sqlite")
        assert found.reopen() == ""
    for thread in threads:
        thread.join()
    assert wrong == []
