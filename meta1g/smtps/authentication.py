"""AUTH in a session: which mechanisms it is offered, its dialog, and what a failure costs (RFC 4954, M1 3.10 item 1).

Rules
    Passwords and tokens are asked for in TLS only, unless `plaintext_without_TLS`. EXTERNAL needs a certificate that is
    verified; its common name is the user. Nobody may act as somebody else.
    Whose mechanism is among the trusted ones may relay; others are only known.

Diagnostics
    ss_se=..., auth=MECH, user=...: who it is. auth=failed, mech=..., user=..., reason=...: who it is not.
    func=smtps, auth=MECH, status=...: passwords can't be looked at; the client got 454.
"""
import secrets
import time
from typing import Final, NamedTuple

from meta1g.conf.opt_auth import AuthConf
from meta1g.mta import logfmt, tls
from meta1g.mta.reply import Reply
from meta1g.mta.tls import TlsFacts
from meta1g.proc.log import SESSION, Log
from meta1g.proto.sasl.identity import canonical, is_same
from meta1g.proto.sasl.mechanisms import MECHANISMS, Virtues
from meta1g.proto.sasl.step import AuthFailed, Scene, Success
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.auth import AuthAsked, AuthResponse
from meta1g.smtps.exchange import OwnExchange
from meta1g.smtps.failures import Failures
from meta1g.smtps.keeper import Elsewhere, Exchange, Keeper, KeeperAway, Owners
from meta1g.st.sched import now, sleep

_NONCE: Final = 18  # octets that are drawn: 24 characters; RFC 2831 2.1.1 wants 64 bits
_TOKENS: Final = frozenset({"OAUTHBEARER", "XOAUTH2"})


class Peer(NamedTuple):
    """Whom a session is with; `tls` is None without TLS."""

    se: str
    ip: str
    tls: TlsFacts | None


class Auth:
    """What the sessions of one server share."""

    def __init__(self, conf: AuthConf, host: str, log: Log, failures: Failures) -> None:
        self.conf, self.host, self.log, self.failures = conf, host, log, failures
        self.keeper: Keeper | None = None
        self.elsewhere: Elsewhere | None = None
        self.owners: Owners | None = None
        self.listed: frozenset[str] | None = None  # None for all
        self.trusted = frozenset(conf.trusted_mechanisms.upper().replace(",", " ").split())
        self._demanded = _demanded(conf.flags)

    def offered(self, facts: TlsFacts | None) -> tuple[str, ...]:
        """The mechanisms for a client with this TLS; may wait."""
        return tuple(name for name, virtues in self._known().items() if self._refusal(name, virtues, facts) is None)

    def refusal(self, name: str, facts: TlsFacts | None) -> Reply | None:
        """Why a client can't use this mechanism."""
        virtues = self._known().get(name)
        return replies.AUTH_UNKNOWN if virtues is None else self._refusal(name, virtues, facts)

    def _known(self) -> dict[str, Virtues]:
        """All mechanisms that are possible here, in the order in which they are offered."""
        names = {"EXTERNAL"} | (_TOKENS if self.owners is not None else set())
        if self.keeper is not None:
            names |= self.keeper.mechanisms if self.listed is None else self.keeper.possible
        known = {name: found.virtues for name, found in MECHANISMS.items() if name in names}
        if self.elsewhere is not None:
            known |= {name: worth for name, worth in self.elsewhere.offered().items() if name not in known}
        return {name: worth for name, worth in known.items() if self.listed is None or name in self.listed}

    def _refusal(self, name: str, virtues: Virtues, facts: TlsFacts | None) -> Reply | None:
        if not virtues.has_all_of(self._demanded):
            return replies.AUTH_WEAK
        if facts is None and not (virtues.noplaintext or self.conf.plaintext_without_tls):
            return replies.AUTH_NEEDS_TLS
        return replies.AUTH_UNKNOWN if name == "EXTERNAL" and not certified(facts) else None

    def exchange(self, asked: AuthAsked, client: Peer) -> Exchange:
        """A dialog by the mechanism that a client asked for."""
        name, conf = asked.mechanism, self.conf
        is_ours = name == "EXTERNAL" or (name in _TOKENS and self.owners is not None)
        if self.elsewhere is not None and not is_ours:
            return self.elsewhere.exchange(name, asked.initial, client.ip, is_tls=client.tls is not None)
        realm = self.host if conf.user_realm is None else conf.user_realm
        scene = Scene(self.host, realm, secrets.token_urlsafe(_NONCE), time.time(),
                      certificate_user=certified(client.tls))
        return OwnExchange(MECHANISMS[name].begin(scene, asked.initial), self.keeper, self.owners)


