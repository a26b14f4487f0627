"""OAUTHBEARER and XOAUTH2: a token that somebody else has issued; pure (RFC 7628, Google's XOAUTH2)."""
import re
from typing import Final

from meta1g.proto.sasl.step import AuthFailed, CheckToken, Dialog, Success, asked, name_of

_HEADER: Final = re.compile(rb"[ny],(?:a=([^,]*))?,")
_TOKEN: Final = re.compile(rb"bearer ([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)  # RFC 6750 2.1
_REFUSED_OAUTHBEARER: Final = b'{"status":"invalid_token"}'  # RFC 7628 3.2.2
_REFUSED_XOAUTH2: Final = b'{"status":"401","schemes":"bearer"}'


def oauthbearer(initial: bytes | None) -> Dialog:
    """`n,a=user,` and then ^A key=value ^A ... ^A ^A."""
    header, _, rest = ((yield from asked()) if initial is None else initial).partition(b"\x01")
    found = _HEADER.fullmatch(header)
    if found is None or not rest.endswith(b"\x01\x01"):
        raise AuthFailed("malformed response")
    name = (found[1] or b"").replace(b"=2C", b",").replace(b"=3D", b"=")
    return (yield from _checked(name, rest, _REFUSED_OAUTHBEARER))


def xoauth2(initial: bytes | None) -> Dialog:
    """`user=name ^A auth=Bearer token ^A ^A`."""
    name, _, rest = ((yield from asked()) if initial is None else initial).partition(b"\x01")
    if not name.startswith(b"user=") or not rest.endswith(b"\x01\x01"):
        raise AuthFailed("malformed response")
    return (yield from _checked(name[5:], rest, _REFUSED_XOAUTH2))


def _checked(name: bytes, pairs: bytes, refusal: bytes) -> Dialog:
    user = name_of(name) if name else ""
    values = [pair[5:] for pair in pairs.split(b"\x01") if pair.startswith(b"auth=")]
    found = _TOKEN.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        raise AuthFailed("malformed token", user)
    owner = yield CheckToken(found[1])
    if not owner or user.lower() not in ("", owner.lower()):
        yield from asked(refusal)  # the client has nothing more to say than that it has read it
        raise AuthFailed("token is of somebody else" if owner else "token is not valid", user)
    return Success(owner)
