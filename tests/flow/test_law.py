"""The law on random stories: every accepted recipient ends exactly once, and nothing is left (design 5).

A story is a random sequence of messages, answers, silence, deaths of peers, refusals of the disk, crashes of QMGR
with any part of what was under way carried out, in any order that the real threads allow. Then everybody works, time
passes, and the books must balance.
"""
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from meta1g.proto.dsn import Form
from meta1g.proto.msg_ar import Target
from meta1g.proto.msg_da import Deliver
from meta1g.proto.msg_ss import Leaving
from meta1g.qmgr.effects import EndedThere, WriteDefedb, WriteIbdb
from meta1g.shim.records import Outcome, RcptEnd
from tests.flow.world import SETTINGS, Peer, Smtps, World, default_route, target

STORIES: Final = int(os.environ.get("STORIES", "500"))
CODES = [0, 0, 0, 450, 550]
LISTS = {b"list@host.test": (b"a@x.test", b"b@y.test"), b"self@host.test": (b"self@host.test", b"c@z.test")}
NAMES = [b"a@x.test", b"b@x.test", b"c@y.test", *LISTS]
ACTS = ["send", "send", "step", "step", "step", "step", "run", "sleep", "long", "tick", "smtpc", "smtps", "smtps2",
        "smar", "silent", "refuse", "trouble", "leave", "crash", "crash", "control"]
SITES = [[], ["x.test"], ["192.0.2.1"], ["y.test", "z.test"]]


