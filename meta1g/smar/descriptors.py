"""How many descriptors SMAR may have open, and how many of them are left for clients (M1 8.4 item 2).

Rules
    `fds_max` becomes the process's limit; what SMAR itself may need comes off, the rest is
    for clients. A limit that leaves less than CLIENTS_MIN is raised: without SMTPS and QMGR
    at its socket SMAR is of no use.
"""
import os
import resource
from typing import Final, NamedTuple

from meta1g.maps.m_socket import IDLE_MAX
from meta1g.smar.engine import SLOW_THREADS
from meta1g.smar.upstream import LANES

CLIENTS_MIN: Final = 8  # QMGR, SMTPC, a few SMTPS, a tool that asks for statistics
_SPARE: Final = 8  # maps and the log while they are opened anew, and a client that is being refused


class Descriptors(NamedTuple):
    """The limit to set, and how many clients it leaves room for."""

    limit: int
    clients: int


def needed(open_now: int, nameservers: int, slow_maps: int) -> int:
    """Descriptors that SMAR may need for itself: what is open, sockets to nameservers, connections of socket maps."""
    sockets = nameservers * (2 * LANES + 1)  # UDP in use, UDP whose answers are awaited, TCP
    return open_now + sockets + slow_maps * (SLOW_THREADS + IDLE_MAX) + _SPARE


def divide(fds_max: int, own: int, hard: int) -> Descriptors:
    """What to do with `fds_max` when SMAR needs `own`, and the system allows `hard`."""
    limit = max(fds_max, own + CLIENTS_MIN)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    return Descriptors(limit, max(1, limit - own))


def open_now() -> int:
    """Descriptors that are open."""
    return len(os.listdir("/proc/self/fd"))


def apply(fds_max: int, own: int) -> Descriptors:
    """Set this process's limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    found = divide(fds_max, own, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (found.limit, hard))
    return found
