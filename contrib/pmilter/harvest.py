#!/usr/bin/env python3
"""Refuses clients that try addresses out: too many recipients that do not exist, within some time (M1 15.1.11).

SMTPS tells of recipients that it has refused (RCPT_ST), so nobody else needs to count them. A client that was caught
gets 421 for a while, at once when it connects.
"""
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from meta1g.pmilter import Cap, PolicyMilter, Result, Server, Session, parser, run

CLIENTS_MAX = 100_000  # of whom something is remembered; who was not seen for longest is forgotten first
UNKNOWN = (550, 551, 553)


class Harvest(PolicyMilter):
    """Refuses clients that try addresses out."""

    def __init__(self, most: int = 10, seconds: float = 3600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()  # refusals, and until when they count
        self._lock = threading.Lock()

    def negotiate(self, server: Server) -> bool | None:
        server.wanted.capabilities |= Cap.RCPT_ST
        return None

    def connect(self, session: Session, hostname: str, address: str) -> Result:
        return self._judge(session, self._count(address, 0))

    def rcpt(self, session: Session, recipient: str, params: list[str]) -> Result:
        is_unknown = session.getstatus().code in UNKNOWN
        return self._judge(session, self._count(session.client_address, 1)) if is_unknown else None

    def _judge(self, session: Session, count: int) -> Result:
        if count <= self._most:
            return None
        return session.refuse("421 4.7.1 Too many recipients that do not exist, come back later")

    def _count(self, address: str, more: int) -> int:
        """How many refusals of a client count now, with these."""
        now = self._clock()
        with self._lock:
            count, until = self._seen.pop(address, (0, 0.0))
            count = (count if until > now else 0) + more
            if count:
                self._seen[address] = count, now + self._seconds if more else until
            if len(self._seen) > CLIENTS_MAX:
                self._seen.popitem(last=False)
        return count


if __name__ == "__main__":
    options = parser(Harvest.__doc__ or "", "unix:/run/harvest.sock")
    options.add_argument("--most", type=int, default=10, help="recipients that may be wrong (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=3600.0, help="how long that counts (default: %(default)s)")
    found = options.parse_args()
    raise SystemExit(run(Harvest(found.most, found.seconds), found))
