"""Retry times, OCC, ICC, EDBC, the control socket's answers."""
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Reopen
from meta1g.proto.msg_ctl import Answer, Command
from meta1g.proto.msg_ss import SeNew
from meta1g.qmgr import holds, retry
from meta1g.qmgr.host_conf import HostConf
from meta1g.qmgr.icc import Icc
from meta1g.qmgr.occ import MINUTE, REST_MAX, TIMEOUT, Occ, OutLimits
from meta1g.qmgr.on_ctl import status
from meta1g.shim.defedb import Waiting
from tests.flow.world import Peer, World

REPLY = Reply(451, "4.4.1", "refused")
A, B = ("192.0.2.1", 25), ("192.0.2.1", 26)


@given(st.integers(1, 100), st.floats(0, 1))
def test_delay_grows_within_its_bounds(tries: int, luck: float) -> None:
    found = retry.delay(tries, 60, 4000, luck)
    assert 54 <= found <= 4400
    assert retry.delay(tries, 60, 4000, 0.5) <= retry.delay(tries + 1, 60, 4000, 0.5)


def test_expiry() -> None:
    assert not retry.is_expired(100.0, 199.0, 100)
    assert retry.is_expired(100.0, 200.0, 100)


def test_slow_start() -> None:
    occ, limits = Occ(), OutLimits(3, 5, 10)
    entry = occ.entry(A, 0.0, limits)
    assert entry.limit == 3
    for _ in range(9):
        entry.succeeded()
    assert entry.limit == 5
    assert [entry.failed(1.0, REPLY, 60, 4000) for _ in range(5)] == [False] * 4 + [True]
    assert occ.entry(A, 2.0, limits).limit == 0
    assert occ.entry(A, 1.0 + TIMEOUT, limits).limit == 1  # a probe
    assert entry.failed(1.0 + TIMEOUT, REPLY, 60, 4000)
    assert occ.entry(A, 1.0 + 2 * TIMEOUT, limits).limit == 0  # rests twice as long
    assert occ.entry(A, 1.0 + 3 * TIMEOUT, limits).limit == 1
    occ.entry(B, 500.0, limits).succeeded()
    occ.trim(500.0, 1)
    assert len(occ) == 1
    assert occ.entry(B, 501.0, limits).limit == 4
    occ.trim(600.0, 10)
    assert len(occ) == 0


def test_an_entry_in_use_stays() -> None:
    occ, limits = Occ(), OutLimits(3, 5, 10)
    occ.entry(A, 0.0, limits).sites["x"] = None
    occ.trim(1e6, 0)
    assert len(occ) == 1


def test_a_dead_host_is_probed_and_not_hammered() -> None:
    occ, limits, now, probes = Occ(), OutLimits(1, 5, 10), 0.0, []
    while now < 36_000:
        entry = occ.entry(A, now, limits)
        if entry.limit:
            probes.append(now)
            entry.failed(now, REPLY, 60, 4000)
        now += 1.0
    gaps = [after - before for before, after in itertools.pairwise(probes)]
    assert gaps[:5] == [60, 120, 240, 480, REST_MAX]
    assert set(gaps[5:]) == {REST_MAX}


def test_the_lower_limits_count() -> None:
    entry = Occ().entry(A, 0.0, OutLimits(5, 9, 10, 0))
    entry.take(OutLimits(6, 3, 20, 7))
    assert (entry.limits, entry.limit) == (OutLimits(5, 3, 10, 7), 3)
    entry.is_stale = True
    entry.take(OutLimits(6, 8, 20, 0))
    assert entry.limits == OutLimits(6, 8, 20, 0)
    entry.is_stale = True
    entry.take(OutLimits(6, 8, 20, 0))  # the same again
    entry.take(OutLimits(6, 50, 20, 0))
    assert entry.limits.maximum == 8


@given(st.integers(1, 5), st.lists(st.floats(0, 30), max_size=60))
def test_no_minute_has_more_connections_than_allowed(rate: int, waits: list[float]) -> None:
    entry, now = Occ().entry(A, 0.0, OutLimits(100, 100, 10, rate)), 0.0
    began = []
    for wait in waits:
        now += wait
        if entry.may_open(now):
            entry.opened(now)
            began.append(now)
    assert all(sum(at <= other < at + MINUTE for other in began) <= rate for at in began)
    assert len(entry.began) <= rate


def test_clients() -> None:
    icc = Icc()
    assert [icc.open("a", 0.0, 3, 2) for _ in range(3)] == ["", "", "open"]
    icc.close("a")
    icc.close("unknown")
    assert icc.open("a", 1.0, 3, 2) == ""
    icc.close("a")
    assert icc.open("a", 2.0, 3, 2) == "rate"
    assert icc.open("a", 71.0, 3, 2) == ""
    icc.close("a")
    icc.trim(72.0, 100)
    assert len(icc) == 1
    icc.close("a")
    icc.trim(300.0, 100)
    assert len(icc) == 0


