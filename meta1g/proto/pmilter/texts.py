"""Texts that a policy milter gives and SMTPS passes on: replies, addresses, header fields; pure.

Both sides look at them with these functions: the library, so that who writes a milter sees the mistake, and SMTPS,
since the library may be another one.
"""
import re
from typing import Final

from meta1g.mta import addr, limits
from meta1g.mta.reply import Reply, parse_reply_text
from meta1g.proto.pmilter import numbers

_REPLY_LINE: Final = re.compile(rb"([2-5][0-9][0-9])([ -])([ -~\x80-\xff]*)")
_REPLY_LINES: Final = 32  # of a reply that a milter gives: nobody reads more
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:[^\r\n\0]*(?:\r\n[ \t][^\r\n\0]*)*\r\n")
_PARAMS: Final = re.compile(rb"[!-~\x80-\xff]+(?: [!-~\x80-\xff]+)*")


def parse_reply(octets: bytes) -> Reply | None:
    """A whole SMTP reply, CRLF after each line, as M1 15.1.12 has it; None if it is none.

    Each line needs the same code, 4yz and 5yz an enhanced status (RFC 3463) of its class.
    """
    if len(octets) > numbers.REPLY_MAX or not octets.endswith(b"\r\n"):
        return None
    lines = octets[:-2].split(b"\r\n")
    found = [_REPLY_LINE.fullmatch(line) for line in lines]
    if len(lines) > _REPLY_LINES or any(len(line) > limits.COMMAND_LINE - 2 for line in lines):
        return None
    marks = [b"-"] * (len(lines) - 1) + [b" "]
    if any(match is None or match[2] != mark for match, mark in zip(found, marks, strict=True)):
        return None
    codes = {match[1] for match in found if match is not None}
    reply = parse_reply_text(int(codes.pop()), [match[3] for match in found if match is not None])
    return reply if not codes and (reply.estat or reply.code < 400) else None


def parse_path(octets: bytes, *, may_be_null: bool) -> bytes | None:
    """The mailbox of an address, with or without angle brackets; empty for the null sender; None if it is none."""
    if octets.startswith(b"<") and octets.endswith(b">"):
        octets = octets[1:-1]
    if not octets:
        return b"" if may_be_null else None
    if octets.lower() == b"postmaster":
        return octets
    return addr.parse_mailbox(octets, utf8=True)


def field_name(octets: bytes) -> bytes | None:
    """The name, in lower case, of a whole header field with CRLF at its end; None if it is none.

    It may be folded; no line may be longer than RFC 5322 2.1.1 allows.
    """
    match = _FIELD.fullmatch(octets)
    if match is None or len(octets) > numbers.FIELD_MAX:
        return None
    if max(map(len, octets.split(b"\r\n"))) > limits.TEXT_LINE - 2:
        return None
    return match[1].lower()


def is_params(octets: bytes) -> bool:
    """Whether this can be parameters of MAIL or RCPT, one blank between them."""
    return not octets or _PARAMS.fullmatch(octets) is not None
