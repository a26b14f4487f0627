"""Options of STARTTLS, the same for server and client (M1 3.10 item 24, 11.2)."""
from dataclasses import dataclass

from meta1g.conf import kinds
from meta1g.conf.kinds import PathValue
from meta1g.conf.spec import named, opt, sub

_FLAGS = {
    "allow_relaying_if_verified": "a client with a certificate that is verified may relay",
    "check_access_map_for_relaying": "a verified client may relay if the access map says so of its certificate",
    "request_cert": "ask clients for a certificate",
    "use_chain": "cert_file holds a chain",
}
VIOLATIONS = {"permfail": "refuse for good", "tempfail": "refuse for now", "abort": "end the session"}
_VIOLATIONS = {**VIOLATIONS, "delay": "SMTPC says RCPT all the same, and ends the transaction before the content"}
_REQUIRED = {"verified": "the certificate is verified", "encrypted": "the cipher has a key"}


@dataclass(frozen=True)
class DhConf:
    """DH parameters."""

    bits: int | None = opt("bits", kinds.choice(2048, 1024, 512), m1="3.10(24.14.1)", help="size to generate",
                           moot="OpenSSL takes a group of RFC 7919 that is as strong as the key")
    file: PathValue | None = opt("file", kinds.PATH, m1="3.10(24.14.2)", help="file with parameters")


@dataclass(frozen=True)
class CertificateConf:
    """A further certificate of a server (new in meta1g)."""

    name: str = ""
    cert_file: PathValue = opt("cert_file", kinds.PATH, PathValue(""), m1="", required=True, help="certificate")
    key_file: PathValue = opt("key_file", kinds.PATH, PathValue(""), m1="", required=True, help="private key")


@dataclass(frozen=True)
class TlsConf:
    """A tls section."""

    cache_size: int = opt("cache_size", kinds.count(), 1000, m1="3.10(24.1)", source="meta1g",
                          help="sessions that a client may take up again; a server gives tickets away; 0: none")
    cache_timeout: int = opt("cache_timeout", kinds.time(), 7200, m1="3.10(24.2)", help="age of a cached session",
                             source="meta1g")
    cert_file: PathValue | None = opt("cert_file", kinds.PATH, m1="3.10(24.3)", help="certificate")
    key_file: PathValue | None = opt("key_file", kinds.PATH, m1="3.10(24.4)", help="private key")
    cacert_file: PathValue | None = opt("CAcert_file", kinds.PATH, m1="3.10(24.5)", help="CA certificate")
    calist_file: PathValue | None = opt("CAlist_file", kinds.PATH, m1="3.10(24.6)", help="CAs named to clients")
    cacert_directory: PathValue | None = opt("CAcert_directory", kinds.PATH, m1="3.10(24.7)", help="CA certificates")
    options: tuple[str, ...] = opt("options", kinds.many(kinds.STRING), (), m1="3.10(24.8)", help="TLS options")
    cipherlist: str = opt("CipherList", kinds.STRING, "", m1="3.10(24.9)", help="ciphers before TLSv1.3")
    ciphersuites: str = opt("CipherSuites", kinds.STRING, "", m1="3.10(24.10)", help="ciphers of TLSv1.3")
    crl_file: PathValue | None = opt("CRL_file", kinds.PATH, m1="3.10(24.11)", help="revoked certificates")
    crl_directory: PathValue | None = opt("CRL_directory", kinds.PATH, m1="3.10(24.12)", help="revoked certificates")
    digest: str = opt("Digest", kinds.STRING, "sha1", m1="3.10(24.13)", help="digest of fingerprints")
    dhparam: DhConf | None = sub("DHParam", DhConf, m1="3.10(24.14)", optional=True, help="DH parameters")
    flags: frozenset[str] = opt(
        "flags", kinds.flags(*_FLAGS, on=("request_cert",)), frozenset({"request_cert"}), m1="3.10(24.15)",
        help="certificates of clients", about=_FLAGS)
    violation: str = opt("violation", kinds.enum(*VIOLATIONS), "permfail", m1="3.10(24.16)", about=VIOLATIONS,
                         help="what a violated requirement does", source="meta1g")
    verify_depth: int = opt("verify_depth", kinds.count(0, 100), 10, m1="3.10(24.17)", help="length of chains",
                            source="meta1g")
    dsa_cert_file: PathValue | None = opt("DSA_cert_file", kinds.PATH, m1="11.2(1)", help="DSA certificate")
    dsa_key_file: PathValue | None = opt("DSA_key_file", kinds.PATH, m1="11.2(2)", help="DSA key")
    ec_cert_file: PathValue | None = opt("EC_cert_file", kinds.PATH, m1="11.2(3)", help="EC certificate")
    ec_key_file: PathValue | None = opt("EC_key_file", kinds.PATH, m1="11.2(4)", help="EC key")
    ec_curve: tuple[str, ...] = opt("EC_curve", kinds.many(kinds.STRING), (), m1="11.2(5)", help="curves")
    certificates: tuple[CertificateConf, ...] = named(
        "certificate", CertificateConf, m1="",
        help="a certificate for clients that ask for one of its names (SNI, RFC 6066); the others see cert_file")


@dataclass(frozen=True)
class SocketConf:
    """A socket to talk to, or whose peers are trusted (M1 3.7 item 2)."""

    type: str = opt("type", kinds.enum("inet", "inet6", "unix"), "", m1="3.7(2)", help="kind of socket", required=True)
    port: int | None = opt("port", kinds.PORT, m1="3.7(2)", help="port")
    address: str = opt("address", kinds.ip(), "", m1="3.7(2)", help="address")
    path: PathValue | None = opt("path", kinds.PATH, m1="3.7(2)", help="path of a Unix socket")


@dataclass(frozen=True)
class TlsRequirements:
    """What a connection must have (M1 3.13); it stands in entries of maps."""

    cert_fps: tuple[str, ...] = opt("cert_fps", kinds.many(kinds.STRING), (), m1="3.13(1)", help="fingerprints")
    cert_issuer: str = opt("cert_issuer", kinds.STRING, "", m1="3.13(2)", help="the issuer's name")
    cert_subject: str = opt("cert_subject", kinds.STRING, "", m1="3.13(3)", help="the certificate's name")
    cipher_bits_min: int = opt("cipher_bits_min", kinds.count(0, 512), 0, m1="3.13(4)", help="bits of the cipher")
    common_name: str = opt("common_name", kinds.STRING, "", m1="3.13(5)", help="CN of the certificate")
    flags: frozenset[str] = opt("flags", kinds.flags(*_REQUIRED), frozenset(), m1="3.13(6)", about=_REQUIRED,
                                help="what must be")
    hostnames: tuple[str, ...] = opt("hostnames", kinds.many(kinds.STRING), (), m1="3.13(7)",
                                     help="names, one of which the certificate must have")
    root_ca_subjects: tuple[str, ...] = opt("root_ca_subjects", kinds.many(kinds.STRING), (), m1="3.13(8)",
                                            help="CN of the root that signed")
    violation: frozenset[str] = opt("violation", kinds.flags(*_VIOLATIONS), frozenset(), m1="3.13(9), 3.11.1",
                                    about=_VIOLATIONS, help="what follows if it is not so; default: that of tls")


@dataclass(frozen=True)
class ServerEntry:
    """An entry about a server or recipient that mail goes to (M1 3.11 item 5, 3.11.1)."""

    session_feature: str = opt("session_feature", kinds.STRING, "", m1="3.11(5)", help="a class of session features")
    tls_requirements: TlsRequirements = sub("tls_requirements", TlsRequirements, m1="3.13", help="what TLS must have")
