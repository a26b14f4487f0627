"""What a SASL mechanism says, asks and is told; pure (RFC 4422 3).

Rules
    A mechanism is a generator. It yields a Challenge and is sent the client's response, or it yields a question to
    whoever knows the passwords and is sent the answer. It returns Success or raises AuthFailed.
    Octets are decoded; nonce, clock and names come in with the Scene. Passwords are in no text of an error.
"""
from collections.abc import Generator
from typing import Any, Final, NamedTuple

from meta1g.mta.errors import MtaError
from meta1g.proto.sasl.prep import Unprepared, prepared

NAME_MAX: Final = 255  # octets of a user's name or a realm: Cyrus SASL has 256, with NUL
SERVICE: Final = "smtp"  # RFC 4954 8: the service's name for GSSAPI and DIGEST-MD5


class Scene(NamedTuple):
    """What mechanisms know besides the client's words.

    `nonce` is fresh for each exchange, printable without comma and quotes; `now` in seconds since 1970;
    `certificate_user` is whom a verified certificate names, empty if there is none.
    """

    host: str
    realm: str
    nonce: str
    now: float = 0.0
    service: str = SERVICE
    certificate_user: str = ""


class ScramKeys(NamedTuple):
    """What a server keeps for SCRAM (RFC 5802 3); `is_real` is false for somebody who does not exist."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes
    is_real: bool = True


class Challenge(NamedTuple):
    """To the client; answered with its response, octets."""

    octets: bytes


class CheckPassword(NamedTuple):
    """Is this the user's password? Answered with True or False."""

    user: str
    password: bytes


class GetPassword(NamedTuple):
    """The user's password in plain text, or None."""

    user: str


class GetScram(NamedTuple):
    """The user's ScramKeys for a hash, `sha1` or `sha256`; keys that fit nothing for an unknown user."""

    user: str
    hash: str


class CheckToken(NamedTuple):
    """Whose token is it? Answered with a name, empty if it is nobody's."""

    token: bytes


Step = Challenge | CheckPassword | GetPassword | GetScram | CheckToken


class Success(NamedTuple):
    """The client is `user`, and wants to act as `acting`, empty for the same."""

    user: str
    acting: str = ""


class AuthFailed(MtaError):
    """The client did not prove who it is: the text says why, `user` is who it said it is, if it did."""

    def __init__(self, reason: str, user: str = "") -> None:
        super().__init__(reason)
        self.user = user


Dialog = Generator[Step, Any, Success]


def asked(challenge: bytes = b"") -> Generator[Step, Any, bytes]:
    """The client's response to a challenge."""
    response = yield Challenge(challenge)
    assert isinstance(response, bytes)
    return response


def name_of(octets: bytes) -> str:
    """A user's name as it came, prepared by SASLprep; AuthFailed if it can't be one."""
    try:
        name = prepared(octets)
    except Unprepared:
        name = ""
    if not 0 < len(name.encode()) <= NAME_MAX:
        raise AuthFailed("bad user name")
    return name


def acting_of(octets: bytes) -> str:
    """An authorization identity, which may be empty; AuthFailed."""
    return name_of(octets) if octets else ""


def last_words(user: str, acting: str, words: bytes) -> Dialog:
    """Success with words of the server's, which SMTP sends as one more challenge (RFC 4954 4)."""
    if (yield from asked(words)):
        raise AuthFailed("an empty response was due", user)
    return Success(user, acting)
