"""The two ends of TLS as the SMTP programs hold them: contexts that follow their files, and what handshakes proved.

Rules
    Files are looked at again once in LOOK seconds at most; new ones that make no sense leave the old context at work.
    A session that is taken up again proves nothing new: the verdict of its first handshake counts, and without
    that it fails.
"""
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from OpenSSL import SSL

from meta1g.conf.opt_tls import TlsConf
from meta1g.mta import tls
from meta1g.mta.errors import MtaError
from meta1g.mta.tls import TlsFacts
from meta1g.st.netfd import NetFd
from meta1g.st.sched import now
from meta1g.tls import context, keys
from meta1g.tls.context import PathOf
from meta1g.tls.stream import TlsFd, shake_hands

LOOK: Final = 10.0  # seconds
_VERDICTS_MAX: Final = 10_000  # clients' certificates remembered: 5 MB
_Server = tuple[str, int, str]  # IP address, port, name
K = TypeVar("K")
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """The last entries that were used, with the time they were made."""

    def __init__(self, most: int, age_max: float) -> None:
        self._most = most
        self._age_max = age_max
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def put(self, key: K, value: V) -> None:
        self._entries[key] = now(), value
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        made, value = self._entries.get(key, (0.0, None))
        if value is None or now() - made > self._age_max:
            self._entries.pop(key, None)
            return None
        return value

    def clear(self) -> None:
        self._entries.clear()


class _End:
    """A context of one section tls."""

    _make = staticmethod(context.client_context)

    def __init__(self, conf: TlsConf, path_of: PathOf) -> None:
        """TlsError says which file or option is wrong."""
        self.conf = conf
        self._path_of = path_of
        self._files = context.files_of(conf, path_of)
        self._stamp = self._files.stamp
        self._context = self._make(conf, self._files, path_of)
        self._looked = now()

    def refresh(self) -> str:
        """Take up changed files; what is wrong with them, empty if nothing is."""
        if now() - self._looked < LOOK:
            return ""
        self._looked = now()
        stamp = self._files.stamp
        if stamp == self._stamp:
            return ""
        self._stamp = stamp
        try:
            self._context = self._make(self.conf, self._files, self._path_of)
        except MtaError as error:
            return str(error)
        self._forget()
        return ""

    def _forget(self) -> None:
        """Sessions belong to their context."""

    def expiring(self, before: float) -> list[str]:
        """Certificates of our own that end before this time, seconds since 1970: their files."""
        return [pair.cert for pair in (*self._files.pairs, *self._files.by_name) if _ends_before(pair.cert, before)]


class ServerEnd(_End):
    """For connections of clients."""

    _make = staticmethod(context.server_context)

    def __init__(self, conf: TlsConf, path_of: PathOf) -> None:
        super().__init__(conf, path_of)
        self._verdicts: _Recent[str, TlsFacts] = _Recent(_VERDICTS_MAX, 2.0 * conf.cache_timeout)

    def shake_hands(self, netfd: NetFd, timeout: float) -> tuple[TlsFd, TlsFacts]:
        """Begin TLS with a client; HandshakeFailed, TimedOut."""
        stream, facts = shake_hands(netfd, self._context, timeout, is_server=True, digest=self.conf.digest,
                                    was_asked="request_cert" in self.conf.flags)
        if not facts.fingerprint:
            return stream, facts
        if facts.is_resumed:
            return stream, _resumed(facts, self._verdicts.get(facts.fingerprint))
        self._verdicts.put(facts.fingerprint, facts)
        return stream, facts


class ClientEnd(_End):
    """For connections to servers."""

    def __init__(self, conf: TlsConf, path_of: PathOf) -> None:
        super().__init__(conf, path_of)
        self._sessions: _Recent[_Server, tuple[SSL.Session, TlsFacts]] = _Recent(conf.cache_size, conf.cache_timeout)

    def shake_hands(
        self, netfd: NetFd, ip: str, port: int, name: str, timeout: float, *, shows_chain: bool = False
    ) -> tuple[TlsFd, TlsFacts]:
        """Begin TLS with a server, whose name may be empty; HandshakeFailed, TimedOut.

        Its session is taken up by a later connection to the same server, unless it `shows_chain`: what TLSA records are
        to judge must have been presented in this handshake.
        """
        if shows_chain:
            return shake_hands(netfd, self._context, timeout, is_server=False, digest=self.conf.digest,
                               server_name=name, shows_chain=True)
        server = (ip, port, name)
        session, before = self._sessions.get(server) or (None, None)
        stream, facts = shake_hands(netfd, self._context, timeout, is_server=False, digest=self.conf.digest,
                                    server_name=name, session=session)
        if facts.is_resumed:
            facts = _resumed(facts, before)
        stream.at_end = lambda: self._keep(server, stream, facts)
        return stream, facts

    def _keep(self, server: _Server, stream: TlsFd, facts: TlsFacts) -> None:
        session = stream.session if self.conf.cache_size else None
        if session is not None:
            self._sessions.put(server, (session, facts))

    def _forget(self) -> None:
        self._sessions.clear()


def _resumed(facts: TlsFacts, before: TlsFacts | None) -> TlsFacts:
    if before is None or before.fingerprint != facts.fingerprint:
        return facts
    return facts._replace(verify=before.verify, reason=before.reason, root=before.root) if (
        before.verify in (tls.OK, tls.FAIL)) else facts


def _ends_before(path: str, when: float) -> bool:
    """Whether a certificate ends before that; one that can't be read any more may have."""
    try:
        return keys.certificates(path)[0].not_valid_after_utc.timestamp() < when
    except MtaError:
        return True
