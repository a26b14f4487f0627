import subprocess
import sys
import threading
from pathlib import Path

import pytest

from meta1g.maps.m_lmdb import LmdbMap
from meta1g.maps.map import Found, TempFail
from meta1g.maps.open import Declared, open_maps
from meta1g.shim.mapfile import write_map

lmdb = pytest.importorskip("lmdb")


def test_missing_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    found = open_maps([Declared("a", "lmdb", file=str(path))])["a"]
    assert found.lookup(b"k") == TempFail(f"map a: open {path}: No such file or directory")
    path.write_bytes(b"no database" * 1000)
    assert found.reopen() == f"map a: open {path}: MDB_INVALID: File is not an LMDB file"
    write_map(str(path), [(b"k", b"v")], kind="lmdb")
    assert found.reopen() == "" and found.lookup(b"k") == Found(b"k", b"v")
    path.unlink()
    assert str(path) in found.reopen()
    assert found.lookup(b"k") == Found(b"k", b"v")  # the old one stays in use
    path.write_bytes(b"")
    assert str(path) in found.reopen()
    assert found.lookup(b"k") == Found(b"k", b"v")
    assert found.is_stable and not found.is_slow


def test_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    write_map(str(path), [(b"k%d" % n, b"v" * 100) for n in range(2000)], kind="lmdb")
    octets = bytearray(path.read_bytes())
    octets[2 * 4096:] = b"\xff" * (len(octets) - 2 * 4096)
    path.write_bytes(octets)
    assert isinstance(LmdbMap("a", str(path)).lookup(b"k1"), TempFail)


def test_who_writes_in_place_is_seen(tmp_path: Path) -> None:
    path = str(tmp_path / "a.lmdb")
    write_map(path, [(b"k", b"1")], kind="lmdb")
    found = LmdbMap("a", path)
    assert found.lookup(b"k") == Found(b"k", b"1")
    program = "import lmdb, sys\nwith lmdb.open(sys.argv[1], subdir=False, lock=False).begin(write=True) as t:\n" \
              "    t.put(b'k', b'2')"
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=30)
    assert found.lookup(b"k") == Found(b"k", b"2")
    assert found.reopen() == ""  # the same file again
    assert found.lookup(b"k") == Found(b"k", b"2")


def test_threads_and_reopening(tmp_path: Path) -> None:
    path = str(tmp_path / "a.lmdb")
    entries = [(b"k%d" % n, b"v%d" % n) for n in range(200)]
    write_map(path, entries, kind="lmdb")
    found = LmdbMap("a", path)
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            wrong.extend(key for key, value in entries if found.lookup(key) != Found(key, value))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        write_map(path, entries, kind="lmdb", nul=bool(turn % 2))
        assert found.reopen() == ""
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
