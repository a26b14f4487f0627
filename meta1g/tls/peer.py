"""What a peer has shown in its handshake (M1 10.5).

Rules
    OpenSSL looks at a chain from its root to the certificate itself and tells each flaw; the handshake goes on, and the
    first flaw is kept with the connection.
    A session that is taken up again shows no chain: what was found by the first handshake counts (`ends`).
"""
import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from meta1g.mta import tls
from meta1g.mta.tls import TlsFacts
from meta1g.tls import names, private

_REASONS = {  # X509_V_ERR_*, x509_vfy.h
    3: "no list of revoked certificates", 9: "not yet valid", 10: "expired",
    12: "list of revoked certificates expired", 18: "self-signed", 19: "self-signed certificate in its chain",
    20: "issuer unknown", 21: "issuer unknown", 22: "chain too long", 23: "revoked",
}


@dataclass(slots=True)
class Seen:
    """Kept with a connection while OpenSSL looks at certificates: the first flaw, 0 none."""

    error: int = 0


def on_certificate(connection: SSL.Connection, cert: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """OpenSSL asks about one certificate of a chain: remember what is wrong, and go on."""
    seen = connection.get_app_data()
    if not ok and isinstance(seen, Seen) and not seen.error:
        seen.error = error
    return True


def facts_of(connection: SSL.Connection, digest: str, *, was_asked: bool) -> TlsFacts:
    """What is known after a handshake; `was_asked` says whether the peer was asked for a certificate."""
    facts = TlsFacts(
        connection.get_protocol_version_name(), connection.get_cipher_name() or "", connection.get_cipher_bits() or 0,
        tls.NO if was_asked else tls.NOT, is_resumed=private.is_resumed(connection))
    try:
        cert = connection.get_peer_certificate(as_cryptography=True)
    except ValueError as error:  # it is no proper certificate
        return facts._replace(verify=tls.FAIL, reason=f"malformed: {error}", common_name=names.UNKNOWN)
    if cert is None:
        return facts
    seen: Any = connection.get_app_data()
    subject, issuer = names.subject(cert), names.issuer(cert)
    facts = facts._replace(
        subject=tls.oneline(subject), issuer=tls.oneline(issuer), common_name=tls.common_name(subject),
        issuer_name=tls.common_name(issuer), hostnames=names.hosts(cert), fingerprint=fingerprint(cert, digest),
        expires=cert.not_valid_after_utc.timestamp())
    if facts.is_resumed:
        return facts._replace(verify=tls.FAIL, reason="session of an unknown handshake")
    if seen.error:
        return facts._replace(verify=tls.FAIL, reason=_REASONS.get(seen.error, f"flaw {seen.error}"))
    chain = connection.get_verified_chain(as_cryptography=True) or []
    root = tls.common_name(names.subject(chain[-1])) if chain else ""
    return facts._replace(verify=tls.OK, root=root)


def chain_of(connection: SSL.Connection) -> tuple[bytes, ...]:
    """What a server presented, in DER form, its own certificate first; nothing if that was in another handshake."""
    if private.is_resumed(connection):
        return ()
    return tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, cert) for cert in connection.get_peer_cert_chain() or ())


def fingerprint(cert: x509.Certificate, digest: str) -> str:
    """The digest of a certificate in hexadecimal digits; ValueError if hashlib does not know the digest."""
    return hashlib.new(digest, cert.public_bytes(Encoding.DER), usedforsecurity=False).hexdigest().upper()

