"""Reading a file that holds a secret, only if nobody else can read or replace it."""
import os
import stat
from typing import Final

from meta1g.mta.errors import MtaError

_SIZE_MAX: Final = 1 << 16  # octets; a key has 4 KB


class SecretError(MtaError):
    """The file can't be used as a secret: which one, why, and how to mend it."""


def read_secret(path: str, *, is_shared: bool = False) -> bytes:
    """The octets of a regular file that others can't read. SecretError.

    Its group may read it, as a daemon's group does with a file of root's; nobody but its owner may write it, and that
    is root or this process's user, or anybody if it `is_shared` among daemons (M1 11.1). Root reads everybody's.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # else a FIFO waits for ever
        try:
            check_secret(path, os.fstat(fd), is_shared=is_shared)
            text = os.read(fd, _SIZE_MAX + 1)
        finally:
            os.close(fd)
    except PermissionError:
        raise SecretError(f"{path}: user {os.geteuid()} can't read it; "
                          f"chgrp {os.getegid()} {path}; chmod 640 {path}") from None
    except OSError as error:
        raise SecretError(f"{path}: {error.strerror}") from None
    if len(text) > _SIZE_MAX:
        raise SecretError(f"{path}: more than {_SIZE_MAX} octets")
    return text


def check_secret(path: str, state: os.stat_result, *, is_shared: bool = False) -> None:
    """SecretError unless a file of this state is a secret, as `read_secret` says."""
    if not stat.S_ISREG(state.st_mode):
        raise SecretError(f"{path}: not a regular file")
    mode = stat.S_IMODE(state.st_mode)
    if mode & 0o027:  # others may do nothing, the group may not write
        raise SecretError(f"{path}: mode {mode:o} makes it no secret; chmod {mode & 0o640:o} {path}")
    if not is_shared and os.geteuid() and state.st_uid not in (0, os.geteuid()):
        raise SecretError(f"{path}: it belongs to user {state.st_uid}; chown {os.geteuid()} {path}")
