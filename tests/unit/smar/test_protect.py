"""Protected recipients: the examples of M1 3.10.3 and what they leave open."""
import pytest
from play import SETUP, Play

from meta1g.maps.map import TempFail
from meta1g.proto.msg_ar import CheckRcpt, Want
from meta1g.smar.protect import protection

MAPS = {
    "mailertable": {b"local.dom": b"lmtp:"},
    "aliases": {
        b"list1": b"<user1-1@l1-1.dom> <user2-1@l1-1.dom> <list2@local.dom>",
        b"list2": b"<user1-2@l2-1.dom> <user2-2@l2-2.dom>", b"broken": b"<a@b", b"self": b"local:",
    },
    "access_map": {
        b"protectedrcpt:list1@local.dom": b"list:<list1@local.dom>",
        b"protectedrcpt:list3": b"from:<moderator3@local.dom> cltaddr:192.0.2.9 cltaddr:10.",
        b"protectedrcpt:late": b"temp: from:a@b.dom", b"protectedrcpt:nonsense": b"by:me",
        b"protectedrcpt:both": b"list:<list1@local.dom> list:<list2@local.dom>",
        b"protectedrcpt:broken": b"list:broken@local.dom", b"protectedrcpt:nolist": b"list:nobody@local.dom",
        b"protectedrcpt:null": b"from:<>", b"protectedrcpt:dom": b"from:@far.dom",
    },
}
ALL = Want.ACCESS | Want.PROTECTED
GENERIC = ALL | Want.GENERIC
DETAIL = ALL | Want.DETAIL
CASES = [
    # wants, recipient, sender, client, code (0: may)
    (ALL, b"list1@local.dom", b"user1-1@l1-1.dom", "", 0),
    (ALL, b"list1@local.dom", b"USER2-1@L1-1.DOM", "", 0),
    (ALL, b"list1@local.dom", b"user1-2@l2-1.dom", "", 550),  # not expanded further
    (ALL, b"list1@local.dom", b"list2@local.dom", "", 0),
    (ALL, b"both@local.dom", b"user1-2@l2-1.dom", "", 0),
    (ALL, b"list3@local.dom", b"moderator3@local.dom", "198.51.100.1", 0),
    (ALL, b"list3@local.dom", b"x@y.dom", "192.0.2.9", 0),
    (ALL, b"list3@local.dom", b"x@y.dom", "10.1.2.3", 550),  # needs generic_lookup
    (GENERIC, b"list3@local.dom", b"x@y.dom", "10.1.2.3", 0),
    (GENERIC, b"list3@local.dom", b"x@y.dom", "local", 550),
    (Want.ACCESS | Want.BY_SENDER, b"list3@local.dom", b"x@y.dom", "192.0.2.9", 550),
    (Want.ACCESS | Want.BY_CLIENT, b"list3@local.dom", b"moderator3@local.dom", "198.51.100.1", 550),
    (GENERIC, b"list1@local.dom", b"user1-1+tag@l1-1.dom", "", 550),
    (DETAIL, b"list1@local.dom", b"user1-1+tag@l1-1.dom", "", 0),
    (GENERIC, b"dom@local.dom", b"any@far.dom", "", 0),
    (ALL, b"dom@local.dom", b"any@far.dom", "", 550),
    (ALL, b"late@local.dom", b"x@y.dom", "", 450),
    (ALL, b"late@local.dom", b"a@b.dom", "", 0),
    (ALL, b"null@local.dom", b"", "", 0),
    (ALL, b"null@local.dom", b"x@y.dom", "", 550),
    (ALL, b"nonsense@local.dom", b"x@y.dom", "", 451),
    (ALL, b"broken@local.dom", b"x@y.dom", "", 451),
    (ALL, b"nolist@local.dom", b"x@y.dom", "", 550),
    (ALL, b"free@local.dom", b"x@y.dom", "", 0),
    (Want.ACCESS, b"list1@local.dom", b"x@y.dom", "", 0),
    (Want.PROTECTED, b"list1@local.dom", b"x@y.dom", "", 0),
]


@pytest.mark.parametrize(("wants", "rcpt", "mail", "client", "code"), CASES)
def test_protection(wants: int, rcpt: bytes, mail: bytes, client: str, code: int) -> None:
    play = Play(MAPS)
    found = play.run(protection(SETUP, CheckRcpt(wants, client, mail, rcpt), rcpt))
    assert (found.code if found else 0) == code
    assert bool(play.notes) == (code == 451)


@pytest.mark.parametrize("role", ["access_map", "aliases", "mailertable"])
def test_broken_map(role: str) -> None:
    play = Play({**MAPS, role: "temp"})
    assert isinstance(play.look(type("Ask", (), {"role": role, "keys": ()})), TempFail)
    found = play.run(protection(SETUP, CheckRcpt(ALL, "", b"x@y.dom", b"list1@local.dom"), b"list1@local.dom"))
    assert found.code == 451
