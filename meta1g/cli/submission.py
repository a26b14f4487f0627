"""A message that a program hands over, made fit for SMTP and submitted (RFC 6409, RFC 5322).

Rules
    A line that is a single dot ends the message, unless dots are ignored.
    Fields that a message must have are added where they are missing: Date, From, Message-ID; Bcc goes.
    The body is streamed from a temporary file, so memory is bounded.
"""
import email.utils
import os
import smtplib
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final, NamedTuple

from meta1g.mta import limits
from meta1g.mta.errors import MtaError
from meta1g.proto.smtp.data import ChunkReader
from meta1g.proto.smtp.line_ends import LineEnds

_IN_MEMORY: Final = 1 << 20  # octets; more goes to a file
_LINE_MAX: Final = 1 << 20  # octets read at once: a longer line counts as several, which changes nothing
_CHUNK: Final = 1 << 16
_RECIPIENTS: Final = (b"to", b"cc", b"bcc")
_NEEDED: Final = (b"date", b"from", b"message-id")


class BadMessage(MtaError):
    """The message can't be submitted as it is: what is wrong with it."""


class Refused(MtaError):
    """The server does not take it: `code` is its reply's, 4yz or 5yz."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


class Envelope(NamedTuple):
    """Sender and recipients, with words for MAIL and RCPT (RFC 3461)."""

    sender: str
    rcpts: tuple[str, ...]
    mail_words: tuple[str, ...] = ()
    rcpt_words: tuple[str, ...] = ()


class Message:
    """A message read from a program; use it as a context manager."""

    def __init__(self, source: BinaryIO, *, dots_end: bool) -> None:
        """Read it all; a line with a single dot is its end where `dots_end`. BadMessage."""
        self._body = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by __exit__
        self._fields: list[bytes] = []  # each with all its lines
        self.is_ascii = True
        lines = _lines(source, dots_end=dots_end)
        self._read_body(self._read_header(lines), lines)

    def __enter__(self) -> "Message":
        return self

    def __exit__(self, *unused: object) -> None:
        self._body.close()

    def _read_header(self, lines: Iterator[bytes]) -> bytes:
        """Fields up to the empty line, or up to a line that is none, which is returned: the body begins with it."""
        size = 0
        for line in lines:
            size += len(line)
            if size > limits.HEADER_SECTION:
                raise BadMessage(f"the header is larger than {limits.HEADER_SECTION} octets")
            if line in (b"\n", b"\r\n"):
                return b""
            if line[:1] in (b" ", b"\t") and self._fields:
                self._fields[-1] += line
            elif _name_of(line):
                self._fields.append(line)
            elif self._fields or not line.startswith(b"From "):  # of a mailbox
                return line
        if self._fields and not self._fields[-1].endswith(b"\n"):  # the message ends within its header
            self._fields[-1] += b"\n"
        return b""

    def _read_body(self, first: bytes, lines: Iterable[bytes]) -> None:
        self._body.write(first)
        for line in lines:
            self.is_ascii = self.is_ascii and line.isascii()
            self._body.write(line)
        self.is_ascii = self.is_ascii and first.isascii() and all(field.isascii() for field in self._fields)
        self._body.seek(0)

    def recipients(self) -> list[str]:
        """Addresses in To, Cc and Bcc, or in Resent-To and so on if there are such fields (RFC 5322 3.6.6)."""
        resent = [b"resent-" + name for name in _RECIPIENTS]
        names = resent if any(_name_of(field) in resent for field in self._fields) else _RECIPIENTS
        values = ["".join(field.partition(b":")[2].decode("utf-8", "surrogateescape").splitlines())
                  for field in self._fields if _name_of(field) in names]
        return [address for _, address in email.utils.getaddresses(values) if address]

    def complete(self, author: str, host: str) -> None:
        """Add what must be there; `author` as a From field has it."""
        self._fields = [field for field in self._fields if _name_of(field) not in (b"bcc", b"resent-bcc")]
        there = {_name_of(field) for field in self._fields}
        made = {b"date": f"Date: {email.utils.formatdate(localtime=True)}", b"from": f"From: {author}",
                b"message-id": f"Message-ID: {email.utils.make_msgid(domain=host)}"}
        self._fields += [made[name].encode("utf-8", "surrogateescape") + b"\r\n" for name in _NEEDED
                         if name not in there]

    def wire(self) -> Iterator[bytes]:
        """The message as DATA wants it: CRLF at line ends, transparency dots, and the final dot (RFC 5321 4.5.2)."""
        reader = ChunkReader(LineEnds(is_stuffed=False))
        yield reader.feed(b"".join(self._fields) + b"\r\n")
        while piece := self._body.read(_CHUNK):
            yield reader.feed(piece)
        yield reader.finish() + b".\r\n"


def submit(smtp: smtplib.SMTP, envelope: Envelope, message: Message) -> dict[str, Refused]:
    """Give a message to a server that has been greeted; recipients that it does not take. Refused, OSError."""
    if not message.is_ascii and smtp.has_extn("8bitmime") and not any(
            word.startswith("BODY=") for word in envelope.mail_words):
        envelope = envelope._replace(mail_words=(*envelope.mail_words, "BODY=8BITMIME"))
    is_utf8 = not (envelope.sender + "".join(envelope.rcpts)).isascii()
    if is_utf8:
        smtp.command_encoding = "utf-8"
        envelope = envelope._replace(mail_words=(*envelope.mail_words, "SMTPUTF8"))
    _expect(smtp.docmd("MAIL", " ".join((f"FROM:<{envelope.sender}>", *envelope.mail_words))))
    refused = {}
    for rcpt in envelope.rcpts:
        try:
            _expect(smtp.docmd("RCPT", " ".join((f"TO:<{rcpt}>", *envelope.rcpt_words))))
        except Refused as error:
            refused[rcpt] = error
    if len(refused) < len(envelope.rcpts):
        _expect(smtp.docmd("DATA"), 354)
        for piece in message.wire():
            smtp.send(piece)
        _expect(smtp.getreply())
    return refused


def _expect(reply: tuple[int, bytes], code: int = 250) -> None:
    if reply[0] != code and not (code == 250 and reply[0] == 251):
        raise Refused(reply[0], reply[1].decode("utf-8", "replace").replace("\n", " "))


def _lines(source: BinaryIO, *, dots_end: bool) -> Iterator[bytes]:
    is_start = True
    while line := source.readline(_LINE_MAX):
        if dots_end and is_start and line in (b".\n", b".\r\n", b"."):
            return
        is_start = line.endswith(b"\n")
        yield line


def _name_of(field: bytes) -> bytes:
    """A field's name in lower case, empty if the line is no field (RFC 5322 2.2)."""
    name, colon, _ = field.partition(b":")
    name = name.rstrip(b" \t")
    return name.lower() if colon and name and all(32 < octet < 127 for octet in name) else b""


def exit_code(error: Exception) -> int:
    """What a program ends with (sysexits.h): EX_TEMPFAIL means that trying again may help."""
    if isinstance(error, Refused):
        return os.EX_TEMPFAIL if 400 <= error.code < 500 else os.EX_UNAVAILABLE
    return os.EX_DATAERR if isinstance(error, BadMessage) else os.EX_TEMPFAIL
