"""A changed configuration that QMGR takes up while it runs; pure."""
from typing import Final, NamedTuple

from meta1g.mta.logfmt import fields
from meta1g.qmgr import sched
from meta1g.qmgr.effects import Effect, LogLine
from meta1g.qmgr.host_conf import HostConf
from meta1g.qmgr.state import Qmgr, Settings

AT_START: Final = frozenset({  # options of section qmgr, and subsections, that count from the start on only
    "control_socket", "DEFEDB", "IBDB", "fds_max", "log"})


class Configured(NamedTuple):
    """The configuration is another, and the configuration map was read; options `late` wait for the next start."""

    settings: Settings
    hosts: HostConf
    late: tuple[str, ...]


def on_configured(q: Qmgr, item: Configured, now: float, out: list[Effect]) -> None:
    """Decide by it from now on."""
    q.settings = item.settings
    q.take_hosts(item.hosts)
    q.reloads, q.late, q.maps_changed = q.reloads + 1, item.late, now
    sched.wake_all(q)
    out.append(LogLine(1, fields(func="qmgr", status="reloaded", after_restart=" ".join(item.late) or None)))
