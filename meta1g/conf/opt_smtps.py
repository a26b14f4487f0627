"""Options of the SMTP server (M1 3.10, 8.5, 8.5.1)."""
from dataclasses import dataclass

from meta1g.conf import kinds
from meta1g.conf.condition import CONDITION
from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_auth import AuthConf
from meta1g.conf.opt_global import LOG_LEVEL, LogConf
from meta1g.conf.opt_tls import VIOLATIONS, SocketConf, TlsConf, TlsRequirements
from meta1g.conf.spec import named, opt, sub

_FLAGS = {
    "8bitmime": "offer 8BITMIME",
    "smtputf8": "offer SMTPUTF8 (RFC 6531), which needs 8bitmime",
    "chunking": "offer CHUNKING, content by BDAT (RFC 3030)",
    "binarymime": "with chunking, offer BINARYMIME; such mail bounces where the next server does not",
    "dsn": "offer DSN, reports as the sender wants them (RFC 3461)",
    "access": "use the access map, and look up the client's name",
    "allow_data_before_greeting": "a client need not wait for the greeting",
    "allow_space_after_colon_for_MAIL_and_RCPT": "accept MAIL FROM: <a@b.c>",
    "delay_checks": "refuse clients and senders at RCPT only",
    "lmtp_does_not_imply_relaying": "domains that the mailertable gives to lmtp: are not local for that",
    "require_EHLO_before_MAIL": "MAIL needs EHLO or HELO before it",
    "soft_bounce": "all 5xy answers become 4xy, for tests",
    "strict_EHLO_checks": "the name in EHLO or HELO must be well-formed",
    "delay_greylisting_error_until_DATA": "greylisting refuses at DATA",
    "greylisting": "simple greylisting, by the client's address",
    "fullgreylisting": "greylisting by client, sender and recipient",
    "lookup_session_conf": "look up smtps_session_conf in the access map",
    "rcpt_conf": "look up smtps_rcpt_conf in the access map",
    "prdr": "with policy_milter, offer PRDR, an answer for each recipient after the final dot",
    "xverp": "offer XVERP: mail has a sender of its own for each recipient",
    "smtps": "TLS from the first octet (RFC 8314)",
    "background": "fork after start",
    "serialize_accept": "one process accepts at a time",
}
_OFFERS = ("8bitmime", "smtputf8", "chunking", "binarymime", "dsn", "prdr", "xverp")
_OFFERED = ("smtputf8", "chunking", "dsn", "prdr")
_VRFY = {
    "cautious": "252, whoever it is",
    "local": "ask SMAR: 250 or 550 for local users, 252 for others",
    "off": "502",
}
_BARE = {
    "refuse": "554, such mail is not accepted",
    "normalise": "a bare LF becomes CRLF, a bare CR a space",
}
_PMILTER = {
    "abort": "end the session with 421",
    "accept_but_reconnect": "go on without it, try it again in the next session",
}
_DEFAULTS = {
    "tempfail": "451, so that the client tries again; at the begin of a session 421",
    "accept": "go on without it",
    "reject": "550",
    "quarantine": "accept mail, and keep it back until it is released",
}
_MILTER = {
    "no_reuse": "a connection for each session; else one is used again if the filter speaks version 6",
    "no_pipelining": "wait for the answer to each part of the content; else all is sent, and then answers are read",
}
_PROTECT = {"sender": "by the sender's address", "client_ip": "by the client's address"}
_MATCH = {
    "generic_lookup": "as M1 3.12.1 says",
    "implicitly_match_detail": "the same, and user@domain matches user+detail@domain, too",
}
_FEATURES = {"starttls": "offer STARTTLS", **{flag: _FLAGS[flag] for flag in _OFFERS}}
_FORMS = {"simple": "as it is", "relaxed": "blanks (and line breaks of the header) may change on the way"}
_CANONICAL = kinds.enum(*_FORMS)
_METHODS = {
    "rsa-sha256": "which everybody verifies",
    "rsa-sha1": "which nobody accepts any more (RFC 8301)",
    "ed25519-sha256": "short and fast, but not known everywhere (RFC 8463)",
}
_METHOD = kinds.enum(*_METHODS)


