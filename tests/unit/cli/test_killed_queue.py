"""Tools on a queue whose server was killed: what DEFEDB's file has not yet lies in Berkeley DB's logs."""
import os
import shutil
from pathlib import Path

import pytest

from meta1g.cli.queue_audit import problems, survey
from meta1g.cli.queue_backup import Copied, backup, is_empty, restore
from meta1g.cli.queue_files import open_defedb
from meta1g.conf.load import Config, load_file
from meta1g.mcp import status as mcp_status
from meta1g.mta.errors import CorruptRecord, StoreError
from meta1g.proto.msg_ss import Content
from meta1g.shim import defedb, ibdb, journal, layout
from meta1g.shim.cdb import ContentDb
from meta1g.shim.defedb import Change, Defedb, Tuning
from meta1g.shim.journal import Entry, JournalWriter
from meta1g.shim.records import DeferredRcpt, DeferredTa, IdsGiven
from meta1g.shim.safeio import Disk

TA = "S000000000000000101"
TEXT = b"A: b\r\n\r\nx\r\n"


def made(base: Path, options: str = "") -> Config:
    """An empty queue and its configuration."""
    (base / "q").mkdir(parents=True)
    layout.create("queue", str(base / "q"), None)
    return configured(base, options)


def configured(base: Path, options: str = "") -> Config:
    conf = base / "meta1.conf"
    conf.write_text(f'queue_directory = "{base / "q"}";\nqmgr {{ DEFEDB {{ {options} }} }}\nsmtps {{}}\n')
    return load_file(str(conf))


def waiting(config: Config, count: int = 1, log_home: str = "") -> Defedb:
    """DEFEDB with a message that waits, whose content is in the journal."""
    base = config.queue_directory
    place = JournalWriter(Disk(), f"{base}/").write([Entry(TA, [TEXT])])[0]
    found = Defedb(f"{base}/defedb", Tuning(1 << 20, 0, log_home))
    rcpts = [DeferredRcpt(1.0, 2.0, idx, 1, 0, 0, 451, False, False, False, TA, b"c@" + b"d" * 200, b"", b"", "", "x",
                          ()) for idx in range(count)]
    found.write([Change((DeferredTa(1.0, 10, count, False, False, TA, "192.0.2.1", b"a@b", b"", (place,)), *rcpts))])
    return found


@pytest.fixture
def killed(tmp_path: Path) -> Config:
    """As it lies on the disk at the moment of the kill."""
    alive = made(tmp_path / "alive")
    store = waiting(alive)
    shutil.copytree(tmp_path / "alive", tmp_path / "killed")
    store.close()
    return configured(tmp_path / "killed")


def copied(config: Config, folder: Path) -> Copied:
    return backup(config, str(folder), lambda done: None)


def test_nothing_that_waits_is_overlooked(killed: Config, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(killed.queue_directory).rglob("*")}
    assert not is_empty(killed)
    assert [rcpt.ta for rcpt in survey(killed).rcpts] == [TA]
    assert problems(survey(killed), ContentDb(Disk(), f"{killed.queue_directory}/")) == []
    assert copied(killed, tmp_path / "copy") == Copied(1, 1, 0, [])
    assert {path: path.stat().st_mtime_ns for path in Path(killed.queue_directory).rglob("*")} == before


def test_logs_that_can_not_be_used(killed: Config) -> None:
    for path in defedb.logs(f"{killed.queue_directory}/defedb"):
        Path(path).write_bytes(b"x" * 5000)
    damage: list[CorruptRecord] = []
    found = open_defedb(killed, damage.append)
    assert found is not None
    found.close()
    assert "its logs can't be used" in str(damage[0])
    assert not is_empty(killed)


@pytest.mark.parametrize("is_there", [True, False])
def test_restored_where_logs_have_a_folder(tmp_path: Path, is_there: bool) -> None:
    """Old logs of another file would say that the restored one comes from the future."""
    first, copy = made(tmp_path / "1"), tmp_path / "copy"
    waiting(first, 3000).close()
    assert copied(first, copy) == Copied(1, 3000, 0, [])
    second = made(tmp_path / "2", 'log_directory = "logs";')
    logs = Path(second.queue_directory, "logs")
    if is_there:
        logs.mkdir()
        Defedb(f"{second.queue_directory}/defedb", Tuning(1 << 20, 0, str(logs))).close()
    assert is_empty(second)
    assert restore(second, str(copy), -1) == 1
    store = Defedb(f"{second.queue_directory}/defedb", Tuning(1 << 20, 0, str(logs)))
    store.write([Change((DeferredTa(1.0, 1, 0, False, False, TA[:-1] + "2", "", b"", b"", (Content(0, 1, ""),)),))])
    store.close()
    assert len(survey(second).rcpts) == 3000
    assert not [name for name in os.listdir(f"{second.queue_directory}/defedb") if name.startswith("log.")]


def test_restored_into_another_folder(tmp_path: Path) -> None:
    first = made(tmp_path / "1")
    waiting(first).close()
    copied(first, tmp_path / "copy")
    second = made(tmp_path / "2", 'base_directory = "elsewhere";')
    Path(second.queue_directory, "elsewhere").mkdir()
    restore(second, str(tmp_path / "copy"), -1)
    assert [rcpt.ta for rcpt in survey(second).rcpts] == [TA]




def test_damage_in_ibdb_is_told(tmp_path: Path) -> None:
    """An envelope that can't be read is not in the copy; who made it must know."""
    config = made(tmp_path / "1")
    folder = f"{config.queue_directory}/{ibdb.FOLDER}"
    for last in (100, 200):
        ibdb.Ibdb(Disk(), folder, 1 << 30).write([IdsGiven(last)])
    (_, first), *_ = ibdb.files(Disk(), folder)
    octets = Path(folder, first).read_bytes()
    assert (100).to_bytes(8, "little") in octets
    Path(folder, first).write_bytes(octets.replace((100).to_bytes(8, "little"), b"\xff" * 8))
    assert len(copied(config, tmp_path / "copy").damaged) == 1
    assert not is_empty(config)


def test_content_that_moves_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the journal into its own file, and the segment goes: in the copy it is all the same."""
    config = made(tmp_path / "1")
    waiting(config).close()
    base = f"{config.queue_directory}/"
    was = journal.read_content

    def moves(disk: Disk, where: str, ta: str, content: Content) -> bytes:
        writer = ContentDb(disk, base).writer(ta)
        writer.append(was(disk, where, ta, content))
        writer.commit()
        raise StoreError("open", content.segment, "No such file or directory")

    monkeypatch.setattr(journal, "read_content", moves)
    monkeypatch.setattr(mcp_status, "is_running", lambda folder: True)
    assert copied(config, tmp_path / "copy") == Copied(1, 1, 0, [])
    assert ContentDb(Disk(), f"{tmp_path}/copy/").has_file(TA)
