"""Errors of a configuration: where, what was expected, how to mend it; pure."""
import difflib
from collections.abc import Iterable
from typing import NamedTuple


class Position(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int


class ConfError(NamedTuple):
    """One mistake; `hint` may be empty."""

    at: Position
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.at.file}:{self.at.line}:{self.at.column}: {self.message}"
        return f"{where}; {self.hint}" if self.hint else where


class ConfErrors(Exception):
    """All mistakes of one file, in order."""

    def __init__(self, errors: Iterable[ConfError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: error.at))
        super().__init__("\n".join(map(str, self.errors)))


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X?` for the known word most like this one, empty if none is."""
    by_lower = {name.lower(): name for name in known}
    parts = sorted(word.lower().split("_"))  # older versions of MeTA1 had max_connections, AQ_max_entries ...
    turned = [name for name in by_lower if sorted(name.split("_")) == parts]
    found = turned or difflib.get_close_matches(word.lower(), by_lower, 1, 0.6)
    return f"did you mean {by_lower[found[0]]}?" if found else ""
