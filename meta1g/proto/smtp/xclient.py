"""XCLIENT and XFORWARD: what a trusted proxy says of the client behind it (Postfix's XCLIENT_README); pure.

Rules
    NAME=VALUE words; values are xtext, `[UNAVAILABLE]` and `[TEMPUNAVAIL]` mean that it is not known.
    XCLIENT replaces the client for every decision, XFORWARD is for the log only.
"""
from typing import Final

from meta1g.mta import addr
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.params import decode_xtext

XCLIENT: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "DESTADDR", "DESTPORT")
XFORWARD: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")
UNKNOWN: Final = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_VALUE_MAX: Final = 255  # octets; Postfix's limit for IDENT, and a name's (RFC 1035 2.3.4)

Attributes = dict[str, str]


def attributes(argument: bytes, known: tuple[str, ...]) -> Attributes | Reply:
    """Names in upper case and values, empty where it is not known; the reply to what can't be read."""
    found: Attributes = {}
    for word in argument.split():
        name_octets, equals, octets = word.partition(b"=")
        name = name_octets.decode("ascii", "replace").upper()
        value = decode_xtext(octets).decode("utf-8", "replace")
        if name not in known or not equals or not octets or len(value) > _VALUE_MAX or not value.isprintable():
            return replies.BAD_PARAMETER
        found[name] = "" if value.upper() in UNKNOWN else value
    if not found:
        return replies.NEED_ARGUMENT
    if found.get("ADDR"):
        ip = address(found["ADDR"])
        if ip is None:
            return replies.BAD_PARAMETER
        found["ADDR"] = ip
    return found


def address(text: str) -> str | None:
    """`192.0.2.1` or `IPV6:2001:db8::1` as an IP address, None if it is none."""
    return addr.plain_ip(text[5:] if text[:5].upper() == "IPV6:" else text)
