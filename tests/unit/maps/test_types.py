import shutil
import subprocess
from pathlib import Path

import pytest

from meta1g.maps.m_hash import HashMap
from meta1g.maps.m_passwd import PasswdMap
from meta1g.maps.m_sequence import SequenceMap
from meta1g.maps.m_text import TextMap
from meta1g.maps.m_tinycdb import TinycdbMap
from meta1g.maps.map import NO_MORE, NOT_FOUND, Found, Result, TempFail, first
from meta1g.maps.open import Declared, MapError, open_maps
from meta1g.shim import extra
from meta1g.shim.mapfile import write_map
from meta1g.shim.tinycdb import cdb_hash


class Table:
    name = "table"
    is_stable = True
    is_slow = False

    def __init__(self, **entries: Result) -> None:
        self.entries = {key.encode(): value for key, value in entries.items()}
        self.reason = ""
        self.asked: list[bytes] = []

    def lookup(self, key: bytes) -> Result:
        self.asked.append(key)
        return self.entries.get(key, NOT_FOUND)

    def reopen(self) -> str:
        return self.reason


def test_first() -> None:
    table = Table(b=Found(b"b", b"1"), stop=NO_MORE, temp=TempFail("t"))
    assert first(table, [b"a", b"b", b"c"]) == Found(b"b", b"1")
    assert first(table, [b"a", b"c"]) is NOT_FOUND
    assert first(table, [b"a", b"stop", b"b"]) is NOT_FOUND  # M1 10.2: NOMORE
    assert first(table, [b"temp", b"b"]) == TempFail("t")
    assert table.asked[-1] == b"temp"


def test_sequence() -> None:
    one, two = Table(a=Found(b"a", b"1"), stop=NO_MORE), Table(b=Found(b"b", b"2"), stop=Found(b"stop", b"x"))
    both = SequenceMap("both", [one, two])
    assert [both.lookup(k) for k in (b"a", b"b", b"c", b"stop")] == [
        Found(b"a", b"1"), Found(b"b", b"2"), NOT_FOUND, NO_MORE]
    assert both.is_stable and not both.is_slow
    assert SequenceMap("p", [one, PasswdMap("p")]).is_slow
    two.reason = "lost"
    assert both.reopen() == "lost"


def test_passwd() -> None:
    users = PasswdMap("users")
    assert users.lookup(b"root") == Found(b"root", b"local:")
    for key in (b"no-such-user", b"root@dom", b"", b"x" * 40, b"ro\0ot", b"user*", b"+"):
        assert users.lookup(key) is NOT_FOUND
    assert users.reopen() == ""


