"""AUTH at servers that want to know who delivers, by a map of accounts (RFC 4954).

Rules
    A server with an entry gets no mail without AUTH: if that fails the mail waits, as for a host that is down.
    A mechanism that tells the server the secret itself is used as `plaintext` allows. What is proved by TLS is the key
    that the entry was found by, so what DNS says opens no door: where that is an address, a name from DNS that the
    server can prove, or DANE for it, counts for nothing.
    The next mechanism is tried if the server says that it can't do one; not after a wrong password, which
    would be counted against the account.

Files
    A Berkeley DB map that createmap made and others can't read. Keys: `host:port`, `host`, `address:port`, `address`;
    values: `user:password`, `{TOKEN}user:token`, or `user:` alone for EXTERNAL. A new file is used with the next
    session.
"""
import secrets
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from meta1g.conf.opt_smtpc import ClientAuth
from meta1g.mta.addr import plain_ip
from meta1g.mta.errors import MtaError
from meta1g.mta.reply import Reply
from meta1g.mta.tls import DANE_SEC, OK, TlsFacts
from meta1g.proto.msg_ar import Hop
from meta1g.proto.sasl.client import MECHANISMS, Account, Derive, Exchange
from meta1g.proto.sasl.prep import Unprepared, prepared
from meta1g.proto.sasl.step import AuthFailed
from meta1g.proto.smtp.client import SmtpClient
from meta1g.proto.smtp.client_events import AuthChallenge, AuthWanted, Ready, Refused
from meta1g.shim.secretdb import SecretDb
from meta1g.st.block import Blocking
from meta1g.tls.judge import has_name

_TOKEN: Final = "{TOKEN}"
_INITIAL_MAX: Final = 480  # octets that fit into a command line in base64, with the command (RFC 4954 4)
_CANT: Final = (504, 534)  # a mechanism that the server does not have after all, or not for this account


class LoginFailed(MtaError):
    """No login: the reply that recipients get; `is_ours` if the server has nothing to do with it."""

    def __init__(self, reason: str, *, is_ours: bool = False) -> None:
        super().__init__(reason)
        self.reply = Reply(454, "4.7.0", f"AUTH: {reason}")
        self.is_ours = is_ours


class Entry(NamedTuple):
    """What the map says of a server; the account's secret may be a token."""

    account: Account
    is_token: bool


class Logins:
    """The accounts of this client."""

    def __init__(self, conf: ClientAuth, path: str, blocking: Blocking) -> None:
        """Open the map; SecretError, StoreError."""
        self._conf, self._path, self._blocking = conf, path, blocking
        self._db = SecretDb(path)
        listed = conf.mechanisms.upper().replace(",", " ").split()
        self._listed = tuple(listed or MECHANISMS)

    def at(self, hop: Hop, port: int) -> "Login | None":
        """The login at a server, None if there is no account for it. LoginFailed."""
        try:
            self._db.refresh()
            for key, host in _keys(hop, port):
                value = self._db.table.get(key.encode())
                if value is not None:
                    return Login(_parsed(value, self._path, key), host, self._conf.plaintext, self._listed,
                                 self._blocking)
        except MtaError as error:
            raise error if isinstance(error, LoginFailed) else LoginFailed(str(error), is_ours=True) from None
        return None


