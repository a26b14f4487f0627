"""Bodies of delivery status notifications, the plain format of M1 10.6; pure.

The content around the original message is made here in wire form; the original is put
between `head` and `tail` by who may read it.
"""
from typing import NamedTuple

from meta1g.mta import addr
from meta1g.mta.reply import Reply
from meta1g.proto.smtp.data import stuff


class Failure(NamedTuple):
    """A recipient, why it failed, and at which stage (`MAIL`, `RCPT` ...; empty if none)."""

    address: bytes
    reply: Reply
    stage: str


class Frame(NamedTuple):
    """What comes before and after the original message."""

    head: bytes
    tail: bytes


def plain(hostname: str, to: bytes, ta: str, date: str, failures: list[Failure]) -> Frame:
    """A DSN for `failures` to `to`, with the original message behind the report."""
    lines = [
        f"From: Mailer-Daemon@{hostname}".encode(),
        b"To: " + addr.bracketed(to),
        b"Subject: Undeliverable mail",
        f"Date: {date}".encode(),
        f"Message-Id: <{ta}@{hostname}>".encode(),
        b"Auto-Submitted: auto-replied",  # RFC 3834 5
        b"",
        b"A mail from you could not be delivered. See below for details.",
        b"",
    ]
    for failure in failures:
        lines.extend(_describe(failure))
    lines += [b"", b"Original message follows.", b"", b""]
    return Frame(stuff(b"\r\n".join(lines)), b"")


def _describe(failure: Failure) -> list[bytes]:
    reply = failure.reply
    texts = reply.text.split("\n")
    estat = f"{reply.estat} " if reply.estat else ""
    first = f"{reply.code} {estat}".encode() + addr.bracketed(failure.address)
    lines = [first + b"... " + texts[0].encode("utf-8", "replace")]
    lines += [f"    {text}".encode("utf-8", "replace") for text in texts[1:]]
    if failure.stage:
        lines.append(f"during {failure.stage}".encode())
    return [*lines, b""]
