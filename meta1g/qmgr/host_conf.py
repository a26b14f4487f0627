"""QMGR's configuration map: limits for single hosts and nets, and what else is said of them (M1 3.8.1); pure.

Rules
    A key is a tag and an IP address, a net that ends in its separator, or nothing, which stands for
    everybody; for `icl:` and `icc:` a host name, and for `smtpc_conf_rcpt_domain:` a domain, or a parent of it
    with a leading dot (M1 3.12.1); for `smtpc_conf_mail:` an address or a domain.
    The map is held in memory: it is read at start and when QMGR is told to.
    Where both the address and the name of a client have a limit the lower one counts.
"""
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from meta1g.conf import kinds
from meta1g.conf.errors import nearest
from meta1g.conf.opt_tls import ServerEntry, TlsRequirements
from meta1g.conf.parse import parse
from meta1g.conf.spec import bind, opt
from meta1g.maps import order
from meta1g.mta import addr

T = TypeVar("T")
ENTRIES_MAX: Final = 100_000  # more hosts than anybody lists by hand: 20 MB
_BY_NAME: Final = (b"icl", b"icc")
_OUT: Final = (b"oci", b"ocm", b"ocr", b"octo")
_NUMBERS: Final = frozenset((b"icr", b"icm", *_BY_NAME, *_OUT))
WRONG: Final = "\0"  # in place of a name: the entry has a mistake


@dataclass(frozen=True)
class _Limits:
    value: str = opt("connection_limits", kinds.STRING, "", m1="3.8(16.6)", help="a section connection_limits",
                     required=True)


@dataclass(frozen=True)
class _Source:
    value: str = opt("source", kinds.STRING, "", m1="3.8(16.9)", help="a section source", required=True)


_NAMING: Final[dict[bytes, Any]] = {
    b"smtpc_conf_rcpt_domain": _Limits, b"smtpc_conf_cltaddr": _Source, b"smtpc_conf_mail": _Source,
}
_SESSION: Final = b"smtpc_session_conf"


class OutNumbers(NamedTuple):
    """Limits of connections to one address, None where nothing is said; `for_all` has those of everybody."""

    initial: int | None = None  # oci:
    maximum: int | None = None  # ocm:
    rate: int | None = None  # ocr:, connections a minute
    timeout: int | None = None  # octo:, seconds


class SessionConf(NamedTuple):
    """What an entry says of sessions with a server: their class of features, WRONG if it has a mistake, and the whole
    text if it has requirements on TLS (M1 3.11.1)."""

    feature: str = ""
    conf: str = ""


