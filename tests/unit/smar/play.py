"""Plays maps and DNS for a decision, from tables; no threads, no sockets."""
from collections.abc import Mapping
from typing import Any

from meta1g.maps.map import NOT_FOUND, Found, TempFail
from meta1g.maps.order import Order
from meta1g.smar.ask import TYPE_NAMES, DnsAnswer, DnsAsk, DnsAsks, Fork, MapAsk, Mx, Note, Rtype, Status, Work
from meta1g.smar.setup import Setup

TYPES = {name: number for number, name in TYPE_NAMES.items()}
SETUP = Setup(hostname=b"host.my.dom", own_names=frozenset({"host.my.dom"}), has_aliases=True)
EXPIRES = 1000.0


class Play:
    """`maps` by role, `dns` by "name TYPE": records, `temp`, `refused`, `nx`, `` for no data, or a whole answer."""

    def __init__(self, maps: Mapping[str, Any] | None = None, dns: Mapping[str, Any] | None = None) -> None:
        self.maps = dict(maps or {})
        self.dns = dict(dns or {})
        self.notes: list[str] = []
        self.asked: list[DnsAsk] = []

    def run(self, work: Work[Any]) -> Any:
        value: Any = None
        try:
            while True:
                value = self.answer(work.send(value))
        except StopIteration as stop:
            return stop.value

    def answer(self, ask: Any) -> Any:
        if isinstance(ask, MapAsk):
            return self.look(ask)
        if isinstance(ask, DnsAsks):
            return [self.name(one) for one in ask.asks]
        if isinstance(ask, Fork):
            return [self.run(work) for work in ask.works]
        assert isinstance(ask, Note)
        self.notes.append(ask.text)
        return None

    def look(self, ask: MapAsk) -> Any:
        entries = self.maps.get(ask.role, {})
        if entries == "temp":
            return TempFail("broken")
        for key in ask.keys:
            if key in entries:
                return Found(key, entries[key])
        return NOT_FOUND

    def name(self, ask: DnsAsk) -> DnsAnswer:
        self.asked.append(ask)
        records = self.dns.get(f"{ask.name} {TYPE_NAMES[ask.rtype]}", "")
        if isinstance(records, DnsAnswer):
            return records
        if records == "temp":
            return DnsAnswer(Status.TEMP, 5.0, reason="timeout")
        if records == "refused":
            return DnsAnswer(Status.TEMP, 5.0, reason="REFUSED", is_refused=True)
        if records == "nx":
            return DnsAnswer(Status.NXDOMAIN, EXPIRES)
        if not records:
            return DnsAnswer(Status.NODATA, EXPIRES)
        if ask.rtype == Rtype.MX:
            return DnsAnswer(Status.OK, EXPIRES, mx=tuple(Mx(*record) for record in records))
        return DnsAnswer(Status.OK, EXPIRES, tuple(records.split()))


def keep_order(items: list[Any]) -> None:
    """A shuffle that does nothing."""


__all__ = ["EXPIRES", "SETUP", "Order", "Play", "keep_order"]
