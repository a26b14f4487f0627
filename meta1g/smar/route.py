"""From an address to the hosts that take its mail; pure.

Rules
    The mailertable decides first (M1 3.9.3), then an address literal, then MX records, then
    A and AAAA records of the domain itself (RFC 5321 5.1).
    Hosts that DNS names may have TLSA records (RFC 7672 2.2.2); those that the mailertable gives addresses for have
    none, nor have local mailers.
    A route holds groups of equal preference, not their order: it is drawn anew for each
    answer, so that a cached route spreads the load as well.
    What the mailertable says lives 3600 s (M1 7.2), what DNS says as long as its shortest
    record. A host that the mailertable names and DNS does not know is a temporary error:
    the mail can wait until the mailertable is mended.
"""
from typing import Final, NamedTuple

import idna

from meta1g.maps import order
from meta1g.maps.map import Found, PermFail, TempFail
from meta1g.mta import addr
from meta1g.mta.dane import TlsaSet
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Hop, Protocol
from meta1g.smar import dane, mt, mx
from meta1g.smar.ask import FOREVER, MAILERTABLE, DnsAnswer, DnsAsk, Mx, Rtype, Status, Work, dns, look, note
from meta1g.smar.dane import Candidate, candidate
from meta1g.smar.mt import Family, MtEntry
from meta1g.smar.setup import Setup

MAILERTABLE_TTL: Final = 3600  # M1 7.2
NO_REPLY: Final = Reply(0, "", "")
MAP_FAILED: Final = Reply(451, "4.3.0", "temporary failure of a map")
ENTRY_BAD: Final = Reply(451, "4.3.5", "a map entry is wrong")
_GIVEN: Final = DnsAnswer(Status.OK, FOREVER, is_secure=True)  # the mailertable names a host

Host = tuple[Hop, ...]


class Route(NamedTuple):
    """Where mail goes: hosts in groups of equal preference, or the reply that says why not.

    `ttl` is the mailertable's, `expires` DNS's; `is_loop` says that the reply is about this host itself.
    `candidates` are the hosts that may have TLSA records; their port is that of the route.
    """

    protocol: int
    groups: tuple[tuple[Host, ...], ...] = ()
    reply: Reply = NO_REPLY
    ttl: int = MAILERTABLE_TTL
    expires: float = FOREVER
    is_loop: bool = False
    candidates: tuple[Candidate, ...] = ()

    def hops(self, shuffle: "mx.Shuffle[Host]") -> tuple[Hop, ...]:
        """The addresses in the order in which they are to be tried."""
        hosts = mx.shuffled(self.groups, shuffle)
        hops = hosts[0] if len(hosts) == 1 else tuple(hop for host in hosts for hop in host)
        return hops[: mx.HOPS_MAX]

    @property
    def is_random(self) -> bool:
        """Whether `hops` has an order to draw."""
        return any(len(group) > 1 for group in self.groups)

    def seconds(self, now: float) -> int:
        """How long this route may be used."""
        return self.ttl if self.expires == FOREVER else max(0, min(self.ttl, int(self.expires - now)))


def no_route(reply: Reply, expires: float = FOREVER, *, is_loop: bool = False) -> Route:
    """A route that leads nowhere."""
    return Route(Protocol.ESMTP, reply=reply, expires=expires, is_loop=is_loop)


def find_entry(setup: Setup, address: bytes) -> Work[MtEntry | Route | None]:
    """The mailertable's word on an address, None if it has none; a Route only if it cannot be asked."""
    keys = tuple(order.address_keys(address, setup.delimiters, setup.mailertable))
    result = yield from look(MAILERTABLE, keys)
    if isinstance(result, Found):
        try:
            return mt.parse(result.value)
        except mt.MtError as error:
            yield from note(f"mailertable, key={result.key.decode('utf-8', 'replace')}, reason={error}")
            return no_route(ENTRY_BAD)
    if isinstance(result, TempFail | PermFail):
        return no_route(MAP_FAILED)
    return None


def secured(setup: Setup, route: Route) -> Work[tuple[Route, tuple[TlsaSet, ...]]]:
    """A route without the hosts whose TLSA records can't be had, and the records of the others (M1 14.2)."""
    if not route.candidates or setup.dane == dane.NEVER:
        return route, ()
    asked = tuple(one._replace(port=one.port or setup.smtp_port) for one in route.candidates)
    sets, failed, expires = yield from dane.find(setup.dane, asked, route.expires)
    groups = tuple(tuple(host for host in group if host[0].name not in failed) for group in route.groups)
    left = tuple(group for group in groups if group)
    if not left:
        return no_route(dane.unusable(failed), expires), ()
    return route._replace(groups=left, expires=expires), sets


def is_lmtp(entry: MtEntry | None) -> bool:
    """Whether the domain is local (M1 4.3.1)."""
    return entry is not None and entry.protocol != Protocol.ESMTP


def find_route(setup: Setup, address: bytes) -> Work[Route]:
    """The route for an address with a domain."""
    entry = yield from find_entry(setup, address)
    if isinstance(entry, Route):
        return entry
    route = yield from follow(setup, addr.split(address)[1], entry)
    return route