@dataclass(frozen=True)
class SignConf:
    """A DKIM key; see meta1g-dkim-key(8)."""

    keyfile: PathValue | None = opt(
        "keyfile", kinds.PATH, m1="3.10(3.8.1)", required=True,
        help="file with the private key (PEM, RSA or Ed25519), which others may not read")
    domain: str = opt("domain", kinds.DOMAIN, "", m1="3.10(3.8.2)", required=True,
                      help="the domain that signs, d= in the signature")
    selector: str = opt("selector", kinds.DOMAIN, "", m1="3.10(3.8.3)", required=True,
                        help="which of its keys it is, s=: the public key is at SELECTOR._domainkey.DOMAIN")
    from_: str = opt("from", kinds.STRING, "", m1="3.10(3.8.4)",
                     help="whose mail it signs: user@domain, domain or .domain of the From field; without it all "
                          "mail that is in no other section")
    signature_method: str = opt("signature_method", _METHOD, "", m1="", about=_METHODS,
                                help="method of this key, if it is another; two sections with the same from and "
                                     "different methods sign together")


@dataclass(frozen=True)
class DkimConf:
    """DKIM signing."""

    signature_method: str = opt("signature_method", _METHOD, "rsa-sha256", m1="3.10(3.1)", about=_METHODS,
                                help="how keys sign")
    body_canonicalization: str = opt("body_canonicalization", _CANONICAL, "simple", m1="3.10(3.2)", about=_FORMS,
                                     help="form in which the body is signed")
    header_canonicalization: str = opt("header_canonicalization", _CANONICAL, "simple", m1="3.10(3.3)", about=_FORMS,
                                       help="form in which the header is signed")
    ignore_errors: bool = opt("ignore_errors", kinds.BOOLEAN, False, m1="3.10(3.4)",
                              help="accept mail that can't be signed; else the client gets an error")
    sign_header: tuple[str, ...] = opt("sign_header", kinds.many(kinds.STRING), (), m1="3.10(3.5)",
                                       help="names of fields to sign; default: all")
    skip_header: tuple[str, ...] = opt("skip_header", kinds.many(kinds.STRING), (), m1="3.10(3.6)",
                                       help="beginnings of names, with their colon, of fields not to sign")
    over_sign_headers: tuple[str, ...] = opt(
        "over_sign_headers", kinds.many(kinds.STRING), (), m1="3.10(3.7)",
        help="names of fields to sign once more than they are there, so that none can be added")
    sign: tuple[SignConf, ...] = named("sign", SignConf, m1="3.10(3.8)", has_name=False, help="a key")
    total_header_len: int = opt("total_header_len", kinds.size("b", 257, 1 << 30), 1 << 20, m1="8.5(3.1)",
                                help="size of a header that can be signed; it is kept in memory")
    header_val_len_max: int = opt("header_val_len_max", kinds.size("b", 257, 1 << 20), 64 << 10, m1="8.5(3.2)",
                                  help="size of one field that can be signed")


@dataclass(frozen=True)
class PolicyMilterConf:
    """A policy milter."""

    socket: SocketConf | None = sub("socket", SocketConf, m1="3.10(19.1)", optional=True, help="where it is")
    timeout: int = opt("timeout", kinds.time(1), 60, m1="3.10(19.2)", help="wait for an answer", source="meta1g")
    flags: frozenset[str] = opt("flags", kinds.flags(*_PMILTER), frozenset(), m1="3.10(19.3)", about=_PMILTER,
                                help="what to do when it can't be reached; by default it is ignored")


@dataclass(frozen=True)
class MilterConf:
    """A filter that speaks sendmail's milter protocol."""

    name: str = ""
    socket: SocketConf | None = sub("socket", SocketConf, m1="", optional=True,
                                    help="where it is: type with path, or with address and port")
    default_action: str = opt("default_action", kinds.enum(*_DEFAULTS), "tempfail", m1="", source="Postfix",
                              help="what happens when it can't be asked or makes no sense", about=_DEFAULTS)
    connect_timeout: int = opt("connect_timeout", kinds.time(1), 10, m1="", source="meta1g",
                               help="wait for a connection and its options")
    timeout: int = opt("timeout", kinds.time(1), 30, m1="", help="wait for the answer to a command", source="Postfix")
    content_timeout: int = opt("content_timeout", kinds.time(1), 300, m1="", source="Postfix",
                               help="wait for the answer to a part of the content; a filter that tells of progress may "
                                    "take longer, 600 seconds in all")
    flags: frozenset[str] = opt("flags", kinds.flags(*_MILTER), frozenset(), m1="", about=_MILTER,
                                help="what is done in another way")


