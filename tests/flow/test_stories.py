"""Whole-message stories through QMGR's handlers, on a virtual clock without disk or sockets."""
import pytest

from meta1g.proto.msg_ar import Target
from meta1g.proto.msg_da import Delivered, Result, Stage
from meta1g.proto.msg_ss import Composed, Content, JournalOpen, Leaving, Rcpt, SeAck, SeEnd, SeNew, TaCommit
from meta1g.qmgr.effects import DiskFree, Loaded
from tests.flow.world import SETTINGS, World, default_route, target

LATER, NEVER = 450, 550


def test_accept_and_deliver(world: World) -> None:
    tag = world.send(b"a@x.test")
    assert tag not in world.acks  # nothing is promised before IBDB has it
    world.run()
    assert world.acks[tag].code == 0
    assert [entry[1:] for entry in world.delivered] == [(b"from@host.test", b"a@x.test")]
    world.check_empty()


def test_deferred_then_delivered(world: World) -> None:
    world.result = lambda deliver, address: LATER
    world.send(b"a@x.test", b"b@y.test")
    world.run()
    assert len(world.defedb) == 2
    assert world.ibdb == {}
    assert world.files  # the content has settled in its own file
    world.result = lambda deliver, address: 0
    world.sleep(30)
    assert world.delivered == []
    world.sleep(60)
    assert len(world.delivered) == 2
    world.check_empty()


def test_part_is_delivered_part_deferred_part_bounced(world: World) -> None:
    codes = {b"now@x.test": 0, b"later@x.test": LATER, b"never@x.test": NEVER}
    world.result = lambda deliver, address: codes.get(address, 0)
    world.send(*codes)
    world.run().sleep(10)
    assert [entry[2] for entry in world.delivered] == [b"now@x.test", b"from@host.test"]
    codes[b"later@x.test"] = 0
    world.sleep(100)
    assert world.delivered[-1][2] == b"later@x.test"
    world.check_empty()


def test_retries_back_off_until_the_message_is_too_old(world: World) -> None:
    world.result = lambda deliver, address: LATER if address == b"a@x.test" else 0
    world.send(b"a@x.test")
    world.run().sleep(3600 + 700, 5)
    tries = sum(1 for deliver in world.delivers if deliver.rcpts[0].address == b"a@x.test")
    assert 8 <= tries <= 13
    (dsn,) = world.composed.values()
    assert b"5.4.7" in dsn.head
    assert world.delivered == [(dsn.ta, b"", b"from@host.test")]
    world.check_empty()


def test_failures_are_merged_into_one_dsn(world: World) -> None:
    world.result = lambda deliver, address: NEVER if address.startswith(b"bad") else 0
    world.send(b"bad1@x.test", b"bad2@y.test", b"good@z.test")
    world.run().sleep(10)
    (dsn,) = world.composed.values()
    assert b"550 <bad1@x.test>... said so" in dsn.head
    assert b"bad2@y.test" in dsn.head
    assert b"good@z.test" not in dsn.head
    assert b"during RCPT" in dsn.head
    world.check_empty()


def test_failed_dsn_goes_to_the_double_bounce_address_and_then_ends(world: World) -> None:
    world.result = lambda deliver, address: NEVER
    world.send(b"a@x.test")
    world.run().sleep(60)
    assert len(world.composed) == 2
    assert any("double bounce failed" in line for line in world.log)
    assert world.delivered == []
    world.check_empty()


def test_dsn_about_mail_in_defedb(world: World) -> None:
    code = LATER
    world.result = lambda deliver, address: code if deliver.mail else 0
    world.send(b"a@x.test", b"b@x.test")
    world.run()
    code = NEVER
    world.sleep(120)
    assert [entry[1:] for entry in world.delivered] == [(b"", b"from@host.test")]
    world.check_empty()


