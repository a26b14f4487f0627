"""Options of SMAR and its maps (M1 3.9, 8.4, 14.2)."""
from dataclasses import dataclass

from meta1g.conf import kinds
from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_global import LOG_LEVEL, LOOKUPS, LogConf
from meta1g.conf.spec import named, opt, sub

_ALIASES = {
    "localpart": "the map holds user names, looked up for local addresses",
    "local_domains": "it holds whole addresses, looked up for local addresses",
    "all_domains": "it holds whole addresses, looked up for all",
    "implicitly_match_detail": "user@domain in the map matches user+detail@domain, too",
    "replace_macros": "macros in the map's values are replaced (M1 3.12.3)",
    "preserve_domain": "a value without a domain gets that of the address, not this host's name",
}
_RESOLVER = {
    "use_resolvconf": "read the nameservers from /etc/resolv.conf, unless nameservers are given",
    "use_TCP": "ask over TCP",
    "use_connect": "connect UDP sockets, which a jail needs",
}
_DETAIL = {"implicitly_match_detail": _ALIASES["implicitly_match_detail"]}
_DANE = {
    "secure": "only those that DNSSEC confirms",
    "never": "none",
    "always": "without DNSSEC, too, for tests",
}
_MAPS = {
    "hash": "Berkeley DB hash", "cdb": "tinycdb", "regex": "regular expressions, in order",
    "sequence": "several maps, one after the other", "socket": "a server that is asked",
    "passwd": "users of this host", "lmdb": "LMDB, as postmap writes it; needs the extra lmdb",
    "sqlite": "a query to an SQLite file",
    "redis": "a hash in a Redis server, asked with HGET; needs the extra redis",
}
MAP_OPTIONS = {  # what each type uses; those of the first group are required
    "hash": (("file",), ()), "cdb": (("file",), ()), "regex": (("file",), ()), "lmdb": (("file",), ()),
    "sqlite": (("file",), ("query",)), "sequence": (("maps",), ()), "passwd": ((), ()),
    "socket": (("mapname",), ("path", "address", "port")), "redis": ((), ("mapname", "path", "address", "port")),
}
_DAY = 86400


@dataclass(frozen=True)
class MapConf:
    """A declared map (M1 3.9.1)."""

    name: str = ""
    type: str = opt("type", kinds.enum(*_MAPS), "", m1="3.9.1(1)", help="kind of map", required=True, about=_MAPS)
    file: PathValue | None = opt("file", kinds.PATH, m1="3.9.1(2)", help="its file (hash, cdb, regex, lmdb, sqlite)")
    mapname: str = opt("mapname", kinds.STRING, "", m1="3.9.1(3)",
                       help="name in the protocol (socket), key of the hash, by default the map's name (redis)")
    address: str = opt("address", kinds.ip(), "", m1="3.9.1(4)", help="address (socket, redis)")
    path: PathValue | None = opt("path", kinds.PATH, m1="3.9.1(5)", help="Unix socket (socket, redis)")
    port: int | None = opt("port", kinds.PORT, m1="3.9.1(6)", help="port (socket, redis)")
    maps: tuple[str, ...] = opt("maps", kinds.many(kinds.STRING, 1), (), m1="3.9.1(7)", help="its maps (sequence)")
    query: str = opt("query", kinds.STRING, "SELECT value FROM map WHERE key = ?", m1="",
                     help="one ? for the key; the first column of the first row counts (sqlite)", source="meta1g")


@dataclass(frozen=True)
class AccessMapConf:
    """The access map: `file` or the `name` of a declared map."""

    file: PathValue = opt("file", kinds.PATH, PathValue("access.db"), m1="3.9.2(1.1)", help="its file")
    name: str = opt("name", kinds.STRING, "", m1="3.9.2(1.2)", help="a declared map instead")


@dataclass(frozen=True)
class AliasesConf:
    """The aliases map."""

    file: PathValue = opt("file", kinds.PATH, PathValue("aliases.db"), m1="3.9.2(3.1)", help="its file")
    name: str = opt("name", kinds.STRING, "", m1="3.9.2(3.2)", help="a declared map instead")
    flags: frozenset[str] = opt(
        "flags", kinds.flags(*_ALIASES, on=("localpart",)), frozenset({"localpart"}), m1="3.9.2(3.3)",
        help="what is looked up, and how", about=_ALIASES)


@dataclass(frozen=True)
class DnsConf:
    """The resolver."""

    nameservers: tuple[str, ...] = opt("nameservers", kinds.many(kinds.ip(), 1, 4), (), m1="3.9.2(4.1)",
                                       help="up to four addresses")
    retries: int = opt("retries", kinds.count(0, 20), 3, m1="3.9.2(4.2)", help="tries after the first",
                       source="meta1g")
    timeout: int = opt("timeout", kinds.time(1, 300), 6, m1="3.9.2(4.3)", help="timeout of one try",
                       source="MeTA1's example")
    flags: frozenset[str] = opt(
        "flags", kinds.flags(*_RESOLVER, on=("use_resolvconf",)), frozenset({"use_resolvconf"}),
        m1="3.9.2(4.4), 8.4(1.1)", help="how nameservers are found and asked", about=_RESOLVER)
    port: int = opt("port", kinds.count(0, 65535), 53, m1="3.9.2(4.5)", help="port of the nameservers; 0 is 53")
    use_dnssec: bool = opt("Use_DNSSEC", kinds.BOOLEAN, False, m1="3.9.2(4.6)", help="ask for DNSSEC")


