"""A changed configuration, or configuration map, that QMGR takes up while it runs; pure (M1 4.8)."""
from collections.abc import Callable
from typing import Final, NamedTuple

from meta1g.mta.logfmt import fields
from meta1g.proto.msg_ss import Names
from meta1g.qmgr import sched
from meta1g.qmgr.effects import Effect, LogLine, Tell
from meta1g.qmgr.host_conf import HostConf
from meta1g.qmgr.state import Qmgr, Settings

AT_START: Final = frozenset({  # options of section qmgr, and subsections, that count from the start on only
    "control_socket", "DEFEDB", "IBDB", "fds_max", "log"})


class Configured(NamedTuple):
    """The configuration, perhaps another one, and the configuration map as it was read now; options `late` wait for the
    next start."""

    settings: Settings
    hosts: HostConf
    late: tuple[str, ...]


Reload = Callable[[], Configured | None]  # None if the map can't be read


def on_configured(q: Qmgr, item: Configured, now: float, out: list[Effect]) -> None:
    """Decide by it from now on; sessions that idle were opened by another one."""
    q.settings = item.settings
    q.take_hosts(item.hosts)
    q.reloads, q.late, q.maps_changed = q.reloads + 1, item.late, now
    for number in list(q.idle):
        sched.close_session(q, q.sessions[number], out)
    sched.wake_all(q)
    out += [Tell(server, Names(q.hosts.wants_names)) for server in q.smtps]
    out.append(LogLine(1, fields(func="qmgr", status="reloaded", after_restart=" ".join(item.late) or None)))
