"""A scripted life of a server: everything that the queue does, in an order that never changes."""
from meta1g.proto.msg_da import Deliver
from meta1g.proto.msg_ss import Leaving
from tests.flow.test_law import Chaos


class Workload(Chaos):
    """Accept, fan out, deliver, defer, settle, bounce, expire, double bounce, leave, restart."""

    def __init__(self) -> None:
        super().__init__(lambda values: values[0])
        self.world.host_fails = lambda hop: False
        self.world.disk.calls = 0

    def result(self, deliver: Deliver, address: bytes) -> int:
        if self.is_calm:
            return 0
        if address in (b"never@x.test", b"bad@host.test"):
            return 550
        is_late = address == b"dead@z.test" or (address == b"later@x.test" and self.world.now < self.open_at)
        return 450 if is_late else 0

    def play(self) -> None:
        """The whole script; `Stopped` may come out of it anywhere."""
        world = self.world
        self.open_at = world.now + 100
        self.accept(b"a@x.test")
        self.accept(b"list@host.test", b"b@x.test")
        self.accept(b"a@x.test", b"later@x.test", is_large=True)
        world.run()
        self.accept(b"later@x.test", b"list@host.test")
        self.accept(b"never@x.test", b"a@x.test")
        self.accept(b"never@x.test", mail=b"bad@host.test")
        world.run()
        self.accept(b"dead@z.test", b"b@y.test")
        world.sleep(20)
        world.crash(loss=lambda disk: disk)
        world.begin()
        self.accept(b"later@x.test", b"never@x.test")
        world.sleep(300, 20)
        self.accept(b"a@x.test", b"b@y.test")
        world.feed((world.smtps, Leaving(1), 0))
        world.run()
        world.disconnect(world.smtps)
        world.connect(world.smtps)
        world.sleep(4000, 100)
        world.run()

    def accept(self, *rcpts: bytes, mail: bytes = b"from@host.test", is_large: bool = False) -> None:
        """A client's message; the books know it when SMTPS has its content."""
        self.sent[self.world.send(*rcpts, mail=mail, is_large=is_large)] = list(rcpts)
