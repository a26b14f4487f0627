"""What this server says to a client, from SMAR's verdicts and its own flags; pure (M1 3.12.2).

Rules
    Checks follow the dialog: connect, EHLO, MAIL, RCPT. A rejection takes effect at once (that of the
    name in EHLO at MAIL), or with `delay_checks` at RCPT, unless it is quick. A quick ok or relay for the
    recipient, or a quick ok for the sender, overrides a delayed rejection.
    Relaying must be allowed: the recipient is local and exists, or the session may relay,
    or the access map says so for the recipient.
    Greylisting comes last, unless the session is ok or relay or the recipient quick:ok or quick:relay.
"""
import re
from typing import Final, NamedTuple

from meta1g.mta import addr
from meta1g.mta.reply import Reply, parse_reply
from meta1g.proto.msg_ar import Action, Verdict
from meta1g.proto.smtp import replies


class PolicyFlags(NamedTuple):
    """The server's flags that matter here (M1 3.10 item 4)."""

    use_access: bool = False
    delay_checks: bool = False
    lmtp_is_local: bool = True
    greylists: bool = False  # in full if `fullgreylisting`
    fullgreylisting: bool = False
    delay_greylisting: bool = False  # until DATA
    wants: int = 0  # what SMAR is asked for, see msg_ar.Want
    trusted_domains: frozenset[str] = frozenset()  # option -T (M1 4.3.1)


class Decision(NamedTuple):
    """A reply to send, None for yes; `is_discarded` accepts and throws away (M1 3.9.3)."""

    reply: Reply | None = None
    is_discarded: bool = False


YES = Decision()
_CONF_WORD: Final = re.compile(r"[\w-]+")


def rejection(verdict: Verdict) -> Reply | None:
    """The reply of a rejecting verdict, None if it is not one."""
    if verdict.action != Action.REJECT:
        return None
    return Reply(verdict.code, verdict.estat, verdict.text) if verdict.code else replies.REJECTED


class Policy:
    """The state of one session's checks."""

    def __init__(self, flags: PolicyFlags) -> None:
        self._flags = flags
        self._session: Verdict | None = None
        self._delayed_session: Reply | None = None
        self._delayed_mail: Reply | None = None
        self._ehlo: Verdict | None = None
        self._discards_session = False
        self._discards_ta = False
        self._is_excused = False  # by a policy milter
        self.is_authenticated = False  # the client has proved who it is, and may relay

    def on_connect(self, verdict: Verdict) -> Decision:
        """The session checks; a reply means: greet with it and close."""
        self._session = verdict
        self._discards_session = verdict.action == Action.DISCARD
        reply = rejection(verdict)
        if reply is None or (self._flags.delay_checks and not verdict.quick):
            self._delayed_session = reply
            return YES
        return Decision(reply)

    def on_ehlo(self, verdict: Verdict) -> None:
        """The check of the name in EHLO, which takes effect at MAIL."""
        self._ehlo = verdict
        self._discards_session = self._discards_session or verdict.action == Action.DISCARD

    def on_filter(self, refusal: Reply | None, *, is_quick: bool, is_session: bool) -> Reply | None:
        """A policy milter's word before RCPT counts as the access map's would (M1 15.1.13); what takes effect now."""
        if refusal is None:
            self._is_excused = self._is_excused or (is_quick and is_session)
            if is_quick:
                self._delayed_session = self._delayed_mail = self._ehlo = None
        elif self._flags.delay_checks and not is_quick:
            if is_session:
                self._delayed_session = self._delayed_session or refusal
            else:
                self._delayed_mail = self._delayed_mail or refusal
            return None
        return refusal

    @property
    def skips_mail_checks(self) -> bool:
        """A session with quick:ok or quick:relay passes the checks of MAIL."""
        if self._is_excused:
            return True
        session = self._session
        return session is not None and session.quick and session.action in (Action.OK, Action.RELAY)

    @property
    def may_relay(self) -> bool:
        """The session as such may relay."""
        return self.is_authenticated or (self._session is not None and self._session.action == Action.RELAY)

    def on_mail(self, verdict: Verdict) -> Decision:
        """The checks of MAIL."""
        self._discards_ta = self._discards_session or verdict.action == Action.DISCARD
        self._delayed_mail = None
        if verdict.quick and verdict.action == Action.OK:
            self._delayed_session = self._ehlo = None
        return self._first_rejection([verdict])

    def on_null_sender(self) -> Decision:
        """MAIL FROM:<>, which no check of MAIL concerns (M1 3.12.2)."""
        self._discards_ta = self._discards_session
        self._delayed_mail = None
        return self._first_rejection([])

    def _first_rejection(self, verdicts: list[Verdict]) -> Decision:
        """What the name in EHLO and then these verdicts lead to."""
        if self.skips_mail_checks:
            return YES
        for verdict in [*([self._ehlo] if self._ehlo else []), *verdicts]:
            reply = rejection(verdict)
            if reply is not None and self._flags.delay_checks and not verdict.quick:
                self._delayed_mail = self._delayed_mail or reply
            elif reply is not None:
                return Decision(reply)
        return YES

    def on_rcpt(self, address: bytes, verdict: Verdict) -> Decision:
        """The checks of RCPT; `is_discarded` is about this recipient, or all when `discards` is set."""
        is_excused = verdict.quick and verdict.action in (Action.OK, Action.RELAY)
        delayed = self._delayed_session or self._delayed_mail
        if delayed is not None and not is_excused:
            return Decision(delayed)
        denied = self._relay_check(address, verdict)
        if denied is not None:
            return Decision(denied)
        if verdict.protected and not self._relays_quickly:
            return Decision(parse_reply(verdict.protected) or replies.REJECTED)
        if not self._flags.use_access or self._relays_quickly:
            return YES
        reply = rejection(verdict)
        if reply is not None:
            return Decision(reply)
        if verdict.action == Action.DISCARD:
            if verdict.quick:
                self._discards_ta = True
            return Decision(None, True)
        return YES

    @property
    def discards(self) -> bool:
        """The whole transaction is accepted and thrown away."""
        return self._discards_ta

    def _relay_check(self, address: bytes, verdict: Verdict) -> Reply | None:
        is_local = verdict.is_local and self._flags.lmtp_is_local
        if (is_local and verdict.exists) or address == b"postmaster":
            return None
        if self.may_relay and (verdict.exists or not verdict.is_local):
            return None
        if verdict.action == Action.RELAY:
            return None
        if addr.domain_key(addr.split(address)[1]) in self._flags.trusted_domains:
            return None
        if verdict.action in (Action.REJECT, Action.DISCARD):
            return rejection(verdict)
        return replies.UNKNOWN_USER if verdict.is_local and not verdict.exists else replies.RELAYING_DENIED

    @property
    def _relays_quickly(self) -> bool:
        """quick:relay for the client overrides all other checks of the access map (M1 3.9.3)."""
        session = self._session
        return session is not None and session.quick and session.action == Action.RELAY

    def is_greylisted(self, verdict: Verdict) -> bool:
        """Whether greylisting has a say in this recipient, who has passed all else (M1 3.12.2)."""
        if self._is_excused:
            return False
        if not (self._flags.greylists or "greylisting" in _CONF_WORD.findall(verdict.conf.lower())):
            return False
        is_known = self.is_authenticated or (
            self._session is not None and self._session.action in (Action.OK, Action.RELAY))
        return not is_known and not (verdict.quick and verdict.action in (Action.OK, Action.RELAY))
