"""What limits connections to an address: options, the recipient's domain, the address itself; pure (M1 3.8, 3.8.1).

Rules
    What qmgr_conf says of the address or a net of it comes first, then the section connection_limits for the
    recipient's domain, then what qmgr_conf says for everybody, then the options of section smtpc.
"""
from collections.abc import Mapping
from typing import Final

from meta1g.mta import addr
from meta1g.qmgr.host_conf import HostConf
from meta1g.qmgr.occ import OutLimits

_KNOWN_MAX: Final = 10_000  # pairs of address and section; then they are found out again


class OutRules:
    """Finds the limits of each address; `default` are those of section smtpc, `classes` of connection_limits."""

    def __init__(self, default: OutLimits, classes: Mapping[str, OutLimits], hosts: HostConf) -> None:
        self._hosts = hosts
        self._classes = classes
        self._has_out = hosts.has_out
        self._known: dict[tuple[str, str], OutLimits] = {}
        self.default = _said(default, hosts.for_all)

    def limits(self, ip: str, rcpt: bytes) -> OutLimits:
        """The limits of connections to `ip` for mail to this recipient."""
        if not self._has_out:
            return self.default
        name = self._hosts.limits_for(addr.split(rcpt)[1])
        found = self._known.get((ip, name))
        if found is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            found = self._known[ip, name] = self._find(ip, name)
        return found

    def _find(self, ip: str, name: str) -> OutLimits:
        of_domain = self._classes.get(name)
        base = self.default if of_domain is None else of_domain._replace(
            rate=self.default.rate, timeout=self.default.timeout)
        return _said(base, self._hosts.out(ip))


def _said(base: OutLimits, numbers: tuple[int | None, ...]) -> OutLimits:
    initial, maximum, rate, timeout = numbers
    most = base.maximum if maximum is None else max(maximum, 1)
    return OutLimits(
        min(base.initial if initial is None else max(initial, 1), most), most, base.transactions,
        base.rate if rate is None else rate, base.timeout if timeout is None else float(timeout))
