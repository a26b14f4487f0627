"""DSNs with MIME parts: MIME_Format, and RFC_Format as RFC 3464 and RFC 6522 say; pure (M1 3.8 items 5.2.2, 5.2.3).

Rules
    Where an address is not ASCII, or the original needed SMTPUTF8, the parts are those of RFC 6533.
    A diagnostic code is only what another server said, all of its lines.
    The boundary holds a token that the author of the original could not know.
"""
import re
import textwrap
from typing import Final

from meta1g.mta.reply import Reply
from meta1g.proto import dsn
from meta1g.proto.dsn import Action, Frame, Notice, Report
from meta1g.proto.smtp.data import stuff
from meta1g.proto.smtp.params import decode_xtext

_STATUS: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_CLASS: Final = {Action.FAILED: "5", Action.DELAYED: "4", Action.DELIVERED: "2", Action.RELAYED: "2",
                 Action.EXPANDED: "2"}
_FOLD: Final = 200  # characters of a line of a field; RFC 5322 2.1.1 allows 998 octets
_HEX: Final = re.compile(rb"\\x\{([0-9A-F]{2,6})\}")  # RFC 6533 3


def mixed(notice: Notice) -> Frame:
    """MIME_Format: what happened, the recipients, the original."""
    parts = [_text(dsn.introduction(notice) or [b"This is about a mail from you.", b""]),
             _text(dsn.descriptions(notice))]
    return _frame(notice, b"multipart/mixed", parts, is_utf8=_is_utf8(notice))


def report(notice: Notice) -> Frame:
    """RFC_Format: the recipients for a person, then for a program, the original."""
    is_utf8 = _is_utf8(notice)
    kind = b"message/global-delivery-status" if is_utf8 else b"message/delivery-status"
    status = b"\r\n\r\n".join(
        [b"\r\n".join(fields) for fields in (
            _of_message(notice), *(_of_recipient(notice, entry, is_utf8=is_utf8) for entry in notice.reports))])
    parts = [_text([*dsn.introduction(notice), *dsn.descriptions(notice)]), _part(kind, status + b"\r\n")]
    return _frame(notice, b"multipart/report; report-type=delivery-status", parts, is_utf8=is_utf8)


def _is_utf8(notice: Notice) -> bool:
    return notice.is_utf8 or not notice.to.isascii() or any(
        not entry.address.isascii() or not entry.orcpt.isascii() for entry in notice.reports)


def _frame(notice: Notice, kind: bytes, parts: list[bytes], *, is_utf8: bool) -> Frame:
    boundary = f"{notice.ta}/{notice.token}".encode()
    is_8bit = notice.is_8bit or is_utf8 or not all(part.isascii() for part in parts)
    delimiter = b"\r\n--" + boundary
    begin = [*dsn.header(notice), b"MIME-Version: 1.0", b"Content-Type: " + kind + b';\r\n\tboundary="%b"' % boundary]
    if is_8bit:
        begin.append(b"Content-Transfer-Encoding: 8bit")
    head = b"\r\n".join(begin) + b"\r\n" + b"".join(delimiter + b"\r\n" + part for part in parts)
    head += delimiter + b"\r\n" + _original(notice, is_utf8=is_utf8)
    return Frame(stuff(head), delimiter + b"--\r\n", is_8bit, is_utf8)


def _text(lines: list[bytes]) -> bytes:
    text = b"\r\n".join(lines)
    return _part(b"text/plain; charset=" + (b"us-ascii" if text.isascii() else b"utf-8"), text)


def _part(kind: bytes, content: bytes) -> bytes:
    return _part_header(kind, is_8bit=not content.isascii()) + content


def _original(notice: Notice, *, is_utf8: bool) -> bytes:
    """The header of the part that holds the original (RFC 6522 4, RFC 6533 5, 6)."""
    if notice.is_header_only:
        kind = b"message/global-headers" if is_utf8 else b"text/rfc822-headers"
    else:
        kind = b"message/global" if is_utf8 else b"message/rfc822"
    return _part_header(kind, is_8bit=notice.is_8bit or is_utf8)


def _part_header(kind: bytes, *, is_8bit: bool) -> bytes:
    encoding = b"Content-Transfer-Encoding: 8bit\r\n" if is_8bit else b""
    return b"Content-Type: " + kind + b"\r\n" + encoding + b"\r\n"


def _of_message(notice: Notice) -> list[bytes]:
    fields = [f"Reporting-MTA: dns; {notice.hostname}".encode()]
    envid = dsn.shown(decode_xtext(notice.envid)).strip()
    if envid:
        fields.append(b"Original-Envelope-Id: " + envid)
    if notice.arrived:
        fields.append(f"Arrival-Date: {notice.arrived}".encode())
    return fields


def _of_recipient(notice: Notice, entry: Report, *, is_utf8: bool) -> list[bytes]:
    fields = []
    original = _original_recipient(entry.orcpt, is_utf8=is_utf8)
    if original:
        fields.append(b"Original-Recipient: " + original)
    kind = b"rfc822" if entry.address.isascii() else b"utf-8"
    fields += [b"Final-Recipient: " + kind + b"; " + dsn.shown(entry.address),
               f"Action: {entry.action}".encode(), f"Status: {_status(entry)}".encode()]
    if entry.said is not None:
        name = dsn.printable(entry.said.name) or (f"[{entry.said.ip}]" if entry.said.ip else "")
        if name:
            fields.append(b"Remote-MTA: dns; " + _octets(name, is_utf8=is_utf8))
        fields.append(b"Diagnostic-Code: smtp; " + _octets(_diagnostic(entry.said.reply), is_utf8=is_utf8))
    if entry.tried:
        fields.append(f"Last-Attempt-Date: {entry.tried}".encode())
    if entry.action is Action.DELAYED and notice.until:
        fields.append(f"Will-Retry-Until: {notice.until}".encode())
    return fields


def _original_recipient(orcpt: bytes, *, is_utf8: bool) -> bytes:
    """ORCPT decoded, type and address; addresses of type utf-8 stay encoded where the part is ASCII."""
    kind, _, address = orcpt.partition(b";")
    address = decode_xtext(address)
    if is_utf8 and kind.lower() == b"utf-8":
        address = _HEX.sub(_character, address)
    address = dsn.shown(address).strip()
    return dsn.shown(kind) + b"; " + address if address else b""


def _character(match: re.Match[bytes]) -> bytes:
    number = int(match[1], 16)
    return chr(number).encode("utf-8", "replace") if number <= 0x10FFFF else match[0]


def _status(entry: Report) -> str:
    """The enhanced status, one of the action's class if the reply has none that fits (RFC 3463 3.1)."""
    first = _CLASS[entry.action]
    estat = entry.reply.estat
    return estat if estat[:1] == first and _STATUS.fullmatch(estat) else f"{first}.0.0"


def _diagnostic(reply: Reply) -> str:
    """A reply as it came, one line of it in each line of the field."""
    estat = f"{reply.estat} " if reply.estat else ""
    *before, last = [dsn.printable(line) for line in reply.text.split("\n")]
    lines = [f"{reply.code}-{estat}{line}" for line in before] + [f"{reply.code} {estat}{last}"]
    return "\r\n\t".join(
        piece for line in lines for piece in textwrap.wrap(line, _FOLD, break_on_hyphens=False))


def _octets(text: str, *, is_utf8: bool) -> bytes:
    return text.encode() if is_utf8 else text.encode("ascii", "replace")
