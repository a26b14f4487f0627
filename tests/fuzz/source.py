"""Octets of a fuzzer as choices: what they select, and in which pieces they are sent."""
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """Gives choices until there are no more octets; then always the first one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether octets are left."""
        return self._at < len(self._data)

    def number(self, below: int) -> int:
        """A number, 255 at most."""
        self._at += 1
        return self._data[self._at - 1] % below if self._at <= len(self._data) else 0

    def flag(self) -> bool:
        return self.number(2) == 1

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.number(len(choices))]

    def octets(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count:self._at]

    def rest(self) -> bytes:
        return self.octets(len(self._data))


def pieces(octets: bytes, most: int) -> Iterator[bytes]:
    """`octets` in pieces of 1 to `most`, of lengths that look random; 0 for all at once."""
    if not most:
        yield octets
        return
    at, state = 0, most
    while at < len(octets):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        size = 1 + (state >> 16) % most
        yield octets[at:at + size]
        at += size
