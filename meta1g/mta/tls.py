"""What is known of a connection's TLS, and names in certificates as MeTA1 writes them; pure (M1 3.10 item 24, 10.5)."""
from collections.abc import Iterable
from typing import Final, NamedTuple

OK: Final = "OK"  # the certificate is verified
DANE_SEC: Final = "DANE_SEC"  # ... by TLSA records, and these by DNSSEC (M1 14.2)
NO: Final = "NO"  # none was presented
NOT: Final = "NOT"  # none was requested
FAIL: Final = "FAIL"  # one was presented, and it could not be verified
_SPECIAL: Final = frozenset('<>()"+ ')
_NAME_MAX: Final = 255  # octets of a common name, as of a domain


class HandshakeFailed(OSError):
    """No TLS: the text says why. The connection can't be used any more."""


class TlsFacts(NamedTuple):
    """A handshake's outcome; empty strings without a certificate.

    `bits` is the effective key length of the cipher. `verify` is one of OK, DANE_SEC, NO, NOT, FAIL, then `reason` says
    why.
    `subject` and `issuer` are as `oneline` makes them, `common_name`, `issuer_name` and `root`, that of the verified
    chain's end, as `common_name` does. `hostnames` are the DNS names in subjectAltName in lower case, `fingerprint` is
    in hexadecimal digits, `expires` in seconds since 1970. `chain` are the certificates that a server presented in DER
    form, its own first, if they are to be judged by TLSA records.
    """

    version: str
    cipher: str
    bits: int
    verify: str = NOT
    reason: str = ""
    subject: str = ""
    issuer: str = ""
    common_name: str = ""
    issuer_name: str = ""
    hostnames: tuple[str, ...] = ()
    fingerprint: str = ""
    root: str = ""
    expires: float = 0.0
    is_resumed: bool = False
    chain: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        """For the Received field."""
        return f"TLS={self.version}, cipher={self.cipher}, bits={self.bits}, verify={self.verify}"


def oneline(components: Iterable[tuple[bytes, bytes]]) -> str:
    """A distinguished name as OpenSSL shows it, `/C=US/CN=name`; what can't be printed as a backslash, `x` and two
    digits (M1 3.10 item 24.15.2)."""
    return "".join(f"/{_printable(kind)}={_printable(value)}" for kind, value in components)


def _printable(octets: bytes) -> str:
    return "".join(chr(octet) if 32 <= octet < 127 else f"\\x{octet:02X}" for octet in octets)


def encoded(name: str) -> str:
    """A name fit to be a map's key: `+` and two hexadecimal digits for what could be mistaken."""
    return "".join(
        char if " " < char <= "~" and char not in _SPECIAL
        else "".join(f"+{octet:02X}" for octet in char.encode("utf-8", "surrogateescape"))
        for char in name)


def common_name(components: Iterable[tuple[bytes, bytes]]) -> str:
    """The CN of a distinguished name, or what is wrong with it; empty if there is none."""
    found = b""
    for kind, value in components:
        if kind == b"CN":
            found = value
    if b"\0" in found:
        return "BadCert:ContainsNUL"
    if len(found) > _NAME_MAX:
        return "BadCert:TooLong"
    return _printable(found)


def log_fields(facts: TlsFacts) -> dict[str, object]:
    """A handshake in the log."""
    return {
        "starttls": facts.version, "cipher": facts.cipher, "bits": facts.bits, "verify": facts.verify,
        "reason": facts.reason or None, "resumed": 1 if facts.is_resumed else None,
        "cert_subject": facts.subject or None, "cert_issuer": facts.issuer or None,
        "cert_fp": facts.fingerprint or None,
    }