@pytest.mark.parametrize("first", [0, LATER])
def test_alias_expands(world: World, first: int) -> None:
    """The list's recipients replace it, each ends by itself; owner- changes the sender."""
    world.route = lambda address: (
        (target(b"a@x.test", "192.0.2.1", sender=b"owner@host.test"), target(b"b@y.test", "192.0.2.2"),
         target(b"c@z.test", code=NEVER)) if address == b"list@host.test" else default_route(address))
    code = first
    world.result = lambda deliver, address: code if address == b"b@y.test" else 0
    world.send(b"list@host.test")
    world.run().sleep(20)
    code = 0
    world.sleep(100)
    assert (b"owner@host.test", b"a@x.test") in [entry[1:] for entry in world.delivered]
    assert (b"from@host.test", b"b@y.test") in [entry[1:] for entry in world.delivered]
    assert (b"", b"from@host.test") in [entry[1:] for entry in world.delivered]
    assert len(world.delivered) == 3
    world.check_empty()


def test_alias_of_deferred_recipient_expands(world: World) -> None:
    """SMAR could not say at first; the alias is found when the recipient comes back from DEFEDB."""
    world.route = lambda address: (target(address, code=451),)
    world.send(b"list@host.test")
    world.run()
    assert len(world.defedb) == 1
    world.route = lambda address: (
        (target(b"a@x.test", "192.0.2.1"), target(b"b@x.test", "192.0.2.1")) if address == b"list@host.test"
        else default_route(address))
    world.sleep(100)
    assert len(world.delivered) == 2
    world.check_empty()


def test_task_without_a_result_is_given_up(world: World) -> None:
    world.silent.add(world.smtpc)
    world.send(b"a@x.test")
    world.run().sleep(310, 10)
    assert len(world.defedb) == 1
    world.silent.clear()
    world.sleep(100)
    assert len(world.delivered) == 1
    world.check_empty()


def test_no_delivery_agent_for_long(world: World) -> None:
    world.disconnect(world.smtpc)
    world.send(b"a@x.test")
    world.run().sleep(610, 10)
    assert len(world.defedb) == 1
    world.connect(world.smtpc)
    world.sleep(100)
    assert len(world.delivered) == 1
    world.check_empty()


def test_resolver_away_and_back(world: World) -> None:
    world.disconnect(world.smar)
    world.send(b"a@x.test")
    world.run().sleep(5)
    assert world.delivered == []
    world.connect(world.smar)
    world.run()
    assert len(world.delivered) == 1
    world.check_empty()


def test_resolver_that_does_not_answer(world: World) -> None:
    world.silent.add(world.smar)
    world.send(b"a@x.test")
    world.run().sleep(60)
    assert len(world.defedb) == 1
    world.silent.clear()
    world.sleep(120)
    assert len(world.delivered) == 1
    world.check_empty()


def test_server_dies_while_it_writes_a_dsn(world: World) -> None:
    world.result = lambda deliver, address: NEVER if deliver.mail else 0
    world.silent.add(world.smtps)
    world.send(b"a@x.test")
    world.run().sleep(10)
    world.disconnect(world.smtps)
    world.silent.clear()
    world.connect(world.smtps)
    world.run().sleep(20)
    assert [entry[1:] for entry in world.delivered] == [(b"", b"from@host.test")]
    world.sleep(5)
    assert not world.bugs


@pytest.mark.parametrize(("error", "code"), [("full", 452), ("EIO", 451)])
def test_disk_refuses_the_envelope(world: World, error: str, code: int) -> None:
    world.ibdb_error = error
    tag = world.send(b"a@x.test")
    world.run()
    assert world.acks[tag].code == code
    world.ibdb_error = ""
    world.check_empty()


def test_disk_space_low_and_back(world: World) -> None:
    world.feed(DiskFree(50))
    tag = world.send(b"a@x.test")
    assert world.acks[tag].code == 452
    assert world.throttles[-1].text == "disk space"
    world.feed(DiskFree(150))
    assert world.acks[world.send(b"a@x.test")].code == 452  # until disk_space_ok is reached
    world.feed(DiskFree(250))
    assert world.throttles[-1].text == ""
    tag = world.send(b"a@x.test")
    world.run()
    assert world.acks[tag].code == 0
    world.check_empty()


