"""Which mechanisms of AUTH a server offers to whom, and who leads their dialogs (M1 3.10 item 1).

Rules
    Passwords and tokens are asked for in TLS only, unless `plaintext_without_TLS`. EXTERNAL needs a certificate that is
    verified; its common name is the user.
"""
import secrets
import time
from typing import Final

from meta1g.conf.opt_auth import AuthConf
from meta1g.mta import tls
from meta1g.mta.reply import Reply
from meta1g.mta.tls import TlsFacts
from meta1g.proc.log import Log
from meta1g.proto.sasl.mechanisms import MECHANISMS, Virtues
from meta1g.proto.sasl.step import Scene
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.auth import AuthAsked
from meta1g.smtps.exchange import OwnExchange
from meta1g.smtps.failures import Failures
from meta1g.smtps.keeper import Elsewhere, Exchange, Keeper, Owners, Peer

_NONCE: Final = 18  # octets that are drawn: 24 characters; RFC 2831 2.1.1 wants 64 bits
_TOKENS: Final = frozenset({"OAUTHBEARER", "XOAUTH2"})


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

    def refusal(self, asked: AuthAsked, facts: TlsFacts | None) -> Reply | None:
        """Why a client can't use the mechanism that it asked for."""
        virtues, ours = self._known().get(asked.mechanism), MECHANISMS.get(asked.mechanism)
        if virtues is None:
            return replies.AUTH_UNKNOWN
        if asked.initial is not None and ours is not None and not ours.is_client_first:
            return replies.AUTH_NO_INITIAL
        return self._refusal(asked.mechanism, virtues, facts)

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
