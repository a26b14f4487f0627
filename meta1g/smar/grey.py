"""Greylisting: who is unknown, greylisted or whitelisted (M1 3.9.4); pure.

States
    unknown      not in the database, or what is there does not count any more
    greylisted   seen once; comes back between grey_wait and grey_expire: whitelisted
    whitelisted  may pass, and counts from its last mail; after white_timeout it is unknown

Rules
    Times are seconds since 1970. A clock that was set back makes nobody wait longer than before.
    A greylisted entry has expired after grey_expire, a whitelisted one after white_expire: only
    then may the database drop it.
"""
import hashlib
import ipaddress
from typing import Final, NamedTuple

KEY_MAX: Final = 512  # octets; longer keys are hashed: an address has at most 254 (RFC 5321 4.5.3.1.3)
IPV6_PREFIX: Final = 64  # bits: a host may take any address of its /64 (RFC 7084 does so each day); Postgrey too
_REFRESH: Final = 60.0  # seconds: a whitelisted entry is written again only if it is older than that


class Limits(NamedTuple):
    """The options of M1 3.9.2 item 6: times in seconds, `entries` is expire_limit."""

    grey_wait: float
    grey_expire: float
    white_expire: float
    white_timeout: float
    entries: int
    netmask: int = 0xFFFFFFFF


class Entry(NamedTuple):
    """What is known of a key: greylisted when it was first seen, or whitelisted when it last sent mail."""

    is_white: bool
    since: float

    def expires(self, limits: Limits) -> float:
        """When the database may drop it."""
        return self.since + (limits.white_expire if self.is_white else limits.grey_expire)


class Judgement(NamedTuple):
    """Whether mail may pass, why, and what is to be written (None: nothing)."""

    may_pass: bool
    state: str
    write: Entry | None


def judge(entry: Entry | None, now: float, limits: Limits) -> Judgement:
    """What becomes of mail that comes now from who has this entry."""
    age = 0.0 if entry is None else max(now - entry.since, 0.0)
    if entry is not None and entry.is_white and age <= limits.white_timeout:
        return Judgement(True, "whitelisted", Entry(True, now) if age >= _REFRESH else None)
    if entry is not None and not entry.is_white and age <= limits.grey_expire:
        if age >= limits.grey_wait:
            return Judgement(True, "confirmed", Entry(True, now))
        return Judgement(False, "greylisted", None)
    return Judgement(False, "unknown" if entry is None else "expired", Entry(False, now))


def key_of(client_ip: str, mail: bytes, address: bytes, *, is_full: bool, netmask: int) -> bytes:
    """The key for a client, with sender and recipient in full greylisting; ValueError if `client_ip` is no address."""
    client = _net(client_ip, netmask)
    if not is_full:
        return client
    key = b"\0".join((client, mail.lower(), address.lower()))
    return key if len(key) <= KEY_MAX else client + b"\0#" + hashlib.sha256(key).digest()


def _net(client_ip: str, netmask: int) -> bytes:
    ip = ipaddress.ip_address(client_ip)
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.version == 4:
        return str(ipaddress.IPv4Address(int(ip) & netmask)).encode("ascii")
    return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False).network_address).encode("ascii")
