"""Starting one process: user, group, folder, log file, descriptors (M1 3.7, 8.2)."""
import grp
import os
import pwd
import subprocess
from typing import Final, NamedTuple

from meta1g.proc.ready import VARIABLE

LOG_MODE: Final = 0o640  # M1 2.4.1
_LOG_GROUP: Final = "operator"  # M1 2.4.1, for a log folder that is of root's group


class Account(NamedTuple):
    """Whom to run a process as; None means as we are."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def account(user: str, group: str) -> Account | None:
    """The account for these names (or numbers), None when nothing changes. KeyError names what is unknown."""
    if not user and not group:
        return None
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())
    except KeyError:
        raise KeyError(f"user {user} does not exist") from None
    try:
        gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid if group else entry.pw_gid
    except KeyError:
        raise KeyError(f"group {group} does not exist") from None
    if os.geteuid() != 0:
        if entry.pw_uid != os.geteuid():
            raise KeyError(f"only root can run a process as {entry.pw_name}")
        return None
    groups = {gid, *(g.gr_gid for g in grp.getgrall() if entry.pw_name in g.gr_mem)}
    return Account(entry.pw_uid, gid, tuple(sorted(groups)))


def open_log(path: str, who: Account | None) -> int:
    """The process's log file, with its owner and mode from the start (M1 2.4.1)."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if who is not None:
        os.fchown(fd, who.uid, _log_group(os.path.dirname(path), who))
    os.fchmod(fd, LOG_MODE)
    return fd


def _log_group(folder: str, who: Account) -> int:
    """Who else may read logs: the group of their folder, which an installation gives it (MTALG)."""
    gid = os.stat(folder or ".").st_gid
    if gid:
        return gid
    try:
        return grp.getgrnam(_LOG_GROUP).gr_gid
    except KeyError:
        return who.gid


class Spawned(NamedTuple):
    """A started process, and the pipe on which it says that it is ready."""

    pid: int
    ready_fd: int


def spawn(
    path: str, argv: list[str], *, who: Account | None, folder: str | None, log_path: str, stdin: int | None,
    is_connection: bool,
) -> Spawned:
    """Run `path` with `argv`; `stdin` is a socket for it or None. OSError if that fails.

    If it is a connection the program answers on it too: its standard output is the same socket.
    """
    log_fd = open_log(log_path, who)
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            argv, executable=path, stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdin if is_connection else log_fd, stderr=log_fd, pass_fds=(write_end,), cwd=folder, close_fds=True,
            env={**os.environ, VARIABLE: str(write_end)}, umask=0o022,
            user=who.uid if who else None, group=who.gid if who else None,
            extra_groups=list(who.groups) if who else None,
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(log_fd)
        os.close(write_end)
    process.returncode = 0  # MCP reaps its children itself
    os.set_blocking(read_end, False)
    return Spawned(process.pid, read_end)