class Login:
    """One login at one server."""

    def __init__(self, entry: Entry, host: str, plaintext: str, listed: tuple[str, ...], blocking: Blocking) -> None:
        self._entry, self._host, self._plaintext, self._listed = entry, host, plaintext, listed
        self._blocking = blocking
        self.mechanism = ""
        self.user = entry.account.user

    def run(self, wanted: AuthWanted, machine: SmtpClient, facts: TlsFacts | None,
            next_event: Callable[[], object]) -> object:
        """Authenticate; the event that comes then, Ready if all is well. LoginFailed, and what `next_event` raises."""
        event: object = None
        for mechanism in self._usable(wanted.mechanisms, facts):
            self.mechanism = mechanism
            event = self._exchange(machine, next_event)
            if not isinstance(event, Refused) or event.reply.code not in _CANT:
                break
        return event

    def _usable(self, offered: tuple[str, ...], facts: TlsFacts | None) -> list[str]:
        """Mechanisms in the order in which they are tried, at least one. LoginFailed."""
        fitting = [name for name in self._listed if name in MECHANISMS and name in offered and self._fits(name)]
        hidden = self._why_not_plain(facts)
        usable = [name for name in fitting if not (hidden and MECHANISMS[name].is_clear)]
        if not usable:
            raise LoginFailed(hidden if fitting else f"no mechanism for this account is offered: {' '.join(offered)}")
        return usable

    def _fits(self, name: str) -> bool:
        """Whether the entry has what this mechanism needs."""
        if not self._entry.account.secret or name == "EXTERNAL":
            return name == "EXTERNAL" and not self._entry.account.secret
        return MECHANISMS[name].is_for_tokens == self._entry.is_token

    def _why_not_plain(self, facts: TlsFacts | None) -> str:
        """Why the server can't be told the secret itself, empty if it can."""
        if self._plaintext == "always":
            return ""
        if facts is None:
            return "the password would be sent without TLS"
        if self._plaintext == "encrypted" or (facts.verify == DANE_SEC and plain_ip(self._host) is None):
            return ""
        if facts.verify != OK:
            return f"the server's certificate is not verified: {facts.reason or facts.verify}"
        shown = (*facts.hostnames, facts.common_name)
        return "" if has_name((self._host,), shown) else "the server's certificate is for other hosts"

    def _exchange(self, machine: SmtpClient, next_event: Callable[[], object]) -> object:
        exchange = MECHANISMS[self.mechanism].begin(self._entry.account, secrets.token_urlsafe(18))
        try:
            return self._dialog(exchange, machine, next_event)
        except AuthFailed as error:
            raise LoginFailed(f"{self.mechanism}: {error}") from None
        finally:
            exchange.close()

    def _dialog(self, exchange: Exchange, machine: SmtpClient, next_event: Callable[[], object]) -> object:
        response = self._step(exchange, None)
        is_kept = response is not None and len(response) > _INITIAL_MAX
        machine.authenticate(self.mechanism, None if is_kept else response)
        while isinstance(event := next_event(), AuthChallenge):
            if not is_kept:
                response = self._step(exchange, event.octets)
            is_kept = False
            machine.respond(response)
        if isinstance(event, Ready) and MECHANISMS[self.mechanism].is_mutual and not _is_over(exchange):
            raise AuthFailed("the server did not prove that it knows the password")
        return event

    def _step(self, exchange: Exchange, challenge: bytes | None) -> bytes | None:
        """The response to a challenge."""
        try:
            step = exchange.send(challenge)
            while isinstance(step, Derive):
                step = exchange.send(self._blocking.run(step.answer))
        except StopIteration:
            raise AuthFailed("the server asks for more than there is to say") from None
        return step


def _is_over(exchange: Exchange) -> bool:
    """Whether the mechanism has no more to say, or to hear."""
    try:
        exchange.send(b"")
    except StopIteration:
        return True
    return False


def _keys(hop: Hop, port: int) -> Iterator[tuple[str, str]]:
    """Each key, and the name or address in it."""
    for name in dict.fromkeys((hop.name.strip("[]").rstrip(".").lower(), hop.ip)):
        if name:
            yield f"{name}:{port}", name
            yield name, name


def _parsed(value: bytes, path: str, key: str) -> Entry:
    try:
        text = prepared(value)
    except Unprepared:
        text = ""
    is_token = text.startswith(_TOKEN)
    user, colon, secret = text.removeprefix(_TOKEN).partition(":")
    if not user or not colon:
        raise LoginFailed(f"{path}: entry {key} is not user:password", is_ours=True)
    return Entry(Account(user, secret), is_token)
