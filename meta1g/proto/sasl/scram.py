"""SCRAM-SHA-1 and SCRAM-SHA-256, without channel binding; pure (RFC 5802, 7677).

Rules
    The server keeps a salt and two keys, of which neither the password nor a proof of it can be made.
    A client that binds to the channel (`p=`) is refused, since no -PLUS is offered; one that could (`y`) is right that
    the server can't. Somebody unknown gets a salt like others, and fails at the end (RFC 5802 7).
"""
import base64
import binascii
import hashlib
import hmac
import re
from typing import Final, NamedTuple

from meta1g.proto.sasl.step import (
    AuthFailed,
    Dialog,
    GetScram,
    Scene,
    ScramKeys,
    acting_of,
    asked,
    last_words,
    name_of,
)

ITERATIONS_MIN: Final = 4096  # RFC 7677 4
ITERATIONS_MAX: Final = 10_000_000  # 2 seconds of the client's time, and of ours for PLAIN
_FIRST: Final = re.compile(rb"((?:n|y|p=[A-Za-z0-9.-]+),(?:a=([^,]*))?,)(n=([^,]+),r=([!-+\--~]+)(?:,[A-Za-z]=[^,]+)*)")
_FINAL: Final = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[A-Za-z]=[^,]+)*),p=([A-Za-z0-9+/=]+)")


class _First(NamedTuple):
    header: bytes  # of GS2
    bare: bytes
    user: str
    acting: str
    nonce: bytes


def salted(password: str, name: str, salt: bytes, iterations: int) -> ScramKeys:
    """The keys of a password that SASLprep has prepared; takes 0.3 s for a million iterations."""
    secret = hashlib.pbkdf2_hmac(name, password.encode(), salt, iterations)
    stored = hashlib.new(name, hmac.digest(secret, b"Client Key", name)).digest()
    return ScramKeys(salt, iterations, stored, hmac.digest(secret, b"Server Key", name))


def scram(scene: Scene, initial: bytes | None, *, name: str) -> Dialog:
    """The mechanism with the hash of this name of hashlib."""
    first = _read_first((yield from asked()) if initial is None else initial)
    keys: ScramKeys = yield GetScram(first.user, name)
    nonce = first.nonce + scene.nonce.encode()
    server_first = b"r=%b,s=%b,i=%d" % (nonce, base64.b64encode(keys.salt), keys.iterations)
    final = _FINAL.fullmatch((yield from asked(server_first)))
    if final is None:
        raise AuthFailed("malformed response", first.user)
    if final[2] != base64.b64encode(first.header) or final[3] != nonce:
        raise AuthFailed("wrong nonce or channel binding", first.user)
    words = b",".join((first.bare, server_first, final[1]))
    if not _is_proof(final[4], words, keys, name):
        raise AuthFailed("wrong proof or unknown user", first.user)
    verifier = base64.b64encode(hmac.digest(keys.server_key, words, name))
    return (yield from last_words(first.user, first.acting, b"v=" + verifier))


def _read_first(message: bytes) -> _First:
    found = _FIRST.fullmatch(message)
    if found is None:
        raise AuthFailed("malformed response")
    if found[1].startswith(b"p"):
        raise AuthFailed("channel binding is not offered")
    header, acting, bare, user, nonce = found.groups()
    return _First(header, bare, name_of(_saslname(user)), acting_of(_saslname(acting or b"")), nonce)


def _saslname(text: bytes) -> bytes:
    """RFC 5802 5.1: comma and equal sign are escaped."""
    if b"=" in text.replace(b"=2C", b"").replace(b"=3D", b""):
        raise AuthFailed("malformed user name")
    return text.replace(b"=2C", b",").replace(b"=3D", b"=")


def _is_proof(text: bytes, words: bytes, keys: ScramKeys, name: str) -> bool:
    try:
        proof = base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    signature = hmac.digest(keys.stored_key, words, name)
    if len(proof) != len(signature) or base64.b64encode(proof) != text:  # bits of the last digit that mean nothing
        return False
    client_key = bytes(left ^ right for left, right in zip(proof, signature, strict=True))
    is_right = hmac.compare_digest(hashlib.new(name, client_key).digest(), keys.stored_key)
    return is_right and keys.is_real
