import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.proto.msg_ar import Protocol
from meta1g.smar.mt import Family, MtEntry, MtError, complaint, parse

ESMTP, LMTP, UNIX = Protocol.ESMTP, Protocol.LMTP, Protocol.LMTP_UNIX

CASES = [
    # M1 3.9.3, the examples (with addresses where the manual's text lost them)
    (b"lmtp:", MtEntry(UNIX, has_mx_lookup=False)),
    (b"{ port=2525; protocol=esmtp; ip={192.0.2.1} }", MtEntry(ESMTP, 2525, "", ("192.0.2.1",))),
    (b"{ protocol=lmtp; port = 525; ip= {192.0.2.1 } }", MtEntry(LMTP, 525, "", ("192.0.2.1",), False)),
    (b"{ host = SERVER.OTHER.DOMAIN; flags=no_MX_lookup; }", MtEntry(ESMTP, 0, "server.other.domain", (), False)),
    (b"esmtp:[192.0.2.1]", MtEntry(ESMTP, 0, "", ("192.0.2.1",))),
    (b"{ host = GATE.WAY }", MtEntry(ESMTP, 0, "gate.way")),
    (b"esmtp:SMART.HOST", MtEntry(ESMTP, 0, "smart.host")),
    # old form
    (b"host.name", MtEntry(ESMTP, 0, "host.name")),
    (b"host.name.", MtEntry(ESMTP, 0, "host.name")),
    (b"[192.0.2.1]", MtEntry(ESMTP, 0, "", ("192.0.2.1",))),
    (b"[192.0.2.1] [192.0.2.2]", MtEntry(ESMTP, 0, "", ("192.0.2.1", "192.0.2.2"))),
    (b"[192.0.2.1][2001:db8::1]", MtEntry(ESMTP, 0, "", ("192.0.2.1", "2001:db8::1"))),
    (b"[IPv6:2001:DB8::1]", MtEntry(ESMTP, 0, "", ("2001:db8::1",))),
    (b"2525^esmtp:host.name", MtEntry(ESMTP, 2525, "host.name")),
    (b"2525^host.name", MtEntry(ESMTP, 2525, "host.name")),
    (b"2525^[192.0.2.1]", MtEntry(ESMTP, 2525, "", ("192.0.2.1",))),
    (b"2525 ^ esmtp: [192.0.2.1]", MtEntry(ESMTP, 2525, "", ("192.0.2.1",))),
    (b"525^lmtp:host.name", MtEntry(LMTP, 525, "host.name", (), False)),
    (b"525^lmtp:[127.0.0.1]", MtEntry(LMTP, 525, "", ("127.0.0.1",), False)),
    (b"LMTP:", MtEntry(UNIX, has_mx_lookup=False)),
    # structured form
    (b"{ protocol=lmtp; }", MtEntry(UNIX, 0, "", (), False)),
    (b"{protocol=lmtp}", MtEntry(UNIX, 0, "", (), False)),
    (b"{ protocol=lmtp; port=25; host=h.x; }", MtEntry(LMTP, 25, "h.x", (), False)),
    (b"{ host=h.x; flags=MX_lookup; }", MtEntry(ESMTP, 0, "h.x")),
    (b"{ host=h.x; flags={~MX_lookup}; }", MtEntry(ESMTP, 0, "h.x", (), False)),
    (b"{ host=h.x; flags=-mx_lookup }", MtEntry(ESMTP, 0, "h.x", (), False)),
    (b'{ host="h.x"; IPv_Select = IPv4_Only; }', MtEntry(ESMTP, 0, "h.x", (), True, Family.IPV4_ONLY)),
    (b"{ IPv_Select = IPv6_Preferred; }", MtEntry(ESMTP, 0, "", (), True, Family.IPV6_PREFERRED)),
    (b"{ ip = 192.0.2.1; }", MtEntry(ESMTP, 0, "", ("192.0.2.1",))),
    (b"{ ip = { 192.0.2.1, 2001:db8::1, }; port = 26; }", MtEntry(ESMTP, 26, "", ("192.0.2.1", "2001:db8::1"))),
    (b"{ ip = { [192.0.2.1] } }", MtEntry(ESMTP, 0, "", ("192.0.2.1",))),
    (b"{ host = [192.0.2.1]; }", MtEntry(ESMTP, 0, "", ("192.0.2.1",))),
]


@pytest.mark.parametrize(("rhs", "entry"), CASES)
def test_parse(rhs: bytes, entry: MtEntry) -> None:
    assert parse(rhs) == entry
    assert complaint(rhs) == ""


BAD = [
    (b"", "missing"),
    (b"esmtp:", "host name"),
    (b"525^lmtp:", "port and a host"),
    (b"lmtp:host", "port and a host"),
    (b"192.0.2.1", "square brackets: [192.0.2.1]"),
    (b"[192.0.2.256]", "not an IP address"),
    (b"[host.name]", "not an IP address"),
    (b"[192.0.2.1] host", "unexpected `host`"),
    (b"0^host", "not a port"),
    (b"70000^host", "not a port"),
    (b"smtp:host", "not a host name"),
    (b"two hosts", "not a host name"),
    (b"{ port=25; }", "host or ip is missing"),
    (b"{ }", "host or ip is missing"),
    (b"{ host=a.b", "ends with }"),
    (b"{ host a.b }", "= is missing"),
    (b"{ hots=a.b; }", "unknown field `hots`"),
    (b"{ host=a.b; host=c.d; }", "twice"),
    (b"{ host=; }", "needs one value"),
    (b"{ host=a b; }", "needs one value"),
    (b"{ host={a,b}; }", "one value"),
    (b"{ ip={192.0.2.1; }", "} is missing"),
    (b"{ ip={=} }", "separated by commas"),
    (b"{ ip={}; }", "empty"),
    (b"{ ip={" + b"1.1.1.1," * 65 + b"}; }", "more than 64"),
    (b"{ protocol=smtp; host=a.b; }", "protocol must be"),
    (b"{ protocol=lmtp; port=25; }", "port and a host"),
    (b"{ protocol=lmtp; host=a.b; }", "port and a host"),
    (b"{ protocol=lmtp; flags=MX_lookup; }", "do not apply"),
    (b"{ host=a.b; ip={1.1.1.1}; }", "not both"),
    (b"{ host=a.b; flags=fast; }", "unknown flag"),
    (b"{ host=a.b; IPv_Select=both; }", "IPv_Select must be"),
    (b'{ host="a.b; }', "cannot read"),
]


@pytest.mark.parametrize(("rhs", "words"), BAD)
def test_bad(rhs: bytes, words: str) -> None:
    assert words in complaint(rhs)


@given(st.text('{}=;,"[]^: abhostipfg0123456789.', max_size=60))
def test_never_breaks(text: str) -> None:
    try:
        parse(text.encode())
    except MtError:
        pass
