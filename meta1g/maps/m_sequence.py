"""Map type `sequence`: other maps, asked in order (M1 3.9.1, 10.2)."""
from meta1g.maps.map import NOT_FOUND, Map, Result


class SequenceMap:
    """The first map that knows a key answers; NoMore or a failure ends the search too."""

    def __init__(self, name: str, maps: list[Map]) -> None:
        self.name = name
        self._maps = maps
        self.is_stable = all(part.is_stable for part in maps)
        self.is_slow = any(part.is_slow for part in maps)

    def lookup(self, key: bytes) -> Result:
        """What the first map says that does not say NotFound."""
        for part in self._maps:
            result = part.lookup(key)
            if result is not NOT_FOUND:
                return result
        return NOT_FOUND

    def reopen(self) -> str:
        """Reopen every part; all reasons why some could not be."""
        return "; ".join(filter(None, [part.reopen() for part in self._maps]))
