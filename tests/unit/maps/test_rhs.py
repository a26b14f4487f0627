import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.maps.macros import replace
from meta1g.maps.rhs import parse_access
from meta1g.proto.msg_ar import Action

CASES = [
    (b"relay", Action.RELAY, False, ""),
    (b"OK", Action.OK, False, ""),
    (b" ok ", Action.OK, False, ""),
    (b"reject", Action.REJECT, False, "550 5.7.0 Rejected."),
    (b"discard", Action.DISCARD, False, ""),
    (b"cont", Action.CONT, False, ""),
    (b"quick:relay", Action.RELAY, True, ""),
    (b"quick:ok", Action.OK, True, ""),
    (b"Quick: discard", Action.DISCARD, True, ""),
    (b"error:551 5.7.1 No spammers", Action.REJECT, False, "551 5.7.1 No spammers"),
    (b"error:451 4.7.1 reverse lookup failed", Action.REJECT, False, "451 4.7.1 reverse lookup failed"),
    (b"quick:error:551 5.7.1 No mail from spammers", Action.REJECT, True, "551 5.7.1 No mail from spammers"),
    (b"quick:reject", Action.REJECT, True, "550 5.7.0 Rejected."),
    (b"error:go away", Action.REJECT, False, "550 5.7.1 go away"),
    (b"error:250 2.0.0 ok", Action.REJECT, False, "550 5.7.1 250 2.0.0 ok"),
    (b"error:", Action.REJECT, False, "550 5.7.1 Rejected."),
    (b"error:550", Action.REJECT, False, "550 Rejected."),
    (b"error:550 5.7.1 a\r\n250 b", Action.REJECT, False, "550 5.7.1 a??250 b"),
]


@pytest.mark.parametrize(("rhs", "action", "quick", "reply"), CASES)
def test_parse(rhs: bytes, action: int, quick: bool, reply: str) -> None:
    rule = parse_access(rhs)
    assert rule is not None
    assert (rule.action, rule.quick, str(rule.reply) if rule.reply.code else "") == (action, quick, reply)


@pytest.mark.parametrize("rhs", [b"", b"relayed", b"quick:", b"okay", b"quick:quick:ok", b"flags = greylisting;"])
def test_unknown(rhs: bytes) -> None:
    assert parse_access(rhs) is None


@given(st.binary(max_size=60))
def test_reply_is_one_line(octets: bytes) -> None:
    rule = parse_access(b"error:" + octets)
    assert rule is not None
    assert 400 <= rule.reply.code < 600
    assert bytes(rule.reply).count(b"\n") == 1


MACROS = [  # M1 3.12.3
    (b"user${extension}@${subdomain}.domain", b"alias@host.domain", b"alias*@.domain", b"user@host.domain"),
    (b"user${extension}@${subdomain}.domain", b"alias+detail@host2.domain", b"alias*@.domain",
     b"user+detail@host2.domain"),
    (b"${user}-${detail}${delimiter}@x.${domain}", b"a+b@c", b"a+*@c", b"a-b+@x.c"),
    (b"${subdomain}x", b"a@b.c", b"a@b.c", b"x"),
    (b"${none} ${tag}", b"a@b", b"a@b", b"${none} t"),
    (b"plain", b"a@b", b"a@b", b"plain"),
]


@pytest.mark.parametrize(("rhs", "address", "key", "wanted"), MACROS)
def test_macros(rhs: bytes, address: bytes, key: bytes, wanted: bytes) -> None:
    assert replace(rhs, address, key, delimiters=b"+", tag=b"t") == wanted
