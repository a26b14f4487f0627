"""RHS grammar of the mailertable (M1 3.9.3); pure.

Rules
    old form         [port "^"] ["esmtp:"] hosts | "lmtp:" | port "^lmtp:" hosts
    structured form  "{" name "=" value ";" ... "}" with protocol, port, host, ip, flags, IPv_Select
    hosts            a host name, or addresses in square brackets with blanks between
    Words and names are recognised without case; the last `;` may be left out; `ip` takes
    one address or a list in braces.
    A host name is subject to MX lookups unless no_MX_lookup is set; for LMTP it never is,
    since it names one server.
"""
import ipaddress
import re
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from meta1g.mta import addr
from meta1g.proto.msg_ar import Protocol

_PROTOCOLS: Final = {"esmtp": Protocol.ESMTP, "lmtp": Protocol.LMTP}
_OLD: Final = re.compile(r"(?:(\d+)\s*\^\s*)?(?:(esmtp|lmtp):)?\s*(.*)", re.IGNORECASE | re.DOTALL)
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\]")
_TOKEN: Final = re.compile(r'\s*(?:([{}=;,])|"([^"]*)"|([^\s{}=;,"]+))')
_NEGATIONS: Final = ("not_", "dont_", "no_", "-", "!", "~")  # M1 8.1.1
_IPS_MAX: Final = 64  # addresses of one entry; more than that is DNS's task
PORT_MAX: Final = 65535


class Family(Enum):
    """Which address families to use, and which first (IPv_Select)."""

    IPV4_ONLY = "ipv4_only"
    IPV4_PREFERRED = "ipv4_preferred"
    IPV6_ONLY = "ipv6_only"
    IPV6_PREFERRED = "ipv6_preferred"


class MtEntry(NamedTuple):
    """Where the mailertable sends mail: to `ips`, else to `host`, else by MX records of the domain itself.

    `port` 0 is the client's default, `family` None the resolver's.
    """

    protocol: int
    port: int = 0
    host: str = ""
    ips: tuple[str, ...] = ()
    has_mx_lookup: bool = True
    family: Family | None = None


class MtError(ValueError):
    """The RHS breaks the grammar; the text says how."""


@lru_cache(maxsize=4096)
def parse(rhs: bytes) -> MtEntry:
    """The entry in an RHS; MtError if there is none."""
    text = rhs.decode("utf-8", "replace").strip()
    if not text:
        raise MtError("the value is missing")
    return _structured(text) if text.startswith("{") else _old(text)


def complaint(rhs: bytes) -> str:
    """What is wrong with an RHS, empty if nothing."""
    try:
        parse(rhs)
    except MtError as error:
        return str(error)
    return ""


def _old(text: str) -> MtEntry:
    match = _OLD.fullmatch(text)
    if match is None:
        raise MtError(f"not a mailertable value: {text}")
    port = _port(match[1]) if match[1] else 0
    protocol = _PROTOCOLS[(match[2] or "esmtp").lower()]
    hosts = match[3].strip()
    if protocol == Protocol.LMTP:
        if not hosts and not port:
            return MtEntry(Protocol.LMTP_UNIX, has_mx_lookup=False)
        if not hosts or not port:
            raise MtError("lmtp needs a port and a host, or neither: `lmtp:` or `port^lmtp:host`")
    if not hosts:
        raise MtError("a host name or [address] is missing")
    has_mx_lookup = protocol == Protocol.ESMTP
    if hosts.startswith("["):
        return MtEntry(protocol, port, ips=_ip_list(hosts), has_mx_lookup=has_mx_lookup)
    return MtEntry(protocol, port, _host(hosts), has_mx_lookup=has_mx_lookup)


def _ip_list(text: str) -> tuple[str, ...]:
    rest = _BRACKETED.sub("", text).strip()
    if rest:
        raise MtError(f"unexpected `{rest}` in a list of addresses: each must stand in square brackets")
    return _ips(_BRACKETED.findall(text))


def _ips(texts: list[str]) -> tuple[str, ...]:
    if not texts:
        raise MtError("the list of addresses is empty")
    if len(texts) > _IPS_MAX:
        raise MtError(f"more than {_IPS_MAX} addresses")
    return tuple(_ip(text) for text in texts)


def _ip(text: str) -> str:
    plain = text.strip().strip("[]")
    if plain[:5].lower() == "ipv6:":
        plain = plain[5:]
    try:
        return str(ipaddress.ip_address(plain))
    except ValueError:
        raise MtError(f"not an IP address: `{text.strip()}`") from None