@dataclass(frozen=True)
class ProxyConf(SocketConf):
    """smtpp, which may pass on clients."""

    client_key: str = opt("client_key", kinds.STRING, "", m1="3.10(20)", required=True, help="key that smtpp has, too")


@dataclass(frozen=True)
class ProtectedConf:
    """Protected recipients."""

    allow_by: frozenset[str] = opt("allow_by", kinds.flags(*_PROTECT), frozenset(), m1="3.10(22.1)", about=_PROTECT,
                                   help="who may send", required=True)
    match_type: str = opt("match_type", kinds.enum(*_MATCH), "", m1="3.10(22.2)", about=_MATCH,
                          help="how addresses are compared; default: exactly")


@dataclass(frozen=True)
class FeaturesConf:
    """A class of session features."""

    name: str = ""
    flags: frozenset[str] = opt("flags", kinds.flags(*_FEATURES, on=tuple(_FEATURES)), frozenset(_FEATURES),
                                m1="3.10(25)", help="which of the server's features the class has", about=_FEATURES)
    tls: TlsConf | None = sub("tls", TlsConf, m1="3.10(25)", optional=True, help="TLS options")


@dataclass(frozen=True)
class SessionEntry:
    """An entry of the access map about a session or recipient."""

    session_feature: str = opt("session_feature", kinds.STRING, "", m1="3.10(25)", help="a class of session features")
    tls_requirements: TlsRequirements = sub("tls_requirements", TlsRequirements, m1="3.13", help="what TLS must have")


@dataclass(frozen=True)
class CheckConf:
    """A check with a condition; its name is the stage."""

    name: str = ""
    condition: str = opt("condition", CONDITION, "", m1="8.5.1(2)", help="when", required=True)
    action: str = opt("action", kinds.enum(*VIOLATIONS), "", m1="8.5.1(1)", help="what then", required=True,
                      about=VIOLATIONS)


