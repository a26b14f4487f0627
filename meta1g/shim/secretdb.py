"""A map with secrets, which follows its file and is read only if others can't (M1 2.4.1)."""
import os

from meta1g.mta.errors import StoreError
from meta1g.shim.mapdb import MapDb
from meta1g.shim.secretfile import check_secret


class SecretDb:
    """A Berkeley DB map; `get` asks the file that is there now."""

    def __init__(self, path: str) -> None:
        """Open it; SecretError, StoreError."""
        self._path = path
        self._seen = self._look()
        self.table = MapDb(path)

    def refresh(self) -> bool:
        """Whether another file is there, which is open now. SecretError, StoreError: the old one stays in use."""
        seen = self._look()
        if seen == self._seen:
            return False
        self.table = MapDb(self._path)
        self._seen = seen
        return True

    def _look(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise StoreError("open", self._path, error.strerror or "error") from None
        check_secret(self._path, found)
        return found.st_ino, found.st_mtime_ns, found.st_size