def _host(text: str) -> str:
    name = text.rstrip(".").lower()
    if not addr.is_domain(name.encode("utf-8")) or name.startswith("["):
        raise MtError(f"not a host name: `{text}`")
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return name
    raise MtError(f"an address must stand in square brackets: [{name}]")


def _port(text: str) -> int:
    if text.isdecimal() and text.isascii() and 0 < int(text) <= PORT_MAX:
        return int(text)
    raise MtError(f"not a port (1 to {PORT_MAX}): `{text}`")


def _structured(text: str) -> MtEntry:
    fields = dict(_fields(list(_tokens(text))))
    word = _single(fields, "protocol") or "esmtp"
    if word.lower() not in _PROTOCOLS:
        raise MtError(f"protocol must be esmtp or lmtp, not `{word}`")
    protocol = _PROTOCOLS[word.lower()]
    port_text, host_text = _single(fields, "port"), _single(fields, "host")
    entry = MtEntry(
        protocol,
        _port(port_text) if port_text else 0,
        _host(host_text) if host_text and not host_text.startswith("[") else "",
        _ips(fields["ip"]) if "ip" in fields else _ip_list(host_text) if host_text.startswith("[") else (),
        _has_mx_lookup(fields.get("flags", [])) and protocol == Protocol.ESMTP,
        _family(_single(fields, "ipv_select")),
    )
    if "ip" in fields and host_text:
        raise MtError("give host or ip, not both")
    return _check_structured(entry, fields)


def _check_structured(entry: MtEntry, fields: dict[str, list[str]]) -> MtEntry:
    has_target = bool(entry.host or entry.ips)
    if entry.protocol == Protocol.LMTP:
        if "flags" in fields:
            raise MtError("flags do not apply to lmtp")
        if not has_target and not entry.port:
            return entry._replace(protocol=Protocol.LMTP_UNIX)
        if not has_target or not entry.port:
            raise MtError("lmtp needs a port and a host, or neither")
    elif not has_target and entry.family is None:
        raise MtError("host or ip is missing")
    return entry


def _tokens(text: str) -> Iterator[str]:
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise MtError(f"cannot read `{text[at:at + 20]}`")
        yield match[1] or match[2] or match[3] or ""
        at = match.end()


def _fields(tokens: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Name and values of each `name = value;`."""
    if tokens[0] != "{" or tokens[-1] != "}":
        raise MtError("a structured value ends with }")
    at, end, seen = 1, len(tokens) - 1, set()
    while at < end:
        name = tokens[at].lower()
        if name == ";":
            at += 1
            continue
        if name not in ("protocol", "port", "host", "ip", "flags", "ipv_select"):
            raise MtError(f"unknown field `{tokens[at]}`: protocol, port, host, ip, flags and IPv_Select are known")
        if name in seen:
            raise MtError(f"{name} is given twice")
        if at + 1 >= end or tokens[at + 1] != "=":
            raise MtError(f"= is missing after {tokens[at]}")
        seen.add(name)
        values, at = _values(tokens, at + 2, end, name)
        yield name, values


def _values(tokens: list[str], at: int, end: int, name: str) -> tuple[list[str], int]:
    if at < end and tokens[at] == "{":
        close = tokens.index("}", at)
        if close >= end:
            raise MtError(f"}} is missing after the list of {name}")
        values = [token for token in tokens[at + 1:close] if token != ","]
        if any(token in "{=;" for token in values):
            raise MtError(f"values of {name} are separated by commas")
        return values, close + 1
    if at >= end or tokens[at] in ("}", "=", ";", ",", "") or tokens[at + 1] not in (";", "}"):
        raise MtError(f"{name} needs one value and a semicolon")
    return [tokens[at]], at + 1


def _single(fields: dict[str, list[str]], name: str) -> str:
    values = fields.get(name)
    if values is None:
        return ""
    if len(values) != 1:
        raise MtError(f"{name} takes one value")
    return values[0]


def _has_mx_lookup(flags: list[str]) -> bool:
    found = True
    for flag in flags:
        word, is_set = flag.lower(), True
        for prefix in _NEGATIONS:
            if word.startswith(prefix):
                word, is_set = word[len(prefix):], False
                break
        if word != "mx_lookup":
            raise MtError(f"unknown flag `{flag}`: MX_lookup and no_MX_lookup are known")
        found = is_set
    return found


def _family(text: str) -> Family | None:
    if not text:
        return None
    try:
        return Family(text.lower())
    except ValueError:
        known = "IPv4_Only, IPv4_Preferred, IPv6_Only, IPv6_Preferred"
        raise MtError(f"IPv_Select must be one of {known}, not `{text}`") from None
