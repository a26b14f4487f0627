"""Certificate authorities and certificates for tests."""
import datetime
import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
DAY = datetime.timedelta(days=1)


class Signed(NamedTuple):
    """A certificate with its key, and who signed it."""

    cert: x509.Certificate
    key: Key
    issuer: "Signed | None"

    def write(self, folder: Path, name: str, *, with_chain: bool = False) -> tuple[Path, Path]:
        """Put it into two files: the certificate, perhaps with those above it, and the key."""
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        parts, above = [self.pem], self.issuer
        while with_chain and above is not None:
            parts.append(above.pem)
            above = above.issuer
        cert.write_bytes(b"".join(parts))
        key.touch(0o600)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cert, key

    def context(self, folder: Path, name: str, *, with_chain: bool = False) -> ssl.SSLContext:
        """A server's side of TLS with this certificate, which `folder` is to hold."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*self.write(folder, name, with_chain=with_chain))
        return made

    def broken(self, folder: Path) -> ssl.SSLContext:
        """The same, but no handshake succeeds: its only cipher is for RSA keys, which `sign` makes if told."""
        made = self.context(folder, "broken")
        made.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        return made

    @property
    def pem(self) -> bytes:
        return self.cert.public_bytes(Encoding.PEM)


def name_of(text: str, org: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else []
    if org:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, org))
    return x509.Name(parts)


def sign(common_name: str, issuer: Signed | None = None, *, hosts: tuple[str, ...] = (), is_ca: bool = False,
         days: float = 30, org: str = "", is_rsa: bool = False) -> Signed:
    """A new key and its certificate, signed by `issuer` or itself; it ends in so many days."""
    key: Key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = name_of(common_name, org)
    builder = x509.CertificateBuilder(
        issuer.cert.subject if issuer else name, name, key.public_key(), x509.random_serial_number(),
        now - 60 * DAY, now + days * DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
    cert = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return Signed(cert, key, issuer)


def revoked(issuer: Signed, *certs: Signed) -> bytes:
    """A list of revoked certificates in PEM form."""
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder(issuer.cert.subject, now - DAY, now + DAY)
    for signed in certs:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder(signed.cert.serial_number, now - DAY).build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)
