"""The checks of M1 3.12.2 at connect, EHLO, MAIL and RCPT, as far as SMAR makes them; pure.

Rules
    Checks are made in order until one returns something else than `cont`; what is not in
    the map says nothing.
    What follows for the session (delayed rejections, relaying) is decided by SMTPS.
"""
import ipaddress
from typing import Final

from meta1g.maps import order
from meta1g.maps.rhs import AccessRule
from meta1g.mta import addr
from meta1g.mta.reply import Reply
from meta1g.mta.tls import encoded
from meta1g.proto.msg_ar import (
    Action,
    CheckCert,
    CheckConnect,
    CheckEhlo,
    CheckGrey,
    CheckMail,
    CheckRcpt,
    Verdict,
    Want,
)
from meta1g.smar.alias import complete, exists
from meta1g.smar.ask import DnsAsk, Rtype, Status, Work, dns, grey
from meta1g.smar.entry import NOTHING, access, configuration, is_decision, rcpt_conf, rejection
from meta1g.smar.grey import key_of
from meta1g.smar.mt import MtEntry
from meta1g.smar.protect import protection
from meta1g.smar.route import Route, find_entry, follow, is_lmtp
from meta1g.smar.setup import Setup

PTR_MAX: Final = 5  # names of one client that are looked up; Sendmail looks at one, SPF (RFC 7208 4.6.4) at 10
BAD_SENDER: Final = Reply(553, "5.1.8", "Sender address does not exist")  # M1 6.3.1
NULL_MX_SENDER: Final = Reply(550, "5.7.27", "Sender address has null MX")  # RFC 7505 4.2
SENDER_LATER: Final = Reply(451, "4.1.8", "Sender address cannot be resolved now")
GREYLISTED: Final = Reply(421, "4.7.1", "Greylisted, try again later")  # M1 3.9.4: the session is aborted
_NULL_MX: Final = 556


def verdict(
    rule: AccessRule, *, is_local: bool = False, exists: bool = True, for_domain: bool = False,
    client_name: str = "", resolve: str = "", conf: str = "", protected: str = "",
) -> Verdict:
    """A Verdict from a rule and what is known of the address or client."""
    action, quick, reply = rule
    return Verdict(
        action, quick, is_local, exists, for_domain, reply.code, reply.estat, reply.text, client_name, resolve, conf,
        protected)


def check_connect(setup: Setup, ask: CheckConnect) -> Work[Verdict]:
    """Checks at connect: cltaddr, cltresolve, cltname, DNS blacklists; the session's configuration."""
    parts = order.client_parts(ask.client_ip)
    if not parts:
        return verdict(NOTHING, resolve="no")
    rule = yield from access(b"cltaddr", parts)
    if rule.action == Action.REJECT and rule.quick:
        return verdict(rule)  # rejected at once: its name does not matter
    name, resolved = yield from client_name(parts[0].decode("ascii"))
    if not is_decision(rule):
        rule = yield from access(b"cltresolve", [resolved.encode("ascii")])
    if not is_decision(rule) and name:
        rule = yield from access(b"cltname", _host_parts(name))
    if not is_decision(rule) and setup.dnsbls:
        rule = yield from _dnsbls(setup, parts[0].decode("ascii"))
    conf: str | Reply = ""
    if ask.wants & Want.SESSION_CONF:
        conf = yield from configuration(setup, b"smtps_session_conf", parts)
        if not conf and name:
            conf = yield from configuration(setup, b"smtps_se_conf", _host_parts(name))
    if isinstance(conf, Reply):
        return verdict(rejection(conf), client_name=name, resolve=resolved)
    return verdict(rule, client_name=name, resolve=resolved, conf=conf)


def _host_parts(name: str) -> tuple[bytes, ...]:
    """Keys for a client's name: the trailing dot that DNS gives belongs to it (M1 3.9.3)."""
    return order.domain_parts(name.encode("utf-8") + b".")


def check_ehlo(setup: Setup, ask: CheckEhlo) -> Work[Verdict]:
    """The check of the name in EHLO or HELO (M1 3.9.3, tag ehlo:)."""
    rule = yield from access(b"ehlo", order.domain_parts(ask.name))
    return verdict(rule)


def check_cert(setup: Setup, ask: CheckCert) -> Work[Verdict]:
    """Whether a certificate lets its client relay: certissuer:, after `cont` certsubject: (M1 3.10 item 24.15.2)."""
    rule = yield from access(b"certissuer", [_dn_key(ask.issuer)])
    if rule.action == Action.CONT:
        rule = yield from access(b"certsubject", [_dn_key(ask.subject)])
    return verdict(rule if rule.action == Action.RELAY else NOTHING)


def _dn_key(name: str) -> bytes:
    return encoded(name).lower().encode("ascii")


def check_grey(setup: Setup, ask: CheckGrey) -> Work[Verdict]:
    """Greylisting, once all other checks have let a recipient pass (M1 3.9.4)."""
    if setup.grey_mask is None:
        return verdict(NOTHING)
    try:
        key = key_of(ask.client_ip, ask.mail, ask.address, is_full=ask.is_full, netmask=setup.grey_mask)
    except ValueError:
        return verdict(NOTHING)  # a Unix socket's client is no stranger
    answer = yield from grey(key)
    return verdict(NOTHING if answer.may_pass else rejection(GREYLISTED))


