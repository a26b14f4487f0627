"""The order of commands in a server's dialog: TRANSITIONS is the whole truth about it (RFC 5321 4.1.4, 3030); pure."""
from enum import Enum, auto
from typing import Final


class State(Enum):
    """Where in the dialog the session is."""

    START = auto()  # no EHLO yet
    READY = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()  # content is coming
    BDAT = auto()  # some of it has come, or is coming
    CLOSED = auto()


class Ev(Enum):
    """Accepted commands that move the state."""

    HELO = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    BDAT = auto()
    END = auto()  # of content, or of a transaction that failed
    PROXY = auto()  # XCLIENT: a new session begins
    TLS = auto()  # a dialog begins that nobody else can have touched
    RSET = auto()
    QUIT = auto()


TRANSITIONS: Final[dict[tuple[State, Ev], State]] = {
    (State.START, Ev.HELO): State.READY,
    (State.READY, Ev.HELO): State.READY,
    (State.MAIL, Ev.HELO): State.READY,
    (State.RCPT, Ev.HELO): State.READY,
    (State.START, Ev.MAIL): State.MAIL,  # unless require_EHLO_before_MAIL
    (State.READY, Ev.MAIL): State.MAIL,
    (State.MAIL, Ev.RCPT): State.RCPT,
    (State.RCPT, Ev.RCPT): State.RCPT,
    (State.RCPT, Ev.DATA): State.DATA,
    (State.DATA, Ev.END): State.READY,
    (State.RCPT, Ev.BDAT): State.BDAT,
    (State.BDAT, Ev.BDAT): State.BDAT,
    (State.RCPT, Ev.END): State.READY,
    (State.BDAT, Ev.END): State.READY,
    (State.BDAT, Ev.HELO): State.READY,
    (State.BDAT, Ev.RSET): State.READY,
    (State.BDAT, Ev.QUIT): State.CLOSED,
    (State.START, Ev.PROXY): State.START,
    (State.READY, Ev.PROXY): State.START,
    (State.START, Ev.TLS): State.START,
    (State.READY, Ev.TLS): State.START,
    (State.START, Ev.RSET): State.START,
    (State.READY, Ev.RSET): State.READY,
    (State.MAIL, Ev.RSET): State.READY,
    (State.RCPT, Ev.RSET): State.READY,
    (State.START, Ev.QUIT): State.CLOSED,
    (State.READY, Ev.QUIT): State.CLOSED,
    (State.MAIL, Ev.QUIT): State.CLOSED,
    (State.RCPT, Ev.QUIT): State.CLOSED,
}
