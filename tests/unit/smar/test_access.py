from dataclasses import replace
from typing import Any

import pytest
from play import SETUP, Play

from meta1g.maps.order import MAILERTABLE
from meta1g.mta.tls import encoded
from meta1g.proto.msg_ar import Action, CheckCert, CheckConnect, CheckEhlo, CheckMail, CheckRcpt, Verdict, Want
from meta1g.smar.access import check_cert, check_connect, check_ehlo, check_mail, check_rcpt
from meta1g.smar.setup import Dnsbl, Setup

NONE, OK, RELAY, REJECT, DISCARD, CONT = range(6)
assert Action.CONT == CONT
MT = {b"my.dom": b"lmtp:", b"static.dom": b"[192.0.2.50]", b"gate.dom": b"gone.dom"}
ALIASES = {b"known": b"local:"}
ACCESS = {  # M1 3.9.3, 4.4, 4.5: the examples, with documentation addresses where the text lost them
    b"cltresolve:tempptr": b"error:451 4.7.1 reverse lookup failed",
    b"mxbadip:127.": b"error:551 5.7.1 Bad IP address in MX/A list",
    b"mxbadip:192.0.2.66": b"error:551 5.7.1 Bad IP address in MX/A list",
    b"from:@spammer.domain": b"error:551 5.7.1 No spammers",
    b"from:@.spammer.domain": b"error:551 5.7.1 No spammers in subdomains either",
    b"to:root": b"error:551 5.7.1 No mail to root",
    b"to:abuse": b"quick:ok",
    b"cltaddr:10.": b"error:551 5.7.1 No direct mail from 10.x.y.z",
    b"cltname:spammer.domain.": b"quick:error:551 5.7.1 No mail from spammers",
    b"to:@primary.domain": b"relay",
    b"to:user1@other.domain": b"relay",
    b"to:@other.domain": b"error:451 4.3.3 Try main MX server",
    b"cltaddr:192.0.2.": b"relay",
    b"cltaddr:192.0.2.1": b"quick:relay",
    b"cltaddr:192.0.2.2": b"cont",
    b"cltaddr:192.0.2.3": b"quick:reject",
    b"cltaddr:192.0.2.4": b"nonsense",
    b"cltname:.cont.domain.": b"cont",
    b"from:relay@a.dom": b"relay",
    b"from:dis@a.dom": b"quick:discard",
    b"list:127.0.0.2": b"error:550 5.7.1 listed",
    b"list:temp": b"error:451 4.7.1 temporary lookup failure",
    b"list:perm": b"error:550 5.7.1 blacklist is gone",
    b"o:127.0.0.": b"cont",
    b"six:127.0.0.4": b"error:550 5.7.1 listed by nibbles",
}
DNS = {
    "1.100.51.198.in-addr.arpa PTR": "mail.good.dom", "mail.good.dom A": "203.0.113.9 198.51.100.1",
    "2.100.51.198.in-addr.arpa PTR": "wrong.dom", "wrong.dom A": "203.0.113.1",
    "3.100.51.198.in-addr.arpa PTR": "temp",
    "4.100.51.198.in-addr.arpa PTR": "tempa.dom", "tempa.dom A": "temp",
    "5.100.51.198.in-addr.arpa PTR": "spammer.domain", "spammer.domain A": "198.51.100.5",
    "6.100.51.198.in-addr.arpa PTR": "x.cont.domain", "x.cont.domain A": "198.51.100.6",
    "7.100.51.198.in-addr.arpa PTR": "bad..name two.dom", "two.dom A": "198.51.100.7",
    "2.2.0.192.in-addr.arpa PTR": "spammer.domain",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR": "six.dom",
    "six.dom AAAA": "2001:db8:0:0::1",
    "a.dom A": "192.0.2.5", "evil.dom MX": [(10, "mx.evil.dom")], "mx.evil.dom A": "192.0.2.5 127.0.0.1",
    "sub.spammer.domain A": "192.0.2.5",
    "none.dom MX": "nx", "temp.dom MX": "temp", "null.dom MX": [(0, "")], "ip.dom MX": [(5, "192.0.2.1")],
    "loop.dom MX": [(10, "host.my.dom")],
    "8.100.51.198.bl.dom A": "127.0.0.2",
    "9.100.51.198.bl.dom A": "temp", "8.100.51.198.bl.dom TXT": "",
    "10.100.51.198.bl.dom A": "refused", "11.100.51.198.bl.dom A": "nx",
    "12.100.51.198.other.dom A": "127.0.0.2", "12.100.51.198.bl.dom A": "127.0.0.9 127.0.0.2",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.six.dom A": "127.0.0.4",
}
MAPS: dict[str, Any] = {"mailertable": MT, "aliases": ALIASES, "access_map": ACCESS}


