"""What every map is: a key in, one of five results out; pure.

Rules
    Keys and values are octets. Who asks lower-cases the key (M1 6.5 item 2).
    NoMore ends the search for this key and all its derivatives (M1 10.2).
    A map raises nothing: what goes wrong is TempFail or PermFail with its reason.
"""
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol


class Found(NamedTuple):
    """An entry: the key that matched and its value (RHS)."""

    key: bytes
    value: bytes


class NotFound(NamedTuple):
    """The map has no such key."""


class NoMore(NamedTuple):
    """The map has no such key and forbids to look for its derivatives (M1 10.2)."""


class TempFail(NamedTuple):
    """The map cannot answer now; `reason` names the map and what is wrong."""

    reason: str


class PermFail(NamedTuple):
    """The map refuses this key for good (socket maps, M1 10.2)."""

    reason: str


Result = Found | NotFound | NoMore | TempFail | PermFail
NOT_FOUND: Final = NotFound()
NO_MORE: Final = NoMore()


class Map(Protocol):
    """A map that has been opened.

    `is_stable` says that answers stay the same until `reopen`, so that they may be cached;
    `is_slow` that a lookup may wait for somebody else's program.
    """

    name: str
    is_stable: bool
    is_slow: bool

    def lookup(self, key: bytes) -> Result:
        """The entry for exactly this key."""
        ...

    def reopen(self) -> str:
        """Read the map anew (M1 4.8); the empty string, or why it could not be done."""
        ...


def either_form(get: Callable[[bytes], bytes | None], key: bytes) -> Result:
    """The entry that `get` finds for `key`, written with a NUL behind key and value or without."""
    value = get(key)
    if value is None:
        value = get(key + b"\0")
    return NOT_FOUND if value is None else Found(key, value.removesuffix(b"\0"))


def first(source: Map, keys: Iterable[bytes]) -> Result:
    """The first entry among `keys`, in their order; any result but NotFound ends the search."""
    lookup = source.lookup
    for key in keys:
        result = lookup(key)
        if result is not NOT_FOUND:
            return NOT_FOUND if result is NO_MORE else result
    return NOT_FOUND
