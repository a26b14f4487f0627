"""Questions of SMTPS and QMGR to SMAR, and its answers.

Peers
    SMTPS asks `CheckConnect` when a client is there, `CheckMail` and `CheckRcpt` for
    each address: what the maps say. What follows from it for the session (delayed
    rejections, relaying) is the policy of SMTPS.
    QMGR asks `Resolve`: where a recipient's mail goes.
"""
from typing import Final, NamedTuple

from meta1g.mta.dane import TlsaSet
from meta1g.proto.rcb import Vocabulary


class Action:
    """What an access map entry says (M1 3.9.3)."""

    NONE: Final = 0  # no entry was found
    OK: Final = 1
    RELAY: Final = 2
    REJECT: Final = 3  # `reject` and `error:`; the reply stands in the verdict
    DISCARD: Final = 4
    CONT: Final = 5


class Want:
    """What a question asks for; these are bits of `wants`."""

    ACCESS: Final = 1  # the access map is in use: the SMTP server's flag `access`
    SESSION_CONF: Final = 2  # smtps_session_conf: its flag lookup_session_conf
    RCPT_CONF: Final = 64  # smtps_rcpt_conf: its flag rcpt_conf
    BY_SENDER: Final = 4  # protected recipients may be reached by sender (M1 3.10 item 22)
    BY_CLIENT: Final = 8  # ... or by client
    GENERIC: Final = 16  # ... whose addresses are compared as M1 3.12.1 says
    DETAIL: Final = 32  # ... with a detail implied
    PROTECTED: Final = BY_SENDER | BY_CLIENT


class CheckConnect(NamedTuple):
    """A client has connected; the checks of M1 3.12.2 at connect."""

    wants: int
    client_ip: str


class CheckEhlo(NamedTuple):
    """EHLO or HELO was given (M1 3.9.3, tag ehlo:)."""

    name: bytes


class CheckMail(NamedTuple):
    """MAIL was given: is the sender routeable, a valid local address, listed?

    `skip` leaves out the checks that a session with quick:ok or quick:relay overrides, but
    still says what the address is.
    """

    wants: int
    skip: bool
    client_ip: str
    address: bytes


class CheckRcpt(NamedTuple):
    """RCPT was given: is it local, does it exist, what does the access map say, is it protected?"""

    wants: int
    client_ip: str
    mail: bytes
    address: bytes


class CheckGrey(NamedTuple):
    """All other checks let this recipient pass: does greylisting (M1 3.9.4)? `is_full` takes sender and recipient
    into the key. The verdict is a rejection or none."""

    is_full: bool
    client_ip: str
    mail: bytes
    address: bytes


class CheckCert(NamedTuple):
    """A client's certificate was verified: may it relay (M1 3.10 item 24.15.2)? Both are DNs as OpenSSL shows them."""

    issuer: str
    subject: str


class Verdict(NamedTuple):
    """Answer to a check.

    `action` of `Action`, `quick` its modifier; `code`, `estat` and `text` are the reply of a
    rejection. `is_local`: the mailertable routes the domain to `lmtp:`. `exists`: the local
    part is known (true for what is not local). `client_name` is empty unless the PTR record
    was confirmed; `resolve` is ok, no, tempptr or tempa. `for_domain`: a verdict on a recipient
    that holds for every address of its domain. `conf` is the value of a configuration entry
    (M1 3.10.1, 3.10 item 4.9), `protected` the reply to who may not write to a protected recipient, as text.
    """

    action: int
    quick: bool
    is_local: bool
    exists: bool
    for_domain: bool
    code: int
    estat: str
    text: str
    client_name: str
    resolve: str
    conf: str = ""
    protected: str = ""


class Resolve(NamedTuple):
    """Where does mail for this recipient go? `timeout` is QMGR's, in seconds.

    `expand` asks for alias expansion; it is off for recipients that came from one.
    """

    timeout: float
    expand: bool
    address: bytes


class Protocol:
    """Protocols of a route."""

    ESMTP: Final = 0
    LMTP: Final = 1
    LMTP_UNIX: Final = 2  # the socket of smtpc's LMTP_socket (M1 3.11 item 2)


class Hop(NamedTuple):
    """One address to try; port 0 means the client's default. `name` is the host's name for logs and TLS."""

    port: int
    ip: str
    name: str


class Target(NamedTuple):
    """A recipient after alias expansion, with its route.

    `sender` replaces the envelope sender when `has_sender` (owner- lists), `is_verp` asks for VERP
    (verp- lists, M1 3.14). `ttl` is in seconds (M1 7.2). If `code` is not 0 the address has no route: the
    reply says why, 4yz or 5yz. `conf` is the value of smtpc_rcpt_conf: for it (M1 3.11.1), `dane` has the hosts
    with TLSA records (M1 14.2).
    """

    protocol: int
    ttl: int
    code: int
    has_sender: bool
    is_verp: bool
    address: bytes
    sender: bytes
    estat: str
    text: str
    conf: str
    hops: tuple[Hop, ...]
    dane: tuple[TlsaSet, ...] = ()


class Resolved(NamedTuple):
    """Answer to Resolve: one target, or as many as an alias has."""

    targets: tuple[Target, ...]


class MapsReopened(NamedTuple):
    """SMAR to every peer at first and when the maps have changed (M1 4.8): forget cached verdicts.

    `tags` are those that the access map has, with blanks between; `*` if that is not known.
    """

    when: float
    tags: str


class Reopen(NamedTuple):
    """QMGR to SMAR: read the maps anew, somebody asked for it (M1 4.8)."""

    when: float


class Statistics(NamedTuple):
    """Ask for counters; the answer is the same class with JSON in `text`."""

    text: str


class MapLookup(NamedTuple):
    """One key in one map, by its name or what it is used for; only inside an Explain."""

    name: str
    key: bytes


class Explain(NamedTuple):
    """Answer the question in this frame, and say how it came about."""

    question: bytes


class Explained(NamedTuple):
    """Answer to Explain: a JSON object with `question`, `answer`, `steps` and `decided_by`."""

    text: str


VOCABULARY: Final = Vocabulary({
    1: CheckConnect, 2: CheckMail, 3: CheckRcpt, 4: Verdict, 5: Resolve, 6: Resolved, 7: MapsReopened, 8: Statistics,
    9: CheckEhlo, 10: CheckGrey, 11: CheckCert, 12: MapLookup, 13: Explain, 14: Explained,
    15: Reopen,
})
