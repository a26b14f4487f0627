import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from meta1g.mta.dane import Tlsa
from meta1g.smar import dnsq, upstream
from meta1g.smar.ask import DnsAnswer, DnsAsk, Mx, Rtype, Status
from meta1g.smar.cache import TtlCache
from meta1g.smar.dnsq import DnsConf, DnsThread
from tests.lib.nameserver import Nameserver, wait_until

TABLE = {
    "a.dom A": "192.0.2.1;192.0.2.2", "a.dom AAAA": "2001:db8::1", "a.dom MX": "10 MX.A.dom.;5 b.dom.",
    "1.2.0.192.in-addr.arpa PTR": "Host.A.dom.", "t.dom TXT": '"one" "two"',
    "_25._tcp.mx.a.dom TLSA": "3 1 1 " + "ab" * 32 + ";2 0 0 0001ff", "_25._tcp.alias.dom CNAME": "_25._tcp.mx.a.dom",
    "alias.dom CNAME": "a.dom", "l1.dom CNAME": "l2.dom", "l2.dom CNAME": "l1.dom",
    "none.dom A": "nx", "null.dom MX": "0 .", "dangling.dom CNAME": "none.dom",
    **{f"c{n}.dom CNAME": f"c{n + 1}.dom" for n in range(20)}, "c8.dom A": "192.0.2.8",
}
del TABLE["c8.dom CNAME"]


class Client:
    """Asks and waits."""

    def __init__(self, thread: DnsThread, cache: TtlCache[DnsAnswer]) -> None:
        self.thread, self.cache = thread, cache

    def begin(self, name: str, rtype: int, done: Callable[[DnsAnswer], None]) -> None:
        self.thread.ask(DnsAsk(name, rtype), done)

    def ask(self, name: str, rtype: int = Rtype.A) -> DnsAnswer:
        answers: list[DnsAnswer] = []
        event = threading.Event()
        self.begin(name, rtype, lambda answer: (answers.append(answer), event.set()))
        assert event.wait(20)
        return answers[0]


@contextmanager
def client(*servers: tuple[str, int], **options: Any) -> Iterator[Client]:
    cache: TtlCache[DnsAnswer] = TtlCache(10_000)
    conf = DnsConf(servers, **{"timeout": 0.2, "retries": 2, **options})
    thread = DnsThread(conf, cache, time.monotonic, random.SystemRandom())
    thread.start()
    try:
        yield Client(thread, cache)
    finally:
        thread.stop()


@pytest.fixture
def ns() -> Iterator[Nameserver]:
    with Nameserver(TABLE) as server:
        yield server


