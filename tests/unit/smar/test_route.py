from typing import Any

import pytest
from play import EXPIRES, SETUP, Play, keep_order

from meta1g.maps.order import Order
from meta1g.proto.msg_ar import Hop, Protocol
from meta1g.smar.ask import FOREVER
from meta1g.smar.mt import Family
from meta1g.smar.route import find_route

DNS = {
    "one.dom MX": [(10, "mx1.one.dom"), (20, "mx2.one.dom")],
    "mx1.one.dom A": "192.0.2.1 192.0.2.2", "mx1.one.dom AAAA": "2001:db8::1",
    "mx2.one.dom A": "192.0.2.3",
    "a.dom A": "192.0.2.9",
    "none.dom MX": "nx", "empty.dom MX": "",
    "temp.dom MX": "temp",
    "tempa.dom MX": [(10, "mx.tempa.dom")], "mx.tempa.dom A": "temp",
    "half.dom MX": [(10, "mx.tempa.dom"), (20, "a.dom")],
    "null.dom MX": [(0, "")],
    "noaddr.dom MX": [(10, "nx.dom")], "nx.dom A": "nx", "nx.dom AAAA": "nx",
    "loop.dom MX": [(10, "host.my.dom")],
    "backup.dom MX": [(10, "a.dom"), (20, "host.my.dom"), (30, "mx2.one.dom")],
    "ip.dom MX": [(10, "192.0.2.7")],
    "xn--bcher-kva.dom A": "192.0.2.8",
}
MT: dict[bytes, bytes] = {
    b"local.dom": b"lmtp:",
    b"fixed.dom": b"26^esmtp:[192.0.2.50] [192.0.2.51]",
    b".sub.dom": b"[192.0.2.60]",
    b"via.dom": b"one.dom",
    b"direct.dom": b"{ host=a.dom; flags=no_MX_lookup; port=27; }",
    b"lostgate.dom": b"none.dom",
    b"lmtp.dom": b"525^lmtp:a.dom",
    b"six.dom": b"{ host=one.dom; IPv_Select=IPv6_Only; }",
    b"one.dom": b"{ IPv_Select=IPv6_Preferred; }",
    b"nofour.dom": b"{ ip={192.0.2.1}; IPv_Select=IPv6_Only; }",
    b"bad.dom": b"{ nonsense }",
    b"user@whole.dom": b"[192.0.2.70]",
}
CASES: list[tuple[bytes, int, str]] = [
    (b"u@local.dom", Protocol.LMTP_UNIX, ""),
    (b"u@LOCAL.DOM", Protocol.LMTP_UNIX, ""),
    (b"u@fixed.dom", 0, "192.0.2.50:26 192.0.2.51:26"),
    (b"u@x.sub.dom", 0, "192.0.2.60:0"),
    (b"u@via.dom", 0, "192.0.2.1:0 192.0.2.2:0 2001:db8::1:0 192.0.2.3:0"),
    (b"u@direct.dom", 0, "192.0.2.9:27"),
    (b"u@lmtp.dom", Protocol.LMTP, "192.0.2.9:525"),
    (b"u@six.dom", 0, "2001:db8::1:0"),
    (b"u@one.dom", 0, "2001:db8::1:0 192.0.2.1:0 192.0.2.2:0 192.0.2.3:0"),
    (b"u@a.dom", 0, "192.0.2.9:0"),
    (b"u@half.dom", 0, "192.0.2.9:0"),
    (b"u@backup.dom", 0, "192.0.2.9:0"),
    (b"u@[192.0.2.77]", 0, "192.0.2.77:0"),
    (b"u@[IPv6:2001:db8::77]", 0, "2001:db8::77:0"),
    ("u@bücher.dom".encode(), 0, "192.0.2.8:0"),
    (b"u@none.dom", 0, "550 5.1.2"),
    (b"u@empty.dom", 0, "550 5.4.4"),
    (b"u@temp.dom", 0, "451 4.4.3"),
    (b"u@tempa.dom", 0, "451 4.4.3"),
    (b"u@null.dom", 0, "556 5.1.10"),
    (b"u@noaddr.dom", 0, "550 5.4.4"),
    (b"u@loop.dom", 0, "554 5.4.6"),
    (b"u@ip.dom", 0, "550 5.4.4"),
    (b"u@lostgate.dom", 0, "450 4.1.2"),
    (b"u@bad.dom", 0, "451 4.3.5"),
    (b"u@nofour.dom", 0, "451 4.3.5"),
    ("u@\u2260..dom".encode(), 0, "550 5.1.2"),
]


def shown(route: Any) -> str:
    if route.reply.code:
        return f"{route.reply.code} {route.reply.estat}"
    return " ".join(f"{hop.ip}:{hop.port}" for hop in route.hops(keep_order))


@pytest.mark.parametrize(("address", "protocol", "wanted"), CASES)
def test_route(address: bytes, protocol: int, wanted: str) -> None:
    route = Play({"mailertable": MT}, DNS).run(find_route(SETUP, address))
    assert shown(route) == wanted
    assert route.protocol == protocol


def test_default_entry_and_literals() -> None:
    play = Play({"mailertable": {b".": b"esmtp:[192.0.2.99]"}})
    for address in (b"u@any.dom", b"u@[192.0.2.1]"):
        assert shown(play.run(find_route(SETUP, address))) == "192.0.2.99:0"


def test_full_address_flag() -> None:
    from dataclasses import replace  # noqa: PLC0415
    setup = replace(SETUP, mailertable=Order(full_address=True, domain=True, has_at=False))
    play = Play({"mailertable": MT}, DNS)
    assert shown(play.run(find_route(setup, b"User@whole.dom"))) == "192.0.2.70:0"
    assert shown(play.run(find_route(setup, b"other@whole.dom"))) == "550 5.4.4"


def test_map_fails() -> None:
    route = Play({"mailertable": "temp"}).run(find_route(SETUP, b"u@a.dom"))
    assert shown(route) == "451 4.3.0"


def test_ttl() -> None:
    play = Play({"mailertable": MT}, DNS)
    fixed = play.run(find_route(SETUP, b"u@fixed.dom"))
    assert (fixed.expires, fixed.seconds(123.0)) == (FOREVER, 3600)  # M1 7.2
    named = play.run(find_route(SETUP, b"u@a.dom"))
    assert (named.expires, named.seconds(EXPIRES - 10.5), named.seconds(EXPIRES + 1)) == (EXPIRES, 10, 0)


def test_ipv4_only_does_not_ask_aaaa() -> None:
    from dataclasses import replace  # noqa: PLC0415
    play = Play({}, DNS)
    play.run(find_route(replace(SETUP, family=Family.IPV4_ONLY), b"u@a.dom"))
    assert [ask.rtype for ask in play.asked] == [15, 1]


def test_equal_preference_is_drawn_for_each_answer() -> None:
    dns = {"r.dom MX": [(10, "a"), (10, "b")], "a A": "192.0.2.1", "b A": "192.0.2.2"}
    route = Play({}, dns).run(find_route(SETUP, b"u@r.dom"))
    assert route.is_random
    assert route.hops(lambda items: items.reverse()) == (Hop(0, "192.0.2.2", "b"), Hop(0, "192.0.2.1", "a"))
