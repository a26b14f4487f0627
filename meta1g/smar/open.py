"""From the configuration to maps, Setup and DNS options: the one place that knows both.

Files
    mt (mailertable) must be there. aliases.db may be missing if the configuration leaves its
    name at the default. access.db is needed only once SMTPS asks for it: lookups then fail
    temporarily.
"""
import ipaddress
import os
import socket
from dataclasses import replace
from typing import Final, NamedTuple

from meta1g.conf.load import Config
from meta1g.conf.opt_global import LOOKUPS
from meta1g.conf.opt_smar import DnsConf as DnsOptions
from meta1g.conf.opt_smar import GreylistingConf, SmarConf
from meta1g.maps.m_hash import HashMap
from meta1g.maps.m_text import TextMap
from meta1g.maps.map import Map
from meta1g.maps.open import Declared, open_maps
from meta1g.maps.order import CLIENT_CONF, LOCALPART, QUALIFIED, Order
from meta1g.mta.errors import StoreError
from meta1g.proc.log import Log
from meta1g.shim import greydb
from meta1g.smar import ask, mt
from meta1g.smar.dane import SMTP_PORT
from meta1g.smar.dnsq import DnsConf
from meta1g.smar.grey import Limits
from meta1g.smar.greylist import Greylist
from meta1g.smar.mt import Family
from meta1g.smar.setup import AliasFlags, Dnsbl, Setup

RESOLV_CONF: Final = "/etc/resolv.conf"
NAMESERVER: Final = "127.0.0.1"  # M1 3.9.2 item 4.4: its number is lost; BIND's and unbound's usual place
NAMESERVERS_MAX: Final = 4  # M1 3.9.2 item 4.1
DNS_PORT: Final = 53  # RFC 1035 4.2
_SCAN_MAX: Final = 100_000  # entries of the access map that are looked at when it is opened: 0.2 s
_GLOBAL_IPV6: Final = ("2001:500:2f::f", 53)  # f.root-servers.net; nothing is sent to it


class AccessFacts(NamedTuple):
    """The tags of the access map, None if they are not known, and whether a `to:` entry names a local part."""

    tags: frozenset[bytes] | None
    rules_on_users: bool


class Maps:
    """SMAR's maps by the role that they play."""

    def __init__(self, config: Config, conf: SmarConf, log: Log) -> None:
        """Open all; StoreError if the mailertable is not there, MapError if a declaration is wrong."""
        self._log = log
        declared = open_maps([
            Declared(one.name, one.type, config.map_path(one.file) if one.file else "", one.mapname, one.address,
                     one.port or 0, config.queue_path(one.path) if one.path else "", one.maps, one.query)
            for one in conf.map
        ])
        self.by_role: dict[str, Map] = {**declared}  # a declared one may be asked for by its name, too
        self._aliases_file: HashMap | None = None
        self.by_role[ask.MAILERTABLE] = (
            declared[conf.mailertable.name] if conf.mailertable.name
            else self._text(config.map_path(conf.mailertable.file)))
        self.by_role[ask.ACCESS] = (
            declared[conf.access_map.name] if conf.access_map.name
            else HashMap(ask.ACCESS, config.map_path(conf.access_map.file)))
        if conf.aliases.name:
            self.by_role[ask.ALIASES] = declared[conf.aliases.name]
        else:
            is_optional = not conf.aliases.file.is_explicit
            self._aliases_file = HashMap(ask.ALIASES, config.map_path(conf.aliases.file), is_optional=is_optional)
            self.by_role[ask.ALIASES] = self._aliases_file
        if conf.local_user_map is not None:
            self.by_role[ask.LOCAL_USERS] = declared[conf.local_user_map.name]

    def _text(self, path: str) -> TextMap:
        try:
            return TextMap(ask.MAILERTABLE, path, mt.complaint,
                           lambda line: self._log.error(f"func=mailertable, status=entry skipped, {line}"))
        except OSError as error:
            raise StoreError("read mailertable", path, error.strerror or str(error)) from error

    @property
    def has_aliases(self) -> bool:
        """Whether there is a map of aliases."""
        return self._aliases_file is None or self._aliases_file.is_there

    def access_facts(self) -> "AccessFacts":
        """What the keys of the access map tell, if they can be had cheaply."""
        source = self.by_role[ask.ACCESS]
        if not isinstance(source, HashMap):
            return AccessFacts(None, True)
        keys = source.keys(_SCAN_MAX)
        if keys is None:
            return AccessFacts(None if os.path.exists(source.path) else frozenset(), True)
        return AccessFacts(frozenset(key.partition(b":")[0] for key in keys),
                           any(key.startswith(b"to:") and not key.startswith(b"to:@") for key in keys))

    def reopen(self) -> None:
        """Read every map anew (M1 4.8); what can't be read stays as it was, and is logged."""
        for source in {id(source): source for source in self.by_role.values()}.values():
            reason = source.reopen()
            if reason:
                self._log.error(f"func=reopen, map={source.name}, reason={reason}")
            else:
                self._log.info(f"func=reopen, map={source.name}, status=ok")


