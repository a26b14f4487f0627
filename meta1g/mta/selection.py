"""Picking mail by address, site and id, alike for mailq, qmgrctl and QMGR (M1 4.7); pure.

Rules
    An address pattern is an address, `@domain`, or holds `*` (anything) and `?` (one character); `<>` is
    the null sender. A site is a host's name, an IP address, or the domain of recipients: a recipient
    belongs to each host of its route. An id is a transaction's, or a recipient's. Case matters only in a
    recipient's index.
"""
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from meta1g.mta import addr
from meta1g.mta.ids import rcpt_id

_WILD: Final = re.compile(r"[*?]")
_MEANING: Final = {"*": ".*", "?": "."}


class Addresses:
    """Addresses that one of some patterns fits."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._domains: set[str] = set()
        self._globs: list[re.Pattern[str]] = []
        for pattern in patterns:
            text = _plain(pattern)
            if _WILD.search(text):
                self._globs.append(_glob("*" + text if text.startswith("@") else text))
            elif text.startswith("@"):
                self._domains.add(text[1:].rstrip("."))
            else:
                self._exact.add(text)

    def fit(self, address: bytes) -> bool:
        """Whether a pattern fits this address."""
        text = address.decode("utf-8", "replace").lower()
        return (text in self._exact or text.rpartition("@")[2] in self._domains
                or any(glob.fullmatch(text) for glob in self._globs))


def _plain(pattern: str) -> str:
    text = pattern.strip().lower()
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


def _glob(text: str) -> re.Pattern[str]:
    return re.compile("".join(_MEANING.get(letter) or re.escape(letter) for letter in text), re.DOTALL)


@lru_cache(4096)  # a queue has few hosts for its many recipients
def site_key(name: str) -> str:
    """A site in the form in which sites are compared."""
    text = name.strip().lower().lstrip("@").rstrip(".")
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1].removeprefix("ipv6:")
    return addr.plain_ip(text) or text


def sites_of(address: bytes, hosts: Iterable[str]) -> set[str]:
    """The sites of a recipient: its domain, and the names and IP addresses in its route."""
    return {site_key(name) for name in (addr.domain_key(addr.split(address)[1]), *hosts) if name}


class Selection(NamedTuple):
    """What is picked: any of a kind, and all kinds together; an empty kind picks everything."""

    to: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


def _id(text: str) -> str:
    ta, hyphen, index = text.strip().partition("-")
    return ta.upper() + hyphen + index  # an index is base64: its case counts


class Picker:
    """A Selection made ready to be asked about many recipients."""

    def __init__(self, wanted: Selection) -> None:
        self._to = Addresses(wanted.to) if wanted.to else None
        self._sites = frozenset(map(site_key, wanted.sites))
        self._ids = frozenset(map(_id, wanted.ids))

    def picks(self, ta: str, idx: int, address: bytes, hosts: Iterable[str]) -> bool:
        """Whether a recipient is picked; `hosts` are the names and IP addresses in its route."""
        if self._ids and ta not in self._ids and rcpt_id(ta, idx) not in self._ids:
            return False
        if self._to is not None and not self._to.fit(address):
            return False
        return not self._sites or not self._sites.isdisjoint(sites_of(address, hosts))
