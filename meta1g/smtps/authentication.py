"""AUTH in a session: its dialog, what success allows, and what a failure costs (RFC 4954, M1 3.10 item 1).

Rules
    Nobody may act as somebody else. Whose mechanism is among the trusted ones may relay; others are only known.

Diagnostics
    ss_se=..., auth=MECH, user=...: who it is. auth=failed, mech=..., user=..., reason=...: who it is not.
    func=smtps, auth=MECH, status=...: passwords can't be looked at; the client got 454.
"""
from typing import TYPE_CHECKING, Final

from meta1g.mta import logfmt
from meta1g.mta.reply import Reply
from meta1g.mta.tls import TlsFacts
from meta1g.proc.log import SESSION
from meta1g.proto.sasl.identity import canonical, is_same
from meta1g.proto.sasl.step import AuthFailed, Success
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.auth import AuthAsked, AuthResponse
from meta1g.smtps.keeper import Exchange, KeeperAway
from meta1g.smtps.keeper import Peer as Peer
from meta1g.st.sched import now, sleep

if TYPE_CHECKING:  # it loads all mechanisms, which a server without AUTH does without
    from meta1g.smtps.auth import Auth

_PUT_OFF: Final = 1.0  # seconds, the shortest answer to a failure


class Authentication:
    """One session's: `mechanism` and `user` are empty until somebody has authenticated."""

    def __init__(self, auth: "Auth | None") -> None:
        """`auth` is None where there is no AUTH."""
        self._auth = auth
        self._exchange: Exchange | None = None
        self._asked = ""  # the mechanism of the exchange
        self._failed = 0
        self.mechanism = self.user = ""

    def anew(self, facts: TlsFacts | None) -> tuple[str, ...] | None:
        """A dialog begins in which nobody is authenticated: its mechanisms, None if there is no AUTH. May wait."""
        self.forget()
        return self._auth.offered(facts) if self._auth is not None else None

    @property
    def may_relay(self) -> bool:
        """Whether the client may relay by this."""
        return self._auth is not None and self.mechanism in self._auth.trusted

    def forget(self) -> None:
        """Nobody is authenticated, and no dialog goes on."""
        self.mechanism = self.user = ""
        self._end_exchange()

    def _end_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end()

    def answer_to(self, said: AuthAsked | AuthResponse, client: Peer) -> bytes | Reply:
        """The next challenge, or the reply that ends it; waits for who knows the passwords, and after a failure."""
        auth = self._auth
        assert auth is not None
        if not auth.failures.begin(client.ip, now()):
            self._end_exchange()
            return self._put_off(auth, replies.AUTH_BUSY)
        try:
            outcome = self._outcome(auth, said, client)
            if isinstance(outcome, bytes):
                return outcome
            self._end_exchange()  # before a wait
            match outcome:
                case KeeperAway():
                    auth.log.error(logfmt.fields(func="smtps", ss_se=client.se, auth=self._asked, status=outcome))
                    return self._put_off(auth, replies.AUTH_AWAY)
                case AuthFailed():
                    return self._fail(auth, outcome, client)
                case Success():
                    return self._succeed(auth, outcome, client)
                case _:
                    return outcome
        finally:
            auth.failures.end(client.ip)

    def _outcome(self, auth: "Auth", said: AuthAsked | AuthResponse, client: Peer
                 ) -> bytes | Success | Reply | AuthFailed | KeeperAway:
        try:
            return self._step(auth, said, client)
        except (AuthFailed, KeeperAway) as error:
            return error

    def _step(self, auth: "Auth", said: AuthAsked | AuthResponse, client: Peer) -> bytes | Success | Reply:
        if isinstance(said, AuthAsked):
            self._asked = said.mechanism
            return self._begin(auth, said, client)
        if said.fault is not None:
            return said.fault
        assert self._exchange is not None
        return self._exchange.respond(said.octets)

    def _begin(self, auth: "Auth", asked: AuthAsked, client: Peer) -> bytes | Success | Reply:
        refusal = auth.refusal(asked, client.tls)
        if refusal is not None:
            return refusal
        self._exchange = auth.exchange(asked, client)
        return self._exchange.begin()

    def _succeed(self, auth: "Auth", outcome: Success, client: Peer) -> Reply:
        realm = auth.conf.user_realm
        user = canonical(outcome.user, realm)
        if outcome.acting and not is_same(outcome.acting, outcome.user, realm, auth.host):
            return self._fail(auth, AuthFailed(f"may not act as {outcome.acting}", user), client)
        self.mechanism, self.user = self._asked, user
        auth.log.write(logfmt.fields(ss_se=client.se, client_ip=client.ip, auth=self.mechanism, user=user), SESSION)
        return replies.AUTH_OK

    def _fail(self, auth: "Auth", error: AuthFailed, client: Peer) -> Reply:
        """535 after a while; 421 if it was once too often, or too many wait."""
        self._failed += 1
        user = canonical(error.user, auth.conf.user_realm) if error.user else ""
        auth.log.write(logfmt.fields(func="smtps", ss_se=client.se, client_ip=client.ip, auth="failed",
                                     mech=self._asked, user=user or None, reason=error), SESSION)
        delay = auth.failures.failed(client.ip, user, now())
        is_last = self._failed >= auth.conf.failures_per_session_max
        return replies.TOO_MANY_LOGINS if not _wait(auth, delay) or is_last else replies.AUTH_FAILED

    def _put_off(self, auth: "Auth", reply: Reply) -> Reply:
        """A temporary error, not so soon that a client that asks again at once keeps the server busy."""
        is_put_off = _wait(auth, min(_PUT_OFF, auth.conf.failure_delay_max))
        return reply if is_put_off else replies.TOO_MANY_LOGINS


def _wait(auth: "Auth", seconds: float) -> bool:
    """False, and no wait, if too many wait already."""
    if not auth.failures.has_room:
        return False
    auth.failures.waiting += 1
    try:
        sleep(seconds)
    finally:
        auth.failures.waiting -= 1
    return True
