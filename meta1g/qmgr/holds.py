"""What an administrator has stopped: all deliveries, or those to some sites; pure (M1 4.7.3).

Rules
    A recipient belongs to its domain and to every host of its route, by name and IP address. A hold outlives QMGR.

Files
    ibdb/holds: 0600 meta1q, JSON; QMGR alone writes it.
"""
import json
from collections.abc import Iterable
from typing import Final, NamedTuple

from meta1g.mta.selection import site_key, sites_of

FILE: Final = "ibdb/holds"
SITES_MAX: Final = 10_000  # more than anybody names by hand; status shows them all
_LENGTH_MAX: Final = 255  # octets of a domain name, RFC 5321 4.5.3.1.2


class Holds(NamedTuple):
    """What is held: all, or these sites in the form of `site_key`."""

    is_all: bool = False
    sites: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return self.is_all or bool(self.sites)

    def __str__(self) -> str:
        return json.dumps(self.plain())

    def plain(self) -> dict[str, object]:
        """For JSON: what `parse` reads."""
        return {"all": self.is_all, "sites": sorted(self.sites)}

    def covers(self, address: bytes, hosts: Iterable[str]) -> bool:
        """Whether a recipient with these names and IP addresses in its route is held."""
        return self.is_all or (bool(self.sites) and not self.sites.isdisjoint(sites_of(address, hosts)))


def parse(text: str) -> Holds:
    """What `str` wrote; ValueError if it is something else."""
    try:
        found = json.loads(text)
        return Holds(bool(found["all"]), frozenset(map(str, found["sites"])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a list of holds: {error}") from None


def changed(holds: Holds, sites: Iterable[str], *, is_hold: bool) -> Holds:
    """The holds after a command; without sites it is about everything, and a release then ends all. ValueError."""
    named = frozenset(map(site_key, sites))
    if not named:
        return Holds(True, holds.sites) if is_hold else Holds()
    if any(not site or len(site) > _LENGTH_MAX for site in named):
        raise ValueError("a site is the name or IP address of a host, or a domain")
    if not is_hold:
        if named - holds.sites:
            raise ValueError(f"not held: {' '.join(sorted(named - holds.sites))}")
        return holds._replace(sites=holds.sites - named)
    if len(holds.sites | named) > SITES_MAX:
        raise ValueError(f"more than {SITES_MAX} sites")
    return holds._replace(sites=holds.sites | named)
