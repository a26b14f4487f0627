"""What all sessions of one SMTP server share."""
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meta1g.mta.reply import Reply
from meta1g.proc.log import Log
from meta1g.proto.smtp.options import ServerOptions
from meta1g.proto.smtp.tally import TallyLimits
from meta1g.smtps.behind import Gate
from meta1g.smtps.check import Checks
from meta1g.smtps.counts import Counts
from meta1g.smtps.filter import FilterServer
from meta1g.smtps.incoming import Store
from meta1g.smtps.peers import Ids, Qmgr, Smar
from meta1g.smtps.policy import PolicyFlags
from meta1g.smtps.session_conf import Features
from meta1g.smtps.signing import Signing
from meta1g.smtps.trace import DateClock
from meta1g.st.netfd import NetFd

if TYPE_CHECKING:
    from meta1g.smtps.auth import Auth
    from meta1g.tls.ends import ServerEnd

Net = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True)
class Setting:
    """Configuration, peers and store; times in seconds, `data_rate_min` in octets a second, `greeting` complete
    with CRLF.

    `is_stopping` and `refusal`, what new transactions are told, change while the process runs.
    """

    options: ServerOptions
    tally_limits: TallyLimits
    policy_flags: PolicyFlags
    greeting: bytes
    io_timeout: float
    hops_max: int
    allows_early_data: bool
    log: Log
    ids: Ids
    qmgr: Qmgr
    smar: Smar
    store: Store
    session_time_max: float = 0.0
    data_rate_min: float = 0.0
    proxies: tuple[Net, ...] = ()  # they send a PROXY header first
    gate: Gate | None = None  # of smtpp
    xclient_peers: tuple[Net, ...] = ()
    vrfy: str = "cautious"
    classes: Mapping[str, Features] = field(default_factory=dict)  # of session_features
    tls: "ServerEnd | None" = None
    is_tls_first: bool = False  # before the greeting (RFC 8314)
    tls_violation: str = "permfail"  # of requirements, unless they say so themselves
    auth: "Auth | None" = None
    signing: Signing | None = None
    checks: Checks = field(default_factory=dict)
    dates: DateClock = field(default_factory=DateClock)
    is_stopping: bool = False
    refusal: Reply | None = None
    name: str = ""  # of the section
    filters: tuple[FilterServer, ...] = ()
    counts: Counts = field(default_factory=Counts)


def client_ip_of(netfd: NetFd) -> str:
    """The address of who connected, `local` for a Unix socket."""
    peer = netfd.peer
    if not isinstance(peer, tuple):
        return "local"
    ip = str(peer[0])
    return ip[7:] if ip.startswith("::ffff:") and "." in ip else ip


def is_in(ip: str, nets: tuple[Net, ...]) -> bool:
    """Whether an address belongs to one of these nets; a Unix socket's client (`local`) to none."""
    if not nets:
        return False
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(address in net for net in nets)


def greeting_octets(text: str, hostname: str, version: str) -> bytes:
    """The greeting of M1 3.10 item 5: verbatim if it begins with 220 and ends in CRLF, else completed."""
    if text.startswith("220") and text.endswith("\r\n"):
        return text.encode("utf-8", "replace")
    text = text or f"ESMTP meta1g-{version}"
    text = text.removesuffix("\r\n")
    mark = "-" if "\r\n" in text else " "  # a multi-line text brings its own codes from the second line on
    return f"220{mark}{hostname} {text.removeprefix(' ')}\r\n".encode("utf-8", "replace")