def follow(setup: Setup, domain: bytes, entry: MtEntry | None) -> Work[Route]:
    """The route that an entry, or DNS if there is none, gives for a domain."""
    if entry is not None and (entry.ips or entry.protocol == Protocol.LMTP_UNIX):
        return _fixed(entry)
    if entry is not None and entry.host:
        return (yield from _softened(setup, entry))
    literal = addr.literal_ip(domain)
    if literal is not None:
        return Route(Protocol.ESMTP, (((Hop(entry.port if entry else 0, literal, domain.decode("ascii")),),),))
    name = dns_name(domain)
    if not name:
        return no_route(Reply(550, "5.1.2", "the domain is not a DNS name"))
    family = entry.family if entry is not None and entry.family is not None else setup.family
    return (yield from mx_route(setup, name, family, entry.port if entry else 0))


def dns_name(domain: bytes) -> str:
    """A domain as DNS is asked for it: lower case, internationalised labels as A-labels; empty if it cannot be."""
    name = addr.domain_key(domain)
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode("ascii").lower()  # RFC 6531 3.2, RFC 5891 5
    except idna.IDNAError:
        return ""


def _fixed(entry: MtEntry) -> Route:
    ips = entry.ips
    if entry.family is not None:
        ips = mx.by_family([ip for ip in ips if ":" not in ip], [ip for ip in ips if ":" in ip], entry.family)
    if entry.protocol != Protocol.LMTP_UNIX and not ips:
        return no_route(Reply(451, "4.3.5", "mailertable: IPv_Select leaves no address"))
    groups = tuple(((Hop(entry.port, ip, f"[{ip}]"),),) for ip in ips)
    return Route(entry.protocol, groups)


def _softened(setup: Setup, entry: MtEntry) -> Work[Route]:
    family = entry.family or setup.family
    if entry.has_mx_lookup:
        route = yield from mx_route(setup, entry.host, family, entry.port)
    else:
        route = yield from _addresses(entry.host, [Mx(0, entry.host)], family, entry.port, _GIVEN)
    candidates = route.candidates if entry.protocol == Protocol.ESMTP else ()
    return route._replace(protocol=entry.protocol, reply=route.reply.softened(), candidates=candidates)


def mx_route(setup: Setup, domain: str, family: Family, port: int) -> Work[Route]:
    """The route that DNS gives for a domain."""
    answer = (yield from dns(DnsAsk(domain, Rtype.MX)))[0]
    if answer.status is Status.TEMP:
        return no_route(_dns_failed(domain, answer), answer.expires)
    if answer.status is Status.NXDOMAIN:
        return no_route(Reply(550, "5.1.2", f"domain {domain} does not exist"), answer.expires)
    if not answer.mx:
        named = answer._replace(is_secure=True)  # by the address itself, RFC 5321 5.1
        return (yield from _addresses(domain, [Mx(0, domain)], family, port, named))
    hosts = mx.hosts_of(domain, answer.mx, setup.own_names)
    if isinstance(hosts, mx.NoHosts):
        return no_route(hosts.reply, answer.expires, is_loop=hosts.is_loop)
    return (yield from _addresses(domain, hosts, family, port, answer))


def _addresses(domain: str, hosts: list[Mx], family: Family, port: int, named: DnsAnswer) -> Work[Route]:
    """The route to hosts; `named` says how long and how securely they are known to be the right ones."""
    use_ipv4, use_ipv6 = mx.wants(family)
    asks = [DnsAsk(host.host, Rtype.A) for host in hosts if use_ipv4]
    asks += [DnsAsk(host.host, Rtype.AAAA) for host in hosts if use_ipv6]
    answers = dict(zip(asks, (yield from dns(*asks)), strict=True))
    found, candidates = [], []
    for host in hosts:
        ips = mx.by_family(_ips(answers, host.host, Rtype.A), _ips(answers, host.host, Rtype.AAAA), family)
        if ips:
            found.append((host.preference, tuple(Hop(port, ip, host.host) for ip in ips)))
            of_host = [answer for ask, answer in answers.items() if ask.name == host.host]
            candidates.append(candidate(domain, host.host, port, of_host, is_mx_secure=named.is_secure))
    if found:
        # that a host has no address of the other family does not shorten the route's life
        used = [answer.expires for answer in answers.values() if answer.records or answer.status is Status.TEMP]
        expires = min(named.expires, *used)
        return Route(Protocol.ESMTP, _grouped(found), expires=expires, candidates=tuple(candidates))
    expires = min(named.expires, *[answer.expires for answer in answers.values()])
    failed = [answer for answer in answers.values() if answer.status is Status.TEMP]
    if failed:
        return no_route(_dns_failed(domain, failed[0]), expires)
    return no_route(Reply(550, "5.4.4", f"no mail host of {domain} has an address"), expires)


def _ips(answers: dict[DnsAsk, DnsAnswer], host: str, rtype: int) -> tuple[str, ...]:
    answer = answers.get(DnsAsk(host, rtype))
    return answer.records if answer is not None else ()


def _grouped(found: list[tuple[int, Host]]) -> tuple[tuple[Host, ...], ...]:
    groups: dict[int, list[Host]] = {}
    for preference, host in found:
        groups.setdefault(preference, []).append(host)
    return tuple(tuple(groups[preference]) for preference in sorted(groups))


def _dns_failed(domain: str, answer: DnsAnswer) -> Reply:
    return Reply(451, "4.4.3", f"DNS lookup for {domain} failed: {answer.reason or 'no answer'}")
