"""Map type `cdb`: a constant database as tinycdb makes it (M1 3.9.1). Not the content database."""
import mmap
import struct
from functools import partial

from meta1g.maps.map import Result, TempFail, either_form
from meta1g.shim.tinycdb import HEADER, find


class TinycdbMap:
    """A cdb file mapped into memory; one that cannot be read fails temporarily."""

    is_stable = True
    is_slow = False

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self._data: mmap.mmap | None = None
        self._failure = TempFail(f"map {name}: not open")
        self.reopen()

    def lookup(self, key: bytes) -> Result:
        """The entry for `key`, written with or without a NUL."""
        data = self._data
        if data is None:
            return self._failure
        try:
            return either_form(partial(find, data), key)
        except (struct.error, IndexError):
            return TempFail(f"map {self.name}: {self.path} is damaged")

    def reopen(self) -> str:
        """Use the file that is at the path now; the old one stays in use if that fails."""
        try:
            with open(self.path, "rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            if len(data) >= HEADER:
                self._data = data
                return ""
            reason = "too short for a cdb file"
        self._failure = TempFail(f"map {self.name}: read {self.path}: {reason}")
        return self._failure.reason
