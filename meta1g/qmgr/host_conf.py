"""QMGR's configuration map: limits for single hosts and nets (M1 3.8.1); pure.

Rules
    A key is a tag and an IP address, a net that ends in its separator, or nothing, which stands for
    everybody; for `icl:` and `icc:` a host name or a parent domain with a leading dot (M1 3.12.1).
    The map is held in memory: it is read at start and when QMGR is told to.
    Where both the address and the name of a client have a limit the lower one counts.
"""
from collections.abc import Iterable, Mapping
from typing import Final

from meta1g.maps import order

ENTRIES_MAX: Final = 100_000  # more hosts than anybody lists by hand: 20 MB
_BY_NAME: Final = (b"icl", b"icc")


class HostConf:
    """The entries; values that are no number are named in `wrong` and do not count."""

    def __init__(self, entries: Mapping[bytes, bytes]) -> None:
        self._numbers: dict[bytes, int] = {}
        self.wrong: list[str] = []
        for key, value in entries.items():
            tag = key.partition(b":")[0].lower()
            if tag not in _TAGS:
                continue
            if value.strip().isdigit():
                self._numbers[key.lower()] = int(value)
            else:
                self.wrong.append(f"{key.decode('utf-8', 'replace')} {value.decode('utf-8', 'replace')}")
        self._tags = frozenset(key.partition(b":")[0] for key in self._numbers)

    @property
    def wants_names(self) -> bool:
        """Whether limits depend on the names of clients."""
        return any(tag in self._tags for tag in _BY_NAME)

    def in_rate(self, ip: str, name: str, default: int) -> int:
        """Connections a minute that a client may make (icr:, icl:)."""
        return self._lower(b"icr", b"icl", ip, name, default)

    def in_open(self, ip: str, name: str, default: int) -> int:
        """Connections that a client may have open (icm:, icc:)."""
        return self._lower(b"icm", b"icc", ip, name, default)

    def _lower(self, by_ip: bytes, by_name: bytes, ip: str, name: str, default: int) -> int:
        if by_ip not in self._tags and by_name not in self._tags:
            return default
        found = [self._first(by_ip, (*order.client_parts(ip), b"")), self._first(by_name, _name_parts(name))]
        return min([limit for limit in found if limit is not None], default=default)

    def _first(self, tag: bytes, parts: Iterable[bytes]) -> int | None:
        if tag in self._tags:
            for part in parts:
                limit = self._numbers.get(tag + b":" + part)
                if limit is not None:
                    return limit
        return None


_TAGS: Final = frozenset((b"icr", b"icm", *_BY_NAME))


def _name_parts(name: str) -> tuple[bytes, ...]:
    return order.domain_parts(name.rstrip(".").encode("utf-8", "replace")) if name else ()
