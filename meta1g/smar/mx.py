"""Which hosts take a domain's mail, in which order (RFC 5321 5.1, M1 6.3.1); pure.

Rules
    MX records sort by preference; those of equal preference are shuffled for each answer.
    A null MX (RFC 7505) refuses mail. An MX record that names an IP address does not count
    (M1 6.3.1); if no other is left, neither does the domain.
    This host itself is cut out of the list together with all of equal or worse preference
    (RFC 5321 5.1); if nothing is left, mail would loop.
"""
import ipaddress
from collections.abc import Callable, Collection
from itertools import groupby
from typing import Final, NamedTuple, TypeVar

from meta1g.mta.reply import Reply
from meta1g.smar.ask import Mx
from meta1g.smar.mt import Family

T = TypeVar("T")
Shuffle = Callable[[list[T]], None]  # random.Random.shuffle; drawn outside of pure modules

MX_MAX: Final = 64  # M1 12.1.3 has such a limit without its number; Sendmail's MAXMXHOSTS is 100
A_MAX: Final = 32  # addresses of one host; same place
HOPS_MAX: Final = 128  # addresses of one route: one frame and one day of tries


class NoHosts(NamedTuple):
    """There is nobody to send to; the reply says why. `is_loop`: the best host is this one."""

    reply: Reply
    is_loop: bool = False


def hosts_of(domain: str, records: Collection[Mx], own_names: Collection[str]) -> list[Mx] | NoHosts:
    """The MX records to use, best first; `own_names` are this host's names in lower case."""
    if len(records) == 1 and not next(iter(records)).host:
        return NoHosts(Reply(556, "5.1.10", f"{domain} does not accept mail (null MX)"))  # RFC 7505 4.2
    named = [record for record in records if record.host and not is_ip(record.host)]
    if not named:
        return NoHosts(Reply(550, "5.4.4", f"MX record of {domain} is not a host name"))  # M1 6.3.1
    named.sort()
    own = [record.preference for record in named if record.host in own_names]
    if own:
        named = [record for record in named if record.preference < own[0]]
        if not named:
            return NoHosts(Reply(554, "5.4.6", f"mail for {domain} loops back to this host"), is_loop=True)
    return named[:MX_MAX]


def is_ip(host: str) -> bool:
    """Whether a host name is really an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def groups_of(hosts: list[Mx]) -> tuple[tuple[str, ...], ...]:
    """Host names by equal preference, best first."""
    return tuple(tuple(mx.host for mx in group) for _, group in groupby(hosts, key=lambda mx: mx.preference))


def shuffled(groups: tuple[tuple[T, ...], ...], shuffle: "Shuffle[T]") -> list[T]:
    """All members, group by group, each group in a random order."""
    ordered: list[T] = []
    for group in groups:
        if len(group) > 1:
            members = list(group)
            shuffle(members)
            ordered += members
        else:
            ordered += group
    return ordered


def wants(family: Family) -> tuple[bool, bool]:
    """Whether IPv4 and IPv6 addresses are to be asked for."""
    return family is not Family.IPV6_ONLY, family is not Family.IPV4_ONLY


def by_family(ipv4: Collection[str], ipv6: Collection[str], family: Family) -> tuple[str, ...]:
    """Addresses of one host in the order in which they are to be tried, A_MAX at most.

    Within a family DNS's order stays (RFC 5321 5.1: the order presented).
    """
    if family is Family.IPV4_ONLY:
        ordered = tuple(ipv4)
    elif family is Family.IPV6_ONLY:
        ordered = tuple(ipv6)
    elif family is Family.IPV6_PREFERRED:
        ordered = (*ipv6, *ipv4)
    else:
        ordered = (*ipv4, *ipv6)
    return ordered[:A_MAX]
