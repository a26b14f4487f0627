"""Each example of the manual's chapters 3, 4 and 10 that SMAR answers, with the answer that is given there.

Where the text lost an address or a name, one of the documentation ranges stands in its place.
"""
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from play import SETUP, Play

from meta1g.maps.m_regex import RegexMap
from meta1g.maps.map import Found
from meta1g.maps.order import ADDRESS, MAILERTABLE, address_keys, domain_parts, ip_parts, local_forms
from meta1g.maps.rhs import parse_access
from meta1g.mta import addr
from meta1g.proto.msg_ar import Action, CheckConnect, CheckMail, CheckRcpt, Protocol
from meta1g.smar.access import check_connect, check_mail, check_rcpt
from meta1g.smar.alias import expand
from meta1g.smar.route import find_route
from meta1g.smar.setup import AliasFlags, Dnsbl, Setup

MailerTable = Mapping[bytes, bytes]


@pytest.mark.parametrize(("local", "parts"), [  # 3.9.2 item 2
    (b"user/ext-list", (b"user", b"/", b"ext-list")), (b"user-ext_list", (b"user", b"-", b"ext_list")),
])
def test_address_delimiter(local: bytes, parts: tuple[bytes, bytes, bytes]) -> None:
    assert addr.split_detail(local, b"/_-") == parts


def test_virtual_users() -> None:
    """3.9.2 item 3.3.2, flag local_domains."""
    setup = replace(SETUP, aliases=AliasFlags(localpart=False, local_domains=True))
    aliases = {b"vuser1@virt1.tld": b"user1", b"vuser2@virt1.tld": b"user2", b"vuser3@virt2.tld": b"user3"}
    play = Play({"mailertable": {b"virt1.tld": b"lmtp:", b"virt2.tld": b"lmtp:"}, "aliases": aliases})
    for key, user in aliases.items():
        assert [m.address for m in play.run(expand(setup, key))] == [user + b"@host.my.dom"]


DNSBL = {
    b"dnsbltld:127.0.0.2": b"error:550 5.7.1 listed at dnsbl.tld as open relay",
    b"dnsbltld:127.0.0.3": b"error:550 5.7.1 listed at dnsbl.tld as spam source",
    b"dnsbltld:127.0.0.4": b"error:451 4.7.1 listed at dnsbl.tld as suspicious",
    b"dnsbltld:temp": b"error:451 4.7.1 temporary lookup failure at dnsbl.tld",
}


@pytest.mark.parametrize(("answer", "text"), [  # 3.9.2 item 5
    ("127.0.0.2", "550 5.7.1 listed at dnsbl.tld as open relay"),
    ("127.0.0.3", "550 5.7.1 listed at dnsbl.tld as spam source"),
    ("127.0.0.4", "451 4.7.1 listed at dnsbl.tld as suspicious"),
    ("temp", "451 4.7.1 temporary lookup failure at dnsbl.tld"), ("nx", ""), ("127.0.0.9", ""),
])
def test_dnsbl(answer: str, text: str) -> None:
    setup = replace(SETUP, dnsbls=(Dnsbl("dnsbl.tld", "dnsbltld"),))
    found = Play({"access_map": DNSBL}, {"4.3.2.1.dnsbl.tld A": answer}).run(
        check_connect(setup, CheckConnect(1, "1.2.3.4")))
    assert (f"{found.code} {found.estat} {found.text}" if found.code else "") == text


MT: MailerTable = {  # 3.9.3
    b"localhost": b"lmtp:",
    b"spam.filter.domain": b"{ port=2525; protocol=esmtp; ip={192.0.2.25} }",
    b"lmtphost.my.domain": b"{ protocol=lmtp; port = 525; ip= { 192.0.2.24, 2001:db8::24 } }",
    b"other.domain": b"{ host = SERVER.OTHER.DOMAIN; flags=no_MX_lookup; }",
    b"my.domain": b"esmtp:[192.0.2.1]",
    b".tld": b"{ host = GATE.WAY }",
    b".": b"esmtp:SMART.HOST",
}
DNS = {
    "server.other.domain MX": [(1, "wrong.dom")], "server.other.domain A": "192.0.2.2",
    "gate.way MX": [(10, "mx.gate.way")], "mx.gate.way A": "192.0.2.3", "smart.host A": "192.0.2.4",
}


