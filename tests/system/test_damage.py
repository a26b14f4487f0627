"""Damaged stores under the real processes: named, the rest delivered, what was lost put back by queue repair."""
import os
import signal
from pathlib import Path

import pytest

from tests.lib.instance import BIN, Instance, free_port, run
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = [pytest.mark.system, pytest.mark.slow]
NUMBERS = range(5)


def relaying(port: int) -> Instance:
    instance = Instance("mail.test", "retry_delay_min = 1; retry_delay_max = 2;")
    instance.add("mt", f"sink.test {{ port={port}; ip={{127.0.0.1}} }}\n")
    instance.add("access", "to:@sink.test relay\n")
    instance.start()
    return instance


def send(instance: Instance) -> None:
    for number in NUMBERS:
        instance.send(f"n{number}@sink.test", f"X-Number: {number}\n\nbody\n")


def repair(instance: Instance) -> str:
    return run(BIN / "meta1g", "queue", "-f", instance.conf, "repair").stdout


def finish(instance: Instance, sink: Sink) -> None:
    """Repair brings back what is missing; in the end everything has come once, and nothing is left."""
    before = len(sink.seen)
    instance.stop()
    assert f"{5 - before} messages were put back" in repair(instance)
    with instance:
        until(lambda: len(sink.seen) == 5, 60)
        until(instance.is_empty, 60)
        until(lambda: instance.spool_files() == [], 60)
        assert set(sink.seen.values()) == {1}
    sink.close()


def in_ibdb(port: int) -> tuple[Instance, Path]:
    """An instance killed with its mail in IBDB, and that file."""
    instance = relaying(port)
    os.kill(instance.pids()["smtpc"], signal.SIGSTOP)
    send(instance)
    instance.kill_all()
    (path,) = (instance.base / "spool" / "ibdb" / "ibdb").glob("*.ibdb")
    return instance, path


def test_wrong_octet_in_ibdb() -> None:
    port = free_port()
    instance, path = in_ibdb(port)
    data = bytearray(path.read_bytes())
    data[data.index(b"n2@sink.test")] ^= 1
    path.write_bytes(data)
    sink = Sink(port)
    instance.start()
    until(lambda: len(sink.seen) == 4, 60)
    until(instance.is_empty, 60)
    assert "sev=ERR, func=q_recover, file=ibdb/ibdb/" in instance.log("qmgr")
    finish(instance, sink)


def test_ibdb_cut_short() -> None:
    port = free_port()
    instance, path = in_ibdb(port)
    data = path.read_bytes()
    path.write_bytes(data[:data.index(b"n4@sink.test")])
    sink = Sink(port)
    instance.start()
    until(lambda: len(sink.seen) == 4, 60)
    assert "sev=WARN, func=q_recover, file=ibdb/ibdb/" in instance.log("qmgr")
    finish(instance, sink)


@pytest.mark.parametrize("kind", ["zeros", "cut", "empty"])
def test_defedb(kind: str) -> None:
    port = free_port()
    instance = relaying(port)
    send(instance)
    until(lambda: instance.status()["queue"]["queues"]["deferred"] == 5)
    instance.stop()
    path = instance.base / "spool" / "defedb" / "defedb.db"
    data = path.read_bytes()
    path.write_bytes({"zeros": data[:4096] + bytes(4096) + data[8192:], "cut": data[:5000], "empty": b""}[kind])
    instance.start()
    assert "status=set aside in defedb/damaged.1" in instance.log("qmgr")
    instance.send("root@mail.test", "Subject: fresh\n\n")  # what is new does not wait
    until(lambda: instance.mail("root"), 30)
    finish(instance, Sink(port))
