"""SASL mechanisms, the client's side, sans-I/O (RFC 4422, 4616, 5802, 7677, 2195, 7628).

Rules
    A mechanism is a generator. It yields its initial response, None if the server begins, and is sent the server's
    challenge; it yields a response, and so on. What takes long it yields as `Derive`, and is sent the answer. A
    mechanism in which the server proves itself, too, ends only when it has: who says 235 before is not the server.
    Passwords are in no text of an error.
"""
import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple

from meta1g.proto.sasl.scram import ITERATIONS_MIN
from meta1g.proto.sasl.step import AuthFailed

ITERATIONS_MAX: Final = 1_000_000  # half a second; what a server asks for more than that is no login but an attack
_SERVER_FIRST: Final = re.compile(rb"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([0-9]{1,9})(?:,[A-Za-z]=[^,]+)*")


class Account(NamedTuple):
    """Who the client is: `secret` is a password, or a token for OAUTHBEARER and XOAUTH2, prepared by SASLprep."""

    user: str
    secret: str


class Derive(NamedTuple):
    """A slow question, answered with the octets that PBKDF2 makes of a password."""

    password: str
    hash: str
    salt: bytes
    iterations: int

    def answer(self) -> bytes:
        """The answer; takes 0.3 s for a million iterations, without the interpreter's lock."""
        return hashlib.pbkdf2_hmac(self.hash, self.password.encode(), self.salt, self.iterations)


Exchange = Generator["bytes | Derive | None", Any, None]


class ClientMechanism(NamedTuple):
    """One mechanism; `begin` makes its exchange of the account and a nonce.

    `is_clear`: who is at the other end, or listens, learns the secret. `is_mutual`: the server proves itself, too.
    """

    begin: Callable[[Account, str], Exchange]
    is_mutual: bool = False
    is_clear: bool = False
    is_for_tokens: bool = False


def _plain(account: Account, _nonce: str) -> Exchange:
    yield b"\0" + account.user.encode() + b"\0" + account.secret.encode()


def _login(account: Account, _nonce: str) -> Exchange:
    yield None
    yield account.user.encode()
    yield account.secret.encode()


def _cram_md5(account: Account, _nonce: str) -> Exchange:
    challenge = yield None
    yield account.user.encode() + b" " + hmac.new(account.secret.encode(), challenge, "md5").hexdigest().encode()


def _external(_account: Account, _nonce: str) -> Exchange:
    yield b""


def _oauthbearer(account: Account, _nonce: str) -> Exchange:
    user = account.user.replace("=", "=3D").replace(",", "=2C")
    yield f"n,a={user},\x01auth=Bearer {account.secret}\x01\x01".encode()
    yield b"\x01"  # to the server's reasons why not, which end with its refusal (RFC 7628 3.2.3)


def _xoauth2(account: Account, _nonce: str) -> Exchange:
    yield f"user={account.user}\x01auth=Bearer {account.secret}\x01\x01".encode()
    yield b""


def _scram(name: str) -> Callable[[Account, str], Exchange]:
    def begin(account: Account, nonce: str) -> Exchange:
        user = account.user.replace("=", "=3D").replace(",", "=2C").encode()
        bare = b"n=%b,r=%b" % (user, nonce.encode())
        server_first = yield b"n,," + bare
        secret: bytes = yield _read_server_first(server_first, nonce, account.secret, name)
        without_proof = b"c=biws,r=" + server_first.partition(b",")[0][2:]
        words = b",".join((bare, server_first, without_proof))
        server_final = yield without_proof + b",p=" + base64.b64encode(_proof(secret, words, name))
        verifier = hmac.digest(hmac.digest(secret, b"Server Key", name), words, name)
        if not hmac.compare_digest(server_final.partition(b",")[0], b"v=" + base64.b64encode(verifier)):
            raise AuthFailed("the server does not know the password", account.user)
        yield b""

    return begin


def _proof(secret: bytes, words: bytes, name: str) -> bytes:
    client_key = hmac.digest(secret, b"Client Key", name)
    signature = hmac.digest(hashlib.new(name, client_key).digest(), words, name)
    return bytes(left ^ right for left, right in zip(client_key, signature, strict=True))


def _read_server_first(message: bytes, nonce: str, password: str, name: str) -> Derive:
    found = _SERVER_FIRST.fullmatch(message)
    if found is None or not found[1].startswith(nonce.encode()) or len(found[1]) == len(nonce):
        raise AuthFailed("malformed challenge")
    iterations = int(found[3])
    if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
        raise AuthFailed(f"the server wants {iterations} iterations")
    try:
        return Derive(password, name, base64.b64decode(found[2], validate=True), iterations)
    except binascii.Error:
        raise AuthFailed("malformed challenge") from None


MECHANISMS: Final = {  # the best first
    "EXTERNAL": ClientMechanism(_external),
    "SCRAM-SHA-256": ClientMechanism(_scram("sha256"), is_mutual=True),
    "SCRAM-SHA-1": ClientMechanism(_scram("sha1"), is_mutual=True),
    "CRAM-MD5": ClientMechanism(_cram_md5),
    "OAUTHBEARER": ClientMechanism(_oauthbearer, is_clear=True, is_for_tokens=True),
    "XOAUTH2": ClientMechanism(_xoauth2, is_clear=True, is_for_tokens=True),
    "PLAIN": ClientMechanism(_plain, is_clear=True),
    "LOGIN": ClientMechanism(_login, is_clear=True),
}
