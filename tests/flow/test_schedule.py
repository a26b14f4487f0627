"""Which recipients go to which session when: the scheduler and OCC in whole stories."""
import pytest

from meta1g.proto.msg_ar import Hop, Target
from meta1g.proto.msg_da import Delivered, Ready, Result, SessionEnded
from meta1g.qmgr.occ import OutLimits
from tests.flow.world import SETTINGS, World, target


def test_recipients_share_transactions_by_site_and_limit(world: World) -> None:
    world.send(*(b"r%d@x.test" % n for n in range(25)), *(b"s%d@y.test" % n for n in range(3)))
    world.run()
    assert len(world.delivered) == 28
    assert sorted(len(deliver.rcpts) for deliver in world.delivers) == [3, 5, 10, 10]
    world.check_empty()


def test_next_host_when_the_first_is_down(world: World) -> None:
    world.route = lambda address: (target(address, "192.0.2.1", "192.0.2.2"),)
    world.host_fails = lambda hop: hop.ip == "192.0.2.1"
    world.send(b"a@x.test")
    world.run()
    assert len(world.delivered) == 1
    world.check_empty()


def test_slow_start_shrinks_to_zero_rests_and_probes(world: World) -> None:
    world.route = lambda address: (target(address, "192.0.2.1"),)
    world.host_fails = lambda hop: True
    for n in range(6):
        world.send(b"r%d@x.test" % n)
    world.run()
    assert len(world.delivers) <= 3  # two connections were allowed at first; then the host rests
    assert len(world.defedb) == 6
    tried = len(world.delivers)
    world.send(b"more@x.test")
    world.run()
    assert len(world.delivers) == tried  # not even tried
    world.host_fails = lambda hop: False
    world.sleep(200)
    assert len(world.delivered) == 7
    world.check_empty()


def test_connections_grow_with_success_and_never_pass_the_limit(world: World) -> None:
    world.route = lambda address: (target(address, "192.0.2.1"),)
    most = 0
    for n in range(100):
        world.send(b"r%d@x.test" % n)
        world.step()
        open_now = sum(site.open for site in world.q.sites.values())
        most = max(most, open_now)
        assert open_now <= 5
    world.run()
    assert most > 2
    assert len(world.delivered) == 100
    world.sleep(5)
    assert world.sessions == set()  # idle sessions were closed
    world.check_empty()


def test_sessions_are_reused_up_to_their_limit(world: World) -> None:
    world.route = lambda address: (target(address, "192.0.2.1"),)
    for n in range(21):
        world.send(b"r%d@x.test" % n)
        world.run()
    assert sum(deliver.is_new for deliver in world.delivers) == 3  # ten transactions each
    world.sleep(5)
    world.check_empty()


def test_delivery_agent_dies_with_tasks(world: World) -> None:
    world.silent.add(world.smtpc)
    world.send(b"a@x.test")
    world.run()
    world.disconnect(world.smtpc)
    assert any("status=uncertain" in line for line in world.log)
    world.silent.clear()
    world.connect(world.smtpc)
    world.run()
    assert len(world.delivered) == 1
    world.sleep(5)
    world.check_empty()


@pytest.mark.parametrize("is_lost", [False, True])
def test_session_that_ends_gives_its_task_back(world: World, is_lost: bool) -> None:
    """Untried; or if it broke, with recipients of whom nobody knows."""
    world.silent.add(world.smtpc)
    world.send(b"a@x.test")
    world.run()
    world.silent.clear()
    (session,) = world.q.sessions
    world.feed((world.smtpc, SessionEnded(session, is_lost), 0))
    world.run()
    assert any("status=uncertain" in line for line in world.log) is is_lost
    assert len(world.delivered) == 1


def test_thousand_recipients_in_one_transaction() -> None:
    world = World(SETTINGS._replace(aq_entries_max=2000, smtp_rcpts_max=50)).begin()
    world.send(*(b"r%d@site%d.test" % (n, n % 10) for n in range(1000)))
    world.run().sleep(5)
    assert len(world.delivered) == 1000
    assert len({rcpt for _, _, rcpt in world.delivered}) == 1000
    assert [len(deliver.rcpts) for deliver in world.delivers] == [50] * 20
    world.check_empty()


@pytest.mark.parametrize("results", [(), (Result(0, 0, 99, True, "", ""),), (Result(7, 0, 1, True, "", ""),)])
@pytest.mark.parametrize("is_host", [True, False])
def test_nonsense_from_a_delivery_agent_strands_nobody(
    world: World, results: tuple[Result, ...], is_host: bool
) -> None:
    world.silent.add(world.smtpc)
    world.send(b"a@x.test")
    world.run()
    (task,) = world.q.tasks.values()
    world.feed((world.smtpc, Delivered(task.session, task.number, True, is_host and not results, False, results), 0))
    world.silent.clear()
    world.run().sleep(100)
    assert len(world.delivered) == 1
    world.check_empty()


