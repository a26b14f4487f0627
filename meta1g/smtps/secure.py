"""TLS in a session with a client: the handshake, what it allows, what is required (M1 3.10 item 24, 3.10.1, 3.13)."""
from typing import TYPE_CHECKING, Final

from meta1g.conf.opt_tls import TlsRequirements
from meta1g.mta import logfmt, tls
from meta1g.mta.errors import RemoteProtocolError
from meta1g.mta.reply import Reply
from meta1g.mta.tls import HandshakeFailed, TlsFacts, log_fields
from meta1g.proc.log import SESSION, Log
from meta1g.proto.smtp import replies
from meta1g.st.netfd import NetFd
from meta1g.st.sched import TimedOut
from meta1g.tls.judge import consequence, violation

if TYPE_CHECKING:  # they load OpenSSL, which a server without TLS does without
    from meta1g.tls.ends import ServerEnd
    from meta1g.tls.stream import TlsFd

_HANDSHAKE_MAX: Final = 60.0  # seconds; who needs longer is not there to send mail
_CODES: Final = {"tempfail": 450, "abort": 421}  # else 550


class Security:
    """The state of one session: `facts` are None as long as it has no TLS."""

    def __init__(self, end: "ServerEnd | None", default_violation: str, log: Log) -> None:
        """`end` is None where TLS is not to be had; `default_violation` is that of the section tls."""
        self.end = end
        self.facts: TlsFacts | None = None
        self.required = TlsRequirements()
        self._default_violation = default_violation
        self._log = log

    def shake_hands(self, netfd: NetFd, se: str, timeout: float) -> "TlsFd":
        """Begin TLS with the client; RemoteProtocolError: the connection is of no use any more."""
        assert self.end is not None
        problem = self.end.refresh()
        if problem:
            self._log.error(f"func=smtps, status=TLS goes on with the files it had, reason={problem}")
        try:
            stream, self.facts = self.end.shake_hands(netfd, min(timeout, _HANDSHAKE_MAX))
        except (HandshakeFailed, TimedOut) as error:
            reason = str(error.strerror if isinstance(error, OSError) else "timeout")
            self._log.write(logfmt.fields(ss_se=se, starttls="failed", reason=reason), SESSION)
            raise RemoteProtocolError("TLS handshake failed") from None
        self._log.write(logfmt.fields(ss_se=se, **log_fields(self.facts)), SESSION)
        return stream

    def forget_client(self) -> None:
        """Another client is behind the connection: it is encrypted, but the certificate is not this client's."""
        if self.facts is not None:
            self.facts = TlsFacts(self.facts.version, self.facts.cipher, self.facts.bits)

    @property
    def is_trusted(self) -> bool:
        """Whether the client may relay as its certificate is verified."""
        return self.is_verified and self.end is not None and "allow_relaying_if_verified" in self.end.conf.flags

    @property
    def asks_access_map(self) -> bool:
        """Whether the access map says if the client may relay."""
        return self.is_verified and self.end is not None and "check_access_map_for_relaying" in self.end.conf.flags

    @property
    def is_verified(self) -> bool:
        """Whether the client has a certificate that is verified."""
        return self.facts is not None and self.facts.verify == tls.OK

    def refusal(self, wanted: TlsRequirements) -> Reply | None:
        """What a command is told that needs more than the session has."""
        missing = violation(wanted, self.facts)
        if not missing:
            return None
        how = consequence(wanted, self._default_violation)
        if self.facts is None and how == "permfail" and self.end is not None:
            return replies.NEED_TLS
        return Reply(_CODES.get(how, 550), "5.7.0" if how == "permfail" else "4.7.0", f"TLS: {missing}")