def test_hash(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    missing, optional = HashMap("a", path), HashMap("a", path, is_optional=True)
    assert isinstance(missing.lookup(b"k"), TempFail) and missing.is_there
    assert path in str(missing.lookup(b"k"))
    assert optional.lookup(b"k") is NOT_FOUND and not optional.is_there
    write_map(path, [(b"k", b"v")])
    assert (missing.reopen(), optional.reopen()) == ("", "")
    assert missing.lookup(b"k") == optional.lookup(b"k") == Found(b"k", b"v")
    assert missing.lookup(b"none") is NOT_FOUND
    Path(path).unlink()
    assert path in missing.reopen()
    assert missing.lookup(b"k") == Found(b"k", b"v")  # the old one stays in use
    assert optional.reopen() == "" and not optional.is_there


def test_hash_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    write_map(str(path), [(b"k%d" % n, b"v" * 100) for n in range(2000)])
    found = HashMap("a", str(path))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    assert any(isinstance(found.lookup(b"k%d" % n), TempFail) for n in range(2000))


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "mt"
    path.write_text("# comment\n\nMy.Dom\tlmtp:\n  other.dom   [1.2.3.4] [1.2.3.5]  \nnovalue\nbad BAD\n"
                    "my.dom second\n. esmtp:x.y\ncolon.dom: z\n")
    errors: list[str] = []
    found = TextMap("mt", str(path), lambda rhs: "is bad" if rhs == b"BAD" else "", errors.append)
    assert found.lookup(b"my.dom") == Found(b"my.dom", b"lmtp:")
    assert found.lookup(b"other.dom") == Found(b"other.dom", b"[1.2.3.4] [1.2.3.5]")
    assert found.lookup(b".") == Found(b".", b"esmtp:x.y")
    assert found.lookup(b"colon.dom") == Found(b"colon.dom", b"z")
    assert found.lookup(b"bad") is NOT_FOUND and len(found) == 4
    assert [line.removeprefix(f"{path}:") for line in errors] == [
        "5: novalue: the value is missing", "6: bad: is bad",
        "7: my.dom: there is an entry for this key above, which counts"]
    path.write_text("new.dom lmtp:\n")
    assert found.reopen() == "" and found.lookup(b"my.dom") is NOT_FOUND
    path.unlink()
    assert str(path) in found.reopen()
    assert found.lookup(b"new.dom") == Found(b"new.dom", b"lmtp:")


def test_cdb_hash() -> None:
    assert cdb_hash(b"") == 5381


@pytest.mark.peer
@pytest.mark.parametrize("nul", [b"", b"\0"])
def test_cdb(tmp_path: Path, nul: bytes) -> None:
    tool = shutil.which("cdb")
    if tool is None:
        pytest.skip("cdb (package tinycdb) is not installed")
    entries = [(b"key%d" % n, b"value %d" % n) for n in range(500)]
    text = b"".join(b"+%d,%d:%s%s->%s%s\n" % (len(k + nul), len(v + nul), k, nul, v, nul) for k, v in entries) + b"\n"
    path = tmp_path / "a.cdb"
    subprocess.run([tool, "-c", str(path)], input=text, check=True, timeout=30)
    found = TinycdbMap("a", str(path))
    assert all(found.lookup(k) == Found(k, v) for k, v in entries)
    assert found.lookup(b"none") is NOT_FOUND
    path.unlink()
    path.write_bytes(b"\xff" * 4096)
    assert found.reopen() == ""
    assert isinstance(found.lookup(b"key1"), TempFail)


def test_cdb_missing_or_short(tmp_path: Path) -> None:
    path = tmp_path / "a.cdb"
    found = TinycdbMap("a", str(path))
    assert str(path) in str(found.lookup(b"k"))
    for octets in (b"", b"short"):
        path.write_bytes(octets)
        assert str(path) in found.reopen()


def test_open_maps(tmp_path: Path) -> None:
    maps = open_maps([
        Declared("all", "sequence", maps=("h", "p", "r", "c")), Declared("h", "hash", file=str(tmp_path / "h.db")),
        Declared("p", "passwd"), Declared("r", "regex", file=str(tmp_path / "r")),
        Declared("c", "cdb", file=str(tmp_path / "c")), Declared("s", "socket", "", "m", "127.0.0.1", 7),
        Declared("u", "socket", mapname="m", path="/none"),
    ])
    assert sorted(maps) == ["all", "c", "h", "p", "r", "s", "u"]
    for wrong, words in (
        ([Declared("a", "sequence", maps=("b",)), Declared("b", "sequence", maps=("a",))], "contains itself"),
        ([Declared("a", "sequence", maps=("b",))], "not declared"),
        ([Declared("a", "ldap")], "unknown type"),
    ):
        with pytest.raises(MapError, match=words):
            open_maps(wrong)


@pytest.mark.parametrize(("kind", "remedy"), [
    ("redis", r"pip install 'meta1g\[redis\]'"), ("lmdb", r"pip install 'meta1g\[lmdb\]'"), ("sqlite", "without it"),
])
def test_package_is_missing(kind: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(extra.importlib, "import_module", gone)
    with pytest.raises(MapError, match=f"map m: the package {kind}.* can't be used .*{remedy}"):
        open_maps([Declared("m", kind, file="/none", path="/none")])
