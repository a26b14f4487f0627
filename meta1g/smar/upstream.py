"""The nameservers that are asked: their sockets, their health, and which one comes next.

Rules
    The first of the list that is healthy is asked; a question's next try goes to the next one.
    One that missed DEAD_AFTER answers in a row is dead for DEAD_TIME: asked last. Then one
    question alone tries it, so that a server which stays silent delays one question in that
    time and not all that come before its timeout. Any answer makes it healthy.
"""
import random
import socket
from typing import Final

from meta1g.smar.lane import TcpLane, UdpLane

LANES: Final = 8  # sockets, thus random ports, per nameserver at a time
LANE_QUERIES: Final = 5000  # a socket is closed after so many queries and another port taken
DEAD_AFTER: Final = 3  # answers missed in a row until a nameserver is asked last
DEAD_TIME: Final = 10.0  # seconds until it is tried again


class Upstream:
    """A nameserver with its sockets and its health.

    `is_trusted`: its AD bit is believed (RFC 4035 4.9.3: only over a path that nobody else can write to).
    """

    def __init__(self, address: tuple[str, int], *, is_trusted: bool) -> None:
        self.address = address
        self.is_trusted = is_trusted
        self.family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.lanes: list[UdpLane] = []
        self.tcp: TcpLane | None = None
        self.missed = 0
        self.dead_until = 0.0

    def miss(self, now: float) -> None:
        """An answer did not come."""
        self.missed += 1
        if self.missed >= DEAD_AFTER:
            self.dead_until = now + DEAD_TIME

    def answered(self) -> None:
        """An answer came: it is healthy."""
        self.missed, self.dead_until = 0, 0.0

    def fresh_lanes(self) -> list[UdpLane]:
        """Sockets that may take another query."""
        return [lane for lane in self.lanes if lane.used < LANE_QUERIES and not lane.is_full]

    def used_up_lanes(self) -> list[UdpLane]:
        """Sockets that are to be closed."""
        return [lane for lane in self.lanes if lane.used >= LANE_QUERIES and not lane.waiting]


def pick(upstreams: list[Upstream], last: int, now: float) -> int:
    """Which nameserver to ask after number `last` (-1 for none): the next healthy one, or the next if none is."""
    count = len(upstreams)
    best = first = (last + 1) % count
    while upstreams[best].dead_until > now:
        best = (best + 1) % count
        if best == first:
            break
    if upstreams[best].missed >= DEAD_AFTER:
        upstreams[best].dead_until = now + DEAD_TIME  # this question tries it, others need not wait for that
    return best


def draw_lane(lanes: list[UdpLane], rng: random.Random) -> UdpLane | None:
    """One of enough sockets at random; None if another should be opened first."""
    return rng.choice(lanes) if len(lanes) >= LANES else None
