"""The plain mailertable file: keys and values in lines (M1 3.9.2 item 9.1).

Rules
    LHS, white space, RHS; empty lines and lines that begin with # are skipped. Keys are
    lower-cased. A bad line is reported with file and number, and the others still count.
"""
from collections.abc import Callable, Iterator

from meta1g.maps.map import NOT_FOUND, Found, Result

Check = Callable[[bytes], str]  # what is wrong with an RHS, empty if nothing


class TextMap:
    """A text file in memory. `check` judges each RHS; `on_error` gets one line for each bad line."""

    is_stable = True
    is_slow = False

    def __init__(self, name: str, path: str, check: Check, on_error: Callable[[str], None]) -> None:
        """Read the file; OSError if it cannot be read."""
        self.name = name
        self.path = path
        self._check = check
        self._on_error = on_error
        self._entries = self._read()

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, key: bytes) -> Result:
        """The entry for `key`."""
        return self._entries.get(key, NOT_FOUND)

    def reopen(self) -> str:
        """Read the file anew; if that fails the old entries stay."""
        try:
            self._entries = self._read()
        except OSError as error:
            return f"map {self.name}: read {self.path}: {error.strerror}"
        return ""

    def _read(self) -> dict[bytes, Found]:
        with open(self.path, "rb") as file:
            text = file.read()
        entries: dict[bytes, Found] = {}
        for number, key, value in parse_lines(text):
            wrong = "the value is missing" if not value else self._check(value)
            if not wrong and key in entries:
                wrong = "there is an entry for this key above, which counts"
            if wrong:
                self._on_error(f"{self.path}:{number}: {key.decode('utf-8', 'replace')}: {wrong}")
            else:
                entries[key] = Found(key, value)
        return entries


def parse_lines(text: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Line number, lower-case key and value of each entry; the value may be empty."""
    for number, line in enumerate(text.split(b"\n"), 1):
        words = line.split(None, 1)
        if words and not words[0].startswith(b"#"):
            key = words[0].lower()
            yield number, key.removesuffix(b":"), words[1].strip() if len(words) == 2 else b""
