"""TLSA records, and what a server must show because of them (RFC 6698, RFC 7672); pure."""
from typing import NamedTuple


class Tlsa(NamedTuple):
    """One TLSA record (RFC 6698 2.1): numbers as on the wire, `data` in octets."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        """As in a zone file (RFC 6698 2.2)."""
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"


class TlsaSet(NamedTuple):
    """The TLSA records of one host of a route, which is to be judged by them.

    `host` and `port` are the host's in the route. `base` is the TLSA base domain (RFC 7672 2.2.3), `domain` the
    next-hop domain: a certificate that a trust anchor vouches for must have one of both names (RFC 7672 3.2.2).
    `is_secure`: DNSSEC confirms all of it.
    """

    port: int
    is_secure: bool
    host: str
    base: str
    domain: str
    records: tuple[Tlsa, ...]
