"""What a policy milter is: a class whose methods its author overrides (M1 15.1.3 to 15.1.12).

Rules
    Only methods that are overridden are called, and SMTPS waits for no others; what the session's attributes need of
    earlier stages is told along the way.
    A method returns one of SMTP_R_*, `quick(...)` of one, any other code of 400 to 599, or None, which is SMTP_R_CONT.
    The calls of one session come one after another, those of several sessions at the same time, each on one of a
    few threads: what sessions share needs a lock. A method may wait, for a name server, say.
    `abort` and `close` may come when nothing is under way (M1 15.1.14).
"""
from collections.abc import Callable, Iterable
from typing import Final

from meta1g.pmilter.contexts import Process, Server
from meta1g.pmilter.session import Session
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.numbers import Cap

Result = int | None


def quick(result: int) -> int:
    """SMTP_R_SET_QUICK: later checks of the access map do not matter (M1 3.9.3)."""
    return result | numbers.QUICK


class PolicyMilter:
    """A policy that accepts everything: override what you care about.

    Addresses come without angle brackets, the null sender as an empty string; names, addresses and parameters are
    text in which octets that are no UTF-8 are surrogates. Parts of a message are bytes.
    """

    name = ""  # for SMTPS' log; the class's name if it is empty

    def negotiate(self, server: Server) -> bool | None:
        """An SMTP server has connected; pmfi_negotiate.

        `server.offered` says what it has. Change `server.wanted`, and ask for symbols with `server.setmaclist`.
        False refuses the server.
        """

    def connect(self, session: Session, hostname: str, address: str) -> Result:
        """A client has connected: its name (empty if that is unknown), its IP address or `local`; pmfi_connect."""

    def helo(self, session: Session, name: str, is_ehlo: bool) -> Result:
        """EHLO or HELO; pmfi_helo."""

    def mail(self, session: Session, sender: str, params: list[str]) -> Result:
        """MAIL with its parameters, such as `SIZE=100` and `PRDR`; pmfi_mail."""

    def rcpt(self, session: Session, recipient: str, params: list[str]) -> Result:
        """RCPT; `session.rcpt_index` is the recipient's index, `session.getstatus()` the reply so far; pmfi_rcpt."""

    def data(self, session: Session) -> Result:
        """DATA, or the first BDAT; pmfi_data."""

    def unknown(self, session: Session, command: str) -> Result:
        """A command that SMTPS does not know; pmfi_unknown. What is returned makes no command of it."""

    def msg(self, session: Session, chunk: bytes) -> Result:
        """A piece of the message, header and body; its return value counts only with MSG_RC; pmfi_msg."""

    def eom(self, session: Session) -> Result:
        """The message is complete: the only place where it may be changed; pmfi_eom."""

    def msg_rplc(self, session: Session) -> Iterable[bytes]:
        """After SMTP_R_RPLCMSG: the message that takes the other's place, in pieces of any size; pmfi_msg_rplc."""
        return ()

    def msg_rplc_stat(self, session: Session, status: int) -> None:
        """Whether that succeeded (0) or not; pmfi_msg_rplc_stat."""

    def abort(self, session: Session) -> None:
        """The transaction is over before its end; pmfi_abort."""

    def close(self, session: Session) -> None:
        """The session is over; pmfi_close."""

    def signal(self, process: Process, number: int) -> None:
        """USR1 or USR2 has come; called by the main thread, not by a signal handler; pmfi_signal."""


_CALLED: Final[dict[Cap, Callable[..., object]]] = {
    Cap.CONNECT: PolicyMilter.connect, Cap.EHLO: PolicyMilter.helo, Cap.MAIL: PolicyMilter.mail,
    Cap.RCPT: PolicyMilter.rcpt, Cap.DATA: PolicyMilter.data, Cap.UNKNOWN: PolicyMilter.unknown,
    Cap.MSG: PolicyMilter.msg, Cap.EOM: PolicyMilter.eom,
}
_ENDS: Final = (PolicyMilter.abort, PolicyMilter.close)
_SESSION: Final = Cap.CONNECT | Cap.EHLO
_ENVELOPE: Final = _SESSION | Cap.MAIL | Cap.RCPT
_TOLD_BEFORE: Final = {  # what a session's attributes hold when a method is called
    Cap.EHLO: Cap.CONNECT, Cap.UNKNOWN: _SESSION, Cap.MAIL: _SESSION, Cap.RCPT: _SESSION | Cap.MAIL,
    Cap.DATA: _ENVELOPE, Cap.MSG: _ENVELOPE, Cap.EOM: _ENVELOPE,
}


def methods_of(policy: PolicyMilter) -> Cap:
    """The stages for which this policy has a method of its own."""
    found = Cap(0)
    for cap, method in _CALLED.items():
        if _has_own(policy, method):
            found |= cap
    return found


def capabilities_of(policy: PolicyMilter) -> Cap:
    """What this policy must be told: the stages for which it has a method, and what comes before them."""
    found = methods_of(policy)
    if any(_has_own(policy, method) for method in _ENDS):
        found |= _SESSION | Cap.MAIL
    for cap, before in _TOLD_BEFORE.items():
        if found & cap:
            found |= before
    return found


def _has_own(policy: PolicyMilter, method: Callable[..., object]) -> bool:
    return getattr(type(policy), method.__name__) is not method
