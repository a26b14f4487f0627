"""Lookup orders of M1 3.12.1: which keys are tried, and in which order; pure.

Rules
    sub2.sub1.tld     sub2.sub1.tld, .sub1.tld, .tld, and `.` where the map wants it
    192.0.2.1         192.0.2.1, 192.0.2., 192.0., 192.
    2001:db8::1       2001:db8:0:0:0:0:0:1, 2001:db8:0:0:0:0:0:, ..., 2001:
    user+det@dom      for dom and then each of its parents: user+det@, user++@, user+*@,
                      user*@, user@ (only without detail or if it is implied), @dom;
                      then the same forms without a domain, where the map wants them
    A trailing dot of a host name stays on every key (M1 3.9.3, cltname).
    Keys come out in lower case (M1 6.5 item 2).
"""
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from meta1g.mta import addr


@dataclass(frozen=True, slots=True)
class Order:
    """Which forms a map is asked for; the names are the flags of M1 3.9.2 item 9.

    `localpart` asks for the forms without a domain at the end, `has_at` puts an @ before a bare
    domain (not before the dot), `implicit_detail` is the flag implicitly_match_detail.
    """

    full_address: bool = False
    detail_plus: bool = False
    detail_star: bool = False
    star: bool = False
    domain: bool = False
    dotsubdomain: bool = False
    dot: bool = False
    localpart: bool = False
    has_at: bool = True
    implicit_detail: bool = False

    @property
    def has_forms(self) -> bool:
        """Whether any key has a local part: if not, all of a domain's addresses have the same keys."""
        return self.full_address or self.star or self.detail_plus or self.detail_star


MAILERTABLE: Final = Order(domain=True, dotsubdomain=True, dot=True, has_at=False)  # M1 3.9.2 item 9: the default
ADDRESS: Final = Order(
    full_address=True, detail_plus=True, detail_star=True, star=True, domain=True, dotsubdomain=True, localpart=True
)  # access map: from: and to: take addresses, @domain and localpart (M1 3.9.3)
CLIENT_CONF: Final = Order(
    full_address=True, detail_plus=True, detail_star=True, star=True, domain=True, dotsubdomain=True, dot=True,
    localpart=True
)  # smtpc_rcpt_conf: all lookups (M1 3.8 item 16.8)
QUALIFIED: Final = Order(
    full_address=True, detail_plus=True, detail_star=True, star=True, domain=True, dotsubdomain=True
)  # aliases with local_domains or all_domains (M1 3.9.2 item 3.3)
LOCALPART: Final = Order(
    full_address=True, detail_plus=True, detail_star=True, star=True, localpart=True
)  # aliases with localpart; local_user_map (M1 4.3.2)


@lru_cache(maxsize=4096)
def domain_parts(domain: bytes, *, dotsubdomain: bool = True, dot: bool = False) -> tuple[bytes, ...]:
    """A host or domain name, then its parents with a leading dot, then `.` if `dot`."""
    end = b"." if domain.endswith(b".") else b""
    name = domain.lower().rstrip(b".")
    parts = []
    if name:
        parts.append(name + end)
        if dotsubdomain and not name.startswith(b"["):
            at = name.find(b".")
            while at >= 0:
                parts.append(name[at:] + end)
                at = name.find(b".", at + 1)
    if dot:
        parts.append(b".")
    return tuple(parts)


def ip_parts(ip: str) -> Iterator[bytes]:
    """An address, then ever larger nets that contain it, each ending in its separator.

    An IPv4 address in IPv6 clothes is looked up as IPv4. ValueError if `ip` is no address.
    """
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            groups = [b"%x" % int(group, 16) for group in address.exploded.split(":")]
            yield from _shorter(groups, b":")
            return
        address = address.ipv4_mapped
    yield from _shorter(str(address).encode("ascii").split(b"."), b".")


def client_parts(ip: str) -> tuple[bytes, ...]:
    """`ip_parts` of a client; none for one that has no address, as over a Unix socket."""
    try:
        return tuple(ip_parts(ip))
    except ValueError:
        return ()


def _shorter(groups: list[bytes], separator: bytes) -> Iterator[bytes]:
    yield separator.join(groups)
    for count in range(len(groups) - 1, 0, -1):
        yield separator.join(groups[:count]) + separator


def local_forms(local: bytes, delimiters: bytes, order: Order) -> list[bytes]:
    """The forms of a local part, items 1a to 1e of M1 3.12.1 without the domain."""
    if not order.has_forms:
        return []
    user, delimiter, detail = addr.split_detail(local, delimiters)
    forms = []
    if delimiter:
        if order.full_address:
            forms.append(local)
        if order.detail_plus and detail:
            forms.append(user + delimiter + b"+")
        if order.detail_star:
            forms.append(user + delimiter + b"*")
    if order.star:
        forms.append(user + b"*")
    if order.full_address and (not delimiter or order.implicit_detail):
        forms.append(user)
    return forms


def address_keys(address: bytes, delimiters: bytes, order: Order) -> list[bytes]:
    """All keys for `user+detail@domain`, most significant first (M1 3.12.1).

    An address without a domain is asked for as a local part only.
    """
    local, domain = addr.split(address.lower())
    forms = local_forms(local, delimiters, order)
    keys = []
    if domain and (order.domain or order.dot or not order.localpart):
        at = b"@" if order.has_at else b""
        for part in domain_parts(domain, dotsubdomain=order.dotsubdomain, dot=order.dot):
            if part != b".":
                keys += [form + b"@" + part for form in forms]
            if part == b".":
                keys.append(part)
            elif order.domain:
                keys.append(at + part)
    if order.localpart:
        keys += forms
    return keys
