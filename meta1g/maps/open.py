"""From a declaration to a map that can be asked (M1 3.9.1)."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from meta1g.maps.m_hash import HashMap
from meta1g.maps.m_lmdb import LmdbMap
from meta1g.maps.m_passwd import PasswdMap
from meta1g.maps.m_redis import RedisMap
from meta1g.maps.m_regex import RegexMap
from meta1g.maps.m_sequence import SequenceMap
from meta1g.maps.m_socket import Address, SocketMap
from meta1g.maps.m_sqlite import SqliteMap
from meta1g.maps.m_tinycdb import TinycdbMap
from meta1g.maps.map import Map
from meta1g.mta.errors import MissingExtra


@dataclass(frozen=True, slots=True)
class Declared:
    """A map's declaration with its options (M1 3.9.1); `path` is a Unix socket's, `maps` names other maps."""

    name: str
    type: str
    file: str = ""
    mapname: str = ""
    address: str = ""
    port: int = 0
    path: str = ""
    maps: tuple[str, ...] = ()
    query: str = ""

    @property
    def where(self) -> Address:
        """The server of a socket or redis map."""
        return self.path or (self.address, self.port)


class MapError(ValueError):
    """A declaration cannot be carried out; the text says why."""


Opener = Callable[[Declared], Map]

TYPES: Final[Mapping[str, Opener]] = {
    "hash": lambda declared: HashMap(declared.name, declared.file),
    "cdb": lambda declared: TinycdbMap(declared.name, declared.file),
    "regex": lambda declared: RegexMap(declared.name, declared.file),
    "passwd": lambda declared: PasswdMap(declared.name),
    "socket": lambda declared: SocketMap(declared.name, declared.mapname, declared.where),
    "lmdb": lambda declared: LmdbMap(declared.name, declared.file),
    "sqlite": lambda declared: SqliteMap(declared.name, declared.file, declared.query),
    "redis": lambda declared: RedisMap(declared.name, declared.mapname, declared.where),
}


def open_maps(declarations: list[Declared]) -> dict[str, Map]:
    """All declared maps by name; a sequence may name maps that are declared after it. MapError if one can't be."""
    by_name = {declared.name: declared for declared in declarations}
    opened: dict[str, Map] = {}

    def get(name: str, above: tuple[str, ...]) -> Map:
        if name in above:
            raise MapError(f"map {name} contains itself: {' > '.join((*above, name))}")
        if name not in opened:
            declared = by_name.get(name)
            if declared is None:
                raise MapError(f"map {name} is not declared")
            if declared.type == "sequence":
                opened[name] = SequenceMap(name, [get(part, (*above, name)) for part in declared.maps])
            else:
                opener = TYPES.get(declared.type)
                if opener is None:
                    raise MapError(f"map {name}: unknown type {declared.type}")
                try:
                    opened[name] = opener(declared)
                except MissingExtra as error:
                    raise MapError(f"map {name}: {error}") from error
        return opened[name]

    for name in by_name:
        get(name, ())
    return opened
