from dataclasses import replace

import pytest
from play import SETUP, Play, keep_order

from meta1g.maps.order import LOCALPART, QUALIFIED
from meta1g.smar.alias import AliasError, exists, expand, parse
from meta1g.smar.resolve import resolve
from meta1g.smar.setup import AliasFlags

MT = {b"my.dom": b"lmtp:", b"host.my.dom": b"lmtp:", b"first.dom": b"lmtp:", b"second.dom": b"lmtp:"}
ALIASES = {
    b"myalias": b"localuser",
    b"mylist": b"<user1@my.dom> <user2@my.dom> <>",
    b"big": b"<x@far.dom> <localuser>",
    b"owner-big": b"someuser",
    b"abuse": b"user+abuse",
    b"user++": b"local:", b"user": b"local:",
    b"self": b"self@my.dom", b"selfcopy": b"<selfcopy@my.dom> <x@far.dom>",
    b"a1": b"<a2@my.dom>", b"a2": b"<a1@my.dom>",
    b"la": b"<x@far.dom> <lb@my.dom>", b"lb": b"<y@far.dom> <la@my.dom>",
    b"n1": b"<n2@my.dom>", b"n2": b"<n3@my.dom>", b"n3": b"<n4@my.dom>", b"n4": b"<n5@my.dom>",
    b"n5": b"<end@my.dom>", b"n0": b"<n1@my.dom>",
    b"comma": b"<a@b>, <c@d>", b"garbage": b"<a@@b>",
    b"keepcopy": b"local: <x@far.dom>",
    b"dup": b"<X@far.dom> <x@far.dom>",
}
CASES = [
    (b"myalias@my.dom", b"localuser@host.my.dom"),
    (b"MyAlias@MY.dom", b"localuser@host.my.dom"),
    (b"mylist@my.dom", b"user1@my.dom user2@my.dom"),
    (b"abuse@my.dom", b"user+abuse@host.my.dom"),
    (b"user@my.dom", b"user@my.dom"),
    (b"user+x@my.dom", b"user+x@my.dom"),
    (b"nobody@my.dom", b"nobody@my.dom"),
    (b"myalias@far.dom", b"myalias@far.dom"),  # flag localpart: only for local addresses
    (b"self@my.dom", b"self@my.dom"),
    (b"selfcopy@my.dom", b"selfcopy@my.dom x@far.dom"),
    (b"la@my.dom", b"x@far.dom y@far.dom"),
    (b"n1@my.dom", b"end@my.dom"),  # five levels
    (b"keepcopy@my.dom", b"keepcopy@my.dom x@far.dom"),
    (b"dup@my.dom", b"X@far.dom"),
]


@pytest.mark.parametrize(("address", "wanted"), CASES)
def test_expand(address: bytes, wanted: bytes) -> None:
    members = Play({"mailertable": MT, "aliases": ALIASES}).run(expand(SETUP, address))
    assert [member.address for member in members] == wanted.split()
    assert not any(member.reply.code for member in members)


BAD = [
    (b"a1@my.dom", 554, "5.4.6"),
    (b"n0@my.dom", 554, "5.4.6"),
    (b"comma@my.dom", 554, "5.3.5"),
    (b"garbage@my.dom", 554, "5.3.5"),
]


@pytest.mark.parametrize(("address", "code", "estat"), BAD)
def test_bad(address: bytes, code: int, estat: str) -> None:
    play = Play({"mailertable": MT, "aliases": ALIASES})
    members = play.run(expand(SETUP, address))
    assert [(member.reply.code, member.reply.estat) for member in members] == [(code, estat)]
    assert bool(play.notes) == (estat == "5.3.5")


def test_owner() -> None:
    members = Play({"mailertable": MT, "aliases": ALIASES}).run(expand(SETUP, b"big@my.dom"))
    assert [(m.address, m.sender) for m in members] == [
        (b"x@far.dom", b"owner-big@my.dom"), (b"localuser@host.my.dom", b"owner-big@my.dom")]


