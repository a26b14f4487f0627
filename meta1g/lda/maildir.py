"""Delivery into a Maildir: written under tmp, flushed, renamed into new; blocking.

Files
    BASE/USER/{tmp,new,cur}: 0700; messages 0600, lines end in LF as local readers expect.
"""
import itertools
import os
import socket
import time
from typing import Final

from meta1g.proto.smtp.data import unstuff
from meta1g.shim.safeio import Disk

FOLDERS: Final = ("tmp", "new", "cur")
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


def to_local(content: bytes) -> bytes:
    """Whole content in wire form as local files hold it: no transparency dots, LF line ends."""
    return unstuff(content).replace(b"\r\n", b"\n")


class Maildirs:
    """The Maildirs under one folder."""

    def __init__(self, disk: Disk, base: str) -> None:
        self._disk = disk
        self._base = base
        self._counter = itertools.count()
        self._host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")
        self._known: set[str] = set()

    def deliver(self, user: str, headers: bytes, content: bytes) -> str:
        """Store `headers` (trace fields with LF) and `content` for `user`, on stable storage when it returns.

        Returns the message's file name. StoreError: nothing was delivered.
        """
        home = f"{self._base}/{user}"
        if user not in self._known:
            self._make(home)
            self._known.add(user)
        now = time.time()
        name = f"{int(now)}.M{int(now % 1 * 1e6)}P{os.getpid()}Q{next(self._counter)}.{self._host}"
        temporary = f"{home}/tmp/{name}"
        fd = self._disk.create(temporary, _FILE_MODE)
        try:
            try:
                self._disk.append(fd, temporary, [headers, content])
                self._disk.flush(fd, temporary)
            finally:
                self._disk.close(fd)
            self._disk.rename(temporary, f"{home}/new/{name}")
        except BaseException:
            self._disk.unlink(temporary)
            raise
        self._disk.flush_folder(f"{home}/new")
        return name

    def _make(self, home: str) -> None:
        os.makedirs(self._base, _FOLDER_MODE, exist_ok=True)
        self._disk.make_folder(home, _FOLDER_MODE)
        for folder in FOLDERS:
            self._disk.make_folder(f"{home}/{folder}", _FOLDER_MODE)
        self._disk.flush_folder(home)
        self._disk.flush_folder(self._base)
