import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meta1g.cli.createmap import Entry, Problem, main, merge, read_entries
from meta1g.maps.m_sqlite import SqliteMap
from meta1g.maps.m_tinycdb import TinycdbMap
from meta1g.maps.map import Found
from meta1g.shim import extra
from meta1g.shim.mapdb import MapDb

TEXT = b"""# access map
to:user@My.Domain relay

cltaddr:10.\tquick:error:550 5.7.1 go away
mylist:  <user1@my.dom>
    <user2@my.dom>
# in between
\t<user3@my.dom>
localhost lmtp:
"""
WANTED = [
    Entry(2, b"to:user@my.domain", b"relay"),
    Entry(4, b"cltaddr:10.", b"quick:error:550 5.7.1 go away"),
    Entry(5, b"mylist", b"<user1@my.dom> <user2@my.dom> <user3@my.dom>"),
    Entry(9, b"localhost", b"lmtp:"),
]
BAD = [
    (b"  first\n", Problem(1, "continues a line, but there is none above")),
    (b"\nkey\n", Problem(2, "`key` has no value")),
    (b"key:\n", Problem(1, "`key` has no value")),
    (b": value\n", Problem(1, "the key is missing")),
    (b"key va\0lue\n", Problem(1, "contains a NUL")),
]


def run(folder: Path, text: bytes, *options: str) -> Result:
    return CliRunner().invoke(main, ["-F", str(folder / "a.db"), *options], input=text)


def test_read() -> None:
    assert list(read_entries(TEXT.splitlines(keepends=True))) == WANTED


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_problems(text: bytes, problem: Problem) -> None:
    assert list(read_entries(text.splitlines(keepends=True))) == [problem]


def test_merge() -> None:
    found = [Entry(1, b"a", b"1"), Entry(2, b"a", b"2"), Problem(3, "bad")]
    assert merge(found, warn=False, replace=False) == (
        {b"a": b"1"}, ["line 2: `a` stands already in line 1", "line 3: bad"], False)
    assert merge(found, warn=True, replace=False)[2] is True
    assert merge(found[:2], warn=False, replace=True) == ({b"a": b"2"}, [], True)


def test_map_is_written(tmp_path: Path) -> None:
    done = run(tmp_path, TEXT)
    assert (done.exit_code, done.output) == (0, f"{tmp_path}/a.db: 4 entries\n")
    found = MapDb(str(tmp_path / "a.db"))
    assert dict(found.items()) == {entry.key: entry.value for entry in WANTED}
    assert run(tmp_path, b"key value\n", "-n", "-q").output == ""
    assert MapDb(str(tmp_path / "a.db")).get(b"key") == b"value"


def test_errors_leave_the_map(tmp_path: Path) -> None:
    run(tmp_path, b"old 1\n")
    done = run(tmp_path, b"key 1\nkey 2\nlost\n")
    assert done.exit_code == os.EX_DATAERR
    assert "line 2: `key` stands already in line 1" in done.output and "line 3: `lost` has no value" in done.output
    assert MapDb(str(tmp_path / "a.db")).get(b"old") == b"1"
    assert run(tmp_path, b"key 1\nkey 2\nlost\n", "-w").exit_code == 0
    assert MapDb(str(tmp_path / "a.db")).get(b"key") == b"1"
    assert run(tmp_path, b"key 1\nkey 2\n", "-r").exit_code == 0
    assert MapDb(str(tmp_path / "a.db")).get(b"key") == b"2"
    assert os.listdir(tmp_path) == ["a.db"]


def test_mode_and_owner_stay(tmp_path: Path) -> None:
    run(tmp_path, b"a 1\n")
    path = tmp_path / "a.db"
    path.chmod(0o640)
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
    run(tmp_path, b"a 2\n")
    found = path.stat()
    assert found.st_mode & 0o777 == 0o640
    assert os.getuid() != 0 or (found.st_uid, found.st_gid) == (65534, 65534)


def test_types(tmp_path: Path) -> None:
    for name, options in (("a.cdb", ()), ("a.any", ("-t", "cdb")), ("b.cdb", ("--type", "hash"))):
        done = CliRunner().invoke(main, ["-F", str(tmp_path / name), *options], input=TEXT)
        assert (done.exit_code, done.output) == (0, f"{tmp_path / name}: 4 entries\n")
    for name in ("a.cdb", "a.any"):
        assert TinycdbMap("m", str(tmp_path / name)).lookup(b"localhost") == Found(b"localhost", b"lmtp:")
    assert MapDb(str(tmp_path / "b.cdb")).get(b"localhost") == b"lmtp:"
    assert CliRunner().invoke(main, ["-F", str(tmp_path / "a.sqlite"), "-q"], input=TEXT).exit_code == 0
    assert SqliteMap("m", str(tmp_path / "a.sqlite")).lookup(b"localhost") == Found(b"localhost", b"lmtp:")
    wrong = CliRunner().invoke(main, ["-F", str(tmp_path / "a.sqlite"), "-n"], input=TEXT)
    assert wrong.exit_code == 2 and "sqlite" in wrong.output
    assert CliRunner().invoke(main, ["-F", "a", "-t", "dbm"], input=TEXT).exit_code == 2


def test_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(extra.importlib, "import_module", gone)
    done = CliRunner().invoke(main, ["-F", str(tmp_path / "a.lmdb")], input=TEXT)
    assert done.exit_code == os.EX_UNAVAILABLE and "pip install 'meta1g[lmdb]'" in done.output
    assert os.listdir(tmp_path) == []


def test_folder_is_missing(tmp_path: Path) -> None:
    done = run(tmp_path / "none", b"a 1\n")
    assert done.exit_code == os.EX_CANTCREAT and "folder does not exist" in done.output


def test_help_and_usage() -> None:
    assert "createmap -F access.db < access" in CliRunner().invoke(main, ["-h"]).output
    assert CliRunner().invoke(main, ["-V"]).output.startswith("createmap (meta1g)")
    assert CliRunner().invoke(main, []).exit_code == 2


@pytest.mark.peer
def test_db_dump_reads_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "meta1g.cli.createmap", "-F", "a.db"]
    subprocess.run(command, cwd=tmp_path, input=b"key some value\n", check=True, timeout=30,
                   env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        dump = subprocess.run(["db5.3_dump", "-p", "a.db"], cwd=tmp_path, capture_output=True, check=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("db5.3_dump (package db5.3-util) is not installed")
    assert b"\n key\n some value\n" in dump.stdout
