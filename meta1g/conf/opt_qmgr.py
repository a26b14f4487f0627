"""Options of QMGR (M1 3.8, 8.3)."""
from dataclasses import dataclass

from meta1g.conf import kinds
from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_global import LOG_LEVEL, LOOKUPS, NO_DEBUG, LogConf
from meta1g.conf.spec import named, opt, sub

_DAY = 86400
_GROWS = "tables grow by themselves here"
_THREADS = "QMGR has one thread for each of its tasks"
_DSN = {
    "header_only": "only the header of the message goes into a DSN; else the whole message goes into the first one",
    "MIME_Format": "MIME parts, but not those of RFC 3464",
    "RFC_Format": "as RFC 3464 says; goes before MIME_Format",
    "no_LMTP_delay_DSN": "no report of a delay for recipients that LMTP serves",
}
_DEFEDB = {"remove_unused_logfiles": "Berkeley DB's log files are removed when they are not needed"}
_LOOKUP = {
    "lookup_rcpt_conf": "what the access map says about recipients, smtpc_rcpt_conf",
    "lookup_session_conf": "what the configuration map says about servers, smtpc_session_conf; on if SMTPC has "
                           "session_features",
}
_REUSE = {"reuse_connection": "keep a connection for more mail to the same address"}
_VERP = {"always": "for all mail", "never": "not even on demand"}


@dataclass(frozen=True)
class DefedbConf:
    """The deferred envelope database."""

    base_directory: PathValue = opt("base_directory", kinds.PATH, PathValue("defedb"), m1="3.8(4.1)", help="its folder")
    log_directory: PathValue | None = opt("log_directory", kinds.PATH, m1="3.8(4.2)",
                                          help="folder of its logs")
    page_size: int = opt("page_size", kinds.power_of_two(512, 65536), 4096, m1="8.3(2.1)",
                         help="page size in octets when the database is made", source="Berkeley DB")
    cache_size: int = opt("cache_size", kinds.size("b", 65536), 8 << 20, m1="8.3(2.2)", source="meta1g",
                          help="its cache")
    kbytes_written_for_checkpointing: int = opt(
        "KBytes_written_for_checkpointing", kinds.count(unit="KB"), 0, m1="8.3(2.3)",
        help="checkpoint only after so many KB of log; mailq sees what is deferred after a checkpoint")
    delay_between_2_checkpoints: int = opt("delay_between_2_checkpoints", kinds.time(1), 5, m1="8.3(2.4)",
                                           help="least time between two checkpoints", source="meta1g")
    flags: frozenset[str] = opt("flags", kinds.flags(*_DEFEDB, on=tuple(_DEFEDB)), frozenset(_DEFEDB), m1="8.3(2.5)",
                                help="upkeep", about=_DEFEDB)
    hash_table_entries: int = opt("hash_table_entries", kinds.power_of_two(128, 1 << 26), 65536, m1="8.3(2.6)",
                                  help="recipients in DEFEDB that are in memory too, those that are due first",
                                  source="meta1g")


@dataclass(frozen=True)
class DsnConf:
    """How DSNs are made."""

    merge_delay_max: int = opt("merge_delay_max", kinds.time(), 5, m1="3.8(5.1)", source="meta1g",
                               help="how long a DSN waits for others about the same message")
    flags: frozenset[str] = opt("flags", kinds.flags(*_DSN), frozenset(), m1="3.8(5.2)", about=_DSN,
                                help="form of a DSN")
    errors_per_dsn_max: int = opt("errors_per_DSN_max", kinds.count(1), 100, m1="3.8(5.3)", source="meta1g",
                                  help="failed recipients in one DSN")


@dataclass(frozen=True)
class IbdbConf:
    """The incoming backup database."""

    commit_delay_max: int = opt("commit_delay_max", kinds.count(0, 10_000, unit="ms"), 20, m1="3.8(7.1)",
                                source="meta1g", help="how long records that nobody waits for may stay unwritten")
    size: int = opt("size", kinds.size("b", 4096), 16 << 20, m1="3.8(7.2)", source="meta1g", help="size of each file")
    open_tas_max: int = opt("open_TAs_max", kinds.count(1), 2000, m1="3.8(7.3)", source="meta1g",
                            help="records written with one flush")


@dataclass(frozen=True)
class IqdbConf:
    """The incoming queue."""

    cache_entries_max: int = opt("cache_entries_max", kinds.count(1), 65536, m1="3.8(8.1)",
                                 help="recipients of mail that is arriving", source="meta1g")
    hash_table_entries: int = opt("hash_table_entries", kinds.count(1), 131072, m1="3.8(8.2)", moot=_GROWS,
                                  help="hash table; more than cache_entries_max", source="meta1g")