@pytest.mark.parametrize(("domain", "protocol", "hops"), [
    (b"localhost", Protocol.LMTP_UNIX, []),
    (b"SPAM.FILTER.DOMAIN", Protocol.ESMTP, ["192.0.2.25:2525"]),
    (b"LMTPHOST.MY.DOMAIN", Protocol.LMTP, ["192.0.2.24:525", "2001:db8::24:525"]),
    (b"OTHER.DOMAIN", Protocol.ESMTP, ["192.0.2.2:0"]),
    (b"MY.DOMAIN", Protocol.ESMTP, ["192.0.2.1:0"]),
    (b"any.TLD", Protocol.ESMTP, ["192.0.2.3:0"]),
    (b"else.example", Protocol.ESMTP, ["192.0.2.4:0"]),
])
def test_mailertable(domain: bytes, protocol: int, hops: list[str]) -> None:
    route = Play({"mailertable": MT}, DNS).run(find_route(SETUP, b"user@" + domain))
    assert (route.protocol, [f"{hop.ip}:{hop.port}" for hop in route.hops(list.sort)]) == (protocol, hops)


ALIASES = {  # 3.9.3
    b"myalias": b"localuser", b"mylist": b"<user1@my.dom> <user2@my.dom> <user3@other.dom>",
    b"owner-mylist": b"someuser", b"someuser": b"local:",
}


def test_aliases() -> None:
    play = Play({"mailertable": {b"my.dom": b"lmtp:"}, "aliases": ALIASES})
    assert [m.address for m in play.run(expand(SETUP, b"myalias@my.dom"))] == [b"localuser@host.my.dom"]
    assert [(m.address, m.sender) for m in play.run(expand(SETUP, b"mylist@my.dom"))] == [
        (b"user1@my.dom", b"owner-mylist@my.dom"), (b"user2@my.dom", b"owner-mylist@my.dom"),
        (b"user3@other.dom", b"owner-mylist@my.dom")]


@pytest.mark.parametrize(("address", "is_accepted"), [  # 3.9.3, the example of local_domains
    (b"myalias@first.dom", True), (b"another@second.dom", True),
    (b"myalias@second.dom", False), (b"another@first.dom", False),
])
def test_local_domains(address: bytes, is_accepted: bool) -> None:
    setup = replace(SETUP, aliases=AliasFlags(localpart=False, local_domains=True))
    play = Play({"mailertable": {b"first.dom": b"lmtp:", b"second.dom": b"lmtp:"},
                 "aliases": {b"myalias@first.dom": b"user1", b"another@second.dom": b"user2"}})
    assert play.run(check_rcpt(setup, CheckRcpt(1, "", b"", address))).exists is is_accepted


@pytest.mark.parametrize(("rhs", "action", "quick", "reply"), [  # 3.9.3, the values
    (b"relay", Action.RELAY, False, ""), (b"ok", Action.OK, False, ""), (b"cont", Action.CONT, False, ""),
    (b"reject", Action.REJECT, False, "550 5.7.0 Rejected."), (b"discard", Action.DISCARD, False, ""),
    (b"error:451 4.7.1 reverse lookup failed", Action.REJECT, False, "451 4.7.1 reverse lookup failed"),
    (b"quick:error:551 5.7.1 No mail from spammers", Action.REJECT, True, "551 5.7.1 No mail from spammers"),
    (b"quick:ok", Action.OK, True, ""), (b"quick:relay", Action.RELAY, True, ""),
])
def test_access_values(rhs: bytes, action: int, quick: bool, reply: str) -> None:
    rule = parse_access(rhs)
    assert rule is not None
    assert (rule.action, rule.quick, str(rule.reply) if rule.reply.code else "") == (action, quick, reply)


def test_domain_order() -> None:
    """3.12.1: neither `sub1.tld` nor `tld` match a name below them."""
    assert domain_parts(b"sub2.sub1.tld", dot=True) == (b"sub2.sub1.tld", b".sub1.tld", b".tld", b".")
    assert domain_parts(b"sub2.sub1.tld", dotsubdomain=False) == (b"sub2.sub1.tld",)


def test_ip_order() -> None:
    assert list(ip_parts("192.0.2.1")) == [b"192.0.2.1", b"192.0.2.", b"192.0.", b"192."]
    assert list(ip_parts("2001:db8::1"))[:2] == [b"2001:db8:0:0:0:0:0:1", b"2001:db8:0:0:0:0:0:"]


