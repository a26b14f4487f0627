import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail
from meta1g.proc.log import Log
from meta1g.smar.ask import DnsAsk, MapAsk, Rtype, Work, dns, fork, look, note
from meta1g.smar.cache import TtlCache
from meta1g.smar.dnsq import DnsConf, DnsThread
from meta1g.smar.engine import Engine
from tests.lib.nameserver import Nameserver


class FakeMap:
    name = "fake"

    def __init__(self, *, is_stable: bool = True, is_slow: bool = False) -> None:
        self.is_stable, self.is_slow = is_stable, is_slow
        self.hang = threading.Event()
        self.hang.set()

    def lookup(self, key: bytes) -> Result:
        self.hang.wait(10)
        if key == b"temp":
            return TempFail("map fake: broken")
        return Found(key, b"value") if key == b"key" else NOT_FOUND

    def reopen(self) -> str:
        return ""


class LogLines(Log):
    def __init__(self) -> None:
        super().__init__("test")
        self.lines: list[str] = []

    def _put(self, priority: int, line: str) -> None:
        self.lines.append(line)


class Bench:
    def __init__(self, ns: Nameserver) -> None:
        self.ns = ns
        self.log = LogLines()
        self.maps = {"map": FakeMap(), "live": FakeMap(is_stable=False), "slow": FakeMap(is_stable=False, is_slow=True)}
        cache: Any = TtlCache(1000)
        self.dns = DnsThread(DnsConf((ns.address,), 0.2, 0), cache, time.monotonic, random.SystemRandom())
        self.engine = Engine(self.maps, self.dns, cache, self.log, threads=2)
        self.dns.start()
        self.engine.start()

    def run(self, work: Work[Any], timeout: float = 10.0) -> tuple[Any, float, bool]:
        found: list[Any] = []
        event = threading.Event()
        self.engine.begin(work, lambda *result: (found.append(result), event.set()), timeout)
        assert event.wait(15)
        result: tuple[Any, float, bool] = found[0]
        return result


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Nameserver({"a.dom A": "192.0.2.1", "b.dom A": "192.0.2.2"}) as ns:
        made = Bench(ns)
        yield made
        made.engine.stop()
        made.dns.stop()


def ask_map(role: str, key: bytes) -> Work[Any]:
    return (yield from look(role, (key,)))


def ask_dns(*names: str) -> Work[list[str]]:
    answers = yield from dns(*[DnsAsk(name, Rtype.A) for name in names])
    return [" ".join(answer.records) for answer in answers]


def test_maps(bench: Bench) -> None:
    assert bench.run(ask_map("map", b"key")) == (Found(b"key", b"value"), float("inf"), True)
    assert bench.run(ask_map("map", b"none"))[0] is NOT_FOUND
    assert bench.run(ask_map("nosuch", b"key"))[0] is NOT_FOUND
    assert bench.run(ask_map("live", b"key")) == (Found(b"key", b"value"), float("inf"), False)
    assert bench.run(ask_map("slow", b"key"))[2] is False


def test_failing_map_is_logged_once(bench: Bench) -> None:
    for _ in range(3):
        result, _, is_stable = bench.run(ask_map("map", b"temp"))
        assert (result, is_stable) == (TempFail("map fake: broken"), False)
    assert len([line for line in bench.log.lines if "map fake: broken" in line]) == 1


def test_dns_and_expiry(bench: Bench) -> None:
    records, expires, is_stable = bench.run(ask_dns("a.dom", "b.dom", "a.dom"))
    assert records == ["192.0.2.1", "192.0.2.2", "192.0.2.1"]
    assert 290 < expires - time.monotonic() <= 300 and is_stable
    assert bench.run(ask_dns("a.dom", "new.dom"))[0] == ["192.0.2.1", ""]
    assert bench.run(ask_dns())[0] == []


def test_fork(bench: Bench) -> None:
    def all_of() -> Work[Any]:
        nothing: list[Any] = yield from fork([])
        first = yield from fork([ask_dns("a.dom"), ask_dns("b.dom")])
        many = yield from fork([ask_map("map", b"key") for _ in range(500)])
        live = yield from fork([ask_map("live", b"key")])
        return nothing, first, len(many), len(live)

    result, expires, is_stable = bench.run(all_of())
    assert result == ([], [["192.0.2.1"], ["192.0.2.2"]], 500, 1)
    assert expires - time.monotonic() <= 300 and not is_stable


def test_a_list_of_thousands_lets_others_in(bench: Bench) -> None:
    order: list[str] = []
    ended = threading.Event()

    def many() -> Work[Any]:
        return (yield from fork([ask_map("map", b"key") for _ in range(5000)]))

    bench.engine.begin(many(), lambda *result: (order.append("many"), ended.set()), 10)
    bench.engine.begin(ask_map("map", b"key"), lambda *result: order.append("one"), 10)
    assert ended.wait(10)
    assert order == ["one", "many"]


def test_deadline_and_late_answer(bench: Bench) -> None:
    slow = bench.maps["slow"]
    slow.hang.clear()
    begin = time.monotonic()
    assert bench.run(ask_map("slow", b"key"), timeout=0.3) == (None, 0.0, False)
    assert time.monotonic() - begin < 2
    assert bench.run(ask_map("map", b"key"))[0] == Found(b"key", b"value")  # nobody else waits
    slow.hang.set()
    assert bench.run(ask_map("slow", b"key"))[0] == Found(b"key", b"value")
    assert (bench.engine.expired, bench.engine.pending) == (1, 0)


def test_deadline_during_dns(bench: Bench) -> None:
    bench.ns.behave["*"] = ["drop*"]

    def chain() -> Work[Any]:
        for number in range(20):
            yield from ask_dns(f"z{number}.dom")

    begin = time.monotonic()
    assert bench.run(chain(), timeout=0.3)[0] is None
    assert time.monotonic() - begin < 2


def test_bug_in_a_decision(bench: Bench) -> None:
    def broken() -> Work[Any]:
        yield from note("a, b")
        raise ZeroDivisionError("oops")

    assert bench.run(broken())[::2] == (None, False)
    assert any("oops" in line for line in bench.log.lines)
    assert any("entry=a%2C b" in line for line in bench.log.lines)
    assert bench.run(ask_map("map", b"key"))[0] == Found(b"key", b"value")


def test_finished_tasks_are_forgotten(bench: Bench) -> None:
    for _ in range(200):
        bench.run(ask_map("map", b"key"))
    assert bench.engine.pending == 0
    assert MapAsk("map", ()).keys == ()
