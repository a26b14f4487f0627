"""Bodies of delivery status notifications, the plain format of M1 10.6; pure.

The content around the original message is made here in wire form; the original is put
between `head` and `tail` by who may read it.
"""
from typing import NamedTuple

from meta1g.mta import addr
from meta1g.mta.reply import Reply
from meta1g.proto.smtp.data import stuff


class Report(NamedTuple):
    """A recipient, what was said of it, and at which stage it failed (`MAIL`, `RCPT` ...; empty if it did not)."""

    address: bytes
    reply: Reply
    stage: str


class Frame(NamedTuple):
    """What comes before and after the original message."""

    head: bytes
    tail: bytes


def plain(hostname: str, to: bytes, ta: str, date: str, reports: list[Report]) -> Frame:
    """A DSN for these recipients to `to`, with the original message behind the report."""
    failures = [report for report in reports if not report.reply.is_positive]
    successes = [report for report in reports if report.reply.is_positive]
    lines = [
        f"From: Mailer-Daemon@{hostname}".encode(),
        b"To: " + addr.bracketed(to),
        b"Subject: Undeliverable mail" if failures else b"Subject: Mail was delivered",
        f"Date: {date}".encode(),
        f"Message-Id: <{ta}@{hostname}>".encode(),
        b"Auto-Submitted: auto-replied",  # RFC 3834 5
        b"",
    ]
    if failures:
        lines += [b"A mail from you could not be delivered. See below for details.", b""]
    for report in failures:
        lines.extend(_describe(report))
    if successes:
        lines += [b"A mail from you was delivered, or given to a server that sends no such reports, for:", b""]
    for report in successes:
        lines.extend(_describe(report))
    lines += [b"", b"Original message follows.", b"", b""]
    return Frame(stuff(b"\r\n".join(lines)), b"")


def _describe(report: Report) -> list[bytes]:
    reply = report.reply
    texts = reply.text.split("\n")
    estat = f"{reply.estat} " if reply.estat else ""
    first = f"{reply.code} {estat}".encode() + addr.bracketed(report.address)
    lines = [first + b"... " + texts[0].encode("utf-8", "replace")]
    lines += [f"    {text}".encode("utf-8", "replace") for text in texts[1:]]
    if report.stage:
        lines.append(f"during {report.stage}".encode())
    return [*lines, b""]
