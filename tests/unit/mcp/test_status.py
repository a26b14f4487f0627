"""What is believed of a status file: MCP must hold the lock, and the process that it names must live."""
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meta1g.mcp import status


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    """A queue directory whose MCP runs."""
    fd = status.lock(str(tmp_path))
    assert fd is not None
    yield str(tmp_path)
    os.close(fd)


def say(folder: str, pid: int) -> None:
    (Path(folder) / status.STATUS_FILE).write_text(json.dumps({"pid": pid}))


def refuse(*args: object, **options: object) -> None:
    raise PermissionError


def test_read_gives_the_status_of_a_process_that_lives(folder: str) -> None:
    say(folder, os.getpid())
    assert status.read(folder) == {"pid": os.getpid()}


def test_read_believes_in_a_process_of_another_user(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    say(folder, os.getpid())
    monkeypatch.setattr(os, "kill", refuse)
    assert status.read(folder) == {"pid": os.getpid()}


def test_read_does_not_believe_a_run_that_was_killed(folder: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    say(folder, ended.pid)
    assert status.read(folder) is None


def test_lock_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    say(str(tmp_path), os.getpid())
    fd = status.lock(str(tmp_path))
    assert fd is not None
    os.close(fd)
    assert not (tmp_path / status.STATUS_FILE).exists()


def test_read_without_leave_or_without_sense_is_no_status(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(folder) / status.STATUS_FILE).write_text("{")
    assert status.read(folder) is None
    monkeypatch.setattr(status, "open", refuse, raising=False)
    assert status.read(folder) is None


def test_lock_waits_for_one_that_is_on_its_way_out(folder: str) -> None:
    assert status.lock(folder, patience=0.0) is None
    other = Path(folder) / "other"
    other.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT);"
                               "fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()",
         str(other / status.LOCK_FILE)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    ending = threading.Timer(0.1, holder.kill)
    ending.start()
    fd = status.lock(str(other), patience=20.0)
    assert fd is not None
    os.close(fd)
    holder.communicate()
    ending.join()
