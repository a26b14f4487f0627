"""A recipient becomes targets: aliases, then a route for each address (M1 3.9.3, 7.2); pure."""
from typing import NamedTuple

from meta1g.mta import addr
from meta1g.mta.dane import TlsaSet
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Hop, Protocol, Target
from meta1g.smar.alias import Member, complete, expand
from meta1g.smar.ask import Work, fork
from meta1g.smar.entry import rcpt_conf
from meta1g.smar.mx import Shuffle
from meta1g.smar.route import Host, Route, find_route, no_route, secured
from meta1g.smar.setup import Setup

Way = tuple[Route, tuple[TlsaSet, ...]]


class Destination(NamedTuple):
    """An address with its route; `sender` replaces the envelope's unless None. `conf` and `dane` are for SMTPC
    (M1 3.11.1, 14.2)."""

    address: bytes
    sender: bytes | None
    route: Route
    is_verp: bool = False
    conf: str = ""
    dane: tuple[TlsaSet, ...] = ()

    def target(self, now: float, shuffle: "Shuffle[Host]") -> Target:
        """The answer for QMGR, with the order of hosts drawn and the rest of the TTL."""
        route = self.route
        hops: tuple[Hop, ...] = route.hops(shuffle)
        reply = route.reply
        return Target(
            route.protocol, route.seconds(now), reply.code, self.sender is not None, self.is_verp, self.address,
            self.sender or b"", reply.estat, reply.text, self.conf, hops, self.dane,
        )


def resolve(setup: Setup, address: bytes, *, is_expanded: bool) -> Work[list[Destination]]:
    """Where mail for a recipient goes. `is_expanded` asks for alias expansion."""
    address = complete(address, setup.hostname)  # RFC 5321 4.1.1.3: postmaster may lack a domain
    members = [Member(address)]
    if is_expanded and setup.has_aliases:
        members = yield from expand(setup, address)
    if len(members) == 1:
        member = members[0]
        way = _refused(member) if member.reply.code else (yield from _way(setup, member.address))
        return [(yield from _destination(setup, member, way))]
    wanted = {_route_key(setup, member.address): member.address for member in members if not member.reply.code}
    ways = yield from fork([_way(setup, one) for one in wanted.values()])
    known = dict(zip(wanted, ways, strict=True))
    found = []
    for member in members:
        way = _refused(member) if member.reply.code else known[_route_key(setup, member.address)]
        found.append((yield from _destination(setup, member, way)))
    return found


def _way(setup: Setup, address: bytes) -> Work[Way]:
    route = yield from find_route(setup, address)
    return (yield from secured(setup, route))


def _refused(member: Member) -> Way:
    return no_route(member.reply), ()


def _destination(setup: Setup, member: Member, way: Way) -> Work[Destination]:
    route, dane = way
    conf = yield from rcpt_conf(setup, b"smtpc_rcpt_conf", member.address, setup.client_conf)
    if isinstance(conf, Reply):
        return Destination(member.address, member.sender, no_route(conf), member.is_verp)
    return Destination(member.address, member.sender, route, member.is_verp, conf, dane)


def _route_key(setup: Setup, address: bytes) -> bytes:
    """What the route depends on: the domain, unless the mailertable knows local parts."""
    if setup.mailertable.has_forms:
        return address.lower()
    return addr.split(address)[1].lower()


def unresolved(address: bytes, route: Route) -> Target:
    """The target of an address that could not be looked at."""
    reply = route.reply
    return Target(Protocol.ESMTP, 0, reply.code, False, False, address, b"", reply.estat, reply.text, "", ())
