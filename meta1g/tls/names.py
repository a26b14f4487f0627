"""Names in certificates, which may be forged or malformed: nothing here raises for them."""
from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509

Components = Sequence[tuple[bytes, bytes]]
UNKNOWN: Final = "BadCert:Unknown"  # M1 3.10 item 24.15.2
_BAD: Final[Components] = ((b"CN", UNKNOWN.encode()),)
_KINDS: Final = {  # as OpenSSL's X509_NAME_oneline(3) has them
    "2.5.4.3": b"CN", "2.5.4.4": b"SN", "2.5.4.5": b"serialNumber", "2.5.4.6": b"C", "2.5.4.7": b"L", "2.5.4.8": b"ST",
    "2.5.4.9": b"street", "2.5.4.10": b"O", "2.5.4.11": b"OU", "2.5.4.12": b"title", "2.5.4.17": b"postalCode",
    "2.5.4.42": b"GN", "2.5.4.46": b"dnQualifier", "0.9.2342.19200300.100.1.1": b"UID",
    "0.9.2342.19200300.100.1.25": b"DC", "1.2.840.113549.1.9.1": b"emailAddress",
}


def subject(cert: x509.Certificate) -> Components:
    """Whose certificate it is: kinds and values in order."""
    return _components(cert, lambda found: found.subject)


def issuer(cert: x509.Certificate) -> Components:
    """Who signed it."""
    return _components(cert, lambda found: found.issuer)


def hosts(cert: x509.Certificate) -> tuple[str, ...]:
    """The DNS names in subjectAltName, in lower case."""
    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()


def _components(cert: x509.Certificate, of: Callable[[x509.Certificate], x509.Name]) -> Components:
    try:
        return [(_KINDS.get(part.oid.dotted_string) or part.oid.dotted_string.encode(), _octets(part.value))
                for part in of(cert)]
    except ValueError:
        return _BAD


def _octets(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
