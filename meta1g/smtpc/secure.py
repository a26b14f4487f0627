"""TLS in a session with a server: which context, what is required, what becomes of mail for which it is not there
(M1 3.11 items 4, 5; 3.13; 14.1, 14.2)."""
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_tls import ServerEntry, TlsConf, TlsRequirements
from meta1g.conf.parse import parse
from meta1g.conf.spec import bind
from meta1g.mta.dane import TlsaSet
from meta1g.mta.reply import Reply
from meta1g.mta.tls import DANE_SEC, TlsFacts
from meta1g.proto.msg_da import Stage, TlsLevel
from meta1g.tls.judge import consequence, violation

if TYPE_CHECKING:  # it loads OpenSSL, which a client that meets no TLS does without
    from meta1g.tls.ends import ClientEnd

_ENTRIES_KEPT: Final = 1000  # of maps, parsed
_WRONG: Final = Reply(451, "4.3.5", "Configuration for this recipient has a mistake")


class Missing(NamedTuple):
    """What is required of TLS and is not there: the reply, and whether RCPT is said all the same (`delay`).

    `is_stranger`: nothing may be said to this server of the recipient, not even so.
    """

    reply: Reply
    is_delayed: bool = False
    stage: int = Stage.EHLO
    is_stranger: bool = False


class Contexts:
    """The contexts of a client, made when they are needed; at once if the configuration has sections tls."""

    def __init__(self, conf: TlsConf | None, features: Iterable[Any], path_of: Callable[[PathValue], str]) -> None:
        """TlsError."""
        self._conf = conf
        self._features = tuple(features)
        self._path_of = path_of
        self._made: dict[bool, tuple[ClientEnd, dict[str, ClientEnd]]] = {}
        self.violation = conf.violation if conf is not None else "permfail"
        if conf is not None or any(feature.tls is not None for feature in self._features):
            self.end("", TlsLevel.ALL)

    def end(self, feature: str, level: int) -> "ClientEnd":
        """The end for sessions of this class; `level` is one of TlsLevel that has TLS."""
        is_old = level == TlsLevel.OLD
        if is_old not in self._made:
            from meta1g.tls.setup import client_ends  # noqa: PLC0415 - loads OpenSSL

            self._made[is_old] = client_ends(self._conf, self._features, self._path_of, is_old=is_old)
        of_all, of_class = self._made[is_old]
        return of_class.get(feature, of_all)


class Proof:
    """What the TLS of a session proves to its recipients; each set of TLSA records is judged once."""

    def __init__(self, facts: TlsFacts | None = None) -> None:
        """`facts` of the handshake, None without one."""
        self._facts = facts
        self._judged: dict[TlsaSet, tuple[str, bool]] = {}

    def facts_for(self, dane: tuple[TlsaSet, ...]) -> TlsFacts | None:
        """The facts as they are to somebody with these records: they may prove more than a CA does (M1 14.2)."""
        if self._facts is not None and any(self._judge(wanted)[1] for wanted in dane):
            return self._facts._replace(verify=DANE_SEC, reason="")
        return self._facts

    def missing(self, texts: tuple[str, ...], dane: tuple[TlsaSet, ...], default: str) -> Missing | None:
        """What TLSA records or one of these entries demand in vain; `default` as for `missing`."""
        for wanted in dane:
            if self._facts is None:
                return Missing(Reply(451, "4.7.5", f"DANE: TLS is required for {wanted.base}"), is_stranger=True)
            problem, _ = self._judge(wanted)
            if problem:
                return Missing(Reply(451, "4.7.5", f"DANE: {problem}"), stage=Stage.DANE, is_stranger=True)
        facts = self.facts_for(dane)
        return next(filter(None, (missing(text, facts, default) for text in texts)), None)

    def _judge(self, wanted: TlsaSet) -> tuple[str, bool]:
        """What is wrong, and whether anything is proved."""
        if wanted not in self._judged:
            from meta1g.tls import dane  # noqa: PLC0415 - loads OpenSSL

            assert self._facts is not None
            self._judged[wanted] = dane.judge(wanted, self._facts.chain, datetime.now(UTC))
        return self._judged[wanted]


def missing(text: str, facts: TlsFacts | None, default: str) -> Missing | None:
    """What an entry for a server or recipient demands in vain; `default` is the violation of the section tls."""
    wanted = _required(text) if text else None
    if wanted is None:
        return Missing(_WRONG) if text else None
    reason = violation(wanted, facts)
    if not reason:
        return None
    is_permanent = consequence(wanted, default) == "permfail"
    reply = Reply(550, "5.7.1", f"TLS: {reason}") if is_permanent else Reply(451, "4.7.1", f"TLS: {reason}")
    return Missing(reply, "delay" in wanted.violation)


@lru_cache(_ENTRIES_KEPT)
def _required(text: str) -> TlsRequirements | None:
    """What an entry demands, None if it has a mistake."""
    root, errors = parse(text, "tls_requirements")
    conf = bind(ServerEntry, root, errors)
    return None if errors else conf.tls_requirements
