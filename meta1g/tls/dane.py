"""Whether a server's certificates are what its TLSA records say (RFC 6698 2.1, RFC 7671, RFC 7672 3).

Rules
    Usage 3 (DANE-EE) is about the server's own certificate: neither its names nor its dates matter (RFC 7672 3.1.1).
    Usage 2 (DANE-TA) is about one above it, which the server presents or the record holds as a whole. From there the
    path is verified with its dates, and the certificate must have one of the names (RFC 7672 3.1.2, 3.2).
    Other usages and what can't be understood are unusable; of several digests the strongest counts (RFC 7671 9).
    If no record is usable, there must be TLS, but nobody can be authenticated (RFC 7672 2.2).
"""
import hashlib
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key
from OpenSSL import crypto

from meta1g.mta import tls
from meta1g.mta.dane import Tlsa, TlsaSet
from meta1g.tls import names, private
from meta1g.tls.judge import has_name

TA: Final = 2
EE: Final = 3
_WHOLE: Final = 0  # selectors: the certificate, or its public key (RFC 6698 2.1.2)
_KEY: Final = 1
_FULL: Final = 0  # matching types (RFC 6698 2.1.3)
_DIGESTS: Final = {1: (hashlib.sha256, 32), 2: (hashlib.sha512, 64)}
_KEY_AT: Final = 5  # in a TBSCertificate, fields before subjectPublicKeyInfo without the version (RFC 5280 4.1)
_VERSION: Final = 0xA0


def usable(records: tuple[Tlsa, ...]) -> tuple[Tlsa, ...]:
    """The records that say something; digests that a stronger one makes obsolete are left out."""
    known = [record for record in records if _is_usable(record)]
    best = {(record.usage, record.selector): 0 for record in known}
    for record in known:
        kind = record.usage, record.selector
        best[kind] = max(best[kind], record.matching)
    return tuple(record for record in known
                 if record.matching in (_FULL, best[record.usage, record.selector]))


def _is_usable(record: Tlsa) -> bool:
    if record.usage not in (TA, EE) or record.selector not in (_WHOLE, _KEY):
        return False
    if record.matching in _DIGESTS:
        return len(record.data) == _DIGESTS[record.matching][1]
    return record.matching == _FULL and _is_well_formed(record)


def _is_well_formed(record: Tlsa) -> bool:
    try:
        if record.selector == _WHOLE:
            crypto.load_certificate(crypto.FILETYPE_ASN1, record.data)
        else:
            load_der_public_key(record.data)
    except Exception:  # whatever the parsers raise: somebody else chose these octets
        return False
    return True


def judge(wanted: TlsaSet, chain: tuple[bytes, ...], when: datetime) -> tuple[str, bool]:
    """Why a server with this chain (DER form, its own first) is not the one that its records are about, empty if it is
    or nobody can say; and whether it is, and DNSSEC confirms the records."""
    records = usable(wanted.records)
    problem = _problem(wanted, records, chain, when) if records else ""
    return problem, wanted.is_secure and bool(records) and not problem


def _problem(wanted: TlsaSet, records: tuple[Tlsa, ...], chain: tuple[bytes, ...], when: datetime) -> str:
    if not chain:
        return "no certificate was presented"
    if any(record.usage == EE and matches(record, chain[0]) for record in records):
        return ""
    anchors = [cert for record in records if record.usage == TA for cert in _anchors(record, chain)]
    if not anchors:
        return f"no TLSA record of {wanted.base} matches"
    reasons = [_flaw(anchor, chain, when) for anchor in anchors]
    if all(reasons):
        return f"trust anchor of {wanted.base} does not vouch for the certificate: {reasons[0]}"
    if not _has_name(wanted, chain[0]):
        return f"certificate is for other hosts than {wanted.base}"
    return ""


def matches(record: Tlsa, cert: bytes) -> bool:
    """Whether a certificate in DER form is what a usable record means."""
    data = cert if record.selector == _WHOLE else public_key(cert)
    digest = _DIGESTS.get(record.matching)
    return bool(data) and (digest[0](data).digest() if digest is not None else data) == record.data


def _anchors(record: Tlsa, chain: tuple[bytes, ...]) -> list[bytes]:
    """Certificates above the server's own that a record of usage 2 means."""
    found = [cert for cert in chain[1:] if matches(record, cert)]
    if not found and record.selector == _WHOLE and record.matching == _FULL:
        found = [record.data]
    return [cert for cert in found if cert != chain[0]]


def _flaw(anchor: bytes, chain: tuple[bytes, ...], when: datetime) -> str:
    """What is wrong with the path from an anchor to the server's own certificate; empty if nothing is."""
    try:
        trusted, own, *between = [crypto.load_certificate(crypto.FILETYPE_ASN1, cert) for cert in (anchor, *chain)]
        store = crypto.X509Store()
        store.add_cert(trusted)
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # it need not be a root
        store.set_time(when)
        private.for_servers(store)
        crypto.X509StoreContext(store, own, between).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    except (crypto.Error, ValueError) as error:
        return f"malformed: {error}"
    return ""


def _has_name(wanted: TlsaSet, cert: bytes) -> bool:
    try:
        parsed = x509.load_der_x509_certificate(cert)
    except ValueError:
        return False
    shown = names.hosts(parsed) or (tls.common_name(names.subject(parsed)),)  # RFC 7672 3.2.3
    return has_name(tuple(name for name in (wanted.base, wanted.domain) if not name.startswith(".")), shown)


def public_key(cert: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate as it stands there; empty if that can't be found.

    To parse the key and write it anew may give other octets than those that the record was made of.
    """
    try:
        at, _ = _content(cert, 0)
        at, _ = _content(cert, at)
        if cert[at] == _VERSION:
            at = _end(cert, at)
        for _ in range(_KEY_AT):
            at = _end(cert, at)
        return cert[at:_end(cert, at)]
    except IndexError:
        return b""


def _content(octets: bytes, at: int) -> tuple[int, int]:
    """Where the content of a DER element begins and ends (X.690 8.1.3)."""
    length, at = octets[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(octets[at:at + size], "big"), at + size
    return at, at + length


def _end(octets: bytes, at: int) -> int:
    return _content(octets, at)[1]
