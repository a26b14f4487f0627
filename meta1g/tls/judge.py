"""Whether a connection has what is required of it; pure (M1 3.13)."""
from meta1g.conf.opt_tls import TlsRequirements
from meta1g.mta import tls
from meta1g.mta.tls import TlsFacts, encoded


def is_demanding(wanted: TlsRequirements) -> bool:
    """Whether anything is required at all."""
    return wanted != TlsRequirements(violation=wanted.violation)


def violation(wanted: TlsRequirements, facts: TlsFacts | None) -> str:
    """What is missing in a few words, empty if nothing is; `facts` are None for a connection without TLS."""
    if not is_demanding(wanted):
        return ""
    if facts is None:
        return "TLS is required"
    return _weakness(wanted, facts) or _mismatch(wanted, facts)


def consequence(wanted: TlsRequirements, default: str) -> str:
    """What a violation does: abort, tempfail or permfail, the mildest if an entry names several; `default` is that of
    the section tls."""
    return next((word for word in ("abort", "tempfail", "permfail") if word in wanted.violation), default)


def _weakness(wanted: TlsRequirements, facts: TlsFacts) -> str:
    if "encrypted" in wanted.flags and not facts.bits:
        return "encryption is required"
    if facts.bits < wanted.cipher_bits_min:
        return f"{wanted.cipher_bits_min} bits are required, {facts.cipher} has {facts.bits}"
    if "verified" in wanted.flags and facts.verify not in (tls.OK, tls.DANE_SEC):
        return f"a verified certificate is required: {facts.reason or facts.verify}"
    return ""


def _mismatch(wanted: TlsRequirements, facts: TlsFacts) -> str:
    for value, found, what in (
        (wanted.cert_issuer, facts.issuer, "issuer"), (wanted.cert_subject, facts.subject, "subject"),
        (wanted.common_name, facts.common_name, "common name"),
    ):
        if value and not _is_name(value, found):
            return f"certificate has another {what}: {encoded(found)}"
    if wanted.cert_fps and facts.fingerprint not in map(_digits, wanted.cert_fps):
        return f"certificate has another fingerprint: {facts.fingerprint}"
    if wanted.root_ca_subjects and not any(_is_name(name, facts.root) for name in wanted.root_ca_subjects):
        return f"certificate has another root: {encoded(facts.root)}"
    if wanted.hostnames and not has_name(wanted.hostnames, (*facts.hostnames, facts.common_name)):
        return "certificate is for other hosts"
    return ""


def _is_name(value: str, found: str) -> bool:
    """Entries of maps have names encoded; a trailing slash may be left out."""
    return bool(found) and value.rstrip("/") in (found.rstrip("/"), encoded(found).rstrip("/"))


def _digits(fingerprint: str) -> str:
    return fingerprint.replace(":", "").strip().upper()


def has_name(wanted: tuple[str, ...], shown: tuple[str, ...]) -> bool:
    """Whether a certificate that shows these names is for one of the hosts, a leading dot for all of a domain."""
    return any(_fits(name.lower().rstrip("."), other.lower()) for name in wanted for other in shown if other)


def _fits(wanted: str, shown: str) -> bool:
    if wanted.startswith("."):
        return shown.endswith(wanted) and len(shown) > len(wanted)
    if not shown.startswith("*."):
        return wanted == shown
    level, _, rest = wanted.partition(".")  # a wildcard is for one level, and not for all of a top level domain
    return bool(level) and rest == shown[2:] and "." in rest