@dataclass(frozen=True)
class QueueReturnConf:
    """How long a message may be in the queue."""

    default: int = opt("default", kinds.time(1), 5 * _DAY, m1="3.8(13.1)", source="RFC 5321 4.5.4.1",
                       help="then a message is returned")
    dane_no_match: int = opt("DANE_no_match", kinds.time(1), 5 * _DAY, m1="3.8(13)", source="as default",
                             help="the same where TLSA records do not match the server's certificate")


@dataclass(frozen=True)
class QueueDelayConf:
    """When a delay is reported; 0 never."""

    default: int = opt("default", kinds.time(), 0, m1="3.8(13.2)", source="Postfix",
                       help="the sender is told, once, when a try fails after so long")
    dane_no_match: int = opt("DANE_no_match", kinds.time(), 0, m1="3.8(13)", source="Postfix",
                             help="the same where TLSA records do not match the server's certificate")


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits chosen by the domain of a recipient."""

    name: str = ""
    initial_connections: int = opt("initial_connections", kinds.count(1), 10, m1="3.8(16.6.1)", help="at first")
    connections_max: int = opt("connections_max", kinds.count(1), 100, m1="3.8(16.6.2)", help="at most")
    transactions_per_session_max: int = opt("transactions_per_session_max", kinds.count(1), 1000, m1="3.8(16.6.3)",
                                            help="transactions in one session", source="meta1g")


@dataclass(frozen=True)
class Source:
    """Addresses to bind to."""

    name: str = ""
    ips: tuple[str, ...] = opt("ips", kinds.many(kinds.ip(), 1), (), m1="3.8(16.9.1)", help="local addresses")


@dataclass(frozen=True)
class ToSmtpc:
    """Limits of outgoing connections."""

    initial_connections: int = opt("initial_connections", kinds.count(1), 10, m1="3.8(16.1)",
                                   help="connections to one address at first (slow start)")
    connections_max: int = opt("connections_max", kinds.count(1), 100, m1="3.8(16.2)",
                               help="connections to one address at most")
    transactions_per_session_max: int = opt("transactions_per_session_max", kinds.count(1), 1000, m1="3.8(16.3)",
                                            help="transactions in one session", source="meta1g")
    lmtp_rcpts_per_transaction_max: int = opt("lmtp_rcpts_per_transaction_max", kinds.count(1), 100, m1="3.8(16.4)",
                                              help="recipients in one LMTP transaction", source="RFC 5321 4.5.3.1.8")
    smtp_rcpts_per_transaction_max: int = opt("smtp_rcpts_per_transaction_max", kinds.count(1), 100, m1="3.8(16.5)",
                                              help="recipients in one SMTP transaction", source="RFC 5321 4.5.3.1.8")
    connection_limits: tuple[ConnectionLimits, ...] = named("connection_limits", ConnectionLimits, m1="3.8(16.6)",
                                                            help="limits by recipient domain")
    flags: frozenset[str] = opt("flags", kinds.flags(*_LOOKUP), frozenset(), m1="3.8(16.7)",
                                help="what to look up", about=_LOOKUP)
    rcpt_conf_lookup_flags: frozenset[str] = opt("rcpt_conf_lookup_flags", kinds.flags(*LOOKUPS), frozenset(LOOKUPS),
                                                 m1="3.8(16.8)", about=LOOKUPS,
                                                 help="how smtpc_rcpt_conf is looked up; local parts alone if all are")
    source: tuple[Source, ...] = named("source", Source, m1="3.8(16.9)", help="addresses to bind to")


@dataclass(frozen=True)
class ToSmtps:
    """Limits of incoming connections, for each client."""

    connection_rate_max: int = opt("connection_rate_max", kinds.count(1), 100, m1="3.8(17.1)",
                                   help="connections in 60 seconds")
    connections_max: int = opt("connections_max", kinds.count(1), 100, m1="3.8(17.2)", help="open connections")
    connection_control_cache_size: int = opt("connection_control_cache_size", kinds.count(1), 8192, m1="8.3(10.1)",
                                             help="clients remembered", source="meta1g")
    connection_control_hash_table_size: int = opt("connection_control_hash_table_size", kinds.count(1), 16384,
                                                  m1="8.3(10.2)", moot=_GROWS, help="hash table", source="meta1g")


@dataclass(frozen=True)
class VerpConf:
    """VERP."""

    when: str = opt("when", kinds.enum(*_VERP), "", m1="3.8(18.1)", help="when; default: on demand", about=_VERP)
    delimiter1: str = opt("delimiter1", kinds.STRING, "+", m1="3.8(18.2)", help="before the recipient")
    delimiter2: str = opt("delimiter2", kinds.STRING, "=", m1="3.8(18.3)", help="instead of @")


@dataclass(frozen=True)
class QmgrConf:
    """The queue manager."""

    aq_entries_max: int = opt("AQ_entries_max", kinds.count(16), 20000, m1="3.8(1)", source="meta1g",
                              help="recipients in the active queue; more than one transaction may have")
    conf: PathValue = opt("conf", kinds.PATH, PathValue("qmgr_conf.db"), m1="3.8(2)",
                          help="configuration map")
    control_socket: PathValue = opt("control_socket", kinds.PATH, PathValue("ibdb/qmgr_control"), m1="3.8(3)",
                                    help="socket for qmgrctl", source="meta1g")
    defedb: DefedbConf = sub("DEFEDB", DefedbConf, m1="3.8(4)", help="deferred envelope database")
    dsn_handling: DsnConf = sub("DSN_handling", DsnConf, m1="3.8(5)", help="delivery status notifications")
    double_bounce_address: str = opt("double_bounce_address", kinds.ADDRESS, "", m1="3.8(6)",
                                     help="who gets DSNs that fail; default doublebounce@hostname")
    ibdb: IbdbConf = sub("IBDB", IbdbConf, m1="3.8(7)", help="incoming backup database")
    iqdb: IqdbConf = sub("IQDB", IqdbConf, m1="3.8(8)", help="incoming queue")
    log_level: int = opt("log_level", LOG_LEVEL, 9, m1="3.8(9)", help="how much is logged")
    disk_space_min: int = opt("disk_space_min", kinds.size("kb"), 10 << 20, m1="3.8(10)", source="meta1g",
                              help="free space below which no mail is accepted")
    disk_space_ok: int = opt("disk_space_ok", kinds.size("kb"), 20 << 20, m1="3.8(11)", source="meta1g",
                             help="free space at which mail is accepted again")
    occ_entries_max: int = opt("OCC_entries_max", kinds.count(16), 16384, m1="3.8(12)", source="meta1g",
                               help="addresses in the outgoing connection cache")
    queue_return: QueueReturnConf = sub("queue_return", QueueReturnConf, m1="3.8(13.1)",
                                        help="longest time in the queue")
    queue_delay: QueueDelayConf = sub("queue_delay", QueueDelayConf, m1="3.8(13.2)",
                                      help="when a delay is reported")
    retry_delay_max: int = opt("retry_delay_max", kinds.time(1), 4000, m1="3.8(14)", source="Postfix",
                               help="longest time between two tries")
    retry_delay_min: int = opt("retry_delay_min", kinds.time(1), 60, m1="3.8(15)", source="meta1g",
                               help="time until the second try; it doubles with each")
    smtpc: ToSmtpc = sub("smtpc", ToSmtpc, m1="3.8(16)", help="outgoing connections")
    smtps: ToSmtps = sub("smtps", ToSmtps, m1="3.8(17)", help="incoming connections")
    verp: VerpConf = sub("VERP", VerpConf, m1="3.8(18)", help="senders that name the recipient, VERP")
    wait_for_client: int = opt("wait_for_client", kinds.time(), 4, m1="3.8(19)", source="MeTA1's example",
                               help="how long SMTPC may be away before the log says so")
    wait_for_server: int = opt("wait_for_server", kinds.time(), 4, m1="3.8(20)", source="MeTA1's example",
                               help="how long SMAR may be away before the log says so")
    debug_level: int = opt("debug_level", kinds.count(), 0, m1="8.3(1)", moot=NO_DEBUG, help="debug level")
    delivery_timeout: int = opt("delivery_timeout", kinds.time(1), 7200, m1="8.3(3)", source="meta1g",
                                help="longest time of one delivery attempt")
    flags: frozenset[str] = opt("flags", kinds.flags(*_REUSE, on=tuple(_REUSE)), frozenset(_REUSE), m1="8.3(4)",
                                help="how mail is sent", about=_REUSE)
    fds_max: int = opt("fds_max", kinds.count(16), 1024, m1="8.3(5)", help="open files, which bounds the clients")
    threads_max: int = opt("threads_max", kinds.count(1), 8, m1="8.3(6)", moot=_THREADS, help="threads at most")
    threads_min: int = opt("threads_min", kinds.count(1), 4, m1="8.3(7)", moot=_THREADS, help="threads at least")
    scheduler_timeout: int = opt("scheduler_timeout", kinds.time(1), 3600, m1="8.3(8)", source="meta1g",
                                 help="longest wait in AQ for a session")
    smar_timeout: int = opt("SMAR_timeout", kinds.time(1), 120, m1="8.3(9)", source="meta1g",
                            help="longest wait for the address resolver")
    log: LogConf | None = sub("log", LogConf, m1="3.5", optional=True, help="syslog")