def test_full_queue_refuses_and_throttles(world: World) -> None:
    world.disconnect(world.smtpc)
    for n in range(10):
        world.send(*(b"r%d@x%d.test" % (i, n) for i in range(n * 50, n * 50 + 50)))
    world.run().sleep(2)
    tag = world.send(b"one@more.test")
    assert world.acks[tag].code == 452
    assert world.throttles[-1].sessions_max == 1
    world.connect(world.smtpc)
    world.run().sleep(12)
    assert len(world.delivered) == 500
    assert world.throttles[-1].sessions_max == SETTINGS.smtps_sessions_max
    world.check_empty()


def test_segments_go_when_nobody_needs_them(world: World) -> None:
    world.send(b"a@x.test")
    segment = world.smtps.journal.segment
    world.run()
    assert world.removed_segments == []
    world.feed((world.smtps, JournalOpen(()), 0))
    world.run()
    assert world.removed_segments == [segment]
    rcpts = (Rcpt(0, b"a@x.test", b""),)
    commit = TaCommit(world.now, 0, 1, False, False, "", "S" + "0" * 17 + "F", "", b"", b"", rcpts,
                      (Content(0, 1, segment),))
    world.feed((world.smtps, commit, 99))
    assert world.acks[99].code == 451  # its content may be gone
    world.feed((world.smtps, commit._replace(received=world.q.start - 1), 98))
    assert world.acks[98].code == 451


def test_content_settles_when_a_server_leaves(world: World) -> None:
    world.silent.add(world.smtpc)
    world.send(b"a@x.test")
    world.send(b"b@y.test")
    world.run()
    assert world.files == set()
    world.feed((world.smtps, Leaving(1), 0))
    assert not world.left
    world.run()
    assert world.left
    assert len(world.files) == 2
    world.disconnect(world.smtpc)
    world.silent.clear()
    world.connect(world.smtpc)
    world.run()
    assert len(world.delivered) == 2
    world.check_empty()


def test_connection_limits_of_one_client(world: World) -> None:
    answers: list[SeAck] = []
    told = world._told
    world._told = lambda peer, message, tag: (  # type: ignore[method-assign]
        answers.append(message) if isinstance(message, SeAck) else told(peer, message, tag))
    for n in range(11):
        world.feed((world.smtps, SeNew(f"S{n}", "192.0.2.1", ""), n + 1))
    assert [answer.code for answer in answers] == [0] * 10 + [421]
    world.feed((world.smtps, SeEnd("S0", "192.0.2.1"), 0), (world.smtps, SeNew("S", "192.0.2.1", ""), 12))
    assert answers[-1].code == 0
    for n in range(100):
        world.feed((world.smtps, SeNew("", "192.0.2.2", ""), n), (world.smtps, SeEnd("", "192.0.2.2"), 0))
    world.feed((world.smtps, SeNew("", "192.0.2.2", ""), 1))
    assert (answers[-1].code, "rate" in answers[-1].text) == (421, True)
    world.sleep(70)
    world.feed((world.smtps, SeNew("", "192.0.2.2", ""), 1))
    assert answers[-1].code == 0


def test_permanent_and_temporary_failure_of_routing(world: World) -> None:
    codes = {b"gone@x.test": 550, b"wait@x.test": 451}

    def route(address: bytes) -> tuple[Target, ...]:
        return (target(address, code=codes[address]),) if address in codes else default_route(address)

    world.route = route
    world.send(*codes)
    world.run().sleep(10)
    assert len(world.composed) == 1
    codes.clear()
    world.sleep(100)
    assert [entry[2] for entry in world.delivered] == [b"from@host.test", b"wait@x.test"]
    world.check_empty()


def test_reads_from_defedb_are_bounded() -> None:
    """All are due at once, but AQ takes half of its size, also while reads are on their way."""
    world = World(SETTINGS._replace(aq_entries_max=40)).begin()
    world.result = lambda deliver, address: LATER
    for n in range(6):
        world.send(*(b"r%d@x.test" % i for i in range(n * 10, n * 10 + 10)))
        world.run()
    assert len(world.defedb) == 60
    world.silent.add(world.smtpc)
    for _ in range(5):
        world.tick(40)
    assert world.q.loading == 20
    world.run()
    assert world.q.aq_rcpts == 20
    world.result = lambda deliver, address: 0
    world.disconnect(world.smtpc)
    world.silent.clear()
    world.connect(world.smtpc)
    world.run().sleep(600, 10)
    assert len(world.delivered) == 60
    world.check_empty()


