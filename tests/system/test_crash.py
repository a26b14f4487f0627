"""kill -9 under load: MCP restarts, and no message that got 250 is lost (design 5)."""
import socket
from pathlib import Path

import pytest

from tests.lib.instance import Instance
from tests.lib.load import Load
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = [pytest.mark.system, pytest.mark.slow]
RETRY = "retry_delay_min = 1; retry_delay_max = 2;"


def relaying(sink: Sink) -> Instance:
    instance = Instance("mail.test", RETRY)
    instance.add("mt", f"sink.test {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
    instance.add("access", "to:@sink.test relay\n")
    return instance


def settle(instance: Instance, load: Load, sink: Sink) -> None:
    """All that was accepted arrived, and nothing is left anywhere.

    What a killed SMTPS was writing stays until QMGR starts: nobody else knows that it is nobody's.
    """
    load.stop()
    until(lambda: load.accepted <= set(sink.seen), 60, "every accepted message arrived")
    until(instance.is_empty, 60, "the queue is empty")
    assert load.accepted
    left = instance.spool_files()
    accepted = set(load.ids.values())
    assert [name for name in left if Path(name).name in accepted] == [], "content of what has left"
    if left:
        instance.kill("qmgr")
        assert instance.spool_files() == []


def more(load: Load, count: int = 50) -> None:
    """Wait until the load has got some more messages accepted."""
    begin = len(load.accepted)
    until(lambda: len(load.accepted) >= begin + count, 60, "mail is accepted")


@pytest.mark.parametrize("name", ["smtps", "qmgr", "smar", "smtpc"])
def test_kill_one(name: str) -> None:
    sink = Sink()
    instance = relaying(sink)
    with instance:
        load = Load(instance.port, "x@sink.test")
        for _ in range(2):
            more(load)
            instance.kill(name)
        more(load)
        settle(instance, load, sink)
    sink.close()


def test_kill_all() -> None:
    sink = Sink()
    instance = relaying(sink)
    with instance:
        load = Load(instance.port, "x@sink.test")
        for _ in range(3):
            more(load)
            instance.kill_all()
            instance.start()
        more(load)
        settle(instance, load, sink)
    sink.close()


def test_orderly_stop_leaves_classic_files() -> None:
    """What waits at an orderly stop lies in CDB as one file for each message, and goes out afterwards."""
    with socket.socket() as deaf:  # takes connections and says nothing
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(100)
        port = deaf.getsockname()[1]
        instance = Instance("mail.test", RETRY)
        instance.add("mt", f"sink.test {{ port={port}; ip={{127.0.0.1}} }}\n")
        instance.add("access", "to:@sink.test relay\n")
        with instance:
            for number in range(5):
                instance.send("x@sink.test", f"X-Number: {number}\n\nx\n")
            until(lambda: instance.status()["queue"]["queues"]["aq_states"]["busy"] == 5)
            assert instance.spool_files() == []
            instance.stop()
            assert len(instance.spool_files()) == 5
            deaf.close()
            sink = Sink(port)
            instance.start()
            until(lambda: len(sink.seen) == 5, 60)
            until(instance.is_empty)
            until(lambda: instance.spool_files() == [])
    sink.close()


def test_sink_down_then_up() -> None:
    """Everything is deferred and shown by mailq; then everything arrives, once."""
    sink = Sink()
    port = sink.port
    instance = relaying(sink)
    sink.close()
    with instance:
        load = Load(instance.port, "x@sink.test")
        more(load, 200)
        load.stop()
        count = len(load.accepted)
        until(lambda: instance.status()["queue"]["queues"]["deferred"] == count, 30, "all is deferred")
        until(lambda: len(instance.queue()) == count, 30, "mailq shows all")
        message = instance.queue()[0]
        assert message["store"] == "defedb"
        assert message["recipients"][0]["address"] == "x@sink.test"
        assert "refused" in message["recipients"][0]["reason"]
        until(lambda: len(instance.spool_files()) == count, 60, "content became classic CDB files")
        instance.ctl("restart")
        sink = Sink(port)
        until(lambda: len(sink.seen) == count, 120, "all arrived")
        until(instance.is_empty)
        assert set(sink.seen) == load.accepted
        assert max(sink.seen.values()) == 1
        until(lambda: instance.spool_files() == [])
    sink.close()