def shown(v: Verdict) -> str:
    text = "quick:" * v.quick + ("none", "ok", "relay", "reject", "discard", "cont")[v.action]
    return text + (f" {v.code} {v.estat}" if v.code else "")


CONNECT = [
    ("198.51.100.1", "none", "mail.good.dom", "ok"),
    ("::ffff:198.51.100.1", "none", "mail.good.dom", "ok"),
    ("198.51.100.2", "none", "", "no"),
    ("198.51.100.3", "reject 451 4.7.1", "", "tempptr"),
    ("198.51.100.4", "none", "", "tempa"),
    ("198.51.100.5", "quick:reject 551 5.7.1", "spammer.domain", "ok"),
    ("198.51.100.6", "cont", "x.cont.domain", "ok"),
    ("198.51.100.7", "none", "two.dom", "ok"),
    ("198.51.100.99", "none", "", "no"),
    ("2001:db8::1", "none", "six.dom", "ok"),
    ("10.1.2.3", "reject 551 5.7.1", "", "no"),
    ("192.0.2.9", "relay", "", "no"),
    ("192.0.2.1", "quick:relay", "", "no"),
    ("192.0.2.2", "none", "", "no"),
    ("192.0.2.3", "quick:reject 550 5.7.0", "", ""),
    ("192.0.2.4", "reject 451 4.3.5", "", "no"),
    ("", "none", "", "no"),
]


@pytest.mark.parametrize(("ip", "wanted", "name", "resolved"), CONNECT)
def test_connect(ip: str, wanted: str, name: str, resolved: str) -> None:
    play = Play(MAPS, DNS)
    found = play.run(check_connect(SETUP, CheckConnect(1, ip)))
    assert (shown(found), found.client_name, found.resolve) == (wanted, name, resolved)
    assert bool(play.notes) == ("4.3.5" in wanted)


def test_dnsbl() -> None:
    setup = replace(SETUP, dnsbls=(Dnsbl("other.dom", "o"), Dnsbl("bl.dom", "list")))
    play = Play(MAPS, DNS)
    assert shown(play.run(check_connect(setup, CheckConnect(1, "198.51.100.8")))) == "reject 550 5.7.1"
    assert shown(play.run(check_connect(setup, CheckConnect(1, "198.51.100.9")))) == "reject 451 4.7.1"
    assert shown(play.run(check_connect(setup, CheckConnect(1, "198.51.100.10")))) == "reject 550 5.7.1"
    assert shown(play.run(check_connect(setup, CheckConnect(1, "198.51.100.11")))) == "none"
    assert shown(play.run(check_connect(setup, CheckConnect(1, "198.51.100.12")))) == "reject 550 5.7.1"
    assert shown(play.run(check_connect(setup, CheckConnect(1, "198.51.100.1")))) == "none"
    assert shown(play.run(check_connect(setup, CheckConnect(1, "192.0.2.1")))) == "quick:relay"


def test_dnsbl_asks_at_once_and_judges_in_order() -> None:
    many = tuple(Dnsbl(f"b{n}.dom", f"t{n}") for n in range(20))
    answers = {f"8.100.51.198.b{n}.dom A": "127.0.0.2" for n in range(20)}
    rules = {f"t{n}:127.0.0.2".encode(): f"error:55{n % 10} 5.7.{n} listed".encode() for n in range(7, 20)}
    play = Play({"access_map": rules}, answers)
    setup = replace(SETUP, dnsbls=many)
    assert shown(play.run(check_connect(setup, CheckConnect(1, "198.51.100.8")))) == "reject 557 5.7.7"
    assert [ask.name for ask in play.asked[1:]] == [f"8.100.51.198.b{n}.dom" for n in range(20)]


def test_dnsbl_of_ipv6_clients_goes_by_nibbles() -> None:  # RFC 5782 2.4
    setup = replace(SETUP, dnsbls=(Dnsbl("six.dom", "six"),))
    found = Play(MAPS, DNS).run(check_connect(setup, CheckConnect(1, "2001:db8::1")))
    assert (shown(found), found.text) == ("reject 550 5.7.1", "listed by nibbles")


MAIL = [
    (b"", "none", False, True),
    (b"u@a.dom", "none", False, True),
    (b"u@static.dom", "none", False, True),
    (b"u@gate.dom", "none", False, True),  # routing is specified via mailertable
    (b"known@my.dom", "none", True, True),
    (b"nobody@my.dom", "reject 553 5.1.8", True, False),
    (b"u@none.dom", "reject 553 5.1.8", False, True),
    (b"u@ip.dom", "reject 553 5.1.8", False, True),  # M1 6.3.1
    (b"u@temp.dom", "reject 451 4.1.8", False, True),
    (b"u@null.dom", "reject 550 5.7.27", False, True),
    (b"u@loop.dom", "none", False, True),
    (b"u@spammer.domain", "reject 551 5.7.1", False, True),
    (b"u@sub.spammer.domain", "reject 551 5.7.1", False, True),
    (b"u@evil.dom", "reject 551 5.7.1", False, True),
    (b"relay@a.dom", "ok", False, True),
    (b"dis@a.dom", "quick:discard", False, True),
    (b"u@[192.0.2.66]", "reject 551 5.7.1", False, True),
    (b"postmaster@my.dom", "none", True, True),
]