class Chaos:
    """A world whose peers draw their behaviour, and a record of what must come of each recipient."""

    def __init__(self, pick: Callable[[Sequence[Any]], Any]) -> None:
        self.pick = pick
        delay, form, edbc_max = pick([60, 0]), pick(list(Form)[::-1]), pick([1000, 4])
        self.world = World(SETTINGS._replace(dsn_delay=delay, dsn_form=form), edbc_max).begin()
        self.world.connect(self.world.smtps2)
        self.is_calm = False
        self.world.result = self.result
        self.world.route = self.route
        self.world.host_fails = lambda hop: not self.is_calm and self.pick([False, False, True])
        self.sent: dict[int, list[bytes]] = {}
        self.maybe: Counter[str] = Counter()  # recipients by transaction that were discarded without a record

    def result(self, deliver: Deliver, address: bytes) -> int:
        return 0 if self.is_calm else int(self.pick(CODES))

    def route(self, address: bytes) -> tuple[Target, ...]:
        if self.is_calm:
            return members(address)
        choices = [members(address), members(address), (target(address, code=451),)]
        if address not in LISTS:  # a list ends as its members, so that they can be counted
            choices += [(target(address, "192.0.2.1", "192.0.2.2"),), (target(address, code=550),)]
        found: tuple[Target, ...] = self.pick(choices)
        return found

    def act(self) -> None:
        world = self.world
        match self.pick(ACTS):
            case "send":
                self.send()
            case "step":
                world.step(self.pick(["", *(name for name in world.lanes if world.lanes[name])]))
            case "run":
                world.run()
            case "sleep":
                world.sleep(3)
            case "long":
                world.sleep(200, 20)
            case "tick":
                world.tick(self.pick([1, 30, 100]))
            case "silent":
                world.silent ^= {self.pick(list(world.peers))}
            case "refuse":
                world.ibdb_error, world.lands = self.pick(["", "full", "EIO"]), self.pick([False, True])
            case "trouble":
                world.compose_error, world.settle_error = self.pick(["", "full"]), self.pick(["", "full"])
            case "leave":
                server = self.server()
                if server is not None:
                    world.feed((server, Leaving(1), 0))
            case "crash":
                self.crash()
            case "control":
                world.holds_error = self.pick(["", "", "full"])
                command = self.pick(["hold", "release", "flush", "delete"])
                if command == "delete":
                    world.control(command, to=[self.pick(["a@x.test", "@z.test"])])
                else:
                    world.control(command, site=self.pick(SITES))
            case name:
                self.toggle(getattr(world, name))

    def server(self) -> Smtps | None:
        servers = [peer for peer in (self.world.smtps, self.world.smtps2) if peer in self.world.up]
        found: Smtps | None = self.pick(servers) if servers else None
        return found

    def send(self) -> None:
        rcpts = [self.pick(NAMES) for _ in range(self.pick([1, 2, 3, 4]))]
        mail, is_large, server = self.pick([b"from@host.test", b""]), self.pick([False, False, True]), self.server()
        if server is not None:
            self.sent[self.world.send(*rcpts, mail=mail, server=server, is_large=is_large)] = rcpts

    def toggle(self, peer: Peer) -> None:
        world = self.world
        if peer not in world.up:
            world.connect(peer)
        else:
            world.disconnect(peer, dies=self.pick([True, False]))

    def crash(self) -> None:
        """QMGR dies with some of its threads' work done.

        A delivery that it had not written down may happen again: recovery must name it. A recipient that had
        been given up may be given up again.
        """
        world = self.world
        kept = {name: self.pick(range(len(world.lanes[name]) + 1)) for name in ("ibdb", "defedb")}
        for _, item in list(world.lanes["ibdb"])[kept["ibdb"]:]:
            if isinstance(item, WriteIbdb):
                self.maybe.update(record.ta for record in item.records if isinstance(record, RcptEnd)
                                  and record.outcome == Outcome.DISCARDED)
        for _, item in list(world.lanes["defedb"])[kept["defedb"]:]:
            if isinstance(item, WriteDefedb) and isinstance(item.then, EndedThere) and (
                    item.then.how == Outcome.DISCARDED):
                self.maybe[item.then.ta] += 1
        back = sorted(world.up, key=str)
        luck = random.Random(self.pick(range(1000)))
        world.crash(kept["ibdb"], kept["defedb"], self.pick([None, lambda disk: disk.lose_power(0.0, luck)]))
        for peer in back:
            world.connect(peer)

    def calm_down(self) -> None:
        """Everybody works from now on; time passes."""
        world = self.world
        self.is_calm = True
        world.silent.clear()
        world.ibdb_error = world.compose_error = world.settle_error = ""
        for peer in world.peers:
            if peer not in world.up:
                world.connect(peer)
        world.sweep()
        world.control("release")
        world.run().sleep(30).sleep(6 * 3600, 60).sleep(10)

    def check(self) -> None:
        """The books balance."""
        world = self.world
        for tag in self.sent:
            if tag not in world.acks:  # QMGR may never have heard of it; its next start removes the content
                world.cdb.unlink(world.tas[tag])
        world.check_empty()
        world.check_segments()
        for tag, rcpts in self.sent.items():
            expected = sorted(member for rcpt in rcpts for member in LISTS.get(rcpt, (rcpt,)))
            self._check_ends(world.tas[tag], expected, world.acks[tag].code if tag in world.acks else -1)
        for name, dsn in world.dsns.items():
            self._check_ends(name, [dsn.rcpts[0].address], 0)

    def _check_ends(self, ta: str, expected: list[bytes], code: int) -> None:
        world = self.world
        delivered = [rcpt for name, _, rcpt in world.delivered if name == ta]
        bounced = sum(len(dsn.ended) for dsn in world.dsns.values() if dsn.origin == ta)
        lines = [line for line in world.log if f"rcpt_id={ta}-" in line]
        discarded = sum("message ends" in line for line in lines)
        maybe = self.maybe[ta] + sum("status=uncertain" in line for line in lines)
        total = len(delivered) + bounced + discarded
        if code > 0:
            assert total == 0 or self.maybe[ta], f"refused, but not forgotten: {ta}"
            return
        assert set(delivered) <= set(expected)
        assert total >= len(expected) or code < 0, f"a recipient was lost: {ta}"
        assert total <= len(expected) + maybe, "one ended twice"


def members(address: bytes) -> tuple[Target, ...]:
    """Where an address leads: a list to its members."""
    return tuple(default_route(member)[0] for member in LISTS.get(address, (address,)))


def play(pick: Callable[[Sequence[Any]], Any], length: int) -> None:
    """One story."""
    chaos = Chaos(pick)
    for _ in range(length):
        chaos.act()
        assert not chaos.world.bugs, chaos.world.bugs
    chaos.calm_down()
    chaos.check()


@given(st.data())
def test_every_recipient_ends_exactly_once(data: DataObject) -> None:
    play(lambda values: data.draw(st.sampled_from(values)), data.draw(st.integers(1, 20)))


@pytest.mark.parametrize("first", range(0, STORIES, 100))
def test_many_longer_stories(first: int) -> None:
    """Faster than hypothesis, which is there to make a failure small."""
    for seed in range(first, first + 100):
        luck = random.Random(seed)
        try:
            play(luck.choice, luck.randrange(1, 60))
        except BaseException as error:
            error.add_note(f"story {seed}")
            raise
