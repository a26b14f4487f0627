"""Questions of SMTPS and QMGR to SMAR, and its answers.

Peers
    SMTPS asks `CheckConnect` when a client is there, `CheckMail` and `CheckRcpt` for
    each address: what the maps say. What follows from it for the session (delayed
    rejections, relaying) is the policy of SMTPS.
    QMGR asks `Resolve`: where a recipient's mail goes.
"""
from typing import Final, NamedTuple

from meta1g.proto.rcb import Vocabulary


class Action:
    """What an access map entry says (M1 3.9.3)."""

    NONE: Final = 0  # no entry was found
    OK: Final = 1
    RELAY: Final = 2
    REJECT: Final = 3  # `reject` and `error:`; the reply stands in the verdict
    DISCARD: Final = 4
    CONT: Final = 5


class CheckConnect(NamedTuple):
    """A client has connected; the checks of M1 3.12.2 at connect."""

    client_ip: str


class CheckMail(NamedTuple):
    """MAIL was given: is the sender routeable, a valid local address, listed?

    `use_access` is the SMTP server's flag `access`; `skip` leaves out the checks that a
    session with quick:ok or quick:relay overrides, but still says what the address is.
    """

    use_access: bool
    skip: bool
    client_ip: str
    address: bytes


class CheckRcpt(NamedTuple):
    """RCPT was given: is it local, does it exist, what does the access map say?"""

    use_access: bool
    client_ip: str
    mail: bytes
    address: bytes


class Verdict(NamedTuple):
    """Answer to the three checks.

    `action` of `Action`, `quick` its modifier; `code`, `estat` and `text` are the reply of a
    rejection. `is_local`: the mailertable routes the domain to `lmtp:`. `exists`: the local
    part is known (true for what is not local). `client_name` is empty unless the PTR record
    was confirmed; `resolve` is ok, no, tempptr or tempa. `for_domain`: a verdict on a recipient
    that holds for every address of its domain.
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

    `sender` replaces the envelope sender when `has_sender` (owner- lists). `ttl` is in seconds
    (M1 7.2). If `code` is not 0 the address has no route: the reply says why, 4yz or 5yz.
    """

    protocol: int
    ttl: int
    code: int
    has_sender: bool
    address: bytes
    sender: bytes
    estat: str
    text: str
    hops: tuple[Hop, ...]


class Resolved(NamedTuple):
    """Answer to Resolve: one target, or as many as an alias has."""

    targets: tuple[Target, ...]


class MapsReopened(NamedTuple):
    """SMAR to every peer: forget cached verdicts, the maps have changed (M1 4.8)."""

    when: float


class Statistics(NamedTuple):
    """Ask for counters; the answer is the same class with JSON in `text`."""

    text: str


VOCABULARY: Final = Vocabulary({
    1: CheckConnect, 2: CheckMail, 3: CheckRcpt, 4: Verdict, 5: Resolve, 6: Resolved, 7: MapsReopened, 8: Statistics,
})
