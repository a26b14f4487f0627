"""Limits of connections by address, net and recipient's domain; sources; classes of features (M1 3.8, 3.8.1)."""
import pytest

from meta1g.qmgr.host_conf import WRONG, HostConf
from meta1g.qmgr.occ import TIMEOUT, OutLimits
from meta1g.qmgr.out_limits import OutRules

DEFAULT = OutLimits(10, 100, 1000)
LOW = OutLimits(1, 2, 5)
MANUAL = {  # the map of M1 3.8.1, with the names that the text has lost
    b"oci": b"5", b"ocm:": b"10", b"oci:10.": b"10", b"ocm:10.": b"50", b"oci:192.0.2.7": b"1", b"ocm:192.0.2.7": b"4",
    b"ocr:192.0.2.7": b"6", b"octo:192.0.2.": b"90",
    b"smtpc_conf_rcpt_domain:low.test": b"connection_limits=low;",
    b"smtpc_conf_rcpt_domain:.low.test": b"connection_limits = low;",
    b"smtpc_conf_cltaddr:10.": b"source = net10;",
    b"smtpc_conf_mail:news.test": b"source = bulk;",
    b"smtpc_conf_mail:boss@news.test": b"source = net10;",
    b"smtpc_session_conf:192.0.2.": b"session_feature = plain;",
}
HOSTS = HostConf(MANUAL, ["low"], ["net10", "bulk"], ["plain"])
RULES = OutRules(DEFAULT, {"low": LOW}, HOSTS)


@pytest.mark.parametrize(("ip", "rcpt", "expected"), [
    ("198.51.100.1", b"a@b.test", OutLimits(5, 10, 1000)),
    ("10.1.2.3", b"a@b.test", OutLimits(10, 50, 1000)),
    ("192.0.2.7", b"a@b.test", OutLimits(1, 4, 1000, 6, 90.0)),
    ("192.0.2.8", b"a@b.test", OutLimits(5, 10, 1000, 0, 90.0)),
    ("198.51.100.1", b"a@low.test", LOW),
    ("198.51.100.1", b"a@x.LOW.test", LOW),
    ("10.1.2.3", b"a@low.test", OutLimits(10, 50, 5)),  # the net has the last word
    ("2001:db8::1", b"a@b.test", OutLimits(5, 10, 1000)),
    ("lmtpsock", b"a", OutLimits(5, 10, 1000)),
])
def test_limits(ip: str, rcpt: bytes, expected: OutLimits) -> None:
    assert RULES.limits(ip, rcpt) == expected
    assert RULES.limits(ip, rcpt) is RULES.limits(ip, rcpt)


def test_without_entries_the_options_hold() -> None:
    rules = OutRules(DEFAULT, {}, HostConf({}))
    assert rules.limits("192.0.2.7", b"a@b") == DEFAULT
    assert rules.limits("192.0.2.7", b"a@b").timeout == TIMEOUT


def test_a_limit_is_at_least_one() -> None:
    assert OutRules(DEFAULT, {}, HostConf({b"ocm:": b"0"})).limits("192.0.2.7", b"a@b") == OutLimits(1, 1, 1000)


@pytest.mark.parametrize(("client", "mail", "expected"), [
    ("10.1.2.3", b"a@b.test", "net10"), ("192.0.2.1", b"a@b.test", ""), ("192.0.2.1", b"a@NEWS.test", "bulk"),
    ("10.1.2.3", b"a@news.test", "bulk"), ("192.0.2.1", b"Boss@news.test", "net10"), ("10.1.2.3", b"", "net10"),
    ("", b"", ""), ("192.0.2.1", b"a@x.news.test", ""),
])
def test_sources(client: str, mail: bytes, expected: str) -> None:
    assert HOSTS.source_of(client, mail) == expected


def test_features() -> None:
    assert [HOSTS.session_of(ip).feature for ip in ("192.0.2.1", "198.51.100.1", "")] == ["plain", "", ""]


@pytest.mark.parametrize(("key", "value", "said"), [
    (b"ocr:", b"many", "not a number"),
    (b"smtpc_conf_cltaddr:", b"source = nte10;", "there is no section nte10 did you mean net10?"),
    (b"smtpc_conf_rcpt_domain:x", b"limits = low;", "limits"),
    (b"smtpc_session_conf:192.0.2.1", b"tls_requirements { flags = { verifeid } };", "verifeid"),
])
def test_mistakes_are_named(key: bytes, value: bytes, said: str) -> None:
    hosts = HostConf({key: value}, ["low"], ["net10", "bulk"], ["plain"])
    assert said in hosts.wrong[0]
    assert hosts.source_of("192.0.2.1", b"a@b") == ""


def test_a_host_with_a_mistake_gets_no_mail() -> None:
    """Its entry may ask for security that would be missing."""
    hosts = HostConf({b"smtpc_session_conf:192.0.2.1": b"tls_requirements { flags = { verifeid } }"}, (), (), ())
    assert hosts.session_of("192.0.2.1").feature == WRONG


def test_requirements_go_to_smtpc_as_they_are() -> None:
    text = b"tls_requirements { common_name = mx.test; } session_feature = plain;"
    hosts = HostConf({b"smtpc_session_conf:192.0.2.1": text}, (), (), ["plain"])
    assert hosts.session_of("192.0.2.1") == ("plain", text.decode())
    assert hosts.wrong == []