def test_what_defedb_can_not_read_is_tried_again(world: World) -> None:
    world.result = lambda deliver, address: LATER
    world.send(b"a@x.test", b"b@x.test")
    world.run()
    world.result = lambda deliver, address: 0
    world.tick(100)
    (effect,) = [item for _, item in world.lanes["defedb"]]
    world.lanes["defedb"].clear()
    world.feed(Loaded(effect.ta, effect.idxs, lost=effect.idxs, error="Input/output error"))
    assert "Input/output error" in world.log[-1]
    world.sleep(SETTINGS.retry_delay_max + 10, 5)
    assert len(world.delivered) == 2
    world.check_empty()


def test_dsn_that_can_not_be_written_is_tried_again_after_a_pause(world: World) -> None:
    world.result = lambda deliver, address: NEVER if deliver.mail else 0
    world.compose_error = "No space left on device"
    world.send(b"a@x.test")
    world.run().sleep(25)
    assert 2 <= sum("No space" in line for line in world.log) <= 4
    world.compose_error = ""
    world.sleep(20)
    assert [entry[1:] for entry in world.delivered] == [(b"", b"from@host.test")]
    world.check_empty()


def test_server_that_does_not_answer_about_a_dsn(world: World) -> None:
    world.result = lambda deliver, address: NEVER if deliver.mail else 0
    world.silent.add(world.smtps)
    world.send(b"a@x.test")
    world.run().sleep(290, 10)
    assert len(world.q.composing) == 1
    world.silent.clear()
    world.sleep(40)
    assert [entry[1:] for entry in world.delivered] == [(b"", b"from@host.test")]
    world.check_empty()


def test_dsn_in_a_segment_that_is_gone_is_written_again(world: World) -> None:
    world.result = lambda deliver, address: NEVER if deliver.mail else 0
    world.silent.add(world.smtps)
    world.send(b"a@x.test")
    world.run().sleep(10)
    (name,) = world.q.composing
    world.feed((world.smtps, Composed(1, name, "", (Content(0, 1, "J" + "F" * 18),)), 0))
    assert "its segment is gone" in world.log[-1]
    world.feed((world.smtps, Composed(1, name, "", (Content(0, 1, ""),)), 0))  # too late, and a file: it goes
    world.silent.clear()
    world.run().sleep(20)
    assert [entry[1:] for entry in world.delivered] == [(b"", b"from@host.test")]
    world.check_empty()


def test_resolver_away_for_long(world: World) -> None:
    """Recipients do not wait in AQ for ever: they go to DEFEDB, and in the end back to the sender."""
    world.disconnect(world.smar)
    world.send(b"a@x.test")
    world.run().sleep(60)
    assert len(world.defedb) == 1
    world.sleep(4000, 10)
    assert len(world.dsns) >= 1
    world.connect(world.smar)
    world.run().sleep(2000, 10)
    assert [entry[1:] for entry in world.delivered] == [(b"", b"from@host.test")]
    world.check_empty()


def test_connections_of_a_dead_server_are_forgotten(world: World) -> None:
    for n in range(10):
        world.feed((world.smtps, SeNew(f"S{n}", "192.0.2.1", ""), 1))
    assert world.q.icc.open("192.0.2.1", world.now, 1000, 10) == "open"
    world.disconnect(world.smtps)
    world.connect(world.smtps)
    assert world.q.icc.open("192.0.2.1", world.now, 1000, 10) == ""
    world.feed((world.smtps, SeEnd("S0", "192.0.2.1"), 0))  # of a session from before
    assert world.q.smtps[world.smtps].sessions == 0


def test_alias_that_leads_to_nobody(world: World) -> None:
    world.route = lambda address: () if address == b"list@host.test" else default_route(address)
    world.send(b"list@host.test")
    world.run().sleep(10)
    assert [entry[1:] for entry in world.delivered] == [(b"", b"from@host.test")]
    world.check_empty()


