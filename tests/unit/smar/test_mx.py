import random

import pytest

from meta1g.smar.ask import Mx
from meta1g.smar.mt import Family
from meta1g.smar.mx import A_MAX, MX_MAX, NoHosts, by_family, groups_of, hosts_of, is_ip, shuffled, wants

OWN = frozenset({"me.dom"})

CASES = [
    ("10 a 20 b 10 c", [("a", "c"), ("b",)]),
    ("20 b 10 a", [("a",), ("b",)]),
    ("10 a 20 me.dom 30 c", [("a",)]),
    ("10 a 20 me.dom 20 b 30 c", [("a",)]),
    ("10 a 10 c 20 me.dom 5 d", [("d",), ("a", "c")]),
    ("10 192.0.2.1 20 b", [("b",)]),
    ("0 . 10 b", [("b",)]),  # RFC 7505 3: null MX must stand alone; what is left works
]
BAD = [
    ("0 .", 556, "5.1.10", False),
    ("10 me.dom", 554, "5.4.6", True),
    ("10 me.dom 10 a 20 b", 554, "5.4.6", True),
    ("10 192.0.2.1", 550, "5.4.4", False),
    ("10 192.0.2.1 20 2001:db8::1", 550, "5.4.4", False),
]


def records(text: str) -> list[Mx]:
    words = text.split()
    return [Mx(int(p), "" if h == "." else h) for p, h in zip(words[::2], words[1::2], strict=True)]


@pytest.mark.parametrize(("text", "groups"), CASES)
def test_hosts(text: str, groups: list[tuple[str, ...]]) -> None:
    hosts = hosts_of("x.dom", records(text), OWN)
    assert not isinstance(hosts, NoHosts)
    assert list(groups_of(hosts)) == groups


@pytest.mark.parametrize(("text", "code", "estat", "is_loop"), BAD)
def test_no_hosts(text: str, code: int, estat: str, is_loop: bool) -> None:
    hosts = hosts_of("x.dom", records(text), OWN)
    assert isinstance(hosts, NoHosts)
    assert (hosts.reply.code, hosts.reply.estat, hosts.is_loop) == (code, estat, is_loop)


def test_limit() -> None:
    many = [Mx(n, f"h{n}") for n in range(MX_MAX + 10)]
    hosts = hosts_of("x.dom", many[::-1], OWN)
    assert hosts == many[:MX_MAX]


def test_shuffle_spreads_equal_preference_only() -> None:
    rng = random.Random(4711)
    groups = (("a",), ("b", "c", "d"), ("e",))
    seen = {tuple(shuffled(groups, rng.shuffle)) for _ in range(200)}
    assert len(seen) == 6
    assert all(order[0] == "a" and order[4] == "e" for order in seen)


def test_families() -> None:
    four, six = ["1.1.1.1", "2.2.2.2"], ["::1"]
    assert by_family(four, six, Family.IPV4_ONLY) == ("1.1.1.1", "2.2.2.2")
    assert by_family(four, six, Family.IPV6_ONLY) == ("::1",)
    assert by_family(four, six, Family.IPV6_PREFERRED) == ("::1", "1.1.1.1", "2.2.2.2")
    assert by_family(four, six, Family.IPV4_PREFERRED) == ("1.1.1.1", "2.2.2.2", "::1")
    assert wants(Family.IPV4_ONLY) == (True, False)
    assert wants(Family.IPV6_ONLY) == (False, True)
    assert wants(Family.IPV6_PREFERRED) == (True, True)


def test_is_ip() -> None:
    assert is_ip("192.0.2.1") and is_ip("::1")
    assert not is_ip("a.b")


def test_addresses_of_one_host_are_limited() -> None:  # M1 12.1.3
    ipv4 = [f"192.0.2.{n}" for n in range(A_MAX + 5)]
    assert by_family(ipv4, ["2001:db8::1"], Family.IPV4_PREFERRED) == tuple(ipv4[:A_MAX])
    assert by_family(ipv4, ["2001:db8::1"], Family.IPV6_PREFERRED) == ("2001:db8::1", *ipv4[:A_MAX - 1])
