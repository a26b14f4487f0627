"""Map type `lmdb`: a file of Symas' LMDB, as createmap and Postfix's postmap write it; meta1g's own addition.

Rules
    A key is looked up as it is, then with a NUL; one NUL at the end of a value is dropped.
    The package is the extra `lmdb`.
"""
import os
import threading

from meta1g.maps.map import Result, TempFail, either_form
from meta1g.mta.errors import StoreError
from meta1g.shim import extra
from meta1g.shim.lmdbfile import LmdbFile


class LmdbMap:
    """An LMDB file; one that cannot be read fails temporarily."""

    is_stable = True
    is_slow = False

    def __init__(self, name: str, path: str) -> None:
        """Open the file if it is there; MissingExtra if the package is not installed."""
        extra.load("lmdb")
        self.name = name
        self.path = path
        self._lock = threading.Lock()
        self._file: LmdbFile | None = None
        self._identity = (0, 0)
        self._failure = TempFail(f"map {name}: not open")
        self.reopen()

    def lookup(self, key: bytes) -> Result:
        """The entry for `key`, written with or without a NUL."""
        file = self._file
        if file is None:
            return self._failure
        try:
            return either_form(file.get, key)
        except StoreError as error:
            return TempFail(f"map {self.name}: {error}")

    def reopen(self) -> str:
        """Use the file that is at the path now; the old one stays in use if that fails."""
        with self._lock:
            try:
                found = os.stat(self.path)
                identity = (found.st_dev, found.st_ino)
                if self._file is None or identity != self._identity:  # the library refuses to open a file twice
                    self._file = LmdbFile(self.path)
                    self._identity = identity
            except StoreError as error:
                self._failure = TempFail(f"map {self.name}: {error}")
                return self._failure.reason
            except OSError as error:
                self._failure = TempFail(f"map {self.name}: open {self.path}: {error.strerror}")
                return self._failure.reason
            return ""
