"""A certificate of our own making, so that a new server offers TLS from its first day."""
import datetime
import os
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from meta1g.shim.newfile import create

_DAYS: Final = 3650
_NAME_MAX: Final = 64  # characters of a common name, RFC 5280 appendix A; the whole name is in subjectAltName


class SelfSigned(NamedTuple):
    """A certificate and its key in PEM form."""

    cert: bytes
    key: bytes


def make(host: str, now: datetime.datetime) -> SelfSigned:
    """A P-256 key and a certificate for the name `host`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:_NAME_MAX])])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - datetime.timedelta(days=1),
        now + datetime.timedelta(days=_DAYS))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    cert = builder.sign(key, hashes.SHA256())
    return SelfSigned(cert.public_bytes(Encoding.PEM),
                      key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def write(folder: str, host: str, owner: tuple[int, int] | None) -> None:
    """`cert.pem` and `key.pem` in a folder, the key for its owner and group only (M1 11.1). OSError."""
    made = make(host, datetime.datetime.now(datetime.UTC))
    for name, octets, mode in (("cert.pem", made.cert, 0o644), ("key.pem", made.key, 0o640)):
        with create(os.path.join(folder, name)) as file:
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.write(octets)
