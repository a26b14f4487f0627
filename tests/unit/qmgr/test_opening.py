"""QMGR starts on a damaged DEFEDB: nothing goes silently, content stays, what can be read is delivered."""
import math
import os
import random
import shutil
from pathlib import Path

import pytest

from meta1g.mta.ids import ss_id
from meta1g.proc.log import Log
from meta1g.proto.msg_ss import Content
from meta1g.qmgr.opening import Stores, open_stores
from meta1g.shim import layout
from meta1g.shim.cdb import ContentDb
from meta1g.shim.defedb import FILE, Change, Defedb, Tuning
from meta1g.shim.ibdb import FOLDER, Ibdb
from meta1g.shim.records import DeferredRcpt, DeferredTa, IdsGiven
from meta1g.shim.safeio import Disk

TAS = [ss_id(number, 0) for number in range(1, 31)]
PAGE = 4096


class Lines(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__("test")
        self.lines: list[str] = []

    def _put(self, priority: int, line: str) -> None:
        self.lines.append(line)

    @property
    def told(self) -> list[str]:
        """What says that something is wrong."""
        return [line for line in self.lines if line.startswith("sev=")]


def rcpt(ta: str, idx: int) -> DeferredRcpt:
    text = "x" * (9000 if ta in TAS[::10] and idx == 1 else 40)  # some are too large for a page
    return DeferredRcpt(5.0, 9.0, idx, 1, 0, 4, 451, False, False, False, ta, b"a@b", b"", b"", "4.2.0", text, ())


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A queue with mail in DEFEDB and its content in files."""
    folder = tmp_path_factory.mktemp("queue")
    layout.create("queue", str(folder), None)
    cdb = ContentDb(Disk(), f"{folder}/")
    home = folder / "defedb"
    home.mkdir(exist_ok=True)
    store = Defedb(str(home), Tuning(1 << 20))
    for ta in TAS:
        writer = cdb.writer(ta)
        writer.append(b"content")
        writer.commit()
        begin = DeferredTa(1.0, 7, 3, False, False, ta, "192.0.2.9", b"x@y", b"", (Content(0, 7, ""),))
        store.write([Change((begin, *(rcpt(ta, idx) for idx in range(3))))])
    store.close()
    os.makedirs(folder / FOLDER, exist_ok=True)
    Ibdb(Disk(), str(folder / FOLDER), 1 << 20).write([IdsGiven(99)])
    return folder


def start(folder: Path, monkeypatch: pytest.MonkeyPatch, log: Log) -> Stores:
    monkeypatch.chdir(folder)
    return open_stores(Disk(), "defedb", Tuning(1 << 20), ContentDb(Disk(), ""), log)


def check(stores: Stores, log: Lines, folder: Path) -> set[tuple[str, int]]:
    """The law; returns the recipients that are still there."""
    found = {(ta, idx) for _, ta, idx in stores.found.stored.edbc.due(math.inf, 1000)}
    assert len(found) == stores.found.stored.rcpts
    everything = {(ta, idx) for ta in TAS for idx in range(3)}
    assert found <= everything
    for ta in {ta for ta, _ in found}:
        assert all(one == rcpt(ta, one.idx) for one in stores.defedb.load(ta, range(3)).rcpts)
    if found != everything:
        assert log.told
    assert {path.name for path in folder.glob("[0-9A-F]/S*")} == set(TAS)
    return found


def damaged(data: bytearray, kind: str, luck: random.Random) -> bytes:
    """What somebody made of a file."""
    at = luck.randrange(len(data) // PAGE) * PAGE
    match kind:
        case "octet":
            for _ in range(20):
                data[luck.randrange(len(data))] ^= luck.randrange(1, 256)
        case "zeros":
            data[at:at + PAGE] = bytes(PAGE)
        case "header":
            data[at:at + 26] = luck.randbytes(26)
        case "cut":
            del data[luck.randrange(len(data)):]
        case "page gone":
            del data[-PAGE:]
        case "empty":
            data.clear()
        case "other":
            data[:] = b"This is no database.\n" * 1000
    return bytes(data)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["octet", "zeros", "header", "cut", "page gone", "empty", "other"])
def test_damage(queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int) -> None:
    folder = tmp_path / "queue"
    shutil.copytree(queue, folder, symlinks=True)
    path = folder / "defedb" / FILE
    path.write_bytes(damaged(bytearray(path.read_bytes()), kind, random.Random(f"{kind}{seed}")))
    log = Lines()
    stores = start(folder, monkeypatch, log)
    found = check(stores, log, folder)
    stores.defedb.close()
    again = Lines()
    stores = start(folder, monkeypatch, again)
    assert check(stores, log, folder) == found
    assert {line for line in again.told if "reason=" in line} <= set(log.told)
    stores.defedb.close()


def test_what_a_crash_left_half_salvaged(queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "queue"
    shutil.copytree(queue, folder, symlinks=True)
    aside = folder / "defedb" / "damaged.1"
    aside.mkdir()
    (folder / "defedb" / FILE).rename(aside / FILE)
    log = Lines()
    stores = start(folder, monkeypatch, log)
    assert len(check(stores, log, folder)) == 90
    assert any("salvaged=120" in line for line in log.told)
    stores.defedb.close()


def test_full_disk_is_no_damage(queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "queue"
    shutil.copytree(queue, folder, symlinks=True)
    path = folder / "defedb" / FILE
    path.write_bytes(b"")
    monkeypatch.setattr(Disk, "free", lambda self, path: 1000)
    with pytest.raises(Exception, match="defedb"):
        start(folder, monkeypatch, Lines())
    assert path.exists()
