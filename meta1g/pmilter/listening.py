"""The socket on which SMTP servers find a policy milter."""
import os
import socket
import stat
from pathlib import Path
from typing import Final

from meta1g.pmilter.errors import PolicyError

_LOCAL: Final = "127.0.0.1"
_TRY: Final = 1.0  # seconds


def listen(where: str, backlog: int, mode: int) -> socket.socket:
    """A listening socket at a path (`/p`, `unix:/p`), which gets this `mode`, or at `inet:port@host` (`inet6:` too).

    Without a host it is 127.0.0.1. PolicyError if `where` is neither; OSError if it can't be had.
    """
    kind, colon, rest = where.partition(":")
    if colon and kind in ("inet", "inet6"):
        return _listen_inet(kind, rest, backlog)
    path = rest if colon and kind in ("unix", "local") else where
    if not path:
        raise PolicyError("setconn: where is the socket? A path, or inet:port@host")
    return _listen_unix(path, backlog, mode)


def _listen_inet(kind: str, rest: str, backlog: int) -> socket.socket:
    port, _, host = rest.partition("@")
    if not port.isdigit() or int(port) > 0xFFFF:
        raise PolicyError(f"setconn: {kind}:{rest} has no port")
    family = socket.AF_INET6 if kind == "inet6" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host.strip("[]") or ("::1" if kind == "inet6" else _LOCAL), int(port)))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_unix(path: str, backlog: int, mode: int) -> socket.socket:
    _remove_left_over(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777)  # nobody may connect before its mode is set
    try:
        sock.bind(path)
        os.chmod(path, mode)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def _remove_left_over(path: str) -> None:
    """A socket at which nobody listens any more is removed; PolicyError if somebody does."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return  # bind says what is wrong
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.settimeout(_TRY)
        try:
            trial.connect(path)
        except OSError:
            Path(path).unlink(missing_ok=True)
            return
    raise PolicyError(f"{path}: another program listens there")