def test_address_order() -> None:
    """3.12.1, items 1 and 2."""
    assert local_forms(b"user+detail", b"+", ADDRESS) == [b"user+detail", b"user++", b"user+*", b"user*"]
    assert local_forms(b"user+", b"+", ADDRESS) == [b"user+", b"user+*", b"user*"]
    assert local_forms(b"user", b"+", ADDRESS) == [b"user*", b"user"]
    assert b"user*@dom" not in address_keys(b"user1@dom", b"+", ADDRESS)  # the manual's `user1@subdomain`
    keys = address_keys(b"user@sub.tld", b"+", ADDRESS)
    assert keys == [b"user*@sub.tld", b"user@sub.tld", b"@sub.tld", b"user*@.tld", b"user@.tld", b"@.tld",
                    b"user*", b"user"]
    assert address_keys(b"user@sub.tld", b"+", MAILERTABLE) == [b"sub.tld", b".tld", b"."]


@pytest.mark.parametrize(("address", "wanted"), [  # 3.12.3
    (b"alias@host.domain", b"user@host.domain"),
    (b"alias+detail@host2.domain", b"user+detail@host2.domain"),
])
def test_macros(address: bytes, wanted: bytes) -> None:
    setup = replace(SETUP, aliases=AliasFlags(localpart=False, all_domains=True, replace_macros=True))
    play = Play({"aliases": {b"alias*@.domain": b"user${extension}@${subdomain}.domain"}})
    assert [m.address for m in play.run(expand(setup, address))] == [wanted]


VALID = {b"postmaster": b"<user@host.domain>", b"abuse": b"user+abuse", b"user++": b"local:", b"user": b"local:"}


@pytest.mark.parametrize(("address", "is_valid"), [  # 4.3.2
    (b"postmaster@my.dom", True), (b"abuse@my.dom", True), (b"user@my.dom", True), (b"user+any@my.dom", True),
    (b"user+@my.dom", False), (b"nobody@my.dom", False),
])
def test_valid_local_addresses(address: bytes, is_valid: bool) -> None:
    """They count for senders, too."""
    play = Play({"mailertable": {b"my.dom": b"lmtp:"}, "aliases": VALID})
    assert play.run(check_rcpt(SETUP, CheckRcpt(0, "", b"", address))).exists is is_valid
    assert (play.run(check_mail(SETUP, CheckMail(0, False, "", address))).code == 0) is is_valid


GATEWAY = {  # 4.4 and 4.5
    b"to:user1@my.domain": b"relay", b"to:user2@my.domain": b"relay", b"to:postmaster@my.domain": b"relay",
    b"to:user1@other.domain": b"relay", b"to:user2@other.domain": b"relay", b"to:postmaster@other.domain": b"relay",
    b"to:@other.domain": b"error:451 4.3.3 Try main MX server",
    b"cltaddr:10.12.": b"relay", b"cltaddr:192.0.2.7": b"quick:relay",
}


@pytest.mark.parametrize(("address", "action", "code"), [
    (b"user1@my.domain", Action.RELAY, 0), (b"postmaster@my.domain", Action.RELAY, 0),
    (b"user3@my.domain", Action.NONE, 0), (b"user2@other.domain", Action.RELAY, 0),
    (b"user3@other.domain", Action.REJECT, 451),
])
def test_gateway_and_backup(address: bytes, action: int, code: int) -> None:
    found = Play({"access_map": GATEWAY}).run(check_rcpt(SETUP, CheckRcpt(1, "", b"", address)))
    assert (found.action, found.code) == (action, code)


@pytest.mark.parametrize(("client", "action", "quick"), [
    ("10.12.1.2", Action.RELAY, False), ("192.0.2.7", Action.RELAY, True), ("10.13.1.2", Action.NONE, False),
])
def test_gateway_clients(client: str, action: int, quick: bool) -> None:
    setup: Setup = SETUP
    found = Play({"access_map": GATEWAY}).run(check_connect(setup, CheckConnect(1, client)))
    assert (found.action, found.quick) == (action, quick)


@pytest.mark.parametrize(("key", "value"), [  # 10.1
    (b"BOUNCE-12-345@some.dom", b"error:550 5.7.1 no numbered bounces"), (b"bounce-12@some.dom", None),
    (b"USER@friendly.domain", b"OK"), (b"sender+abc@host.other.domain", b"OK"), (b"sender+ABC@host.other.domain", None),
])
def test_regex_map(tmp_path: Path, key: bytes, value: bytes | None) -> None:
    path = tmp_path / "map.regex"
    path.write_text("/bounce-[0-9]+-[0-9]+@/ei error:550 5.7.1 no numbered bounces\n"
                    ";user@friendly.domain;i   OK\n,sender\\+[a-z]+@.*\\.other.domain,e   OK\n")
    found = RegexMap("regex", str(path)).lookup(key)
    assert (found.value if isinstance(found, Found) else None) == value
