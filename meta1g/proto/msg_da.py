"""Messages between QMGR and SMTPC.

Peers
    QMGR: `Deliver` gives a transaction to a session (opened first when `is_new`), `CloseSession`
    ends an idle one, `Released` answers a `Ready` without sessions. SMTPC: `Delivered` with each
    recipient's result, `SessionEnded` when a session is no more, `TlsSeen` after a handshake.
"""
from typing import Final, NamedTuple

from meta1g.mta.dane import TlsaSet
from meta1g.proto.msg_ar import Hop
from meta1g.proto.msg_ss import Content
from meta1g.proto.rcb import Vocabulary


class TlsLevel:
    """How much of TLS is tried with a host that has failed before (M1 14.1)."""

    ALL: Final = 0
    OLD: Final = 1  # TLS 1.2 and no more
    NONE: Final = 2  # no STARTTLS


class DaRcpt(NamedTuple):
    """A recipient to deliver to; `idx` is the one of its transaction, `conf` the access map's entry smtpc_rcpt_conf.

    `dane` has the TLSA records that the host is to be judged by for it, if it has any. All recipients of one session
    have the same TLSA base domain there, or none.
    """

    idx: int
    conf: str
    address: bytes
    params: bytes
    dane: tuple[TlsaSet, ...] = ()


class Deliver(NamedTuple):
    """Deliver one transaction by session `session` (QMGR's number for it).

    `protocol` of `msg_ar.Protocol`. Only when `is_new` there is a `hop`, exactly one, and perhaps a `source`, the
    local address to bind to, a `feature`, the class of session features, `conf`, the configuration map's entry
    smtpc_session_conf, and `cert_fp`, the fingerprint of the host's last certificate; `tls_level` is of TlsLevel.
    """

    session: int
    task: int
    protocol: int
    size: int
    tls_level: int
    is_new: bool
    is_8bit: bool
    is_utf8: bool
    ta: str
    source: str
    feature: str
    conf: str
    cert_fp: str
    mail: bytes
    mail_params: bytes
    rcpts: tuple[DaRcpt, ...]
    content: tuple[Content, ...]
    hop: tuple[Hop, ...]


class Stage:
    """Where in the dialog a result was decided; the names stand in logs and DSNs (M1 10.6)."""

    NAMES: Final = ("CONNECT", "GREETING", "EHLO", "MAIL", "RCPT", "DATA", "final_dot", "content", "SESSION", "DANE",
                    "AUTH")
    CONNECT: Final = 0
    GREETING: Final = 1
    EHLO: Final = 2
    MAIL: Final = 3
    RCPT: Final = 4
    DATA: Final = 5
    DOT: Final = 6
    CONTENT: Final = 7  # our own content could not be read
    SESSION: Final = 8  # never tried: the session ended before its turn
    DANE: Final = 9  # no TLSA record matches the certificate (M1 3.8 item 13)
    AUTH: Final = 10


class Result(NamedTuple):
    """What became of one recipient: code 0 is delivered, 4yz later, 5yz never.

    `is_said`: the rest is the server's reply, else it is our own word.
    """

    idx: int
    code: int
    stage: int
    is_said: bool
    estat: str
    text: str


class Delivered(NamedTuple):
    """All results of a task. `is_open`: the session can take another one.

    `is_host` marks a failure of the host rather than of the message (M1 3.8.1). `has_dsn`: the server
    takes over to report the recipients' success (RFC 3461).
    """

    session: int
    task: int
    is_open: bool
    is_host: bool
    has_dsn: bool
    results: tuple[Result, ...]


class SessionEnded(NamedTuple):
    """The session is gone; tasks without a result were not tried, unless it `is_lost`: then nobody knows.

    `has_no_tls`: the handshake failed, another session may try it in another way (M1 14.1).
    """

    session: int
    is_lost: bool
    has_no_tls: bool = False


class TlsSeen(NamedTuple):
    """The certificate that the host of a session has, to compare it with the next one's (M1 14.1).

    `expires` in seconds since 1970; `fingerprint` in hexadecimal digits.
    """

    expires: float
    session: int
    fingerprint: str


class CloseSession(NamedTuple):
    """Say QUIT when the running task is done."""

    session: int


class Ready(NamedTuple):
    """SMTPC after Hello: how many sessions it can hold at once. With 0 it leaves: QMGR ends its idle sessions, opens
    no more, and says `Released`."""

    sessions_max: int


class Released(NamedTuple):
    """Nothing is on its way any more to an SMTPC that leaves, but for the `sessions` that it has."""

    sessions: int


VOCABULARY: Final = Vocabulary({
    1: Ready, 2: Deliver, 3: Delivered, 4: SessionEnded, 5: CloseSession, 6: TlsSeen, 7: Released,
})
