"""Macro replacement in the RHS of an entry (M1 3.12.3); pure.

Rules
    `${name}` stands for user, detail, domain, tag, delimiter, subdomain or extension of
    the address that was looked up. `subdomain` is what a key with a leading dot in its
    domain left open; `extension` is delimiter and detail. Other names stay as written.
"""
import re
from typing import Final

from meta1g.mta import addr

_MACRO: Final = re.compile(rb"\$\{([A-Za-z]+)\}")


def replace(rhs: bytes, address: bytes, key: bytes, *, delimiters: bytes, tag: bytes = b"") -> bytes:
    """`rhs` with its macros replaced; `key` is the key that matched `address`."""
    if b"${" not in rhs:
        return rhs
    local, domain = addr.split(address)
    user, delimiter, detail = addr.split_detail(local, delimiters)
    values = {
        b"user": user, b"detail": detail, b"domain": domain, b"tag": tag, b"delimiter": delimiter,
        b"subdomain": subdomain(domain, key), b"extension": delimiter + detail,
    }
    return _MACRO.sub(lambda match: values.get(match[1].lower(), match[0]), rhs)


def subdomain(domain: bytes, key: bytes) -> bytes:
    """The part of `domain` before the dot with which the key's domain begins; empty if it begins with none."""
    pattern = key.rpartition(b"@")[2]
    if pattern.startswith(b".") and domain.lower().endswith(pattern.lower()):
        return domain[: len(domain) - len(pattern)]
    return b""