@pytest.mark.parametrize(("address", "wanted", "is_local", "known"), MAIL)
def test_mail(address: bytes, wanted: str, is_local: bool, known: bool) -> None:
    found = Play(MAPS, DNS).run(check_mail(SETUP, CheckMail(True, False, "192.0.2.1", address)))
    assert (shown(found), found.is_local, found.exists) == (wanted, is_local, known)


def test_mail_without_access_or_skipped() -> None:
    play = Play({**MAPS, "access_map": "temp"}, DNS)
    for address, wanted in ((b"u@evil.dom", "none"), (b"u@none.dom", "reject 553 5.1.8")):
        assert shown(play.run(check_mail(SETUP, CheckMail(False, False, "192.0.2.1", address)))) == wanted
    for address, is_local, known in ((b"u@none.dom", False, True), (b"nobody@my.dom", True, False)):
        found = play.run(check_mail(SETUP, CheckMail(True, True, "192.0.2.1", address)))
        assert (shown(found), found.is_local, found.exists) == ("none", is_local, known)


RCPT = [
    (b"known@my.dom", "none", True, True),
    (b"KNOWN@MY.DOM", "none", True, True),
    (b"nobody@my.dom", "none", True, False),
    (b"postmaster@my.dom", "none", True, True),
    (b"Postmaster", "none", True, True),
    (b"u@far.dom", "none", False, True),
    (b"u@primary.domain", "relay", False, True),
    (b"u@sub.primary.domain", "none", False, True),
    (b"root@my.dom", "reject 551 5.7.1", True, False),
    (b"abuse@far.dom", "quick:ok", False, True),
    (b"user1@other.domain", "relay", False, True),  # M1 4.5
    (b"user9@other.domain", "reject 451 4.3.3", False, True),
]


@pytest.mark.parametrize(("address", "wanted", "is_local", "known"), RCPT)
def test_rcpt(address: bytes, wanted: str, is_local: bool, known: bool) -> None:
    play = Play(MAPS, DNS)
    found = play.run(check_rcpt(SETUP, CheckRcpt(True, "192.0.2.1", b"", address)))
    assert (shown(found), found.is_local, found.exists) == (wanted, is_local, known)
    assert not play.asked  # M1 3.12.2: nothing at RCPT needs DNS
    plain = play.run(check_rcpt(SETUP, CheckRcpt(False, "192.0.2.1", b"", address)))
    assert (plain.action, plain.is_local, plain.exists) == (Action.NONE, is_local, known)


USERS = [b"u", b"root", b"abuse+x", b"user1", b"postmaster"]


@pytest.mark.parametrize("use_access", [True, False])
@pytest.mark.parametrize("setup", [
    SETUP, replace(SETUP, rules_on_users=False),
    replace(SETUP, rules_on_users=False, mailertable=replace(MAILERTABLE, full_address=True))])
def test_verdict_for_a_domain_holds_for_all_its_addresses(setup: Setup, use_access: bool) -> None:
    access = ACCESS if setup.rules_on_users else {
        key: rule for key, rule in ACCESS.items() if not key.startswith(b"to:") or key.startswith(b"to:@")}
    play = Play({**MAPS, "access_map": access}, DNS)
    kinds = set()
    for domain in (b"my.dom", b"far.dom", b"primary.domain", b"other.domain"):
        found = {play.run(check_rcpt(setup, CheckRcpt(use_access, "192.0.2.1", b"", user + b"@" + domain)))
                 for user in USERS}
        kinds |= {one.for_domain for one in found}
        assert len(found) == 1 or not any(one.for_domain for one in found)
        assert domain != b"my.dom" or not any(one.for_domain for one in found)
    is_wide = not setup.mailertable.full_address and not (use_access and setup.rules_on_users)
    assert (True in kinds) == is_wide


@pytest.mark.parametrize("role", ["mailertable", "aliases", "access_map"])
def test_broken_map(role: str) -> None:
    play = Play({**MAPS, role: "temp"}, DNS)
    setup: Setup = SETUP
    rcpt = play.run(check_rcpt(setup, CheckRcpt(True, "192.0.2.1", b"", b"known@my.dom")))
    mail = play.run(check_mail(setup, CheckMail(True, False, "192.0.2.1", b"known@my.dom")))
    assert (shown(rcpt), shown(mail)) == ("reject 451 4.3.0", "reject 451 4.3.0")
    if role == "access_map":
        connect = play.run(check_connect(setup, CheckConnect(1, "198.51.100.1")))
        assert shown(connect) == "reject 451 4.3.0"