def certified(facts: TlsFacts | None) -> str:
    """Whom a verified certificate names, empty if there is none."""
    if facts is None or facts.verify != tls.OK or facts.common_name.startswith("BadCert:"):
        return ""
    return facts.common_name


def _demanded(flags: frozenset[str]) -> Virtues:
    return Virtues(
        noplaintext="noplaintext" in flags, noactive="noactive" in flags, nodictionary="nodictionary" in flags,
        forward_secrecy="forward_secrecy" in flags, noanonymous="noanonymous" in flags,
        pass_credentials="pass_credentials" in flags, mutual_auth="mutual_auth" in flags)


class Authentication:
    """One session's: `mechanism` and `user` are empty until somebody has authenticated."""

    def __init__(self, auth: Auth | None) -> None:
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
            return replies.AUTH_BUSY
        try:
            outcome = self._outcome(auth, said, client)
            if isinstance(outcome, bytes):
                return outcome
            self._end_exchange()  # before a wait
            match outcome:
                case AuthFailed():
                    return self._fail(auth, outcome, client)
                case Success():
                    return self._succeed(auth, outcome, client)
                case _:
                    return outcome
        finally:
            auth.failures.end(client.ip)

    def _outcome(self, auth: Auth, said: AuthAsked | AuthResponse, client: Peer
                 ) -> bytes | Success | Reply | AuthFailed:
        try:
            return self._step(auth, said, client)
        except AuthFailed as error:
            return error
        except KeeperAway as error:
            auth.log.error(logfmt.fields(func="smtps", ss_se=client.se, auth=self._asked, status=error))
            return replies.AUTH_AWAY

    def _step(self, auth: Auth, said: AuthAsked | AuthResponse, client: Peer) -> bytes | Success | Reply:
        if isinstance(said, AuthAsked):
            self._asked = said.mechanism
            return self._begin(auth, said, client)
        if said.fault is not None:
            return said.fault
        assert self._exchange is not None
        return self._exchange.respond(said.octets)

    def _begin(self, auth: Auth, asked: AuthAsked, client: Peer) -> bytes | Success | Reply:
        refusal = auth.refusal(asked.mechanism, client.tls)
        ours = MECHANISMS.get(asked.mechanism)
        if refusal is None and asked.initial is not None and ours is not None and not ours.is_client_first:
            refusal = replies.AUTH_NO_INITIAL
        if refusal is not None:
            return refusal
        self._exchange = auth.exchange(asked, client)
        return self._exchange.begin()

    def _succeed(self, auth: Auth, outcome: Success, client: Peer) -> Reply:
        realm = auth.conf.user_realm
        user = canonical(outcome.user, realm)
        if outcome.acting and not is_same(outcome.acting, outcome.user, realm, auth.host):
            return self._fail(auth, AuthFailed(f"may not act as {outcome.acting}", user), client)
        self.mechanism, self.user = self._asked, user
        auth.log.write(logfmt.fields(ss_se=client.se, client_ip=client.ip, auth=self.mechanism, user=user), SESSION)
        return replies.AUTH_OK

    def _fail(self, auth: Auth, error: AuthFailed, client: Peer) -> Reply:
        """535 after a while; 421 if it was once too often, or too many wait."""
        self._failed += 1
        user = canonical(error.user, auth.conf.user_realm) if error.user else ""
        auth.log.write(logfmt.fields(func="smtps", ss_se=client.se, client_ip=client.ip, auth="failed",
                                     mech=self._asked, user=user or None, reason=error), SESSION)
        delay = auth.failures.failed(client.ip, user, now())
        if delay is None:
            return replies.TOO_MANY_LOGINS
        auth.failures.waiting += 1
        try:
            sleep(delay)
        finally:
            auth.failures.waiting -= 1
        return replies.TOO_MANY_LOGINS if self._failed >= auth.conf.failures_per_session_max else replies.AUTH_FAILED
