#!/usr/bin/env python3
"""Asks SpamAssassin's spamd about each message, as milter-spamd does (M1 15.2).

Fields X-Spam-Status and, for spam, X-Spam-Flag are added; fields of these names that came with the message go. With
--reject a message with this score or more is refused. When spamd can't be asked, mail goes on without its word, or
with --tempfail is refused for now.
"""
import logging
import re
import socket
from typing import NamedTuple

from meta1g.pmilter import HdrMod, PolicyMilter, Result, Session, parser, run

SIZE_MAX = 500_000  # octets: larger messages are hardly ever spam, and take long
ANSWER_MAX = 64_000
TIMEOUT = 30.0  # seconds
LOG = logging.getLogger("pmilter")
OURS = re.compile(rb"x-spam-(?:status|flag):", re.IGNORECASE)
SPAM = re.compile(rb"^Spam:\s*(True|False)\s*;\s*(-?[0-9.]{1,12})\s*/\s*(-?[0-9.]{1,12})\s*$",
                  re.IGNORECASE | re.MULTILINE)


class SpamdAway(Exception):
    """It can't be asked, or says nothing that makes sense."""


class Verdict(NamedTuple):
    """What spamd thinks."""

    is_spam: bool
    score: float
    limit: float
    symbols: str


def ask(where: str, message: bytes, user: str = "", timeout: float = TIMEOUT) -> Verdict:
    """spamd's verdict; `where` is a path or host:port. SpamdAway."""
    head = b"SYMBOLS SPAMC/1.2\r\nContent-length: %d\r\n" % len(message)
    head += b"User: %b\r\n" % user.encode() if user else b""
    try:
        with _connect(where, timeout) as sock:
            sock.sendall(head + b"\r\n" + message)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            while len(answer) < ANSWER_MAX and (data := sock.recv(ANSWER_MAX)):
                answer += data
    except OSError as error:
        raise SpamdAway(f"{where}: {error.strerror or error}") from None
    return parse(answer)


def parse(answer: bytes) -> Verdict:
    """The verdict in spamd's answer; SpamdAway if there is none."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    match = SPAM.search(head.replace(b"\r\n", b"\n"))
    if not re.match(rb"SPAMD/[0-9.]+ 0 ", head) or match is None:
        raise SpamdAway(f"spamd says {head[:60]!r}")
    symbols = ",".join(re.findall(r"[A-Z0-9_]{1,60}", rest.decode("ascii", "replace"))[:50])
    try:
        return Verdict(match[1].lower() == b"true", float(match[2]), float(match[3]), symbols)
    except ValueError:
        raise SpamdAway(f"spamd says {head[:60]!r}") from None


def _connect(where: str, timeout: float) -> socket.socket:
    host, colon, port = where.rpartition(":")
    if colon and port.isdigit():
        return socket.create_connection((host, int(port)), timeout)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(where)
    except OSError:
        sock.close()
        raise
    return sock


class Spamd(PolicyMilter):
    """Asks SpamAssassin's spamd about each message."""

    def __init__(self, where: str, reject: float = 0.0, *, user: str = "", tempfail: bool = False) -> None:
        self._where, self._reject, self._user, self._tempfail = where, reject, user, tempfail

    def mail(self, session: Session, sender: str, params: list[str]) -> Result:
        session.own = bytearray()
        return None

    def msg(self, session: Session, chunk: bytes) -> Result:
        if len(session.own) <= SIZE_MAX:
            session.own += chunk
        return None

    def eom(self, session: Session) -> Result:
        content, session.own = bytes(session.own), bytearray()
        self._remove_ours(session, content)
        if len(content) > SIZE_MAX:
            return None
        try:
            verdict = ask(self._where, received(session) + content, self._user)
        except SpamdAway as error:
            LOG.error("%s", str(error).encode("ascii", "backslashreplace").decode())
            return session.refuse("451 4.7.1 Mail can't be looked at just now") if self._tempfail else None
        if self._reject and verdict.score >= self._reject:
            return session.refuse(f"550 5.7.1 This looks like spam, score {verdict.score:g}")
        self._mark(session, verdict)
        return None

    @staticmethod
    def _remove_ours(session: Session, content: bytes) -> None:
        """Nobody else's fields of these names stay."""
        header = re.split(rb"\r\n\r\n", b"\r\n" + content, maxsplit=1)[0]
        starts = re.findall(rb"\r\n([^ \t\r\n][^\r\n]*)", header)
        for position, start in enumerate(starts, 1):
            if OURS.match(start):
                session.hdr_mod(HdrMod.REMOVE, position, "")

    @staticmethod
    def _mark(session: Session, verdict: Verdict) -> None:
        if verdict.is_spam:
            session.add_header("X-Spam-Flag", "YES")
        symbols = verdict.symbols.replace(",", ",\r\n\t") or "none"
        session.add_header("X-Spam-Status", f"{'Yes' if verdict.is_spam else 'No'}, score={verdict.score:g} "
                                            f"required={verdict.limit:g}\r\n\ttests={symbols}")


def received(session: Session) -> bytes:
    """The field that SMTPS will add, so that spamd knows the client."""
    name = session.client_name.rstrip(".") or "unknown"
    field = (f"Received: from {session.helo or 'unknown'} ({name} [{session.client_address}])\r\n"
             f"\tby {session.server.hostname} (envelope-from <{session.sender}>)\r\n")
    return field.encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    options = parser(Spamd.__doc__ or "", "unix:/run/milter-spamd.sock")
    options.add_argument("--spamd", default="127.0.0.1:783", help="its path, or host:port (default: %(default)s)")
    options.add_argument("--reject", type=float, default=0.0, help="the score from which mail is refused")
    options.add_argument("--user", default="", help="whose preferences spamd takes")
    options.add_argument("--tempfail", action="store_true", help="refuse mail for now when spamd can't be asked")
    found = options.parse_args()
    raise SystemExit(run(Spamd(found.spamd, found.reject, user=found.user, tempfail=found.tempfail), found))
