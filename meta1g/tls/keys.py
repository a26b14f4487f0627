"""Certificates and private keys in PEM files (M1 11.1, 11.2)."""
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from meta1g.mta.errors import MtaError
from meta1g.shim.secretfile import read_secret

Key = (rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey | ed25519.Ed25519PrivateKey
       | ed448.Ed448PrivateKey)
_SIZE_MAX = 1 << 20  # octets of a file with certificates or a key


class TlsError(MtaError):
    """TLS can't be set up: the text names the file or option and the remedy."""


class Pair(NamedTuple):
    """A certificate and its key, both paths."""

    cert: str
    key: str


def read(path: str) -> bytes:
    """A PEM file's octets; TlsError."""
    try:
        with open(path, "rb") as file:
            octets = file.read(_SIZE_MAX + 1)
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}") from None
    if len(octets) > _SIZE_MAX:
        raise TlsError(f"{path}: more than {_SIZE_MAX} octets, that is no certificate")
    return octets


def certificates(path: str) -> list[x509.Certificate]:
    """The certificates in a PEM file, the server's own first; TlsError."""
    try:
        return x509.load_pem_x509_certificates(read(path))
    except ValueError as error:
        raise TlsError(f"{path}: no certificate in PEM form ({error})") from None


def private_key(path: str) -> Key:
    """The key in a PEM file that no others may read; TlsError, SecretError."""
    octets = read_secret(path, is_shared=True)
    try:
        found = load_pem_private_key(octets, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsError(f"{path}: no private key in PEM form without a passphrase ({error})") from None
    if not isinstance(found, Key):
        raise TlsError(f"{path}: a key of this kind is not for TLS")
    return found


def use(context: SSL.Context, pair: Pair, *, with_chain: bool) -> None:
    """Give a context a certificate and its key, with the rest of its file as chain; TlsError, SecretError."""
    chain = certificates(pair.cert)
    try:
        if with_chain:
            context.use_certificate_chain_file(pair.cert.encode())
        else:
            context.use_certificate(chain[0])
        context.use_privatekey(private_key(pair.key))
        context.check_privatekey()
    except SSL.Error as error:
        raise TlsError(f"{pair.cert}, {pair.key}: certificate and key do not go together ({reason(error)})") from None


def reason(error: Exception) -> str:
    """The last word of OpenSSL's list of errors."""
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][-1][-1])
    return str(error) or type(error).__name__
