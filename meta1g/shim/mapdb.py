"""Map files as createmap, Postfix's postmap and sendmail's makemap write them (M1 3.9, 4.8).

Rules
    Some writers end keys and values with a NUL, others do not. A key is looked up as it
    is, then with a NUL; the form that hits first is used from then on. One NUL at the
    end of a value is dropped.
    A read that fails is tried once more on a fresh handle: somebody may have rewritten
    the file in place.
"""
import threading
from collections.abc import Iterator
from typing import Final

from meta1g.mta.errors import StoreError
from meta1g.shim import bdb

_NUL: Final = b"\0"


class _File:
    """One open file, and whether its keys end with a NUL: what is known of one file must not be used for the next."""

    def __init__(self, path: str) -> None:
        self.table = bdb.open_readonly(path)
        self._has_nul: bool | None = None

    def get(self, key: bytes) -> bytes | None:
        if self._has_nul is not None:
            value = self.table.get(key + _NUL if self._has_nul else key)
            return value if value is None else value.removesuffix(_NUL)
        for has_nul in (False, True):
            value = self.table.get(key + _NUL if has_nul else key)
            if value is not None:
                self._has_nul = has_nul
                return value.removesuffix(_NUL)
        return None


class MapDb:
    """A map file open for reading; any thread may ask."""

    def __init__(self, path: str) -> None:
        """Open `path`; StoreError if that fails."""
        self.path = path
        self._lock = threading.Lock()
        self._file = _File(path)

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None if it is not there; StoreError if the file cannot be read."""
        try:
            return self._file.get(key)
        except StoreError:
            self.reopen()
            return self._file.get(key)

    def reopen(self) -> None:
        """Use the file that is at the path now; the old one stays in use if that fails."""
        with self._lock:
            self._file = _File(self.path)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, without NULs, in the file's own order."""
        for key, value in self._file.table.items():
            yield key.removesuffix(_NUL), value.removesuffix(_NUL)
