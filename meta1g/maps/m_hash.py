"""Map type `hash`: a Berkeley DB file (M1 3.9.1)."""
import itertools
import os
import threading

from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail
from meta1g.mta.errors import StoreError
from meta1g.shim.mapdb import MapDb


class HashMap:
    """A Berkeley DB map that may be missing or broken for a while: lookups then fail temporarily.

    With `is_optional` a file that is not there is an empty map.
    """

    is_stable = True
    is_slow = False

    def __init__(self, name: str, path: str, *, is_optional: bool = False) -> None:
        self.name = name
        self.path = path
        self._is_optional = is_optional
        self._lock = threading.Lock()
        self._store: MapDb | None = None
        self._failure: TempFail | None = None
        self.reopen()

    @property
    def is_there(self) -> bool:
        """Whether there is a map to ask, be it only one that fails."""
        return self._store is not None or self._failure is not None

    def lookup(self, key: bytes) -> Result:
        """The entry for `key`."""
        store = self._store
        if store is None:
            return self._failure or NOT_FOUND
        try:
            value = store.get(key)
        except StoreError as error:
            return TempFail(f"map {self.name}: {error}")
        return NOT_FOUND if value is None else Found(key, value)

    def keys(self, most: int) -> list[bytes] | None:
        """All keys; None if there are more than `most` or the map can't be read."""
        if self._store is None:
            return None if self._failure else []
        try:
            keys = [key for key, _ in itertools.islice(self._store.items(), most + 1)]
        except StoreError:
            return None
        return keys if len(keys) <= most else None

    def reopen(self) -> str:
        """Open the file that is there now; on an error the old one stays in use, if there was one."""
        with self._lock:
            try:
                self._store = MapDb(self.path)
            except StoreError as error:
                if self._is_optional and not os.path.exists(self.path):
                    self._store = self._failure = None
                    return ""
                self._failure = TempFail(f"map {self.name}: {error}")
                return self._failure.reason
            self._failure = None
            return ""
