"""Options of the SMTP client (M1 3.11, 8.6) and of the embedded local delivery agent."""
from dataclasses import dataclass

from meta1g.conf import kinds
from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_global import LOG_LEVEL, NO_DEBUG, LogConf
from meta1g.conf.opt_tls import SocketConf, TlsConf
from meta1g.conf.spec import named, opt, sub

_FLAGS = {
    "starttls": "use STARTTLS when it is offered",
    "smtps": "TLS from the first octet",
    "chunking": "send content by BDAT where the server offers CHUNKING (RFC 3030); BINARYMIME needs it",
    "read_QUIT_reply": "wait for the answer to QUIT",
    "talk_to_myself": "deliver to a server that greets with this host's name, too",
    "timing": "log how long each step took",
    "separate_final_dot_and_QUIT": "send the final dot and QUIT in packets of their own, as is always done here",
}
_ON = ("starttls", "chunking")


@dataclass(frozen=True)
class ClientFeatures:
    """A class of session features."""

    name: str = ""
    flags: frozenset[str] = opt("flags", kinds.flags(*_FLAGS, on=_ON), frozenset(_ON),
                                m1="3.11(5.1)", help="features", about=_FLAGS)
    tls: TlsConf | None = sub("tls", TlsConf, m1="3.11(5.2)", optional=True, help="TLS options")


@dataclass(frozen=True)
class ClientProxy(SocketConf):
    """smtpp, by which connections to other servers go."""

    proxy_key: str = opt("proxy_key", kinds.STRING, "", m1="3.11(7)", required=True, help="key that smtpp has, too")


_PLAINTEXT = {
    "verified": "only within TLS, to a server whose certificate is verified and for its name, or by DANE",
    "encrypted": "only within TLS",
    "always": "also without TLS, where all on the way can read them",
}


@dataclass(frozen=True)
class ClientAuth:
    """AUTH at servers that want to know who delivers (new in meta1g)."""

    password_map: PathValue = opt(
        "password_map", kinds.PATH, PathValue(""), m1="", required=True,
        help="map of accounts, which others can't read: keys are host:port, host or an address, values user:password, "
             "{TOKEN}user:token, or user: alone for EXTERNAL. A server with an entry gets no mail without AUTH")
    mechanisms: str = opt("mechanisms", kinds.STRING, "", m1="", source="meta1g",
                          help="those that are used, the best first; default: EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1 "
                               "CRAM-MD5 OAUTHBEARER XOAUTH2 PLAIN LOGIN")
    plaintext: str = opt("plaintext", kinds.enum(*_PLAINTEXT), "verified", m1="", source="meta1g", about=_PLAINTEXT,
                         help="when PLAIN, LOGIN and tokens are sent, which tell the server the secret itself")


@dataclass(frozen=True)
class SmtpcConf:
    """The SMTP client."""

    name: str = ""
    io_timeout: int = opt("IO_timeout", kinds.time(1), 300, m1="3.11(1)", help="wait for the server",
                          source="RFC 5321 4.5.3.2")
    lmtp_socket: PathValue = opt("LMTP_socket", kinds.PATH, PathValue("lmtpsock"), m1="3.11(2)",
                                 help="socket of the local mailer")
    log_level: int = opt("log_level", LOG_LEVEL, 9, m1="3.11(3)", help="how much is logged")
    tls: TlsConf | None = sub("tls", TlsConf, m1="3.11(4)", optional=True, help="STARTTLS")
    session_features: tuple[ClientFeatures, ...] = named("session_features", ClientFeatures, m1="3.11(5)",
                                                         help="classes; their flags replace those of smtpc")
    wait_for_server: int = opt("wait_for_server", kinds.time(), 4, m1="3.11(6)", help="wait for QMGR",
                               source="MeTA1's example")
    proxy: ClientProxy | None = sub("proxy", ClientProxy, m1="3.11(7)", optional=True,
                                    help="the proxy smtpp(8), which connects to servers by SMTP; LMTP does without")
    auth: ClientAuth | None = sub("auth", ClientAuth, m1="", optional=True,
                                  help="AUTH at servers, by a map of accounts")
    connect_only_to: str = opt("connect_only_to", kinds.ip(), "", m1="8.6(1)", help="send all mail there")
    debug_level: int = opt("debug_level", kinds.count(), 0, m1="8.6(2)", moot=NO_DEBUG, help="debug level")
    flags: frozenset[str] = opt("flags", kinds.flags(*_FLAGS, on=_ON), frozenset(_ON), m1="8.6(3)", help="features",
                                about=_FLAGS)
    wait_threads_max: int = opt("wait_threads_max", kinds.count(1), 100, m1="8.6(4)",
                                help="green threads kept for the next sessions")
    wait_threads_min: int = opt("wait_threads_min", kinds.count(1), 5, m1="8.6(5)",
                                help="green threads made at the start")
    module_timeout: int = opt("module_timeout", kinds.time(1), 60, m1="8.6(6)", help="wait until QMGR takes a result",
                              source="meta1g")
    remote_port: int = opt("remote_port", kinds.PORT, 25, m1="8.6(7)", help="port to connect to")
    threads_max: int = opt("threads_max", kinds.count(1), 500, m1="", source="new in meta1g; Postfix has 100 processes",
                           help="sessions at once")
    log: LogConf | None = sub("log", LogConf, m1="3.5", optional=True, help="syslog")


@dataclass(frozen=True)
class LdaConf:
    """The embedded local delivery agent: LMTP in, Maildir out (new in meta1g)."""

    name: str = ""
    maildir_base: PathValue = opt("maildir_base", kinds.PATH, PathValue("maildir"), m1="",
                                  help="folder with a Maildir for each user")
    users: str = opt("users", kinds.enum("passwd", "table"), "passwd", m1="", help="who has a mailbox")
    user_table: PathValue = opt("user_table", kinds.PATH, PathValue("users"), m1="", help="names, one a line")
    extra_users: tuple[str, ...] = opt("extra_users", kinds.many(kinds.STRING), ("postmaster",), m1="",
                                       help="names that exist besides")
    address_delimiter: str = opt("address_delimiter", kinds.STRING, "+", m1="", help="divides user and detail")
    io_timeout: int = opt("IO_timeout", kinds.time(1), 300, m1="", help="wait for the client")
    threads_max: int = opt("threads_max", kinds.count(1), 500, m1="", help="sessions at once")
    message_size_max: int = opt("message_size_max", kinds.size("kb", 1024), 1 << 30, m1="", help="size of a message")
    log_level: int = opt("log_level", LOG_LEVEL, 9, m1="", help="how much is logged")
    log: LogConf | None = sub("log", LogConf, m1="3.5", optional=True, help="syslog")
