"""What MCP tells the world: `mcp.pid` and `mcp.status` in the main queue directory."""
import fcntl
import json
import os
import time
from typing import Any, Final

from meta1g.mcp.children import Children

PID_FILE: Final = "mcp.pid"
STATUS_FILE: Final = "mcp.status"
LOCK_FILE: Final = "mcp.lock"


def write(folder: str, children: Children, began: float, reloads: int) -> None:
    """Replace the status file; readers always see a whole one. `reloads` counts the HUPs that were heard."""
    processes = [
        {
            "name": child.label, "number": child.number, "keyword": child.keyword, "pid": child.pid,
            "state": child.state.value,
            "began": _wall(child.since) if child.pid else 0,
            "restarts": child.restarts, "last_exit": child.last_exit, "stale": child.is_stale,
        }
        for child in children.all
    ]
    _replace(os.path.join(folder, STATUS_FILE), json.dumps({
        "pid": os.getpid(), "began": began, "reloads": reloads, "stopping": children.is_stopping,
        "processes": processes,
    }))


def _wall(monotonic: float) -> float:
    """Seconds since 1970 of a moment on MCP's own clock."""
    return round(time.time() - (time.monotonic() - monotonic), 3)


def write_pid(folder: str) -> None:
    """Say which process MCP is."""
    _replace(os.path.join(folder, PID_FILE), f"{os.getpid()}\n")


def remove(folder: str) -> None:
    """MCP is gone."""
    for name in (PID_FILE, STATUS_FILE):
        try:
            os.unlink(os.path.join(folder, name))
        except FileNotFoundError:
            pass


def lock(folder: str, patience: float = 2.0) -> int | None:
    """Take the lock that the one MCP of a queue directory holds; None if it is held. OSError.

    It is tried for `patience` seconds: an MCP that was killed may still be on its way out, and
    `is_running` holds the lock for a moment.
    """
    fd = os.open(os.path.join(folder, LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(0.02)
    remove(folder)  # what a run that was killed left says "ready" of processes that are no more
    return fd


def is_running(folder: str) -> bool:
    """Whether an MCP holds the lock: unlike a process id it can't be stale."""
    try:
        fd = os.open(os.path.join(folder, LOCK_FILE), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read(folder: str) -> dict[str, Any] | None:
    """The status, None if no MCP runs here."""
    if not is_running(folder):
        return None
    try:
        with open(os.path.join(folder, STATUS_FILE), encoding="ascii") as file:
            status: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return None  # it is just starting or ending
    return status if _lives(status["pid"]) else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _replace(path: str, text: str) -> None:
    temporary = path + ".new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with open(fd, "wb", buffering=0) as file:
        octets = text.encode("ascii")
        while octets:  # a disk that is nearly full takes a part
            octets = octets[file.write(octets):]
    os.rename(temporary, path)
