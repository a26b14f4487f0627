"""Picking recipients by address, site and id."""
import pytest

from meta1g.mta.ids import rcpt_id, ss_id
from meta1g.mta.selection import Addresses, Picker, Selection, site_key

TA = ss_id(0xAB, 0)
HOSTS = ("MX.Example.net", "192.0.2.1")
CASES = [
    ("a@b.test", b"A@B.Test", True),
    ("<a@b.test>", b"a@b.test", True),
    ("a@b.test", b"aa@b.test", False),
    ("@b.test", b"x@B.TEST", True),
    ("@b.test.", b"x@b.test", True),
    ("@b.test", b"x@sub.b.test", False),
    ("@*.b.test", b"x@sub.b.test", True),
    ("*@b.test", b"x@b.test", True),
    ("a?@b.test", b"ab@b.test", True),
    ("a?@b.test", b"a@b.test", False),
    ("a.c@b.test", b"abc@b.test", False),
    ("*[1]*", b"a[1]b@x", True),
    ("<>", b"", True),
    ("<>", b"a@b", False),
    ("postmaster", b"Postmaster", True),
    ("b\u00fccher@b.test", "B\u00dccher@b.test".encode(), True),
]


@pytest.mark.parametrize(("pattern", "address", "fits"), CASES)
def test_addresses(pattern: str, address: bytes, fits: bool) -> None:
    assert Addresses(["nobody@else.test", pattern]).fit(address) is fits


@pytest.mark.parametrize(("written", "key"), [
    ("MX.Test.", "mx.test"), ("@b.test", "b.test"), ("[192.0.2.1]", "192.0.2.1"), ("2001:DB8::0:1", "2001:db8::1"),
    ("[IPv6:2001:db8::1]", "2001:db8::1"), ("::ffff:192.0.2.1", "192.0.2.1"),
])
def test_site_key(written: str, key: str) -> None:
    assert site_key(written) == key


@pytest.mark.parametrize(("wanted", "picks"), [
    (Selection(), True),
    (Selection(sites=("mx.example.net",)), True),
    (Selection(sites=("192.0.2.1",)), True),
    (Selection(sites=("B.test",)), True),
    (Selection(sites=("example.net",)), False),
    (Selection(to=("@b.test",), sites=("192.0.2.9",)), False),
    (Selection(to=("x@y", "@b.test"), sites=("192.0.2.9", "192.0.2.1")), True),
    (Selection(ids=(TA.lower(),)), True),
    (Selection(ids=(rcpt_id(TA, 40),)), True),
    (Selection(ids=(rcpt_id(TA, 14),)), False),
])
def test_kinds_combine(wanted: Selection, picks: bool) -> None:
    assert Picker(wanted).picks(TA, 40, b"a@b.test", HOSTS) is picks


def test_local_mail_has_no_host() -> None:
    assert not Picker(Selection(sites=("",))).picks(TA, 0, b"user", ("", ""))
