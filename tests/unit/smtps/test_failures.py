"""Failed logins are counted by client and account, in bounded tables."""
import pytest

from meta1g.smtps.failures import Failures, net_of


def test_delays_grow_by_address_and_account() -> None:
    failures = Failures(30.0, 100)
    assert [failures.failed("192.0.2.1", f"u{number}", 0.0) for number in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert failures.failed("192.0.2.2", "u0", 1.0) == 2, "the account's second"
    assert failures.failed("192.0.2.3", "new", 1.0) == 1
    assert failures.failed("192.0.2.4", "NEW", 1.0) == 2, "names have no case"
    assert failures.failed("192.0.2.5", "", 1.0) == 1
    assert failures.failed("192.0.2.1", "other", 902.0) == 1, "forgotten after 15 minutes"


def test_without_delay() -> None:
    failures = Failures(0.0, 1)
    assert [failures.failed("192.0.2.1", "u", 0.0) for _ in range(100)] == [0.0] * 100


def test_so_many_wait_at_once() -> None:
    failures = Failures(30.0, 2)
    failures.waiting = 1
    assert failures.has_room
    failures.waiting = 2
    assert not failures.has_room


def test_an_address_that_guesses_has_few_logins_under_way() -> None:
    failures = Failures(30.0, 100)
    assert all(failures.begin("2001:db8::1", 0.0) for _ in range(10)), "nothing is known of it"
    assert not failures.begin("2001:db8::1", 0.0)
    assert failures.begin("192.0.2.1", 0.0)
    for _ in range(10):
        failures.failed("2001:db8::2", "u", 0.0)
    assert not failures.begin("2001:db8::3", 0.0)
    assert failures.begin("2001:db8:0:1::3", 0.0), "another /64"
    for _ in range(7):
        failures.end("2001:db8::9")
    assert failures.begin("2001:db8::3", 0.0)
    assert not failures.begin("2001:db8::3", 0.0)
    assert failures.begin("2001:db8::3", 901.0)


def test_tables_are_bounded() -> None:
    failures = Failures(30.0, 100)
    failures.failed("10.0.0.0", "first", 0.0)
    for number in range(20_000):
        failures.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"u{number}", 1.0)
    assert len(failures._by_address) == len(failures._by_account) == 10_000
    assert failures.failed("10.0.0.0", "first", 1.0) == 1, "the oldest went first"
    for _ in range(3):
        failures.begin("192.0.2.1", 0.0)
    for _ in range(4):
        failures.end("192.0.2.1")
    assert failures._under_way == {}


@pytest.mark.parametrize(("ip", "net"), [
    ("192.0.2.1", "192.0.2.1"), ("local", "local"), ("2001:db8::1", "2001:db8::/64"), ("fe80::1%eth0", "fe80::/64"),
    ("x:y", "x:y"),
])
def test_nets(ip: str, net: str) -> None:
    assert net_of(ip) == net
