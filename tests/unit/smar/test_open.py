from pathlib import Path

import pytest

from meta1g.conf.load import Config, load_text
from meta1g.conf.opt_smar import SmarConf
from meta1g.maps import order
from meta1g.maps.map import NOT_FOUND, TempFail
from meta1g.maps.open import MapError
from meta1g.mta.errors import StoreError
from meta1g.proc.log import Log
from meta1g.shim.mapfile import write_map
from meta1g.smar import ask
from meta1g.smar import open as smar_open
from meta1g.smar.open import Maps, dns_conf, make_setup, of_others, resolv_conf


def load(folder: Path, text: str) -> tuple[Config, SmarConf]:
    config = load_text(f"smar {{ {text} start_action = wait; path = x; arguments = x; }}", str(folder / "meta1.conf"))
    conf: SmarConf = config.module("smar")
    return config, conf


def open_all(folder: Path, text: str = "") -> tuple[Maps, SmarConf]:
    (folder / "mt").touch()
    config, conf = load(folder, text)
    return Maps(config, conf, Log("test", fd=2)), conf


def test_defaults(tmp_path: Path) -> None:
    maps, conf = open_all(tmp_path)
    assert sorted(maps.by_role) == ["access_map", "aliases", "mailertable"]
    assert not maps.has_aliases
    assert maps.by_role[ask.ALIASES].lookup(b"x") is NOT_FOUND
    assert isinstance(maps.by_role[ask.ACCESS].lookup(b"x"), TempFail)
    setup = make_setup("Host.My.Dom", conf, maps)
    assert (setup.hostname, setup.delimiters) == (b"host.my.dom", b"+")
    assert "host.my.dom" in setup.own_names
    order = setup.mailertable
    assert (order.domain, order.dotsubdomain, order.dot, order.full_address, order.has_at) == (
        True, True, True, False, False)
    assert (setup.aliases.localpart, setup.aliases.local_domains, setup.has_local_users) == (True, False, False)


def test_options(tmp_path: Path) -> None:
    text = f"""
    map users {{ type = hash; file = "{tmp_path}/users.db"; }}
    map al {{ type = hash; file = "{tmp_path}/al.db"; }}
    local_user_map {{ name = users; flags = {{ implicitly_match_detail }}; }}
    aliases {{ name = al; flags = {{ local_domains, implicitly_match_detail, replace_macros, no_localpart }}; }}
    access_map {{ name = users; }}
    mailertable {{ name = users; flags = {{ full_address, star }}; }}
    dnsbl {{ domain = "bl.dom."; tag = bl; }}
    address_delimiter = "/_-";
    """
    write_map(str(tmp_path / "users.db"), [(b"k", b"v")])
    maps, conf = open_all(tmp_path, text)
    assert maps.has_aliases
    assert len({id(maps.by_role[role]) for role in (ask.ACCESS, ask.MAILERTABLE, ask.LOCAL_USERS)}) == 1
    setup = make_setup("h.x.", conf, maps)
    assert setup.hostname == b"h.x" and setup.delimiters == b"/_-"
    assert setup.local_users.implicit_detail and setup.alias_localpart.implicit_detail
    assert (setup.aliases.localpart, setup.aliases.local_domains, setup.aliases.replace_macros) == (False, True, True)
    assert (setup.mailertable.full_address, setup.mailertable.star, setup.mailertable.dot) == (True, True, False)
    assert setup.dnsbls == (("bl.dom", "bl"),)
    maps.reopen()


def test_named_aliases_must_be_there(tmp_path: Path) -> None:
    maps, _ = open_all(tmp_path, f'aliases {{ file = "{tmp_path}/other.db"; }}')
    assert maps.has_aliases
    assert isinstance(maps.by_role[ask.ALIASES].lookup(b"x"), TempFail)


def test_failures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoreError, match="read mailertable"):
        Maps(*load(tmp_path, ""), Log("test"))
    with pytest.raises(MapError, match="contains itself"):
        open_all(tmp_path, "map a { type = sequence; maps = { a }; }")
    (tmp_path / "mt").write_text("a.b {bad}\n")
    maps, _ = open_all(tmp_path)
    assert f"{tmp_path}/mt:1: a.b" in capfd.readouterr().err
    maps.reopen()
    err = capfd.readouterr().err
    assert f"{tmp_path}/access.db" in err and "map=aliases, status=ok" in err