def test_verp_example_of_the_manual() -> None:
    """M1 3.14: otherlist is marked by verp-otherlist; what it contains is marked with it."""
    aliases = {b"otherlist": b"<user5@my.dom> <user6@other.dom> <inner@my.dom> local:", b"verp-otherlist": b"something",
               b"inner": b"<user7@other.dom>", b"plain": b"<user5@my.dom>"}
    play = Play({"mailertable": MT, "aliases": aliases})
    found = {m.address: m.is_verp for m in play.run(expand(SETUP, b"otherlist@my.dom"))}
    assert found == dict.fromkeys(
        [b"user5@my.dom", b"user6@other.dom", b"user7@other.dom", b"otherlist@my.dom"], True)
    assert [m.is_verp for m in play.run(expand(SETUP, b"plain@my.dom"))] == [False]
    assert play.run(resolve(SETUP, b"otherlist@my.dom", is_expanded=True))[0].target(0.0, keep_order).is_verp


def test_inner_list_without_owner_keeps_the_outer_one() -> None:
    aliases = {b"out": b"<in@my.dom>", b"owner-out": b"boss", b"in": b"<x@far.dom>"}
    members = Play({"mailertable": MT, "aliases": aliases}).run(expand(SETUP, b"out@my.dom"))
    assert [m.sender for m in members] == [b"owner-out@my.dom"]


def test_local_domains_example_of_the_manual() -> None:
    setup = replace(SETUP, aliases=AliasFlags(localpart=False, local_domains=True))
    aliases = {b"myalias@first.dom": b"user1", b"another@second.dom": b"user2"}
    play = Play({"mailertable": MT, "aliases": aliases})
    found = {
        address: play.run(exists(setup, address))
        for address in (b"myalias@second.dom", b"another@first.dom", b"myalias@first.dom", b"another@second.dom")
    }
    assert list(found.values()) == [False, False, True, True]
    assert play.run(expand(setup, b"myalias@first.dom"))[0].address == b"user1@host.my.dom"


def test_all_domains_and_catch_all_has_no_owner() -> None:
    setup = replace(SETUP, aliases=AliasFlags(localpart=False, all_domains=True))
    play = Play({"mailertable": MT, "aliases": {b"@far.dom": b"<x@else.dom>"}})
    member = play.run(expand(setup, b"any@far.dom"))[0]
    assert (member.address, member.sender) == (b"x@else.dom", None)


def test_both_flags_ask_qualified_first() -> None:
    setup = replace(SETUP, aliases=AliasFlags(localpart=True, local_domains=True))
    play = Play({"mailertable": MT, "aliases": {b"u@my.dom": b"one", b"u": b"two"}})
    assert play.run(expand(setup, b"u@my.dom"))[0].address == b"one@host.my.dom"
    assert play.run(expand(setup, b"u@first.dom"))[0].address == b"two@host.my.dom"


def test_preserve_domain_and_macros() -> None:
    setup = replace(SETUP, aliases=AliasFlags(preserve_domain=True, replace_macros=True, local_domains=True))
    aliases = {b"alias*@.dom": b"user${extension}", b"user": b"local:", b"user++": b"local:"}
    play = Play({"mailertable": MT, "aliases": aliases})
    assert play.run(expand(setup, b"alias+det@first.dom"))[0].address == b"user+det@first.dom"


def test_implicit_detail() -> None:
    setup = replace(SETUP, alias_localpart=replace(LOCALPART, implicit_detail=True))
    play = Play({"mailertable": MT, "aliases": {b"user": b"x@far.dom"}})
    assert play.run(expand(setup, b"user+d@my.dom"))[0].address == b"x@far.dom"
    assert play.run(expand(SETUP, b"user+d@my.dom"))[0].address == b"user+d@my.dom"
    assert QUALIFIED.implicit_detail is False


def test_exists() -> None:
    play = Play({"mailertable": MT, "aliases": {b"known": b"local:"}, "local_user_map": {b"unix": b""}})
    both = replace(SETUP, has_local_users=True)
    assert play.run(exists(both, b"known@my.dom")) is True
    assert play.run(exists(both, b"unix@my.dom")) is True
    assert play.run(exists(both, b"nobody@my.dom")) is False
    assert play.run(exists(both, b"PostMaster@my.dom")) is True
    assert play.run(exists(replace(SETUP, has_aliases=False), b"nobody@my.dom")) is True
    only = replace(SETUP, has_aliases=False, has_local_users=True)
    assert play.run(exists(only, b"known@my.dom")) is False


@pytest.mark.parametrize("role", ["aliases", "local_user_map"])
def test_broken_map(role: str) -> None:
    play = Play({"mailertable": MT, role: "temp"})
    reply = play.run(exists(replace(SETUP, has_local_users=True), b"u@my.dom"))
    assert (reply.code, reply.estat) == (451, "4.3.0")