def test_rest_is_for_one_port_of_an_address(world: World) -> None:
    ports = {b"a@down.test": 26, b"b@up.test": 25}
    world.route = lambda address: (target(address)._replace(hops=(Hop(ports[address], "192.0.2.1", ""),)),)
    world.host_fails = lambda hop: hop.port == 26
    for _ in range(5):
        world.send(b"a@down.test")
        world.run()
    world.send(b"b@up.test")
    world.run()
    assert [rcpt for _, _, rcpt in world.delivered] == [b"b@up.test"]
    assert len(world.delivers) <= 4


def _to_many_sites(address: bytes) -> tuple[Target, ...]:
    return (target(address, "192.0.2." + address[1:].partition(b"@")[0].decode()),)


def test_idle_session_gives_its_place_to_another_site(world: World) -> None:
    """SMTPC has 20 places; 60 sites are served one after another without waiting for idle sessions to end."""
    world.route = _to_many_sites
    for n in range(60):
        world.send(b"r%d@x.test" % n)
        world.run()
        assert len(world.delivered) == n + 1
        assert len(world.sessions) == min(n + 1, 20)
    assert world.hops[min(world.sessions)].ip == "192.0.2.40"  # those that were idle for longest went
    world.sleep(5)
    assert world.sessions == set()
    world.check_empty()


def test_no_session_idles_while_a_site_waits_for_a_place(world: World) -> None:
    world.route = _to_many_sites
    for n in range(60):
        world.send(b"r%d@x.test" % n)
    world.run()
    assert len(world.delivered) == 60
    assert sum(client.sessions for client in world.q.smtpc.values()) == len(world.sessions) <= 20
    world.sleep(5)
    world.check_empty()


def test_a_site_that_takes_nothing_does_not_fill_the_queue(world: World) -> None:
    """SETTINGS has room for 500 recipients; one silent host gets no more than a quarter once half is taken."""
    world.silent.add(world.smtpc)
    world.send(b"first@other.test")
    for n in range(8):
        world.send(*(b"r%d@slow.test" % i for i in range(n * 50, n * 50 + 50)))
        world.run()
    assert 200 <= world.q.aq_rcpts <= 300
    assert sum("Too much mail waits" in line for line in world.log) == len(world.defedb) == 401 - world.q.aq_rcpts
    tag = world.send(b"one@other.test")
    world.run()
    assert world.acks[tag].code == 0


def test_a_single_message_does_not_wait_for_a_mailing(world: World) -> None:
    world.q.settings = SETTINGS._replace(out=OutLimits(1, 1, 1000))
    world.q.take_hosts(world.q.hosts)
    for n in range(50):
        world.send(b"r%d@x.test" % n, mail=b"news@bulk.test")
    world.step()
    world.send(b"friend@x.test", mail=b"me@home.test")
    world.run().sleep(5)
    places = [deliver.mail for deliver in world.delivers]
    assert places.index(b"me@home.test") <= 3
    assert len(world.delivered) == 51


def test_many_recipients_take_turns_with_few(world: World) -> None:
    world.q.settings = SETTINGS._replace(out=OutLimits(1, 1, 1000))
    world.q.take_hosts(world.q.hosts)
    world.send(*(b"r%d@x.test" % n for n in range(100)), mail=b"many@bulk.test")
    world.send(b"friend@x.test", mail=b"few@bulk.test")
    world.run().sleep(5)
    assert [deliver.mail for deliver in world.delivers][:3].count(b"few@bulk.test") == 1
    assert len(world.delivered) == 101


def test_recipients_that_end_as_they_are_loaded_do_not_end_the_others(world: World) -> None:
    """Their host rests, their route is still good and their time is over: all that happens in one step."""
    ips = {b"x.test": "192.0.2.1", b"host.test": "192.0.2.2"}
    world.route = lambda address: (target(address, ips[address.partition(b"@")[2]])._replace(ttl=86400),)
    world.host_fails = lambda hop: hop.ip == "192.0.2.1"
    for n in range(4):
        tag = world.send(*(b"r%d@x.test" % (10 * n + i) for i in range(3)))
        world.q.iqdb[world.tas[tag]].ta.rcpts[0].params = b"NOTIFY=NEVER"
    world.run()
    entry = world.q.occ.entry(("192.0.2.1", 25), world.now, SETTINGS.out)
    entry.limit, entry.rests_until = 0, world.now + 1e6
    world.sleep(5000)
    world.check_empty()


def test_a_place_goes_to_who_has_waited_longest_not_to_who_has_most(world: World) -> None:
    """Two places; one host has a hundred messages, six others have one each."""
    world.q.settings = SETTINGS._replace(reuses_connections=False)
    world.feed((world.smtpc, Ready(2), 0))
    world.route = lambda address: (target(address, "192.0.2." + address.partition(b"@")[2][:1].decode()),)
    world.silent.add(world.smtpc)
    for n in range(100):
        world.send(b"r%d@1.test" % n)
    for n in range(6):
        world.send(b"r@%d.test" % (n + 2))
    world.run()
    served: list[str] = []
    while len(set(served)) < 7:
        number, task = next(iter(world.q.tasks.items()))
        served.append(world.q.sessions[task.session].site.ip)
        results = tuple(Result(rcpt.idx, 0, 6, True, "", "") for rcpt in task.rcpts)
        world.feed((world.smtpc, Delivered(task.session, number, True, False, False, results), 0))
        world.run()
        assert len(served) <= 20, served
