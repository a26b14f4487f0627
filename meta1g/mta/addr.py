"""RFC 5321 addresses as octets: syntax, parts, comparison.

An address is held without angle brackets: `b"user@example.org"`, `b""` for the
null sender, `b"postmaster"` for the one address that may lack a domain. Source
routes are accepted and dropped (RFC 5321 4.1.1.3, appendix C).
"""
import ipaddress
import re
from typing import Final

from meta1g.mta import limits

_ATEXT: Final = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]"
_UTF8: Final = rb"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})"
_DOT_STRING: Final = re.compile(_ATEXT + rb"+(?:\." + _ATEXT + rb"+)*")
_DOT_STRING_UTF8: Final = re.compile(rb"(?:%s|%s)+(?:\.(?:%s|%s)+)*" % (_ATEXT, _UTF8, _ATEXT, _UTF8))
_QUOTED: Final = re.compile(rb'"(?:[ !#-\[\]-~]|\\[ -~])*"')
_QUOTED_UTF8: Final = re.compile(rb'"(?:[ !#-\[\]-~]|\\[ -~]|%s)*"' % _UTF8)
_LABEL: Final = rb"[A-Za-z0-9](?:[A-Za-z0-9_\-]*[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rb"%s(?:\.%s)*" % (_LABEL, _LABEL))
_U_LABEL: Final = rb"(?:[A-Za-z0-9]|%s)(?:(?:[A-Za-z0-9_\-]|%s)*(?:[A-Za-z0-9]|%s))?" % (_UTF8, _UTF8, _UTF8)
_DOMAIN_UTF8: Final = re.compile(rb"%s(?:\.%s)*" % (_U_LABEL, _U_LABEL))
_ROUTE: Final = re.compile(rb"@[^@:,]+(?:,@[^@:,]+)*:")
_COMMON: Final = re.compile(rb"[A-Za-z0-9_+=\-]+(?:\.[A-Za-z0-9_+=\-]+)*@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*")


def split(address: bytes) -> tuple[bytes, bytes]:
    """Local part and domain; the domain is empty if there is none."""
    local, at, domain = address.rpartition(b"@")
    return (local, domain) if at else (address, b"")


def is_domain(domain: bytes, *, utf8: bool = False) -> bool:
    """Whether this is a domain name or an address literal in RFC 5321 4.1.2 syntax."""
    if domain.startswith(b"["):
        return is_literal(domain)
    if len(domain) > limits.DOMAIN or any(len(label) > limits.DNS_LABEL for label in domain.split(b".")):
        return False
    return (_DOMAIN_UTF8 if utf8 else _DOMAIN).fullmatch(domain) is not None


def plain_ip(text: str) -> str | None:
    """An IP address in its usual form, an IPv4 address inside IPv6 as such; None if it is none or has a zone.

    A zone (`fe80::1%eth0`) may hold any text, and says nothing on another host.
    """
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return None if ip.scope_id else str(ip.ipv4_mapped or ip)


def is_literal(text: bytes) -> bool:
    """Whether this is `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3)."""
    return literal_ip(text) is not None


def literal_ip(text: bytes) -> str | None:
    """The address inside an address literal, None if it is none."""
    if not (text.startswith(b"[") and text.endswith(b"]")):
        return None
    inner = text[1:-1].decode("ascii", "replace")
    if "%" in inner:  # a zone
        return None
    try:
        if inner[:5].lower() == "ipv6:":
            return str(ipaddress.IPv6Address(inner[5:]))
        return str(ipaddress.IPv4Address(inner))
    except ValueError:
        return None


def is_local_part(local: bytes, *, utf8: bool = False) -> bool:
    """Whether this is a dot-string or a quoted string of at most 64 octets."""
    if not local or len(local) > limits.LOCAL_PART:
        return False
    dotted, quoted = (_DOT_STRING_UTF8, _QUOTED_UTF8) if utf8 else (_DOT_STRING, _QUOTED)
    return (quoted if local.startswith(b'"') else dotted).fullmatch(local) is not None


def parse_mailbox(text: bytes, *, utf8: bool = False) -> bytes | None:
    """`user@domain` with any source route dropped, None if it breaks the syntax.

    `utf8` admits the addresses of RFC 6531.
    """
    if _COMMON.fullmatch(text) and len(text) <= limits.LOCAL_PART:
        local, domain = split(text)
        return text if is_domain(domain) else None
    if text.startswith(b"@"):
        route = _ROUTE.match(text)
        if route is None or not all(is_domain(hop[1:], utf8=utf8) for hop in route[0][:-1].split(b",")):
            return None
        text = text[route.end():]
    local, domain = _split_quoted(text)
    if not domain or not is_local_part(local, utf8=utf8) or not is_domain(domain, utf8=utf8):
        return None
    return _plain_local(local) + b"@" + domain


def is_mailbox(text: bytes) -> bool:
    """Whether this is `user@domain`, or a local part alone."""
    return parse_mailbox(text) is not None if b"@" in text else is_local_part(text)


def _split_quoted(text: bytes) -> tuple[bytes, bytes]:
    if not text.startswith(b'"'):
        return split(text) if text.count(b"@") == 1 else (b"", b"")
    local, at, domain = text.rpartition(b"@")
    return (local, domain) if at else (b"", b"")


def _plain_local(local: bytes) -> bytes:
    """Drop quotes that say nothing: `"user"` is the mailbox `user` (RFC 5321 4.1.2)."""
    if not local.startswith(b'"'):
        return local
    inner = re.sub(rb"\\(.)", rb"\1", local[1:-1])
    return inner if _DOT_STRING.fullmatch(inner) else local


def unquote_local(local: bytes) -> bytes:
    """The mailbox name that a local part stands for: quotes and backslashes removed."""
    if local.startswith(b'"') and local.endswith(b'"') and len(local) > 1:
        return re.sub(rb"\\(.)", rb"\1", local[1:-1])
    return local


def quote_local(name: bytes) -> bytes:
    """The local part that stands for a mailbox name: quoted if it is no dot-string; undoes `unquote_local`."""
    if _DOT_STRING_UTF8.fullmatch(name):
        return name
    return b'"' + re.sub(rb'(["\\\\])', rb"\\\1", name) + b'"'


def split_detail(local: bytes, delimiters: bytes) -> tuple[bytes, bytes, bytes]:
    """User, delimiter and detail of a local part (M1 3.9.2 item 2).

    The first character of `local` that is one of `delimiters` divides it; delimiter and
    detail are empty when there is none. A delimiter in front does not count.
    """
    places = [at for at in [local.find(octet, 1) for octet in delimiters] if at > 0]
    if not places:
        return local, b"", b""
    at = min(places)
    return local[:at], local[at:at + 1], local[at + 1:]


def domain_key(domain: bytes) -> str:
    """A domain in the form in which maps and DNS are asked: lower case, no trailing dot."""
    return domain.decode("utf-8", "replace").lower().rstrip(".")


def bracketed(address: bytes) -> bytes:
    """`<user@domain>`, the form of logs and commands."""
    return b"<" + address + b">"
