"""The law on random stories: every accepted recipient ends exactly once, and nothing is left (design 5)."""
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from meta1g.mta.ids import ss_id
from meta1g.proto.msg_ar import Target
from meta1g.proto.msg_da import Deliver
from tests.flow.world import World, default_route, target

CODES = [0, 0, 0, 450, 550]
LISTS = {b"list@host.test": (b"a@x.test", b"b@y.test"), b"self@host.test": (b"self@host.test", b"c@z.test")}


class Chaos:
    """A world whose peers draw their behaviour, and a record of what must come of each recipient."""

    def __init__(self, data: DataObject) -> None:
        self.data = data
        self.world = World().begin()
        self.is_calm = False
        self.world.result = self.result
        self.world.route = self.route
        self.world.host_fails = lambda hop: not self.is_calm and self.draw([False, False, True])
        self.accepted: dict[str, list[bytes]] = {}
        self.sent: dict[int, list[bytes]] = {}

    def draw(self, values: list[object]) -> object:
        return self.data.draw(st.sampled_from(values))

    def result(self, deliver: Deliver, address: bytes) -> int:
        return 0 if self.is_calm else int(self.draw(CODES))  # type: ignore[call-overload]

    def route(self, address: bytes) -> tuple[Target, ...]:
        if address in LISTS:
            return tuple(default_route(member)[0] for member in LISTS[address])
        if self.is_calm:
            return default_route(address)
        return self.draw([default_route(address), (target(address, "192.0.2.1", "192.0.2.2"),),  # type: ignore[return-value]
                          (target(address, code=451),), (target(address, code=550),)])

    def act(self) -> None:
        world = self.world
        match self.draw(["send", "send", "step", "step", "step", "sleep", "long", "smtpc", "smtps", "smar", "silent"]):
            case "send":
                names: list[object] = [b"a@x.test", b"b@x.test", b"c@y.test", *LISTS]
                rcpts = self.data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
                mail = self.draw([b"from@host.test", b"other@far.test", b""])
                if world.smtps in world.up:
                    self.sent[world.send(*rcpts, mail=mail)] = rcpts  # type: ignore[arg-type]
            case "step":
                world.step()
            case "sleep":
                world.sleep(3)
            case "long":
                world.sleep(200, 20)
            case "silent":
                peer = self.draw([world.smtpc, world.smar])
                world.silent ^= {peer}  # type: ignore[arg-type]
            case name:
                self.toggle(str(name))

    def toggle(self, name: str) -> None:
        world = self.world
        peer = getattr(world, name)
        if peer not in world.up:
            world.connect(peer)
        else:
            world.disconnect(peer)

    def calm_down(self) -> None:
        """Everybody works from now on; time passes."""
        world = self.world
        self.is_calm = True
        world.silent.clear()
        for peer in (world.smar, world.smtps, world.smtpc):
            if peer not in world.up:
                world.connect(peer)
        world.run().sleep(30).sleep(6 * 3600, 60)


@settings(max_examples=500)
@given(st.data())
def test_every_recipient_ends_exactly_once(data: DataObject) -> None:
    chaos = Chaos(data)
    for _ in range(data.draw(st.integers(1, 25))):
        chaos.act()
        assert not chaos.world.bugs, chaos.world.bugs
    chaos.calm_down()
    world = chaos.world
    assert not world.bugs, world.bugs
    _forget_unfinished_dsns(world)
    world.check_empty()
    for tag, rcpts in chaos.sent.items():
        ack = world.acks.get(tag)
        if ack is not None and ack.code == 0:
            _check_ends(world, ss_id(tag, 0), rcpts)


def _forget_unfinished_dsns(world: World) -> None:
    """Content that a server wrote and died before it could say so: recovery takes it for an orphan."""
    world.contents = {ta: place for ta, place in world.contents.items() if ta not in world.composed}


def _check_ends(world: World, ta: str, rcpts: list[bytes]) -> None:
    expected = sorted(member for rcpt in rcpts for member in LISTS.get(rcpt, (rcpt,)))
    delivered = [rcpt for name, _, rcpt in world.delivered if name == ta]
    bounced = sum(dsn.head.count(b"\r\nduring ") for dsn in world.composed.values() if dsn.original_ta == ta)
    ended = sum(f"rcpt_id={ta}-" in line and "message ends" in line for line in world.log)
    uncertain = sum(f"rcpt_id={ta}-" in line and "status=uncertain" in line for line in world.log)
    assert set(delivered) <= set(expected)
    assert len(delivered) + bounced + ended >= len(expected), "a recipient was lost"
    assert len(delivered) + bounced + ended <= len(expected) + uncertain + world.composed_again, "one ended twice"