def test_clients_that_are_many() -> None:
    icc = Icc()
    for n in range(10):
        icc.open(f"c{n}", 0.0, 1, 1)
        if n % 2:
            icc.close(f"c{n}")
    icc.trim(1.0, 8)
    assert len(icc) == 8
    assert icc.open("c1", 2.0, 1, 1) == "", "the one without a connection that came first is forgotten"
    assert icc.open("c0", 2.0, 1, 1) == "open"
    icc.trim(2.0, 1)
    assert len(icc) == 6, "open ones stay"


HOSTS = HostConf({
    b"icr:": b"100", b"icr:10.": b"5", b"icr:10.1.2.3": b"7", b"icm:": b"120", b"icm:2001:db8:": b"3",
    b"icl:slow.dom": b"2", b"icl:.slow.dom": b"1", b"icc:Slow.dom": b"9", b"oci:": b"1", b"icm:10.": b"many"})


@pytest.mark.parametrize(("ip", "name", "rate", "most"), [
    ("10.1.2.3", "", 7, 120), ("10.1.2.4", "", 5, 120), ("192.0.2.1", "", 100, 120), ("2001:db8::1", "", 100, 3),
    ("192.0.2.1", "slow.dom.", 2, 9), ("192.0.2.1", "a.slow.dom", 1, 120), ("10.1.2.4", "slow.dom", 2, 9),
    ("local", "", 100, 120),
])
def test_limits_of_hosts(ip: str, name: str, rate: int, most: int) -> None:
    """M1 3.8.1; the lower one counts where address and name have a limit."""
    assert (HOSTS.in_rate(ip, name, 50), HOSTS.in_open(ip, name, 60)) == (rate, most)
    assert HOSTS.wants_names
    assert HOSTS.wrong == ["icm:10. many: not a number"]
    assert (HostConf({}).in_rate(ip, name, 50), HostConf({}).wants_names) == (50, False)


def test_control() -> None:
    world = World().begin()
    peer = Peer("control")
    world.up.add(peer)
    told: list[tuple[object, object]] = []
    world._told = lambda who, message, tag: told.append((who, message))  # type: ignore[method-assign]
    world.q.edbc.add(Waiting(world.now + 100, "S", 0))
    for name in ("status", "reload", "flush", "nonsense"):
        world.feed((peer, Command(name, "{}"), 1))
        world.run()
    assert [who for who, message in told if isinstance(message, Reopen)] == [world.smar]
    answers = [json.loads(message.text) for _, message in told if isinstance(message, Answer)]
    assert answers[0]["peers"] == {"smtps": 1, "smtpc": 1, "smar": 1}
    assert answers[1] == {"reloaded": True}
    assert answers[2] == {"due": 1}
    assert "unknown command" in str(answers[3]["error"])


def test_status_counts_recipients_by_state() -> None:
    world = World().begin()
    world.silent.add(world.smtpc)
    world.send(b"a@x.test", b"b@x.test")
    world.run()
    found = status(world.q, world.now + 10)
    assert found["uptime"] == 11
    assert found["queues"]["aq_states"]["busy"] == 2  # type: ignore[index]


def test_a_bug_costs_one_item() -> None:
    """The handlers run into an error; it is named with its place, and the rest of the turn goes on."""
    world = World().begin()
    world.feed((world.smtps, SeNew("S", "192.0.2.1", ""), 1), (Peer("smtps"), SeNew("S", "192.0.2.1", ""), 2))
    assert "bug=KeyError" in world.bugs[0]
    assert "at=_on_session" in world.bugs[0]
    world.bugs.clear()
    world.send(b"a@x.test")
    world.run()
    assert len(world.delivered) == 1
    world.q.icc = None  # type: ignore[assignment]
    world.sleep(1)
    assert "item=time" in world.bugs[0]


def test_woken_hosts_are_probed() -> None:
    occ, limits = Occ(), OutLimits(1, 5, 10)
    for address in (A, B):
        assert occ.entry(address, 0.0, limits).failed(0.0, REPLY, 60, 4000)
    occ.wake([A, ("192.0.2.9", 25)])
    assert (occ.entry(A, 1.0, limits).limit, occ.entry(B, 1.0, limits).limit) == (1, 0)
    occ.wake()
    assert occ.entry(B, 1.0, limits).limit == 1


def test_holds() -> None:
    held = holds.changed(holds.Holds(), ["X.test", "[192.0.2.1]"], is_hold=True)
    assert held == holds.parse(str(held)) == holds.Holds(False, frozenset({"x.test", "192.0.2.1"}))
    assert held.covers(b"a@x.TEST", [])
    assert held.covers(b"a@y.test", ["mx", "192.0.2.1"])
    assert not held.covers(b"a@sub.x.test", ["mx"])
    assert not holds.changed(held, [], is_hold=False)
    everything = holds.changed(held, [], is_hold=True)
    assert everything.covers(b"any", ())
    assert holds.changed(everything, ["x.test"], is_hold=False) == holds.Holds(True, frozenset({"192.0.2.1"}))
    with pytest.raises(ValueError, match="more than"):
        holds.changed(held, map(str, range(holds.SITES_MAX)), is_hold=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"all": true}', '{"all": true, "sites": 1}'])
def test_damaged_holds(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        holds.parse(text)