class HostConf:
    """The entries; what has a mistake is named in `wrong` and does not count, except for sessions with a server.

    `limits`, `sources` and `features` are the sections that entries may name.
    """

    def __init__(self, entries: Mapping[bytes, bytes], limits: Collection[str] = (), sources: Collection[str] = (),
                 features: Collection[str] = ()) -> None:
        self._numbers: dict[bytes, int] = {}
        self._names: dict[bytes, str] = {}
        self._sections = {_Limits: limits, _Source: sources}
        self._features = features
        self._sessions: dict[bytes, SessionConf] = {}
        self.wrong: list[str] = []
        for key, value in entries.items():
            tag, _, argument = key.lower().partition(b":")  # createmap leaves a colon at the end out
            if tag in _NUMBERS:
                self._add_number(tag + b":" + argument, value)
            elif tag in _NAMING:
                self._add_name(tag, tag + b":" + argument, value)
            elif tag == _SESSION:
                self._add_session(tag + b":" + argument, value)
        self._tags = frozenset(key.partition(b":")[0] for key in (*self._numbers, *self._names, *self._sessions))
        self.for_all = self._out(())

    @property
    def wants_names(self) -> bool:
        """Whether limits depend on the names of clients."""
        return any(tag in self._tags for tag in _BY_NAME)

    @property
    def has_out(self) -> bool:
        """Whether something is said of single servers or recipients' domains."""
        return any(tag in self._tags for tag in (*_OUT, b"smtpc_conf_rcpt_domain"))

    def in_rate(self, ip: str, name: str, default: int) -> int:
        """Connections a minute that a client may make (icr:, icl:)."""
        return self._lower(b"icr", b"icl", ip, name, default)

    def in_open(self, ip: str, name: str, default: int) -> int:
        """Connections that a client may have open (icm:, icc:)."""
        return self._lower(b"icm", b"icc", ip, name, default)

    def out(self, ip: str) -> OutNumbers:
        """What entries for this server or a net of it say."""
        return self._out(order.client_parts(ip))

    def limits_for(self, domain: bytes) -> str:
        """The section connection_limits for recipients in a domain, empty for none."""
        return self._name(b"smtpc_conf_rcpt_domain", order.domain_parts(domain))

    def source_of(self, client_ip: str, mail: bytes) -> str:
        """The section source for mail of this sender, or that came from this client; empty for none."""
        if not self._tags.isdisjoint((b"smtpc_conf_mail", b"smtpc_conf_cltaddr")):
            parts = (mail.lower(), *order.domain_parts(addr.split(mail)[1])) if mail else ()
            return self._name(b"smtpc_conf_mail", parts) or self._name(
                b"smtpc_conf_cltaddr", (*order.client_parts(client_ip), b""))
        return ""

    def session_of(self, ip: str) -> SessionConf:
        """What is said of sessions with a server."""
        return self._find(self._sessions, _SESSION, (*order.client_parts(ip), b"")) or SessionConf()

    def _add_number(self, key: bytes, value: bytes) -> None:
        if value.strip().isdigit():
            self._numbers[key] = int(value)
        else:
            self._is_wrong(key, value, "not a number")

    def _add_name(self, tag: bytes, key: bytes, value: bytes) -> None:
        cls = _NAMING[tag]
        root, errors = parse(value.decode("utf-8", "replace"), tag.decode("ascii"))
        name: str = bind(cls, root, errors).value
        known = self._sections[cls]
        if errors:
            self._is_wrong(key, value, errors[0].message)
        elif name not in known:
            self._is_wrong(key, value, f"there is no section {name} {nearest(name, known)}".rstrip())
        else:
            self._names[key] = name

    def _add_session(self, key: bytes, value: bytes) -> None:
        text = value.decode("utf-8", "replace")
        root, errors = parse(text, _SESSION.decode("ascii"))
        conf = bind(ServerEntry, root, errors)
        self._sessions[key] = SessionConf(WRONG)
        if errors:
            self._is_wrong(key, value, errors[0].message)
        elif conf.session_feature not in ("", *self._features):
            hint = nearest(conf.session_feature, self._features)
            self._is_wrong(key, value, f"there is no section {conf.session_feature} {hint}".rstrip())
        else:
            required = conf.tls_requirements != TlsRequirements()
            self._sessions[key] = SessionConf(conf.session_feature, text if required else "")

    def _is_wrong(self, key: bytes, value: bytes, why: str) -> None:
        self.wrong.append(f"{key.decode('utf-8', 'replace')} {value.decode('utf-8', 'replace')}: {why}")

    def _out(self, parts: tuple[bytes, ...]) -> OutNumbers:
        return OutNumbers(*(self._first(tag, parts or (b"",)) for tag in _OUT))

    def _lower(self, by_ip: bytes, by_name: bytes, ip: str, name: str, default: int) -> int:
        if by_ip not in self._tags and by_name not in self._tags:
            return default
        found = [self._first(by_ip, (*order.client_parts(ip), b"")), self._first(by_name, _name_parts(name))]
        return min([limit for limit in found if limit is not None], default=default)

    def _first(self, tag: bytes, parts: Iterable[bytes]) -> int | None:
        return self._find(self._numbers, tag, parts)

    def _name(self, tag: bytes, parts: Iterable[bytes]) -> str:
        return self._find(self._names, tag, parts) or ""

    def _find(self, entries: Mapping[bytes, T], tag: bytes, parts: Iterable[bytes]) -> T | None:
        if tag in self._tags:
            for part in parts:
                found = entries.get(tag + b":" + part)
                if found is not None:
                    return found
        return None


def _name_parts(name: str) -> tuple[bytes, ...]:
    return order.domain_parts(name.rstrip(".").encode("utf-8", "replace")) if name else ()
