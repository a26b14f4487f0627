"""The sections `check` of the configuration, and one session's way through them (M1 8.5.1).

Rules
    The checks of a stage are tried in the order of the file; the first whose condition holds acts.
    They come before all that the stage asks of the access map, except at connect, where they know the client's
    name. No entry of the access map, quick or not, and no `delay_checks` has a say in them.
    A session counts what the client gave with right syntax and within the limits.

Diagnostics
    status=check mail 2: the second section `check mail` acted.
    func=smtps, check=mail 2, status=...: its condition has no value, so it was taken for false.
"""
from collections.abc import Iterable
from typing import Final, NamedTuple

from meta1g.conf.opt_smtps import CheckConf
from meta1g.mta import logfmt
from meta1g.mta.reply import Reply
from meta1g.mta.tls import TlsFacts
from meta1g.proc.log import SESSION, Log
from meta1g.proto.smtp import replies
from meta1g.smtps.condition import Condition, Facts, NoValue, comparable

_REPLIES: Final = {
    "permfail": replies.CHECK_PERMFAIL, "tempfail": replies.CHECK_TEMPFAIL, "abort": replies.CHECK_ABORT,
}


class Check(NamedTuple):
    """One section: `label` is its stage and its number among those of that stage, from 1."""

    label: str
    condition: Condition
    action: str


Checks = dict[str, list[Check]]  # by stage


def read_checks(sections: Iterable[CheckConf]) -> Checks:
    """The sections with their conditions made ready."""
    found: Checks = {}
    for conf in sections:
        same = found.setdefault(conf.name, [])
        same.append(Check(f"{conf.name} {len(same) + 1}", Condition(conf.condition), conf.action))
    return found


class SessionChecks:
    """The facts of one session, and what the checks make of them: a reply, or None to go on."""

    def __init__(self, checks: Checks, log: Log, hostname: str) -> None:
        self._checks = checks
        self._log = log
        self._hostname = hostname.encode()
        self._facts = Facts()

    @property
    def facts(self) -> Facts:
        """What is known so far."""
        return self._facts

    def on_tls(self, facts: TlsFacts) -> None:
        """The session has TLS; what is known of it is asked for by conditions."""
        found = self._facts
        found.auth_type = found.auth_authen = b""
        found.tls_version, found.cipher, found.tls_verify = (
            text.encode() for text in (facts.version, facts.cipher, facts.verify))
        found.cipher_bits = found.alg_bits = facts.bits
        found.cert_subject, found.cert_issuer, found.cn_subject = (
            text.encode() for text in (facts.subject, facts.issuer, facts.common_name))
        found.cn_issuer = facts.issuer_name.encode()

    def on_connect(self, se: str, client_ip: str, client_name: str, resolve: str) -> Reply | None:
        """A client is there, or another one after XCLIENT; `resolve` is SMAR's, empty if it was not asked."""
        self._facts = Facts(
            session_id=se.encode(), hostname=self._hostname, client_ip=client_ip.encode(),
            client_name=client_name.removesuffix(".").lower().encode(), client_resolve=resolve.encode())
        return self._run("connect")

    @property
    def author(self) -> bytes:
        """Who wrote the mail at hand, as an authenticated client says by AUTH=; empty if that is not known."""
        return self._facts.auth_author

    def on_auth(self, mechanism: str, user: str) -> None:
        """The client has authenticated."""
        self._facts.auth_type, self._facts.auth_authen = mechanism.encode(), user.encode()

    def on_mail(self, ta: str, address: bytes, author: bytes = b"") -> Reply | None:
        """MAIL was given; who is not authenticated can't say who the author is (RFC 4954 5)."""
        facts = self._facts
        facts.auth_author = author if facts.auth_type else b""
        facts.transaction_id = ta.encode()
        facts.mail, facts.rcpt, facts.message_id = comparable(address), b"", b""
        facts.transactions += 1
        facts.transaction_rcpts_total = facts.transaction_rcpts_ok = facts.hops = facts.message_size = 0
        return self._run("mail")

    def on_rcpt(self, address: bytes) -> Reply | None:
        """RCPT was given."""
        facts = self._facts
        facts.rcpt = comparable(address)
        facts.session_rcpts_total += 1
        facts.transaction_rcpts_total += 1
        return self._run("rcpt")

    def on_rcpt_answered(self, reply: Reply) -> None:
        """RCPT was accepted or not."""
        self._facts.transaction_rcpts_ok += reply.is_positive

    def on_data(self) -> Reply | None:
        """DATA was given."""
        return self._run("data")

    def on_end(self, size: int, hops: int, message_id: bytes) -> Reply | None:
        """The final dot: `size` in octets."""
        facts = self._facts
        facts.message_size, facts.hops, facts.message_id = size, hops, message_id
        return self._run("eom")

    def _run(self, stage: str) -> Reply | None:
        for check in self._checks.get(stage, ()):
            if self._holds(check):
                self._note(SESSION, status=f"check {check.label}", action=check.action)
                return _REPLIES[check.action]
        return None

    def _holds(self, check: Check) -> bool:
        try:
            return check.condition.holds(self._facts)
        except NoValue as reason:
            self._note(None, func="smtps", check=check.label, status=f"{reason}; taken for false")
            return False

    def _note(self, level: int | None, **named: str) -> None:
        facts = self._facts
        line = logfmt.fields(ss_se=facts.session_id, ss_ta=facts.transaction_id or None, **named)
        if level is None:
            self._log.error(line)
        else:
            self._log.write(line, level)
