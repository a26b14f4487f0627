"""Delivery status notifications: what one says, and the plain format of M1 10.6; pure.

The content around the original message is made here in wire form; the original is put
between `head` and `tail` by who may read it. `proto.dsn_parts` has the formats with MIME.

Rules
    Replies and addresses come from the network: what is not printable becomes `?`, and a line
    that is longer than 200 characters is broken, so that nothing can pose as a header or a part.
"""
import textwrap
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from meta1g.mta import addr
from meta1g.mta.reply import Reply
from meta1g.proto.smtp.data import stuff

_LINE_MAX: Final = 200  # characters: with four octets each still a legal line (RFC 5322 2.1.1)


class Form(Enum):
    """How a DSN is built (M1 3.8 item 5.2)."""

    PLAIN = "plain"
    MIME = "MIME_Format"
    RFC = "RFC_Format"


class Action(StrEnum):
    """What became of a recipient (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"  # to a server that sends no reports
    EXPANDED = "expanded"  # to the members of an alias, whose success is not reported


class Said(NamedTuple):
    """The reply of another server, which is `name` (may be empty) at `ip` (empty: the local mailer)."""

    reply: Reply
    name: str
    ip: str


class Report(NamedTuple):
    """A recipient and what became of it.

    `stage` says when it failed (`MAIL`, `RCPT` ...; empty if it did not). `said` is what another server
    said, if one did: `reply` may be our own. `orcpt` is ORCPT's value as it came; `tried` a date.
    """

    address: bytes
    reply: Reply
    stage: str
    action: Action = Action.FAILED
    said: Said | None = None
    orcpt: bytes = b""
    tried: str = ""


class Notice(NamedTuple):
    """All that a DSN says, dates as RFC 5322 has them.

    `until` is when the last try will be. `envid` is ENVID's value as it came. Of the original: `arrived`,
    `is_header_only` if no more comes back, and what it needs of the next server. `token` can't be guessed
    by whoever wrote the original.
    """

    hostname: str
    to: bytes
    ta: str
    date: str
    reports: list[Report]
    token: str = ""
    envid: bytes = b""
    arrived: str = ""
    until: str = ""
    is_header_only: bool = False
    is_8bit: bool = False
    is_utf8: bool = False


class Frame(NamedTuple):
    """What comes before and after the original message, and what the whole needs of the next server."""

    head: bytes
    tail: bytes
    is_8bit: bool
    is_utf8: bool


def plain(notice: Notice) -> Frame:
    """A DSN with the original message behind the report."""
    lines = [*header(notice), b"", *introduction(notice), *descriptions(notice), b"", b"Original message follows.",
             b"", b""]
    head = stuff(b"\r\n".join(lines))
    return Frame(head, b"", notice.is_8bit or not head.isascii(), not notice.to.isascii())


def header(notice: Notice) -> list[bytes]:
    """The header fields that every format has."""
    return [
        f"From: Mailer-Daemon@{notice.hostname}".encode(),
        b"To: " + addr.bracketed(shown(notice.to)),
        f"Subject: {_subject(notice)}".encode(),
        f"Date: {notice.date}".encode(),
        f"Message-Id: <{notice.ta}@{notice.hostname}>".encode(),
        b"Auto-Submitted: auto-replied",  # RFC 3834 5
    ]


def _subject(notice: Notice) -> str:
    actions = {report.action for report in notice.reports}
    if Action.FAILED in actions:
        return "Undeliverable mail"
    if Action.DELAYED in actions:
        return "Delayed mail (still being retried)"
    return "Mail was passed on" if actions == {Action.EXPANDED} else "Mail was delivered"


def introduction(notice: Notice) -> list[bytes]:
    """What happened, for a person; empty if the reports are all good news."""
    actions = {report.action for report in notice.reports}
    lines = []
    if Action.FAILED in actions:
        lines += [b"A mail from you could not be delivered. See below for details.", b""]
    if Action.DELAYED in actions:
        lines += [b"A mail from you could not be delivered yet. See below for details.",
                  f"It will be tried again until {notice.until}.".encode(),
                  b"You need not send it again.", b""]
    return lines


def descriptions(notice: Notice) -> list[bytes]:
    """The recipients, for a person."""
    lines = []
    bad = [report for report in notice.reports if report.action in (Action.FAILED, Action.DELAYED)]
    good = [report for report in notice.reports if report.action in (Action.DELIVERED, Action.RELAYED)]
    expanded = [report for report in notice.reports if report.action is Action.EXPANDED]
    for report in bad:
        lines += _describe(report)
    if good:
        lines += [b"A mail from you was delivered, or given to a server that sends no such reports, for:", b""]
    for report in good:
        lines += _describe(report)
    if expanded:
        lines += [b"A mail from you goes to all members of:", b""]
    for report in expanded:
        lines += _describe(report)
    return lines


def _describe(report: Report) -> list[bytes]:
    reply = report.reply
    first, *more = reply_lines(reply)
    estat = f"{reply.estat} " if reply.estat else ""
    lines = [f"{reply.code} {estat}".encode() + addr.bracketed(shown(report.address)) + b"... " + first.encode()]
    lines += [f"    {text}".encode() for text in more]
    if report.stage:
        lines.append(f"during {report.stage}".encode())
    return [*lines, b""]


def reply_lines(reply: Reply) -> list[str]:
    """The text of a reply, at least one line, none of them long or with anything that is not printable."""
    lines: list[str] = []
    for line in reply.text.split("\n"):
        line = printable(line)
        lines += textwrap.wrap(line, _LINE_MAX, break_on_hyphens=False) if len(line) > _LINE_MAX else [line]
    return lines or [""]


def printable(text: str) -> str:
    """The text with `?` for everything that is not printable."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def shown(address: bytes) -> bytes:
    """An address that can't end its line."""
    return printable(address.decode("utf-8", "replace")).encode()
