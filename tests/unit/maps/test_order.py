import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.maps.order import ADDRESS, LOCALPART, MAILERTABLE, QUALIFIED, Order, address_keys, domain_parts, ip_parts

DOMAINS = [  # M1 3.12.1
    (b"sub2.sub1.tld", True, True, b"sub2.sub1.tld .sub1.tld .tld ."),
    (b"sub2.sub1.tld", True, False, b"sub2.sub1.tld .sub1.tld .tld"),
    (b"sub2.sub1.tld", False, True, b"sub2.sub1.tld ."),
    (b"SUB.Tld", False, False, b"sub.tld"),
    (b"tld", True, True, b"tld ."),
    (b"spammer.domain.", True, False, b"spammer.domain. .domain."),  # M1 3.9.3: cltname keeps the trailing dot
    (b"[192.0.2.1]", True, True, b"[192.0.2.1] ."),
    (b"", True, True, b"."),
]


@pytest.mark.parametrize(("domain", "sub", "dot", "keys"), DOMAINS)
def test_domain(domain: bytes, sub: bool, dot: bool, keys: bytes) -> None:
    assert list(domain_parts(domain, dotsubdomain=sub, dot=dot)) == keys.split()


IPS = [
    ("192.0.2.33", b"192.0.2.33 192.0.2. 192.0. 192."),
    ("::ffff:10.1.2.3", b"10.1.2.3 10.1.2. 10.1. 10."),
    ("2001:db8::1", b"2001:db8:0:0:0:0:0:1 2001:db8:0:0:0:0:0: 2001:db8:0:0:0:0: 2001:db8:0:0:0: 2001:db8:0:0: "
                    b"2001:db8:0: 2001:db8: 2001:"),
    ("::1", b"0:0:0:0:0:0:0:1 0:0:0:0:0:0:0: 0:0:0:0:0:0: 0:0:0:0:0: 0:0:0:0: 0:0:0: 0:0: 0:"),
]


@pytest.mark.parametrize(("ip", "keys"), IPS)
def test_ip(ip: str, keys: bytes) -> None:
    assert list(ip_parts(ip)) == keys.split()


def test_no_ip() -> None:
    with pytest.raises(ValueError):
        list(ip_parts("10."))


ADDRESSES = [
    (b"User+Det@a.tld", b"+", QUALIFIED,
     b"user+det@a.tld user++@a.tld user+*@a.tld user*@a.tld @a.tld "
     b"user+det@.tld user++@.tld user+*@.tld user*@.tld @.tld"),
    (b"user+@a", b"+", QUALIFIED, b"user+@a user+*@a user*@a @a"),
    (b"user@a.tld", b"+", ADDRESS,
     b"user*@a.tld user@a.tld @a.tld user*@.tld user@.tld @.tld user* user"),
    (b"user+d@a", b"+", ADDRESS, b"user+d@a user++@a user+*@a user*@a @a user+d user++ user+* user*"),
    (b"user/ext-list@a", b"/_-", QUALIFIED, b"user/ext-list@a user/+@a user/*@a user*@a @a"),  # M1 3.9.2 item 2
    (b"user-ext_list@a", b"/_-", QUALIFIED, b"user-ext_list@a user-+@a user-*@a user*@a @a"),
    (b"user+d", b"+", LOCALPART, b"user+d user++ user+* user*"),
    (b"user+d", b"+", Order(full_address=True, star=True, localpart=True, implicit_detail=True), b"user+d user* user"),
    (b"foo@dom", b"+", LOCALPART, b"foo* foo"),  # M1 10.2
    (b"user+d@sub.tld", b"+", MAILERTABLE, b"sub.tld .tld ."),
    (b"u@sub.tld", b"+", Order(full_address=True, domain=True, dotsubdomain=True, dot=True, has_at=False),
     b"u@sub.tld sub.tld u@.tld .tld ."),
    (b"u+d@t", b"", QUALIFIED, b"u+d*@t u+d@t @t"),
    (b"u@t", b"+", Order(full_address=True), b"u@t"),
    (b"u@t", b"+", Order(domain=True), b"@t"),
]


@pytest.mark.parametrize(("address", "delimiters", "order", "keys"), ADDRESSES)
def test_address(address: bytes, delimiters: bytes, order: Order, keys: bytes) -> None:
    assert list(address_keys(address, delimiters, order)) == keys.split()


def naive_address(address: str, delimiters: str, o: Order) -> list[str]:
    """M1 3.12.1 word by word, as slow as it reads."""
    local, _, domain = address.lower().rpartition("@")
    at = min((local.index(c, 1) for c in delimiters if c in local[1:]), default=None)
    exists = at is not None
    user, delimiter, detail = (local[:at], local[at], local[at + 1:]) if exists else (local, "", "")
    names = [domain]
    if o.dotsubdomain:
        labels = domain.split(".")
        names += ["." + ".".join(labels[i:]) for i in range(1, len(labels))]

    def forms(end: str) -> list[str]:
        found = []
        if exists and o.full_address:
            found.append(user + delimiter + detail + end)
        if exists and detail and o.detail_plus:
            found.append(user + delimiter + "+" + end)
        if exists and o.detail_star:
            found.append(user + delimiter + "*" + end)
        if o.star:
            found.append(user + "*" + end)
        if o.full_address and (o.implicit_detail or not exists):
            found.append(user + end)
        return found

    keys = []
    if o.domain or o.dot or not o.localpart:
        for name in names:
            keys += forms("@" + name)
            if o.domain:
                keys.append(("@" if o.has_at else "") + name)
        if o.dot:
            keys.append(".")
    if o.localpart:
        keys += forms("")
    return keys


LABEL = st.text("abcXYZ09-", min_size=1, max_size=5)
ORDERS = st.builds(Order, *[st.booleans()] * 10)


@given(st.text("abC+-_/", min_size=1, max_size=10), st.lists(LABEL, min_size=1, max_size=5),
       st.text("+-_/", max_size=3), ORDERS)
def test_against_naive(local: str, labels: list[str], delimiters: str, order: Order) -> None:
    address = local + "@" + ".".join(labels)
    keys = [key.decode() for key in address_keys(address.encode(), delimiters.encode(), order)]
    assert keys == naive_address(address, delimiters, order)


@given(st.ip_addresses(v=6))
def test_ipv6_against_naive(ip: ipaddress.IPv6Address) -> None:
    if ip.ipv4_mapped is not None:
        return
    groups = [f"{int(ip) >> shift & 0xFFFF:x}" for shift in range(112, -1, -16)]
    naive = [":".join(groups)] + [":".join(groups[:n]) + ":" for n in range(7, 0, -1)]
    assert [key.decode() for key in ip_parts(str(ip))] == naive
