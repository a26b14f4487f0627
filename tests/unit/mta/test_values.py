"""Addresses, replies, ids, log fields."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta import addr, ids, logfmt
from meta1g.mta.reply import Reply, parse_reply, parse_reply_text

MAILBOXES = [
    (b"a@b.c", b"a@b.c"),
    (b"a.b+c@d-e.f", b"a.b+c@d-e.f"),
    (b"!#$%&'*+-/=?^_`{|}~@x", b"!#$%&'*+-/=?^_`{|}~@x"),
    (b'"a b"@c.d', b'"a b"@c.d'),
    (b'"ab"@c.d', b"ab@c.d"),
    (b'"a\\"b"@c', b'"a\\"b"@c'),
    (b'"a@b"@c', b'"a@b"@c'),
    (b"@x.y,@z:a@b", b"a@b"),
    (b"@x.y:a@b", b"a@b"),
    (b"a@[192.0.2.1]", b"a@[192.0.2.1]"),
    (b"a@[IPv6:2001:db8::1]", b"a@[IPv6:2001:db8::1]"),
    (b"a" * 64 + b"@b.c", b"a" * 64 + b"@b.c"),
    (b"a" * 65 + b"@b.c", None),
    (b"a@" + b"b" * 63 + b".c", b"a@" + b"b" * 63 + b".c"),
    (b"a@" + b"b" * 64 + b".c", None),
    (b"a@[192.0.2.256]", None),
    (b"a@[IPv6:192.0.2.1]", None),
    (b"a..b@c", None), (b".a@b", None), (b"a.@b", None), (b"a@b..c", None), (b"a@.b", None), (b"a@b.", None),
    (b"a@-b", None), (b"a@b-", None), (b"a@b@c", None), (b"a", None), (b"@b", None), (b"a@", None), (b"", None),
    (b"a b@c", None), (b"a@b c", None), (b"a\x00@b", None), (b"a@b\r", None), (b"\xc3\xa4@b", None),
    (b'"a@b', None), (b'"a"b@c', None), (b"a@[1.2.3.4", None), (b"@x:a", None), (b"@:a@b", None),
    (b"a(comment)@b", None), (b"a@b;c", None), (b"<a@b>", None),
]


@pytest.mark.parametrize(("text", "expected"), MAILBOXES)
def test_mailbox(text: bytes, expected: bytes | None) -> None:
    assert addr.parse_mailbox(text) == expected


def test_mailbox_utf8() -> None:
    text = "grüße@exämple.org".encode()
    assert addr.parse_mailbox(text) is None
    assert addr.parse_mailbox(text, utf8=True) == text


@given(st.binary(max_size=80))
def test_mailbox_never_fails(text: bytes) -> None:
    found = addr.parse_mailbox(text)
    assert found is None or addr.parse_mailbox(found) == found


@pytest.mark.parametrize(("local", "delimiters", "expected"), [
    (b"user+ext", b"+", (b"user", b"+", b"ext")),
    (b"user", b"+", (b"user", b"", b"")),
    (b"user+", b"+", (b"user", b"+", b"")),
    (b"+x", b"+", (b"+x", b"", b"")),
    (b"user/ext-list", b"/_-", (b"user", b"/", b"ext-list")),
    (b"user-ext_list", b"/_-", (b"user", b"-", b"ext_list")),
])
def test_detail(local: bytes, delimiters: bytes, expected: tuple[bytes, bytes, bytes]) -> None:
    assert addr.split_detail(local, delimiters) == expected


def test_unquote() -> None:
    assert addr.unquote_local(b'"a\\"b"') == b'a"b'
    assert addr.unquote_local(b"a") == b"a"
    assert addr.domain_key(b"Example.ORG.") == "example.org"


REPLIES = [
    (Reply(250, "2.0.0", "Ok"), b"250 2.0.0 Ok\r\n"),
    (Reply(354, "", "Go"), b"354 Go\r\n"),
    (Reply(550, "5.7.1", "a\nb"), b"550-5.7.1 a\r\n550 5.7.1 b\r\n"),
]


@pytest.mark.parametrize(("reply", "wire"), REPLIES)
def test_reply_round_trip(reply: Reply, wire: bytes) -> None:
    assert bytes(reply) == wire
    lines = [line[4:] for line in wire.split(b"\r\n")[:-1]]
    assert parse_reply_text(reply.code, lines) == reply


def test_reply_facts() -> None:
    assert Reply(250, "", "").is_positive
    assert Reply(450, "", "").is_temporary
    assert Reply(550, "5.1.1", "x").softened() == Reply(450, "4.1.1", "x")
    assert Reply(250, "2.0.0", "x").softened() == Reply(250, "2.0.0", "x")
    assert str(Reply(550, "5.1.1", "a\nb")) == "550 5.1.1 a b"
    assert parse_reply("550 5.7.1 No") == Reply(550, "5.7.1", "No")
    assert parse_reply("551 No") == Reply(551, "", "No")
    assert parse_reply("250 5.1.1 odd") == Reply(250, "", "5.1.1 odd")
    assert parse_reply("99 x") is None
    assert parse_reply("hello") is None
    assert parse_reply("6000") is None
    assert parse_reply_text(250, [b"a\x07\xff"]).text == "a?\N{REPLACEMENT CHARACTER}"
    assert parse_reply_text(250, []) == Reply(250, "", "")


def test_ids_of_the_manual() -> None:
    assert ids.ss_id(0x407CE492, 0) == "S00000000407CE49200"
    assert ids.da_id(0x137D, 1, 0) == "C010000137D00000000"
    assert ids.rcpt_id("S00000000407CE49200", 0) == "S00000000407CE49200-000000"
    assert ids.cdb_folder("S000000000006B1D200") == "2"
    assert ids.ta_counter("S000000000000000A00") == 10


@given(st.integers(0, 64**6 - 1))
def test_rcpt_id_round_trip(index: int) -> None:
    assert ids.rcpt_index(ids.rcpt_id("S00000000407CE49200", index)) == ("S00000000407CE49200", index)


@pytest.mark.parametrize("text", ["", "S1-000000", "S00000000407CE49200-0", "S00000000407CE49200-00000\N{MICRO SIGN}"])
def test_bad_rcpt_id(text: str) -> None:
    with pytest.raises(ValueError):
        ids.rcpt_index(text)


def test_ta_id_never_leaves_its_folder() -> None:
    assert ids.is_ta_id("S00000000407CE49200")
    for text in ("../../etc/passwd", "S00000000407CE4920", "s00000000407ce49200", "S00000000407CE49200\n"):
        assert not ids.is_ta_id(text)


def test_log_encoding_of_the_manual() -> None:
    assert logfmt.clean("550 5.7.1 no, not now, 99% usage") == "550 5.7.1 no%2C not now%2C 99%25 usage"
    assert logfmt.clean(b"a\r\nb\x80") == "a%0D%0Ab%80"
    assert logfmt.clean("ä") == "%C3%A4"
    assert logfmt.fields(ss_se="S1", mail=b"<a@b>", none=None, stat=0) == "ss_se=S1, mail=<a@b>, stat=0"


@given(st.dictionaries(st.sampled_from(["mail", "rcpt", "reply"]), st.text(max_size=40), max_size=3))
def test_log_line_can_not_be_forged(values: dict[str, str]) -> None:
    line = logfmt.fields(**values)
    assert "\n" not in line
    assert "\r" not in line
    expected = {name: text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                for name, text in values.items()}
    assert logfmt.parse(line) == expected


@pytest.mark.parametrize(("text", "ip"), [
    ("192.0.2.1", "192.0.2.1"), ("2001:DB8:0::1", "2001:db8::1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("::1", "::1"),
    ("fe80::1%eth0", None), ("::1%", None), ("192.0.2.1%x", None), ("192.0.2.01", None), ("", None), ("a", None),
])
def test_plain_ip(text: str, ip: str | None) -> None:
    assert addr.plain_ip(text) == ip
    if ip is None:
        assert addr.literal_ip(f"[IPv6:{text}]".encode()) is None