def client_name(client_ip: str) -> Work[tuple[str, str]]:
    """The client's confirmed name, empty if there is none, and the key for cltresolve (M1 3.9.3)."""
    ip = ipaddress.ip_address(client_ip)
    rtype = Rtype.A if ip.version == 4 else Rtype.AAAA
    pointer = (yield from dns(DnsAsk(ip.reverse_pointer, Rtype.PTR)))[0]
    if pointer.status is Status.TEMP:
        return "", "tempptr"
    names = [name for name in pointer.records if addr.is_domain(name.encode("utf-8"))][:PTR_MAX]
    if not names:
        return "", "no"
    answers = yield from dns(*[DnsAsk(name, rtype) for name in names])
    for name, answer in zip(names, answers, strict=True):
        if any(ipaddress.ip_address(record) == ip for record in answer.records):
            return name, "ok"
    return "", "tempa" if any(answer.status is Status.TEMP for answer in answers) else "no"


def _dnsbls(setup: Setup, client_ip: str) -> Work[AccessRule]:
    """DNS blacklists (M1 3.9.2 item 5): asked at once, judged in their order."""
    reverse = ipaddress.ip_address(client_ip).reverse_pointer.rsplit(".", 2)[0]
    answers = yield from dns(*[DnsAsk(f"{reverse}.{dnsbl.domain}", Rtype.A) for dnsbl in setup.dnsbls])
    for dnsbl, answer in zip(setup.dnsbls, answers, strict=True):
        tag = dnsbl.tag.encode("utf-8")
        if answer.status is Status.TEMP:  # a name that does not exist is no failure: it is not listed
            rule = yield from access(tag, [b"perm" if answer.is_refused else b"temp"])
            if is_decision(rule):
                return rule
        for record in answer.records:
            rule = yield from access(tag, order.ip_parts(record))
            if is_decision(rule):
                return rule
    return NOTHING


def check_mail(setup: Setup, ask: CheckMail) -> Work[Verdict]:
    """Checks at MAIL: routeable, valid if local, from:, mxbadip:."""
    if not ask.address:
        return verdict(NOTHING)
    address = complete(ask.address, setup.hostname)
    entry = yield from find_entry(setup, address)
    if isinstance(entry, Route):
        return verdict(rejection(entry.reply))
    is_local = is_lmtp(entry)
    known: bool | Reply = True
    if is_local:
        known = yield from exists(setup, address)
    if ask.skip:
        return verdict(NOTHING, is_local=is_local, exists=known is True)
    rule, ips = yield from _routeable(setup, address, entry, known)
    if not is_decision(rule) and ask.wants & Want.ACCESS:
        rule = yield from _from_rules(setup, address, ips)
    return verdict(rule, is_local=is_local, exists=known is True)


def _routeable(
    setup: Setup, address: bytes, entry: MtEntry | None, known: bool | Reply
) -> Work[tuple[AccessRule, list[str]]]:
    """Whether a DSN could be sent there, and the addresses that DNS gave."""
    if isinstance(known, Reply):
        return rejection(known), []
    if not known:
        return rejection(BAD_SENDER), []
    if entry is not None and (entry.ips or entry.host or entry.protocol):
        return NOTHING, []  # M1 3.12.2: or that routing is specified via mailertable
    route = yield from follow(setup, addr.split(address)[1], entry)
    code = route.reply.code
    if code == 0 or route.is_loop:
        return NOTHING, [hop.ip for group in route.groups for host in group for hop in host]
    if code == _NULL_MX:
        return rejection(NULL_MX_SENDER), []
    return rejection(BAD_SENDER if code >= 500 else SENDER_LATER), []


def _from_rules(setup: Setup, address: bytes, ips: list[str]) -> Work[AccessRule]:
    rule = yield from access(b"from", order.address_keys(address, setup.delimiters, order.ADDRESS))
    if rule.action == Action.RELAY:  # M1 3.9.3: relay is for to:, cltaddr:, cltname: and certificates only
        rule = rule._replace(action=Action.OK)
    if is_decision(rule):
        return rule
    for ip in ips:
        bad = yield from access(b"mxbadip", order.ip_parts(ip))
        if is_decision(bad):
            return bad
    return rule


def check_rcpt(setup: Setup, ask: CheckRcpt) -> Work[Verdict]:
    """Checks at RCPT: is it local, does it exist, what does to: say?"""
    address = complete(ask.address, setup.hostname)
    if b"@" not in ask.address and ask.address.lower() == b"postmaster":
        is_local, known = True, True  # RFC 5321 4.5.1
    else:
        entry = yield from find_entry(setup, address)
        if isinstance(entry, Route):
            return verdict(rejection(entry.reply))
        is_local, known = is_lmtp(entry), True
        if is_local:
            valid = yield from exists(setup, address)
            if isinstance(valid, Reply):
                return verdict(rejection(valid), is_local=True)
            known = valid
    rule = NOTHING
    if ask.wants & Want.ACCESS:
        rule = yield from access(b"to", order.address_keys(address, setup.delimiters, order.ADDRESS))
    denied = yield from protection(setup, ask, address)
    conf: str | Reply = ""
    if ask.wants & Want.RCPT_CONF:
        conf = yield from rcpt_conf(setup, b"smtps_rcpt_conf", address)
    if isinstance(conf, Reply):
        return verdict(rejection(conf), is_local=is_local, exists=known)
    return verdict(rule, is_local=is_local, exists=known, conf=conf, protected=str(denied or ""),
                   for_domain=not is_local and _holds_for_domain(setup, ask))


def _holds_for_domain(setup: Setup, ask: CheckRcpt) -> bool:
    """Whether the answer would be the same for every address of a domain that is not local."""
    uses_map = ask.wants & Want.ACCESS and setup.rules_on_users
    is_protected = ask.wants & Want.PROTECTED and setup.may_have(b"protectedrcpt")
    has_conf = ask.wants & Want.RCPT_CONF and setup.may_have(b"smtps_rcpt_conf")
    return not (setup.mailertable.has_forms or uses_map or is_protected or has_conf)
