"""Map type `sqlite`: a query to an SQLite database; meta1g's own addition.

Rules
    The query has one ? for the key; the first column of its first row is the value. NULL is
    no entry. To SQLite a BLOB never equals a TEXT, so a key is asked for as a BLOB, which is
    what createmap writes, then as a TEXT; the form that hits first is asked first from then on.
    The file is opened for reading only. Others may change it meanwhile: a lookup sees their
    last commit, waits for a lock no longer than its timeout, and is broken off then.
    Several threads ask at a time, each over a connection that no other uses meanwhile.
"""
import threading
import time
import urllib.parse
from typing import Any, Final

from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail
from meta1g.shim import extra

QUERY: Final = "SELECT value FROM map WHERE key = ?"
TIMEOUT: Final = 5.0  # seconds for one lookup; as long as Python's sqlite3 waits for a lock by default
_STEPS: Final = 10_000  # of SQLite's machine between looks at the clock: less than a millisecond
_IDLE_MAX: Final = 4  # connections kept open: as many as there are threads for a slow map


class _Connection:
    """A connection and when to break off what it does."""

    def __init__(self, library: Any, path: str, timeout: float) -> None:
        self.deadline = 0.0
        uri = f"file:{urllib.parse.quote(path)}?mode=ro"
        self.database = library.connect(uri, timeout=timeout, uri=True, check_same_thread=False, isolation_level=None)
        self.database.text_factory = bytes
        self.database.set_progress_handler(lambda: time.monotonic() > self.deadline, _STEPS)

    def ask(self, query: str, key: bytes | str) -> Any:
        cursor = self.database.execute(query, (key,))
        row = cursor.fetchone()
        cursor.close()  # else the rows that were not read keep writers out
        return row[0] if row else None


class SqliteMap:
    """A database that is asked with one query."""

    is_stable = False  # other programs change a database in place
    is_slow = True

    def __init__(self, name: str, path: str, query: str = "", timeout: float = TIMEOUT) -> None:
        """Open the file if it is there; MissingExtra if this Python has no SQLite."""
        self._library = extra.load("sqlite3")
        # Before Python 3.12 two statements in a query are a Warning.
        self._errors = (self._library.Error, self._library.Warning)
        self.name = name
        self.path = path
        self._query = query or QUERY
        self._timeout = timeout
        self._is_text = False
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._generation = 0
        self.reopen()

    def lookup(self, key: bytes) -> Result:
        """The entry for `key`."""
        try:
            connection, generation = self._take()
            connection.deadline = time.monotonic() + self._timeout
            value = self._ask(connection, key)
        except self._errors as error:
            reason = f"no answer in {self._timeout:g} s" if "interrupted" in str(error) else str(error)
            return TempFail(f"map {self.name}: {self.path}: {reason}")
        self._give(connection, generation)
        if value is None:
            return NOT_FOUND
        return Found(key, value if isinstance(value, bytes) else str(value).encode("ascii"))

    def _ask(self, connection: _Connection, key: bytes) -> Any:
        is_text = self._is_text
        for form in (is_text, not is_text):
            try:
                value = connection.ask(self._query, key.decode("utf-8") if form else key)
            except UnicodeDecodeError:
                continue
            if value is not None:
                self._is_text = form
                return value
        return None

    def reopen(self) -> str:
        """Ask the file that is at the path now; the old one stays in use if that one has no answer to the query."""
        try:
            fresh = _Connection(self._library, self.path, self._timeout)
            fresh.deadline = time.monotonic() + self._timeout
            fresh.ask(self._query, b"")
        except self._errors as error:
            return f"map {self.name}: {self.path}: {error}"
        with self._lock:
            self._generation += 1
            self._idle = [fresh]
        return ""

    def _take(self) -> tuple[_Connection, int]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), self._generation
            return _Connection(self._library, self.path, self._timeout), self._generation

    def _give(self, connection: _Connection, generation: int) -> None:
        with self._lock:
            if generation == self._generation and len(self._idle) < _IDLE_MAX:
                self._idle.append(connection)
                return
        connection.database.close()
