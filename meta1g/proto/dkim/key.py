"""Private keys of DKIM: read from text, sign, and what is published of them (RFC 6376 3.6.1, 8301, 8463); pure."""
import base64
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

RSA_MIN: Final = 1024  # bits (RFC 8301 3.2); 2048 or more are recommended
RSA_MAX: Final = 4096  # bits; verifiers need not know larger ones (RFC 8301 3.2), and they take long
_HASHES: Final = {"sha256": Prehashed(hashes.SHA256()), "sha1": Prehashed(hashes.SHA1())}
_PADDING: Final = PKCS1v15()


class BadKey(ValueError):
    """The text holds no key that can be used; the error says why."""


class RsaKey:
    """An RSA key."""

    name: Final = "rsa"

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key
        self.bits = key.key_size
        self.size = (key.key_size + 7) // 8

    def sign(self, digest: bytes, hash_name: str) -> bytes:
        """The signature of a digest made with SHA-256 or SHA-1 (RFC 8017 8.2)."""
        return self._key.sign(digest, _PADDING, _HASHES[hash_name])

    @property
    def published(self) -> bytes:
        """The value of p= in DNS."""
        return base64.b64encode(self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


class Ed25519Key:
    """An Ed25519 key; the digest is what it signs (RFC 8463 3)."""

    name: Final = "ed25519"
    bits: Final = 256
    size: Final = 64

    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self._key = key

    def sign(self, digest: bytes, hash_name: str) -> bytes:
        """The signature of a digest."""
        return self._key.sign(digest)

    @property
    def published(self) -> bytes:
        """The value of p= in DNS: the key alone (RFC 8463 4)."""
        return base64.b64encode(self._key.public_key().public_bytes_raw())


Key = RsaKey | Ed25519Key


def read_key(text: bytes) -> Key:
    """The key in a PEM file (PKCS 1 or PKCS 8, no password). BadKey."""
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = "it needs a password" if isinstance(error, TypeError) else "no private key in PEM form"
        raise BadKey(why) from None
    if isinstance(key, rsa.RSAPrivateKey):
        if not RSA_MIN <= key.key_size <= RSA_MAX:
            raise BadKey(f"an RSA key of {key.key_size} bits; it must have {RSA_MIN} to {RSA_MAX} (RFC 8301)")
        return RsaKey(key)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return Ed25519Key(key)
    raise BadKey("neither an RSA nor an Ed25519 key")


def new_key(bits: int) -> tuple[bytes, Key]:
    """A new RSA key of so many bits, or an Ed25519 key if 0, and its PEM file (PKCS 8)."""
    key = rsa.generate_private_key(65537, bits) if bits else ed25519.Ed25519PrivateKey.generate()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())
    return text, read_key(text)


def record(key: Key) -> str:
    """The TXT record that publishes a key."""
    return f"v=DKIM1; k={key.name}; p={key.published.decode('ascii')}"
