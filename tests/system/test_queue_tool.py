"""meta1g queue: checks the stores against each other, and puts back what has lost its envelope (M1 4.11.2)."""
import json
import re
import shutil
import threading

import pytest

from tests.lib.instance import BIN, Instance, free_port, run
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = [pytest.mark.system, pytest.mark.slow]


def queue(instance: Instance, *arguments: str, code: int = 0) -> str:
    done = run(BIN / "meta1g", "queue", "-f", instance.conf, *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def waiting(port: int) -> Instance:
    """A stopped instance with five messages that wait, one of them large."""
    instance = Instance("mail.test", "retry_delay_min = 1; retry_delay_max = 2;")
    instance.add("mt", f"sink.test {{ port={port}; ip={{127.0.0.1}} }}\n")
    instance.add("access", "to:@sink.test relay\n")
    instance.start()
    for number in range(5):
        instance.send("x@sink.test", f"X-Number: {number}\n\n" + ("y" * 70 + "\n") * (5000 if number == 3 else 1))
    until(lambda: instance.status()["queue"]["queues"]["deferred"] == 5)
    assert queue(instance, "check") == "The queue is whole\n"
    instance.stop()
    assert len(instance.spool_files()) == 5
    return instance


def test_lost_envelopes_come_back_from_the_logs() -> None:
    port = free_port()
    instance = waiting(port)
    assert queue(instance, "check") == "The queue is whole\n"
    spool = instance.base / "spool"
    for path in [*(spool / "ibdb" / "ibdb").iterdir(), *(spool / "defedb").iterdir()]:
        path.unlink()
    assert len(json.loads(queue(instance, "check", "--json", code=65))) == 5
    shown = queue(instance, "envelopes").splitlines()
    assert len(shown) == 10 and sum(": mail=<" in line for line in shown) == 5
    ta = shown[0].partition(":")[0]
    assert queue(instance, "envelopes", ta).splitlines() == shown[:2] and ": rcpt=<" in shown[1]

    instance.start()  # somebody starts the server first: the content must not go
    assert "queue repair" in instance.log("qmgr")
    assert run(BIN / "meta1g", "queue", "-f", instance.conf, "repair", check=False).returncode == 75
    instance.stop()
    instance.ctl("start")
    instance.stop()
    assert len(instance.spool_files()) == 5

    assert "5 messages would be put back" in queue(instance, "repair", "-n")
    assert "5 messages were put back" in queue(instance, "repair")
    sink = Sink(port)
    with instance:
        until(lambda: len(sink.seen) == 5, 60)
        until(instance.is_empty)
        until(lambda: instance.spool_files() == [])
    assert set(sink.seen.values()) == {1}
    sink.close()


def test_damage_is_named_and_the_rest_delivered() -> None:
    port = free_port()
    instance = waiting(port)
    gone, cut, *_ = sorted((instance.base / "spool").glob("[0-9A-F]/S*"))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-10])
    lines = json.loads(queue(instance, "check", "--json", code=65))
    assert len(lines) == 2
    assert any(gone.name in line for line in lines)
    assert any(f"{cut}: offset" in line for line in lines)
    sink = Sink(port)
    with instance:
        until(lambda: len(sink.seen) == 3, 60)
    sink.close()


def test_uncertain_names_what_was_in_flight() -> None:
    port = free_port()
    instance = waiting(port)
    sink = Sink(port)
    arrived, go_on = threading.Event(), threading.Event()

    def hold(where: str) -> str:
        if where == "dot":
            arrived.set()
            go_on.wait(60)
        return ""

    sink.mischief = hold
    with instance:
        until(arrived.is_set, 60)
        instance.kill_all()
        go_on.set()
        found = json.loads(queue(instance, "uncertain", "--json"))
        assert {row["recipient"] for row in found} == {"x@sink.test"}
        instance.start()
        until(instance.is_empty, 60)
        named = set(re.findall(r"rcpt_id=(\S+), status=uncertain", instance.log("qmgr")))
        assert named
        assert named <= {row["rcpt_id"] for row in found}, "before recovery DEFEDB may show what has just ended"
        assert json.loads(queue(instance, "uncertain", "--json")) == []
    sink.close()
    shutil.rmtree(instance.base, ignore_errors=True)