@dataclass(frozen=True)
class DnsblConf:
    """A DNS based blacklist."""

    domain: str = opt("domain", kinds.DNS_DOMAIN, "", m1="3.9.2(5)", help="its domain", required=True)
    tag: str = opt("tag", kinds.STRING, "", m1="3.9.2(5)", help="tag in the access map", required=True)


@dataclass(frozen=True)
class GreylistingConf:
    """Greylisting (M1 3.9.4)."""

    grey_wait: int = opt("grey_wait", kinds.time(), 300, m1="3.9.2(6.1)", help="earliest confirmation",
                         source="Postgrey")
    grey_expire: int = opt("grey_expire", kinds.time(1), 12 * 3600, m1="3.9.2(6.2)", help="latest confirmation",
                           source="meta1g")
    white_expire: int = opt("white_expire", kinds.time(1), 35 * _DAY, m1="3.9.2(6.3)", help="expiry if necessary",
                            source="Postgrey")
    white_timeout: int = opt("white_timeout", kinds.time(1), 36 * _DAY, m1="3.9.2(6.4)", help="confirm again after",
                             source="meta1g")
    main_db_name: PathValue = opt("main_DB_name", kinds.PATH, PathValue("grey_grey_m.db"), m1="3.9.2(6.5)",
                                  help="main database", source="meta1g")
    secondary_db_name: PathValue = opt("secondary_DB_name", kinds.PATH, PathValue("grey_grey_s.db"), m1="3.9.2(6.6)",
                                       help="secondary database", source="meta1g")
    expire_limit: int = opt("expire_limit", kinds.count(1), 100_000, m1="3.9.2(6.7)", help="entries before any expire",
                            source="meta1g")
    netmask: int = opt("netmask", kinds.count(0, 0xFFFFFFFF, write=hex), 0xFFFFFFFF, m1="3.9.2(6.8)",
                       help="part of the address used")


@dataclass(frozen=True)
class LocalUserMapConf:
    """Valid local addresses."""

    name: str = opt("name", kinds.STRING, "", m1="3.9.2(7.1)", help="a declared map", required=True)
    flags: frozenset[str] = opt("flags", kinds.flags(*_DETAIL), frozenset(), m1="3.9.2(7.2)", about=_DETAIL,
                                help="how it is looked up")


@dataclass(frozen=True)
class MailertableConf:
    """Where mail goes instead of where DNS says."""

    file: PathValue = opt("file", kinds.PATH, PathValue("mt"), m1="3.9.2(9.1)", help="plain text file")
    name: str = opt("name", kinds.STRING, "", m1="3.9.2(9.2)", help="a declared map instead")
    flags: frozenset[str] = opt("flags", kinds.flags(*LOOKUPS), frozenset({"domain", "dotsubdomain", "dot"}),
                                m1="3.9.2(9.3)", help="how it is looked up", about=LOOKUPS)


@dataclass(frozen=True)
class SmarConf:
    """The address resolver."""

    map: tuple[MapConf, ...] = named("map", MapConf, m1="3.9.1", help="declaration of a map")
    access_map: AccessMapConf = sub("access_map", AccessMapConf, m1="3.9.2(1)", help="the access map")
    address_delimiter: str = opt("address_delimiter", kinds.STRING, "+", m1="3.9.2(2)",
                                 help="characters that divide user and detail")
    aliases: AliasesConf = sub("aliases", AliasesConf, m1="3.9.2(3)", help="the aliases map")
    dane: str = opt("DANE", kinds.enum(*_DANE), "secure", m1="14.2", about=_DANE,
                    help="which TLSA records, that say what TLS a server must show, are used")
    dns: DnsConf = sub("DNS", DnsConf, m1="3.9.2(4)", help="the resolver")
    dnsbl: tuple[DnsblConf, ...] = named("dnsbl", DnsblConf, m1="3.9.2(5)", has_name=False,
                                         help="a DNS based blacklist")
    greylisting: GreylistingConf | None = sub("greylisting", GreylistingConf, m1="3.9.2(6)",
                                              optional=True, help="greylisting")
    local_user_map: LocalUserMapConf | None = sub("local_user_map", LocalUserMapConf, m1="3.9.2(7)", optional=True,
                                                  help="valid local addresses")
    log_level: int = opt("log_level", LOG_LEVEL, 9, m1="3.9.2(8)", help="how much is logged")
    mailertable: MailertableConf = sub("mailertable", MailertableConf, m1="3.9.2(9)", help="routes")
    fds_max: int = opt("fds_max", kinds.count(16), 1024, m1="8.4(2)",
                       help="open files at most, thus clients; raised if less than SMAR itself needs")
    threads_max: int = opt("threads_max", kinds.count(1, 64), 4, m1="8.4(3)", help="threads for maps", source="meta1g")
    threads_min: int = opt("threads_min", kinds.count(1, 64), 1, m1="8.4(4)", source="meta1g",
                           help="threads at start; more come when all are busy")
    log: LogConf | None = sub("log", LogConf, m1="3.5", optional=True, help="syslog")
