"""A recipient becomes targets: aliases, then a route for each address (M1 3.9.3, 7.2); pure."""
from typing import NamedTuple

from meta1g.mta import addr
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Hop, Protocol, Target
from meta1g.smar.alias import Member, complete, expand
from meta1g.smar.ask import Work, fork
from meta1g.smar.entry import rcpt_conf
from meta1g.smar.mx import Shuffle
from meta1g.smar.route import Host, Route, find_route, no_route
from meta1g.smar.setup import Setup


class Destination(NamedTuple):
    """An address with its route; `sender` replaces the envelope's unless None. `conf` is for SMTPC (M1 3.11.1)."""

    address: bytes
    sender: bytes | None
    route: Route
    is_verp: bool = False
    conf: str = ""

    def target(self, now: float, shuffle: "Shuffle[Host]") -> Target:
        """The answer for QMGR, with the order of hosts drawn and the rest of the TTL."""
        route = self.route
        hops: tuple[Hop, ...] = route.hops(shuffle)
        reply = route.reply
        return Target(
            route.protocol, route.seconds(now), reply.code, self.sender is not None, self.is_verp, self.address,
            self.sender or b"", reply.estat, reply.text, self.conf, hops,
        )


def resolve(setup: Setup, address: bytes, *, is_expanded: bool) -> Work[list[Destination]]:
    """Where mail for a recipient goes. `is_expanded` asks for alias expansion."""
    address = complete(address, setup.hostname)  # RFC 5321 4.1.1.3: postmaster may lack a domain
    members = [Member(address)]
    if is_expanded and setup.has_aliases:
        members = yield from expand(setup, address)
    if len(members) == 1:
        member = members[0]
        route = no_route(member.reply) if member.reply.code else (yield from find_route(setup, member.address))
        return [(yield from _destination(setup, member, route))]
    wanted = {_route_key(setup, member.address): member.address for member in members if not member.reply.code}
    routes = yield from fork([find_route(setup, one) for one in wanted.values()])
    known = dict(zip(wanted, routes, strict=True))
    found = []
    for member in members:
        route = no_route(member.reply) if member.reply.code else known[_route_key(setup, member.address)]
        found.append((yield from _destination(setup, member, route)))
    return found


def _destination(setup: Setup, member: Member, route: Route) -> Work[Destination]:
    conf = yield from rcpt_conf(setup, b"smtpc_rcpt_conf", member.address)
    if isinstance(conf, Reply):
        route, conf = no_route(conf), ""
    return Destination(member.address, member.sender, route, member.is_verp, conf)


def _route_key(setup: Setup, address: bytes) -> bytes:
    """What the route depends on: the domain, unless the mailertable knows local parts."""
    if setup.mailertable.has_forms:
        return address.lower()
    return addr.split(address)[1].lower()


def unresolved(address: bytes, route: Route) -> Target:
    """The target of an address that could not be looked at."""
    reply = route.reply
    return Target(Protocol.ESMTP, 0, reply.code, False, False, address, b"", reply.estat, reply.text, "", ())