CONF = {
    b"smtps_session_conf:10.": b"session_feature=notls;", b"smtps_se_conf:good.dom.": b"by name",
    b"smtps_se_conf:.good.dom.": b"by domain", b"smtps_rcpt_conf:grey@my.dom": b"flags = greylisting;",
    b"ehlo:evil.dom": b"reject", b"ehlo:.evil.dom": b"error:451 4.7.1 later",
    b"protectedrcpt:vip": b"from:boss@my.dom",
}


@pytest.mark.parametrize(("ip", "wants", "conf"), [
    ("10.1.2.3", Want.ACCESS | Want.SESSION_CONF, "session_feature=notls;"),
    ("10.1.2.3", Want.ACCESS, ""),
    ("198.51.100.1", Want.ACCESS | Want.SESSION_CONF, "by domain"),  # M1 3.10.1: by address first, then by name
    ("198.51.100.2", Want.ACCESS | Want.SESSION_CONF, ""),
])
def test_session_conf(ip: str, wants: int, conf: str) -> None:
    play = Play({**MAPS, "access_map": CONF}, DNS)
    assert play.run(check_connect(SETUP, CheckConnect(wants, ip))).conf == conf
    assert play.run(check_connect(replace(SETUP, tags=frozenset()), CheckConnect(wants, ip))).conf == ""


def test_rcpt_conf_and_protection() -> None:
    play = Play({**MAPS, "access_map": CONF}, DNS)
    wants = Want.ACCESS | Want.RCPT_CONF | Want.PROTECTED
    assert play.run(check_rcpt(SETUP, CheckRcpt(wants, "", b"", b"grey@my.dom"))).conf == "flags = greylisting;"
    assert play.run(check_rcpt(SETUP, CheckRcpt(Want.ACCESS, "", b"", b"grey@my.dom"))).conf == ""
    found = play.run(check_rcpt(SETUP, CheckRcpt(wants, "", b"u@a.dom", b"vip@my.dom")))
    assert found.protected.startswith("550 5.7.1")
    assert play.run(check_rcpt(SETUP, CheckRcpt(wants, "", b"boss@my.dom", b"vip@my.dom"))).protected == ""
    for tags, is_wide in ((frozenset({b"to"}), True), (frozenset({b"protectedrcpt"}), False), (None, False)):
        setup = replace(SETUP, tags=tags, rules_on_users=False)
        assert play.run(check_rcpt(setup, CheckRcpt(wants, "", b"", b"u@far.dom"))).for_domain is is_wide


def test_conf_of_a_broken_map_lets_nobody_through() -> None:
    play = Play({**MAPS, "access_map": "temp"}, DNS)
    found = play.run(check_connect(SETUP, CheckConnect(Want.SESSION_CONF, "198.51.100.1")))
    assert shown(found) == "reject 451 4.3.0"
    found = play.run(check_rcpt(SETUP, CheckRcpt(Want.RCPT_CONF, "", b"", b"u@far.dom")))
    assert shown(found) == "reject 451 4.3.0"


@pytest.mark.parametrize(("name", "wanted"), [
    (b"evil.dom", "reject 550 5.7.0"), (b"a.EVIL.dom", "reject 451 4.7.1"), (b"good.dom", "none"),
    (b"[10.1.2.3]", "none"),
])
def test_ehlo(name: bytes, wanted: str) -> None:
    assert shown(Play({"access_map": CONF}).run(check_ehlo(SETUP, CheckEhlo(name)))) == wanted


CA = "/C=US/ST=California/O=Sendmail, Inc./CN=Darth Mail (Cert)/emailAddress=darth+cert@endmail.org"
CERTS = {
    encoded(CA).lower().encode(): b"cont", b"/o=all+20of+20us": b"relay", b"/o=none": b"ok",
}


@pytest.mark.parametrize(("issuer", "subject", "wanted"), [
    ("/O=All of us", "", "relay"), ("/O=none", "/CN=DeathStar/", "none"), ("/O=unknown", "/CN=DeathStar/", "none"),
    (CA, "/CN=DeathStar/", "relay"), (CA, "/CN=Tie/", "none"),
])
def test_cert(issuer: str, subject: str, wanted: str) -> None:
    entries = {**{b"certissuer:" + key: rule for key, rule in CERTS.items()}, b"certsubject:/cn=deathstar/": b"relay"}
    assert shown(Play({"access_map": entries}).run(check_cert(SETUP, CheckCert(issuer, subject)))) == wanted