def test_broken_map_fails_the_whole_expansion() -> None:
    for maps in ({"aliases": "temp", "mailertable": MT}, {"mailertable": "temp"}):
        members = Play(maps).run(expand(SETUP, b"u@my.dom"))
        assert [(m.address, m.reply.code) for m in members] == [(b"u@my.dom", 451)]


def test_large_list() -> None:
    aliases = {b"many": b" ".join(b"<u%d@far.dom>" % n for n in range(60_000))}
    members = Play({"mailertable": MT, "aliases": aliases}).run(expand(SETUP, b"many@my.dom"))
    assert [(m.reply.code, m.reply.estat) for m in members] == [(554, "5.3.4")]


PARSED = [
    (b"local:", [b"local:"]),
    (b"LOCAL:", [b"local:"]),
    (b"user", [b"user"]),
    (b"user@dom", [b"user@dom"]),
    (b"<a@b> <c@d>", [b"a@b", b"c@d"]),
    (b"<a@b><c@d>", [b"a@b", b"c@d"]),
    (b"  <a@b>  <>", [b"a@b"]),
    (b'<"a b"@c>', [b'"a b"@c']),
]


@pytest.mark.parametrize(("rhs", "members"), PARSED)
def test_parse(rhs: bytes, members: list[bytes]) -> None:
    assert parse(rhs) == members


@pytest.mark.parametrize("rhs", [b"", b"<>", b"a,b@c", b"<a@b", b"a@b@c", b"> <a@b>", b"<a@b c>"])
def test_parse_bad(rhs: bytes) -> None:
    with pytest.raises(AliasError):
        parse(rhs)


def test_resolve_list_asks_each_domain_once() -> None:
    aliases = {b"list": b"<a@far.dom> <b@far.dom> <c@my.dom> <d@bad.dom>"}
    dns = {"far.dom A": "192.0.2.1", "bad.dom MX": "nx"}
    play = Play({"mailertable": MT, "aliases": aliases}, dns)
    targets = [d.target(0.0, keep_order) for d in play.run(resolve(SETUP, b"list@my.dom", is_expanded=True))]
    assert [(t.address, t.code, [h.ip for h in t.hops]) for t in targets] == [
        (b"a@far.dom", 0, ["192.0.2.1"]), (b"b@far.dom", 0, ["192.0.2.1"]), (b"c@my.dom", 0, []),
        (b"d@bad.dom", 550, [])]
    assert [ask.name for ask in play.asked].count("far.dom") == 3  # MX, A, AAAA


def test_resolve_without_expansion() -> None:
    play = Play({"mailertable": MT, "aliases": {b"list": b"<a@far.dom>"}})
    (one,) = play.run(resolve(SETUP, b"list@my.dom", is_expanded=False))
    assert one.address == b"list@my.dom" and one.target(0.0, keep_order).ttl == 3600


def test_resolve_bare_postmaster_and_errors() -> None:
    play = Play({"mailertable": MT, "aliases": {b"x": b"<a@b> <c@@d>"}})
    assert play.run(resolve(SETUP, b"postmaster", is_expanded=True))[0].address == b"postmaster@host.my.dom"
    target = play.run(resolve(SETUP, b"x@my.dom", is_expanded=True))[0].target(0.0, keep_order)
    assert (target.code, target.estat, target.address) == (554, "5.3.5", b"x@my.dom")


def test_resolve_list_with_a_bad_member() -> None:
    aliases = {b"list": b"<bad@my.dom> <a@my.dom>", b"bad": b"<c@@d>"}
    play = Play({"mailertable": MT, "aliases": aliases})
    targets = [d.target(0.0, keep_order) for d in play.run(resolve(SETUP, b"list@my.dom", is_expanded=True))]
    assert [(t.address, t.code) for t in targets] == [(b"bad@my.dom", 554), (b"a@my.dom", 0)]


def test_resolve_with_full_address_mailertable() -> None:
    setup = replace(SETUP, mailertable=replace(SETUP.mailertable, full_address=True))
    maps = {"mailertable": {**MT, b"a@far.dom": b"[192.0.2.1]", b"b@far.dom": b"[192.0.2.2]"},
            "aliases": {b"list": b"<a@far.dom> <b@far.dom>"}}
    found = Play(maps).run(resolve(setup, b"list@my.dom", is_expanded=True))
    assert [d.target(0.0, keep_order).hops[0].ip for d in found] == ["192.0.2.1", "192.0.2.2"]