@dataclass(frozen=True)
class SmtpsConf:
    """The SMTP server."""

    name: str = ""
    milter: tuple[MilterConf, ...] = named("milter", MilterConf, m1="",
                                           help="a filter, see docs/milters.md; asked in the order of the file")
    auth: AuthConf | None = sub("auth", AuthConf, m1="3.10(1)", optional=True, help="AUTH (RFC 4954)")
    cdb_gid: int | None = opt("CDB_gid", kinds.count(), m1="3.10(2)", help="group of content files, that of SMTPC")
    dkim_signing: DkimConf | None = sub("DKIM_signing", DkimConf, m1="3.10(3)", optional=True,
                                        help="sign mail by DKIM (RFC 6376)")
    flags: frozenset[str] = opt("flags", kinds.flags(*_FLAGS, on=_OFFERED), frozenset(_OFFERED), m1="3.10(4), 8.5(2)",
                                help="features and checks", about=_FLAGS)
    greeting: str = opt("greeting", kinds.STRING, "", m1="3.10(5)", help="text of the greeting")
    id: int = opt("id", kinds.count(0, 254), 0, m1="3.10(6)", help="unique number of this server")
    io_timeout: int = opt("IO_timeout", kinds.time(1), 300, m1="3.10(7)", help="wait for the client",
                          source="RFC 5321 4.5.3.2.7")
    threads_max: int = opt("threads_max", kinds.count(1), 1000, m1="3.10(8)", help="sessions", source="meta1g")
    bad_commands_per_session_max: int = opt("bad_commands_per_session_max", kinds.count(), 100, m1="3.10(9)",
                                            help="bad commands", source="meta1g")
    invalid_addresses_per_session_max: int = opt("invalid_addresses_per_session_max", kinds.count(), 200, m1="3.10(10)",
                                                 help="invalid recipients", source="meta1g")
    nop_commands_between_transactions_max: int = opt("nop_commands_between_transactions_max", kinds.count(), 100,
                                                     m1="3.10(11)", help="NOOP, RSET and such", source="Postfix")
    bad_commands_per_transaction_max: int = opt("bad_commands_per_transaction_max", kinds.count(), 50, m1="3.10(12)",
                                                help="bad commands", source="meta1g")
    nop_commands_in_transaction_max: int = opt("nop_commands_in_transaction_max", kinds.count(), 50, m1="3.10(13)",
                                               help="NOOP and such", source="meta1g")
    invalid_addresses_per_transaction_max: int = opt("invalid_addresses_per_transaction_max", kinds.count(), 100,
                                                     m1="3.10(14)", help="invalid recipients", source="meta1g")
    recipients_per_session_max: int = opt("recipients_per_session_max", kinds.count(1), 1_000_000, m1="3.10(15)",
                                          help="recipients", source="meta1g")
    recipients_per_transaction_max: int = opt("recipients_per_transaction_max", kinds.count(1), 1000, m1="3.10(16)",
                                              help="recipients", source="Postfix")
    hops_max: int = opt("hops_max", kinds.count(1), 100, m1="3.10(17)", help="Received fields",
                        source="RFC 5321 6.3")
    message_size_max: int = opt("message_size_max", kinds.size("kb", 1024), 50 << 20, m1="3.10(18)",
                                help="size of a message", source="meta1g")
    policy_milter: PolicyMilterConf | None = sub("policy_milter", PolicyMilterConf, m1="3.10(19)", optional=True,
                                                 help="a policy milter, see pmilter(3); filters are asked first")
    proxy: ProxyConf | None = sub(
        "proxy", ProxyConf, m1="3.10(20)", optional=True,
        help="the proxy smtpp(8), whose connections tell of the client first: those from address (and port, if set), "
             "or on the Unix socket path, where the server then listens too")
    processes: int = opt("processes", kinds.count(1, 7), 1, m1="3.10(21), 8.5(8)", help="processes on one socket")
    protected_recipients: ProtectedConf | None = sub("protected_recipients", ProtectedConf, m1="3.10(22)",
                                                     optional=True, help="protected recipients")
    transactions_max: int = opt("transactions_max", kinds.count(1), 100_000, m1="3.10(23)",
                                help="transactions in a session", source="meta1g")
    tls: TlsConf | None = sub("tls", TlsConf, m1="3.10(24)", optional=True, help="STARTTLS")
    session_features: tuple[FeaturesConf, ...] = named("session_features", FeaturesConf, m1="3.10(25)",
                                                       help="classes of features")
    daemon_address: tuple[str, ...] = opt("daemon_address", kinds.many(kinds.LISTEN, 1, 16), (), m1="8.5(1)",
                                          help="host:port to listen on without MCP")
    listen_queue: int = opt("listen_queue", kinds.count(1), 1024, m1="8.5(4)", help="length of listen(2)'s queue",
                            source="meta1g")
    wait_threads_max: int = opt("wait_threads_max", kinds.count(1), 200, m1="8.5(5)",
                                help="threads kept for the next clients", source="meta1g")
    wait_threads_min: int = opt("wait_threads_min", kinds.count(), 5, m1="8.5(6)",
                                help="threads made at the start", source="meta1g")
    module_timeout: int = opt("module_timeout", kinds.time(1), 60, m1="8.5(7)", help="wait for QMGR", source="meta1g")
    wait_for_smar: int = opt("wait_for_smar", kinds.time(1), 60, m1="8.5(9)", help="wait for SMAR", source="meta1g")
    proxy_protocol_peers: tuple[str, ...] = opt(
        "PROXY_protocol_peers", kinds.many(kinds.NET), (), m1="",
        help="load balancers that send HAProxy's PROXY header, version 1 or 2, before the client's octets")
    xclient_peers: tuple[str, ...] = opt("XCLIENT_peers", kinds.many(kinds.NET), (), m1="",
                                         help="who may tell of other clients by XCLIENT and XFORWARD")
    vrfy: str = opt("VRFY", kinds.enum(*_VRFY), "cautious", m1="", help="what VRFY is answered", about=_VRFY)
    bare_line_ends: str = opt("bare_line_ends", kinds.enum(*_BARE), "refuse", m1="", about=_BARE,
                              help="what is done about a CR or LF in content that is not part of CRLF")
    session_time_max: int = opt("session_time_max", kinds.time(), 4 * 3600, m1="",
                                help="seconds a session may last, 0 for ever", source="meta1g")
    data_rate_min: int = opt("data_rate_min", kinds.count(unit="octets a second"), 100, m1="",
                             help="rate of content after its first minute, 0 for any", source="meta1g")
    check: tuple[CheckConf, ...] = named("check", CheckConf, m1="8.5.1", has_name=False,
                                         help="a check with a condition, see check(5)")
    log_level: int = opt("log_level", LOG_LEVEL, 9, m1="3.5", help="how much is logged")
    log: LogConf | None = sub("log", LogConf, m1="3.5", optional=True, help="syslog")