def unused_address() -> tuple[str, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return "127.0.0.1", sock.getsockname()[1]


def test_types(ns: Nameserver) -> None:
    with client(ns.address) as c:
        assert set(c.ask("a.dom").records) == {"192.0.2.1", "192.0.2.2"}
        assert c.ask("a.dom", Rtype.AAAA).records == ("2001:db8::1",)
        assert set(c.ask("a.dom", Rtype.MX).mx) == {Mx(10, "mx.a.dom"), Mx(5, "b.dom")}
        assert c.ask("null.dom", Rtype.MX).mx == (Mx(0, ""),)
        assert c.ask("1.2.0.192.in-addr.arpa", Rtype.PTR).records == ("host.a.dom",)
        assert c.ask("t.dom", Rtype.TXT).records == ("onetwo",)
        assert c.ask("a.dom", Rtype.TXT).status is Status.NODATA
        assert c.ask("none.dom").status is Status.NXDOMAIN


def test_tlsa(ns: Nameserver) -> None:
    with client(ns.address) as c:
        expected = {Tlsa(3, 1, 1, b"\xab" * 32), Tlsa(2, 0, 0, b"\0\1\xff")}
        assert set(c.ask("_25._tcp.mx.a.dom", Rtype.TLSA).tlsa) == expected
        assert set(c.ask("_25._tcp.alias.dom", Rtype.TLSA).tlsa) == expected
        assert c.ask("a.dom", Rtype.TLSA) == (Status.NODATA, *c.ask("a.dom", Rtype.TLSA)[1:])


def test_where_aliases_lead(ns: Nameserver) -> None:
    with client(ns.address) as c:
        for name, alias in (("a.dom", ""), ("alias.dom", "a.dom"), ("c0.dom", "c8.dom"), ("dangling.dom", "")):
            assert c.ask(name).alias == alias or c.ask(name).status is Status.NXDOMAIN


def test_ad_counts_only_if_asked_for_and_from_whom_we_trust(ns: Nameserver) -> None:
    ns.behave["*"] = ["secure*"]
    trusted = frozenset({"127.0.0.1"})
    for options, is_secure in (({"use_dnssec": True, "trusted": trusted}, True), ({"use_dnssec": True}, False),
                               ({"trusted": trusted}, False)):
        with client(ns.address, **options) as c:
            assert c.ask("a.dom").is_secure is is_secure
            assert c.ask("none.dom").is_secure is is_secure
            assert c.ask("_25._tcp.mx.a.dom", Rtype.TLSA).is_secure is is_secure
        assert {query & 0x20 != 0 for query in ns.flags[-3:]} == {options.get("use_dnssec", False)}


def test_chain_is_secure_only_if_each_link_is(ns: Nameserver) -> None:
    ns.table.update({"s0.dom CNAME": "s1.dom", "s1.dom CNAME": "s2.dom", "s2.dom A": "192.0.2.1"})
    trusted = frozenset({"127.0.0.1"})
    for script, is_secure in ((["secure"] * 3, True), (["alone", "secure", "secure"], False),
                              (["secure", "alone", "secure"], False), (["secure", "secure", ""], False)):
        ns.behave = {"*": [f"{behaviour} link" for behaviour in script] + ["drop*"]}
        with client(ns.address, use_dnssec=True, trusted=trusted) as c:
            answer = c.ask("s0.dom")
            assert (answer.records, answer.is_secure) == (("192.0.2.1",), is_secure)


@pytest.mark.parametrize(("scripts", "is_refused"), [
    ((["refused*"], ["refused*"]), True), ((["refused*"], ["notimp*"]), True), ((["formerr*"], ["notimp*"]), True),
    ((["refused*"], ["servfail*"]), False), ((["drop*"], ["refused*"]), False), ((["servfail*"], ["drop*"]), False)])
def test_refused_by_all_is_permanent(scripts: tuple[list[str], list[str]], is_refused: bool) -> None:
    with Nameserver(TABLE) as one, Nameserver(TABLE) as two:
        one.behave["*"], two.behave["*"] = scripts
        with client(one.address, two.address, timeout=0.1, retries=1) as c:
            answer = c.ask("a.dom")
            assert (answer.status, answer.is_refused) == (Status.TEMP, is_refused)


def test_ttl_and_cache(ns: Nameserver) -> None:
    with client(ns.address) as c:
        now = time.monotonic()
        assert 298 < c.ask("a.dom").expires - now < 302
        assert 58 < c.ask("none.dom").expires - now < 62  # RFC 2308: SOA minimum
        ns.behave["a.dom TXT"] = ["nosoa"]
        assert 298 < c.ask("a.dom", Rtype.TXT).expires - now < 302
        for _ in range(3):
            c.ask("a.dom")
            c.ask("none.dom")
        assert ns.queries == ["a.dom A", "none.dom A", "a.dom TXT"]
        assert c.cache.counts().hits == 6


def test_same_question_in_flight_is_asked_once(ns: Nameserver) -> None:
    ns.behave["a.dom A"] = ["late"]
    with client(ns.address, timeout=2) as c:
        got: list[DnsAnswer] = []
        for _ in range(50):
            c.begin("a.dom", Rtype.A, got.append)
        assert wait_until(lambda: len(got) == 50)
        assert ns.queries == ["a.dom A"]


def test_cname(ns: Nameserver) -> None:
    with client(ns.address) as c:
        assert set(c.ask("alias.dom").records) == {"192.0.2.1", "192.0.2.2"}
        assert set(c.ask("alias.dom", Rtype.MX).mx) == {Mx(10, "mx.a.dom"), Mx(5, "b.dom")}
        assert c.ask("dangling.dom").status is Status.NXDOMAIN
        assert c.ask("l1.dom").status is Status.TEMP
        assert "loop" in c.ask("l1.dom").reason
        assert c.ask("c0.dom").records == ("192.0.2.8",)
        assert c.ask("c9.dom").status in (Status.TEMP, Status.NODATA)


def test_cname_chain_in_pieces(ns: Nameserver) -> None:
    ns.behave["*"] = ["alone*"]
    with client(ns.address) as c:
        assert c.ask("c0.dom").records == ("192.0.2.8",)
        assert set(c.ask("alias.dom").records) == {"192.0.2.1", "192.0.2.2"}
        answer = c.ask("l1.dom")
        assert (answer.status, "loop" in answer.reason) == (Status.TEMP, True)


@pytest.mark.parametrize(
    "behaviour", ["drop", "servfail", "refused", "wrong_id", "wrong_question", "wrong_port", "garbage"])
def test_second_try_succeeds(ns: Nameserver, behaviour: str) -> None:
    ns.behave["a.dom A"] = [behaviour, behaviour]
    with client(ns.address) as c:
        assert set(c.ask("a.dom").records) == {"192.0.2.1", "192.0.2.2"}
        assert len(ns.queries) == 3


@pytest.mark.parametrize("behaviour", ["drop", "servfail", "wrong_id", "wrong_question", "garbage"])
def test_all_tries_fail(ns: Nameserver, behaviour: str) -> None:
    ns.behave["a.dom A"] = [behaviour + "*"]
    with client(ns.address, timeout=0.1) as c:
        answer = c.ask("a.dom")
        assert answer.status is Status.TEMP
        assert answer.reason == ("SERVFAIL" if behaviour == "servfail" else "timeout")
        assert len(ns.queries) == 3
        assert c.thread.counts.in_flight == 0
        c.ask("a.dom")
        assert len(ns.queries) == 3  # remembered for a few seconds


def test_duplicates_and_late_answers_do_no_harm(ns: Nameserver) -> None:
    ns.behave["a.dom A"] = ["late", "twice"]
    with client(ns.address) as c:
        assert c.ask("a.dom").status is Status.OK
        time.sleep(ns.delay)
        assert c.ask("a.dom", Rtype.AAAA).status is Status.OK
        assert c.thread.counts.in_flight == 0


def test_foreign_records_are_not_believed(ns: Nameserver) -> None:
    ns.behave = {"a.dom A": ["poison"], "none.dom A": ["poison"], "alias.dom A": ["poison"]}
    with client(ns.address) as c:
        assert set(c.ask("a.dom").records) == {"192.0.2.1", "192.0.2.2"}
        assert set(c.ask("alias.dom").records) == {"192.0.2.1", "192.0.2.2"}
        assert c.ask("none.dom").records == ()
        assert c.ask("victim.dom").status is Status.NODATA
        assert c.ask("victim.dom", Rtype.CNAME).status is Status.NODATA


def test_truncated_answer_is_asked_by_tcp(ns: Nameserver) -> None:
    many = ";".join(f"192.0.2.{n}" for n in range(1, 255))
    ns.table["big.dom A"] = many
    ns.behave["big.dom A"] = ["truncate"]
    with client(ns.address, timeout=2) as c:
        assert len(c.ask("big.dom").records) == 254
        assert (ns.tcp_queries, c.thread.counts.tcp) == (1, 1)


def test_tcp_connection_closed_by_the_server(ns: Nameserver) -> None:
    ns.behave["a.dom A"] = ["drop"]
    with client(ns.address, timeout=2, use_tcp=True) as c:
        assert c.ask("t.dom", Rtype.TXT).records == ("onetwo",)
        assert set(c.ask("a.dom").records) == {"192.0.2.1", "192.0.2.2"}
        assert ns.tcp_queries == 3


def test_tcp_refused() -> None:
    with client(unused_address(), timeout=1, use_tcp=True) as c:
        assert c.ask("a.dom").status is Status.TEMP


def test_use_connect_sees_a_dead_server_at_once(ns: Nameserver) -> None:
    with client(unused_address(), ns.address, timeout=5, use_connect=True) as c:
        begin = time.monotonic()
        assert c.ask("a.dom").status is Status.OK
        assert time.monotonic() - begin < 2


def test_dead_server_is_left_out_and_tried_again(ns: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "DEAD_TIME", 0.5)
    with Nameserver(TABLE) as dead:
        dead.behave["*"] = ["drop*"]
        with client(dead.address, ns.address, timeout=0.05) as c:
            for number in range(6):
                assert c.ask(f"x{number}.dom").status is Status.NODATA
            assert len(dead.queries) == upstream.DEAD_AFTER
            time.sleep(0.6)
            dead.behave.clear()
            assert c.ask("a.dom").status is Status.OK
            assert len(dead.queries) == upstream.DEAD_AFTER + 1


def test_silent_server_delays_one_question_in_dead_time(ns: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "DEAD_TIME", 0.3)
    with Nameserver(TABLE) as silent:
        silent.behave["*"] = ["drop*"]
        with client(silent.address, ns.address, timeout=1.0, retries=1) as c:
            for number in range(upstream.DEAD_AFTER):  # at the same time: all pay one timeout
                c.begin(f"x{number}.dom", Rtype.A, lambda answer: None)
            assert wait_until(lambda: c.thread.counts.answers == upstream.DEAD_AFTER)
            assert wait_until(lambda: time.monotonic() > c.thread._servers[0].dead_until)  # it may be tried again now
            times: list[float] = []
            begin = time.monotonic()
            for number in range(100):
                c.begin(f"y{number}.dom", Rtype.A, lambda answer: times.append(time.monotonic() - begin))
            assert wait_until(lambda: len(times) == 100)
            times.sort()
            print(f"\n99 of 100 answers beside a silent nameserver within {times[98] * 1000:.0f} ms")
            assert times[98] < 0.5 and times[99] > 0.9
            assert len(silent.queries) == upstream.DEAD_AFTER + 1


def test_no_nameserver_at_all() -> None:
    with client() as c:
        answer = c.ask("a.dom")
        assert (answer.status, answer.reason) == (Status.TEMP, "no nameserver is configured")


def test_names_that_cannot_be_asked(ns: Nameserver) -> None:
    with client(ns.address) as c:
        for name in ("a..dom", "x" * 64 + ".dom", "a" * 300):
            assert c.ask(name).status is Status.NXDOMAIN
        assert ns.queries == [] and c.thread.counts.in_flight == 0


def test_ids_and_ports_are_spread(ns: Nameserver) -> None:
    with client(ns.address) as c:
        for number in range(60):
            c.ask(f"x{number}.dom")
        assert len(ns.sources) == upstream.LANES
        assert len(set(ns.ids)) > 55
        assert len({one - two for one, two in zip(ns.ids, ns.ids[1:], strict=False)}) > 50


def test_ports_are_exchanged(ns: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "LANE_QUERIES", 2)
    with client(ns.address) as c:
        for number in range(60):
            c.ask(f"x{number}.dom")
        assert len(ns.sources) > 2 * upstream.LANES


def test_slow_answers_hold_up_nobody(ns: Nameserver) -> None:
    with client(ns.address, timeout=5) as c:
        for number in range(100):
            ns.behave[f"s{number}.dom A"] = ["drop*"]
            c.begin(f"s{number}.dom", Rtype.A, lambda answer: None)
        begin = time.monotonic()
        assert c.ask("a.dom").status is Status.OK
        assert time.monotonic() - begin < 1
        assert c.thread.counts.in_flight == 100


def test_many_at_once_with_a_small_window(ns: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsq, "IN_FLIGHT_MAX", 10)
    got: list[DnsAnswer] = []
    with client(ns.address, timeout=2) as c:
        for number in range(300):
            c.begin(f"x{number}.dom", Rtype.A, got.append)
        assert wait_until(lambda: len(got) == 300)
        assert c.thread.counts.in_flight_max == 10
        assert all(answer.status is Status.NODATA for answer in got)


def test_too_many_waiting(ns: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsq, "IN_FLIGHT_MAX", 1)
    monkeypatch.setattr(dnsq, "WAITING_MAX", 5)
    ns.behave["*"] = ["drop*"]
    got: list[DnsAnswer] = []
    with client(ns.address, timeout=0.1, retries=0) as c:
        for number in range(50):
            c.begin(f"x{number}.dom", Rtype.A, got.append)
        assert wait_until(lambda: len(got) == 50)
        assert {answer.reason for answer in got} == {"too many questions", "timeout"}


def test_stop_answers_everybody(ns: Nameserver) -> None:
    ns.behave["*"] = ["drop*"]
    got: list[DnsAnswer] = []
    with client(ns.address, timeout=30) as c:
        for number in range(5):
            c.begin(f"x{number}.dom", Rtype.A, got.append)
        assert wait_until(lambda: len(ns.queries) == 5)
    assert [answer.reason for answer in got] == ["shutting down"] * 5


def test_ipv6_nameserver() -> None:
    try:
        server = Nameserver(TABLE, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with server, client(server.address) as c:
        assert c.ask("a.dom").status is Status.OK
