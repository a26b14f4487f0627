"""HAProxy's PROXY protocol, versions 1 and 2: who is behind a trusted load balancer; pure.

Rules
    The header comes before anything else. `parse` wants more octets until it is complete; what follows it
    is left. UNKNOWN and LOCAL say nothing: the balancer itself is the client then.
"""
import ipaddress
import struct
from typing import Final, NamedTuple

from meta1g.mta import addr
from meta1g.mta.errors import RemoteProtocolError

HEADER_MAX: Final = 16 + 2048  # octets; version 1 ends at 107, in version 2 extensions follow the addresses
_V1_MAX: Final = 107
_V2_MAGIC: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD: Final = struct.Struct(">12sBBH")
_LENGTHS: Final = {0x11: 4, 0x21: 16}  # family and transport: TCP over IPv4, over IPv6
_FAMILIES: Final = {b"TCP4": 4, b"TCP6": 6}


class Behind(NamedTuple):
    """The client's address, empty if the header says nothing; `rest` follows the header."""

    ip: str
    rest: bytes


def parse(data: bytes) -> Behind | None:
    """The header at the beginning of `data`, None if more octets are needed; RemoteProtocolError if it is none."""
    if data.startswith(_V2_MAGIC):
        return _version_2(data)
    if _V2_MAGIC.startswith(data) or b"PROXY ".startswith(data[:6]):
        end = data.find(b"\r\n", 0, _V1_MAX)
        if data.startswith(b"PROXY ") and end >= 0:
            return Behind(_version_1(data[:end]), data[end + 2:])
        if len(data) < _V1_MAX:
            return None
    raise RemoteProtocolError("no PROXY header")


def _version_1(line: bytes) -> str:
    words = line.split(b" ")
    if len(words) > 1 and words[1] == b"UNKNOWN":
        return ""
    try:
        _, family, source, target, source_port, target_port = words
        ips = [ipaddress.ip_address(ip.decode("ascii")) for ip in (source, target)]
        is_good = family in _FAMILIES and all(ip.version == _FAMILIES[family] for ip in ips)
        if not is_good or not all(port.isdigit() and int(port) < 65536 for port in (source_port, target_port)):
            raise ValueError
    except ValueError:
        raise RemoteProtocolError(f"bad PROXY header {line[:80]!r}") from None
    ip = addr.plain_ip(str(ips[0]))
    if ip is None:
        raise RemoteProtocolError("bad PROXY header, an address has a zone")
    return ip


def _version_2(data: bytes) -> Behind | None:
    if len(data) < _V2_HEAD.size:
        return None
    _, command, kind, length = _V2_HEAD.unpack_from(data)
    end = _V2_HEAD.size + length
    if command not in (0x20, 0x21) or end > HEADER_MAX:
        raise RemoteProtocolError("bad PROXY header of version 2")
    if len(data) < end:
        return None
    size = _LENGTHS.get(kind, 0)
    if command == 0x20 or not size:
        return Behind("", data[end:])
    if length < 2 * size + 4:
        raise RemoteProtocolError("PROXY header of version 2 is too short")
    packed = data[_V2_HEAD.size : _V2_HEAD.size + size]
    return Behind(addr.plain_ip(str(ipaddress.ip_address(packed))) or "", data[end:])