class OfOthers(NamedTuple):
    """What SMAR has to know of other sections: the port to which SMTPC sends mail (M1 8.6 item 7), and how QMGR wants
    recipients to be looked up for it (M1 3.8 item 16.8)."""

    smtp_port: int = SMTP_PORT
    client_conf: Order = CLIENT_CONF


_ALONE: Final = OfOthers()


def of_others(config: Config) -> OfOthers:
    """From the first sections smtpc and qmgr."""
    confs = {service.keyword: service.conf for service in reversed(config.services)}
    found = OfOthers(confs["smtpc"].remote_port) if "smtpc" in confs else OfOthers()
    if "qmgr" in confs:
        flags = confs["qmgr"].smtpc.rcpt_conf_lookup_flags
        is_all = flags == frozenset(LOOKUPS)
        found = found._replace(client_conf=replace(_order(flags), has_at=True, localpart=is_all))
    return found


def make_setup(hostname: str, conf: SmarConf, maps: Maps, others: OfOthers = _ALONE) -> Setup:
    """The configuration as decisions see it."""
    flags = conf.aliases.flags
    is_implied = "implicitly_match_detail" in flags
    name = hostname.lower().rstrip(".")
    facts = maps.access_facts()
    return Setup(
        hostname=name.encode("utf-8"),
        own_names=frozenset({name, socket.gethostname().lower()}),
        delimiters=conf.address_delimiter.encode("utf-8"),
        mailertable=_order(conf.mailertable.flags),
        has_aliases=maps.has_aliases,
        aliases=AliasFlags(
            localpart="localpart" in flags,
            local_domains="local_domains" in flags,
            all_domains="all_domains" in flags,
            replace_macros="replace_macros" in flags,
            preserve_domain="preserve_domain" in flags,
        ),
        alias_qualified=_implied(QUALIFIED, is_implied),
        alias_localpart=_implied(LOCALPART, is_implied),
        has_local_users=conf.local_user_map is not None,
        local_users=_implied(LOCALPART, conf.local_user_map is not None
                             and "implicitly_match_detail" in conf.local_user_map.flags),
        family=Family.IPV6_PREFERRED if has_ipv6() else Family.IPV4_PREFERRED,
        dnsbls=tuple(Dnsbl(one.domain.lower().rstrip("."), one.tag) for one in conf.dnsbl),
        rules_on_users=facts.rules_on_users,
        tags=facts.tags,
        grey_mask=conf.greylisting.netmask if conf.greylisting is not None else None,
        dane=conf.dane,
        smtp_port=others.smtp_port,
        client_conf=others.client_conf,
    )


def _order(flags: frozenset[str]) -> Order:
    return Order(
        full_address="full_address" in flags, detail_plus="detail_plus" in flags, detail_star="detail_star" in flags,
        star="star" in flags, domain="domain" in flags, dotsubdomain="dotsubdomain" in flags, dot="dot" in flags,
        has_at=False,
    )


def _implied(order: Order, is_implied: bool) -> Order:
    return Order(
        order.full_address, order.detail_plus, order.detail_star, order.star, order.domain, order.dotsubdomain,
        order.dot, order.localpart, order.has_at, is_implied,
    )


def has_ipv6() -> bool:
    """Whether this machine has a way into the IPv6 internet; asks the routing table, sends nothing."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.connect(_GLOBAL_IPV6)
    except OSError:
        return False
    return True


def open_greylist(config: Config, conf: GreylistingConf, log: Log) -> Greylist:
    """The greylist in the folder of its main database, `greylist/` of the queue directory unless it names one."""
    main, secondary = config.queue_path(conf.main_db_name), config.queue_path(conf.secondary_db_name)
    folder = os.path.dirname(main) or greydb.FOLDER
    limits = Limits(conf.grey_wait, conf.grey_expire, conf.white_expire, conf.white_timeout, conf.expire_limit,
                    conf.netmask)
    return Greylist(folder, os.path.basename(main), os.path.basename(secondary), limits,
                    log)


def dns_conf(options: DnsOptions) -> DnsConf:
    """The resolver's options with the nameservers to ask.

    Who names one in the configuration vouches for the path to it; resolv.conf is often written by DHCP, so that
    from there only this host is trusted (RFC 4035 4.9.3).
    """
    port = options.port or DNS_PORT
    names = options.nameservers
    given = frozenset(names)
    if not names and "use_resolvconf" in options.flags:
        names = resolv_conf(RESOLV_CONF)
    names = (names or (NAMESERVER,))[:NAMESERVERS_MAX]
    return DnsConf(
        nameservers=tuple((name, port) for name in names),
        timeout=float(options.timeout),
        retries=options.retries,
        use_tcp="use_tcp" in options.flags,
        use_connect="use_connect" in options.flags,
        use_dnssec=options.use_dnssec,
        trusted=given | frozenset(name for name in names if ipaddress.ip_address(name).is_loopback),
    )


def is_address(text: str) -> bool:
    """Whether a nameserver can be asked there."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolv_conf(path: str) -> tuple[str, ...]:
    """The nameservers that resolv.conf(5) names; none if the file cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return ()
    return tuple(words[1] for words in lines if len(words) >= 2 and words[0] == "nameserver" and is_address(words[1]))
