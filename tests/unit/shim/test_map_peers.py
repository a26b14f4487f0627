"""Map files of other programs are read, and ours are read by them."""
import subprocess
from pathlib import Path

import pytest

from meta1g.maps.m_hash import HashMap
from meta1g.maps.m_lmdb import LmdbMap
from meta1g.maps.m_tinycdb import TinycdbMap
from meta1g.maps.map import NOT_FOUND, Found, Map
from meta1g.shim.mapfile import write_map
from tests.lib.peers import needs

pytestmark = pytest.mark.peer
TEXT = b"localhost lmtp:\nother.dom { host = a.b }\nempty-in-cdb x\n"
ENTRIES = [(b"localhost", b"lmtp:"), (b"other.dom", b"{ host = a.b }"), (b"empty-in-cdb", b"x")]


def run(*command: str, text: bytes = b"") -> bytes:
    return subprocess.run(command, input=text, check=True, timeout=30, capture_output=True).stdout


def check(found: Map) -> None:
    assert [found.lookup(key) for key, _ in ENTRIES] == [Found(*entry) for entry in ENTRIES]
    for key in (b"none", b"localhost\0x", b""):
        assert found.lookup(key) is NOT_FOUND


@pytest.fixture
def postfix(tmp_path: Path) -> str:
    """The folder of a Postfix configuration."""
    needs("postmap", "postconf")
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "main.cf").write_text("compatibility_level = 3.6\n")
    return str(folder)


def has_type(postfix: str, kind: str) -> None:
    if kind.encode() not in run("postconf", "-c", postfix, "-m").split():
        pytest.skip(f"needs postfix-{kind}")


@pytest.mark.parametrize("kind", ["hash", "btree"])
def test_postmap(tmp_path: Path, postfix: str, kind: str) -> None:
    path = tmp_path / "map"
    path.write_bytes(TEXT)
    run("postmap", "-c", postfix, f"{kind}:{path}")
    check(HashMap("m", f"{path}.db"))
    for nul in (False, True):
        write_map(f"{path}.db", ENTRIES, nul=nul)
        for key, value in ENTRIES:
            assert run("postmap", "-c", postfix, "-q", key.decode(), f"hash:{path}") == value + b"\n"


def test_postmap_lmdb(tmp_path: Path, postfix: str) -> None:
    pytest.importorskip("lmdb")
    has_type(postfix, "lmdb")
    path = tmp_path / "map"
    path.write_bytes(TEXT)
    run("postmap", "-c", postfix, f"lmdb:{path}")
    found = LmdbMap("m", f"{path}.lmdb")
    check(found)
    run("postmap", "-c", postfix, "-i", f"lmdb:{path}", text=b"added later\n")  # in place
    assert found.lookup(b"added") == Found(b"added", b"later")
    assert found.reopen() == ""
    for nul in (False, True):
        write_map(f"{path}.lmdb", ENTRIES, kind="lmdb", nul=nul)
        for key, value in ENTRIES:
            assert run("postmap", "-c", postfix, "-q", key.decode(), f"lmdb:{path}") == value + b"\n"


@pytest.mark.parametrize("options", [(), ("-N",)], ids=["plain", "nul"])
@pytest.mark.parametrize("kind", ["hash", "btree"])
def test_makemap(tmp_path: Path, options: tuple[str, ...], kind: str) -> None:
    needs("makemap")
    run("makemap", "-C", "/dev/null", *options, kind, str(tmp_path / "map"), text=TEXT)
    check(HashMap("m", str(tmp_path / "map.db")))


def test_makemap_reads_ours(tmp_path: Path) -> None:
    needs("makemap")
    write_map(str(tmp_path / "map.db"), ENTRIES)
    found = run("makemap", "-C", "/dev/null", "-u", "hash", str(tmp_path / "map"))
    assert sorted(found.splitlines()) == sorted(key + b"\t" + value for key, value in ENTRIES)


@pytest.mark.parametrize("nul", ["", "\\00"], ids=["plain", "nul"])
def test_db_load(tmp_path: Path, nul: str) -> None:
    needs("db5.3_load", "db5.3_verify")
    path = str(tmp_path / "map.db")
    text = "".join(f"{key.decode()}{nul}\n{value.decode()}{nul}\n" for key, value in ENTRIES)
    run("db5.3_load", "-T", "-t", "hash", path, text=text.encode())
    check(HashMap("m", path))
    run("db5.3_verify", path)


@pytest.mark.parametrize("nul", [False, True])
def test_db_dump_and_verify(tmp_path: Path, nul: bool) -> None:
    needs("db5.3_dump", "db5.3_verify")
    path = str(tmp_path / "map.db")
    write_map(path, ENTRIES, nul=nul)
    run("db5.3_verify", path)
    end = b"\\00" if nul else b""
    lines = run("db5.3_dump", "-p", path).splitlines()
    body = lines[lines.index(b"HEADER=END") + 1:lines.index(b"DATA=END")]
    pairs = zip(body[::2], body[1::2], strict=True)
    assert sorted(pairs) == sorted((b" " + key + end, b" " + value + end) for key, value in ENTRIES)


@pytest.mark.parametrize("nul", [b"", b"\0"], ids=["plain", "nul"])
def test_cdb_reads_ours(tmp_path: Path, nul: bytes) -> None:
    needs("cdb")
    path = str(tmp_path / "map.cdb")
    entries = ENTRIES + [(b"key%d" % n, b"value %d" % n) for n in range(2000)] + [(b"empty", b"")]
    write_map(path, entries, kind="cdb", nul=bool(nul))
    wanted = b"".join(b"+%d,%d:%s%s->%s%s\n" % (len(k + nul), len(v + nul), k, nul, v, nul) for k, v in entries)
    assert run("cdb", "-d", path) == wanted + b"\n"
    assert b"number of records: 2004" in run("cdb", "-s", path)
    if not nul:  # an argument can't hold one
        for key, value in entries[::100]:
            assert run("cdb", "-q", path, key.decode()) == value


def test_cdb_makes_the_same_file(tmp_path: Path) -> None:
    """Octet for octet: readers that know more of the format than its rules find nothing new."""
    needs("cdb")
    entries = [(b"key%d" % n, b"value %d" % n) for n in range(2000)]
    text = b"".join(b"+%d,%d:%s->%s\n" % (len(k), len(v), k, v) for k, v in entries) + b"\n"
    run("cdb", "-c", str(tmp_path / "theirs"), text=text)
    write_map(str(tmp_path / "ours"), entries, kind="cdb")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    check_all = TinycdbMap("m", str(tmp_path / "ours"))
    assert all(check_all.lookup(key) == Found(key, value) for key, value in entries)