def test_access_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "access.db")
    domains = [(b"to:@a.dom", b"relay"), (b"from:u@b.dom", b"reject"), (b"cltaddr:10.", b"relay")]
    tags = frozenset({b"to", b"from", b"cltaddr"})
    maps, _ = open_all(tmp_path)
    assert maps.access_facts() == (frozenset(), True)  # there is no map to look at
    write_map(path, domains)
    maps.reopen()
    assert maps.access_facts() == (tags, False)
    monkeypatch.setattr(smar_open, "_SCAN_MAX", 2)
    assert maps.access_facts() == (None, True)
    monkeypatch.undo()
    write_map(path, [*domains, (b"to:abuse", b"quick:ok")], nul=True)
    maps.reopen()
    assert maps.access_facts() == (tags, True)


def test_dns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nsearch a.b\nnameserver 192.0.2.1\nnameserver 2001:db8::1 # y\nnameserver\n" * 3)
    monkeypatch.setattr(smar_open, "RESOLV_CONF", str(path))
    assert resolv_conf(str(path))[:2] == ("192.0.2.1", "2001:db8::1")
    assert dns_conf(load(tmp_path, "")[1].dns).nameservers == (
        ("192.0.2.1", 53), ("2001:db8::1", 53), ("192.0.2.1", 53), ("2001:db8::1", 53))
    given = load(tmp_path, "DNS { nameservers = { 192.0.2.9 }; port = 5353; flags = { use_TCP, use_connect }; "
                           "timeout = 2; retries = 0; }")[1].dns
    conf = dns_conf(given)
    assert conf.nameservers == (("192.0.2.9", 5353),)
    assert (conf.use_tcp, conf.use_connect, conf.timeout, conf.retries) == (True, True, 2.0, 0)
    without = load(tmp_path, "DNS { flags = { no_use_resolvconf }; port = 0; }")[1].dns
    assert dns_conf(without).nameservers == (("127.0.0.1", 53),)
    monkeypatch.setattr(smar_open, "RESOLV_CONF", str(tmp_path / "none"))
    assert dns_conf(load(tmp_path, "")[1].dns).nameservers == (("127.0.0.1", 53),)


def test_whose_dnssec_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\nnameserver ::1\nnameserver x\nnameserver 127.0.0.53\n")
    monkeypatch.setattr(smar_open, "RESOLV_CONF", str(path))
    conf = dns_conf(load(tmp_path, "DNS { Use_DNSSEC = true; }")[1].dns)
    assert [name for name, _ in conf.nameservers] == ["192.0.2.1", "::1", "127.0.0.53"]
    assert (conf.trusted, conf.untrusted) == ({"::1", "127.0.0.53"}, ["192.0.2.1"])
    conf = dns_conf(load(tmp_path, "DNS { Use_DNSSEC = true; nameservers = { 192.0.2.1 }; }")[1].dns)
    assert (conf.trusted, conf.untrusted) == ({"192.0.2.1"}, [])
    conf = dns_conf(load(tmp_path, "")[1].dns)
    assert conf.untrusted == []


@pytest.mark.parametrize(("flags", "keys"), [
    ("", [b"u+d@a.dom", b"u++@a.dom", b"u+*@a.dom", b"u*@a.dom", b"@a.dom", b"u+d@.dom", b"u++@.dom", b"u+*@.dom",
          b"u*@.dom", b"@.dom", b".", b"u+d", b"u++", b"u+*", b"u*"]),
    ("rcpt_conf_lookup_flags = { domain, dotsubdomain };", [b"@a.dom", b"@.dom"]),
    ("rcpt_conf_lookup_flags = { full_address };", [b"u+d@a.dom"]),
    ("rcpt_conf_lookup_flags = { star, dot };", [b"u*@a.dom", b"."]),
])
def test_what_other_sections_say(flags: str, keys: list[bytes]) -> None:
    """How QMGR wants recipients to be looked up, where SMTPC sends mail (M1 3.8 item 16.8, 8.6 item 7)."""
    text = f"qmgr {{ smtpc {{ {flags} }} }} smtpc {{ remote_port = 26; }} smtpc two {{ remote_port = 27; }}"
    found = of_others(load_text(text, "x"))
    assert found.smtp_port == 26
    assert order.address_keys(b"u+d@a.dom", b"+", found.client_conf) == keys
    assert of_others(load_text("smar { }", "x")).smtp_port == 25
