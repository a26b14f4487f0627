"""PLAIN and LOGIN: the password itself; pure (RFC 4616, draft-murchison-sasl-login)."""
from typing import Final

from meta1g.proto.sasl.step import AuthFailed, CheckPassword, Dialog, Success, acting_of, asked, name_of

PASSWORD_MAX: Final = 1024  # octets; Cyrus SASL's saslauthd takes 1024


def plain(initial: bytes | None) -> Dialog:
    """`acting NUL user NUL password`."""
    message = (yield from asked()) if initial is None else initial
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise AuthFailed("malformed response")
    return (yield from _checked(name_of(parts[1]), parts[2], parts[0]))


def login(initial: bytes | None) -> Dialog:
    """Two questions; many clients send the name at once."""
    user = name_of((yield from asked(b"Username:")) if initial is None else initial)
    return (yield from _checked(user, (yield from asked(b"Password:")), b""))


def _checked(user: str, password: bytes, acting: bytes) -> Dialog:
    if not 0 < len(password) <= PASSWORD_MAX or b"\0" in password:
        raise AuthFailed("bad password", user)
    if not (yield CheckPassword(user, password)):
        raise AuthFailed("wrong password or unknown user", user)
    return Success(user, acting_of(acting))
