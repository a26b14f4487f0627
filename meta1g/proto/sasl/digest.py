"""DIGEST-MD5 with qop=auth; pure (RFC 2831, which RFC 6331 calls historic)."""
import hashlib
import hmac
import re
from typing import Final, NamedTuple

from meta1g.proto.sasl.step import AuthFailed, Dialog, GetPassword, Scene, acting_of, asked, last_words, name_of

_RESPONSE_MAX: Final = 4096  # octets, RFC 2831 2.1.2
_DIRECTIVE: Final = re.compile(
    rb'[\t\r\n ]*([A-Za-z-]+)[\t ]*=[\t ]*(?:"((?:[^"\\]|\\.)*)"|([!#-+\--~]+))[\t\r\n ]*(?:,|$)')
_ONCE: Final = b"00000001"  # nc: no subsequent authentication is taken
_NEEDED: Final = (b"username", b"nonce", b"cnonce", b"nc", b"digest-uri", b"response")


class _Answer(NamedTuple):
    """A response: all that goes into its digest, and the digest."""

    user: str
    realm: str
    acting: bytes
    nonce: bytes
    cnonce: bytes
    uri: bytes
    response: bytes


def digest_md5(scene: Scene) -> Dialog:
    """The server keeps the password in plain text for it."""
    realm = f'realm="{scene.realm}",' if scene.realm else ""
    challenge = f'{realm}nonce="{scene.nonce}",qop="auth",charset=utf-8,algorithm=md5-sess'
    answer = _read((yield from asked(challenge.encode())), scene)
    name = answer.user
    if answer.realm not in ("", scene.realm) and "@" not in name:
        name = name_of(f"{name}@{answer.realm}".encode())
    password = yield GetPassword(name)
    hashed = _hashed(answer, password or "")
    if not hmac.compare_digest(_digest(answer, hashed, b"AUTHENTICATE:"), answer.response) or not password:
        raise AuthFailed("wrong digest or unknown user", name)
    return (yield from last_words(name, acting_of(answer.acting), b"rspauth=" + _digest(answer, hashed, b":")))


def _read(message: bytes, scene: Scene) -> _Answer:
    """A response whose parts are as they must be; AuthFailed."""
    found = _directives(message)
    if not all(found.get(name) for name in _NEEDED) or found.get(b"qop", b"auth") != b"auth":
        raise AuthFailed("malformed response")
    coding = "utf-8" if found.get(b"charset") == b"utf-8" else "latin-1"
    try:
        user, realm = (found.get(name, b"").decode(coding) for name in (b"username", b"realm"))
    except UnicodeDecodeError:
        raise AuthFailed("bad user name") from None
    user = name_of(user.encode())
    if found[b"nonce"] != scene.nonce.encode() or found[b"nc"] != _ONCE:
        raise AuthFailed("wrong nonce", user)
    if found[b"digest-uri"].partition(b"/")[0].lower() != scene.service.encode():
        raise AuthFailed("digest for another service", user)
    return _Answer(user, realm, found.get(b"authzid", b""), found[b"nonce"], found[b"cnonce"], found[b"digest-uri"],
                   found[b"response"].lower())


def _directives(message: bytes) -> dict[bytes, bytes]:
    """The parts of a response by name in lower case; AuthFailed if it is malformed or one comes twice."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(message) and len(message) <= _RESPONSE_MAX:
        match = _DIRECTIVE.match(message, at)
        if match is None or match[1].lower() in found:
            raise AuthFailed("malformed response")
        found[match[1].lower()] = match[3] if match[2] is None else re.sub(rb"\\(.)", rb"\1", match[2], flags=re.DOTALL)
        at = match.end()
    return found


def _hashed(answer: _Answer, password: str) -> bytes:
    """H(A1) in hexadecimal digits (RFC 2831 2.1.2.1)."""
    secret = _md5(b":".join(_octets(text) for text in (answer.user, answer.realm, password)))
    parts = [secret.digest(), answer.nonce, answer.cnonce] + ([answer.acting] if answer.acting else [])
    return _md5(b":".join(parts)).hexdigest().encode()


def _digest(answer: _Answer, hashed: bytes, method: bytes) -> bytes:
    words = hashed, answer.nonce, _ONCE, answer.cnonce, b"auth", _md5(method + answer.uri).hexdigest().encode()
    return _md5(b":".join(words)).hexdigest().encode()


def _octets(text: str) -> bytes:
    """As ISO 8859-1 where that is possible, else as UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _md5(octets: bytes) -> "hashlib._Hash":
    return hashlib.md5(octets, usedforsecurity=False)