def test_indices_are_used_once(world: World) -> None:
    """The first list can't be looked up at first; the second one's members must not be taken for the first one's."""
    fails = {b"one@host.test"}
    lists = {b"one@host.test": (b"a@x.test", b"b@x.test"), b"two@host.test": (b"c@y.test", b"d@y.test")}

    def route(address: bytes) -> tuple[Target, ...]:
        if address in fails:
            return (target(address, code=451),)
        return tuple(default_route(member)[0] for member in lists.get(address, (address,)))

    world.route = route
    world.result = lambda deliver, address: LATER if address in lists[b"two@host.test"] else 0
    world.send(b"one@host.test", b"two@host.test")
    world.run()
    fails.clear()
    world.sleep(59).sleep(1000, 10)
    world.result = lambda deliver, address: 0
    world.sleep(1000, 10)
    assert sorted(entry[2] for entry in world.delivered) == [b"a@x.test", b"b@x.test", b"c@y.test", b"d@y.test"]
    world.check_empty()


@pytest.mark.parametrize(("code", "expected"), [(451, b"551 5.4.7"), (554, b"554 5.4.7")])
def test_expired(code: int, expected: bytes) -> None:
    world = World(SETTINGS._replace(queue_return=100)).begin()
    world.silent.add(world.smtpc)
    world.send(b"a@x.test")
    world.run().sleep(120, 10)
    (task,) = world.q.tasks.values()
    world.silent.clear()
    failure = (Result(0, code, Stage.GREETING, True, "", "no service"),)
    world.feed((world.smtpc, Delivered(task.session, task.number, False, True, False, failure), 0))
    world.run().sleep(10)
    (dsn,) = world.composed.values()
    assert expected + b" <a@x.test>... no service\r\nduring GREETING" in dsn.head
    world.check_empty()


@pytest.mark.parametrize("lands", [False, True])
def test_refused_message_is_not_found_after_a_crash(world: World, lands: bool) -> None:
    world.ibdb_error, world.lands = "EIO", lands
    tag = world.send(b"a@x.test", b"b@x.test", is_large=True)
    world.run()
    assert world.acks[tag].code == 451
    tag = world.send(b"c@x.test")
    assert world.acks[tag].code == 451  # without asking the disk again
    world.ibdb_error = ""
    world.crash()
    assert world.q.aq == {}
    assert world.files == set()


def test_settling_orders_end_with_their_server(world: World) -> None:
    """Two servers: the one that was asked dies, the other is asked; the one that leaves is let go."""
    world.connect(world.smtps2)
    world.silent |= {world.smtpc, world.smtps}
    world.send(b"a@x.test")
    world.run()
    world.feed((world.smtps, Leaving(1), 0))
    world.feed((world.smtps2, Leaving(2), 0))
    assert not world.left
    world.disconnect(world.smtps)
    assert world.left
    world.disconnect(world.smtpc)
    world.silent.clear()
    world.connect(world.smtpc)
    world.connect(world.smtps)
    world.run().sleep(5)
    assert len(world.delivered) == 1
    world.check_empty()


def test_segment_of_a_server_that_is_away_stays(world: World) -> None:
    """Only the link broke: the server still writes into its segment."""
    world.send(b"a@x.test")
    world.run()
    world.disconnect(world.smtps, dies=False)
    world.sleep(5)
    world.connect(world.smtps)
    tag = world.send(b"b@x.test")
    world.run()
    assert world.acks[tag].code == 0
    assert len(world.delivered) == 2
    world.disconnect(world.smtps, dies=True)
    world.connect(world.smtps)
    world.run()
    world.check_segments()
    world.check_empty()


def test_crash_at_every_step_of_a_message_that_is_deferred() -> None:
    for step in range(30):
        world = World().begin()
        world.result = lambda deliver, address: LATER
        tag = world.send(b"a@x.test", b"b@y.test")
        for _ in range(step):
            world.step()
        world.crash()
        world.result = lambda deliver, address: 0
        world.begin().sleep(200)
        assert len(world.delivered) == 2 or tag not in world.acks
        world.check_empty()
