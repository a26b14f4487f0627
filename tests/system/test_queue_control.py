"""mailq's filters and qmgrctl's flush, hold and release on real processes; what they say is what a sink saw."""
import json
from typing import Any

import pytest

from tests.lib.instance import BIN, Instance, free_port, run
from tests.lib.load import Load
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = [pytest.mark.system]
RETRY = "retry_delay_min = 10m; retry_delay_max = 1h;"


def mailq(instance: Instance, *options: str) -> list[Any]:
    found: list[Any] = json.loads(run(BIN / "meta1g", "mailq", "-f", instance.conf, "--json", *options).stdout)
    return found


def rcpts(instance: Instance, *options: str) -> list[str]:
    return sorted(rcpt["address"] for message in mailq(instance, *options) for rcpt in message["recipients"])


def qmgrctl(instance: Instance, *words: str, code: int = 0) -> Any:
    done = run(BIN / "meta1g", "qmgrctl", "-f", instance.conf, "--json", *words, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def instance(ports: tuple[int, int]) -> Instance:
    """Two sites of which nobody listens at either; what fails is not tried again within the test."""
    made = Instance("mail.test", RETRY)
    for name, port, ip in zip(("one", "two"), ports, ("127.0.0.1", "127.0.0.2"), strict=True):
        made.add("mt", f"{name}.test {{ port={port}; ip={{{ip}}} }}\n")
        made.add("access", f"to:@{name}.test relay\n")
    return made


def test_dead_site_comes_back(instance: Instance, ports: tuple[int, int]) -> None:
    with instance:
        for number in range(6):
            instance.send(f"r{number}@one.test", f"X-Number: {number}\n\ny\n", sender=f"s{number % 2}@mail.test")
        instance.send(["x@two.test", "y@two.test"], "X-Number: two\n\ny\n")
        until(lambda: len(rcpts(instance, "--reason", "refused")) == 8, 30, "all are deferred")

        assert rcpts(instance, "--site", "two.test") == ["x@two.test", "y@two.test"]
        assert rcpts(instance, "--site", "127.0.0.1", "--from", "s1@*") == [f"r{n}@one.test" for n in (1, 3, 5)]
        assert rcpts(instance, "--to", "@TWO.test", "--age", "1h") == []
        message, = mailq(instance, "--to", "r3@one.test", "--age", "-1h")
        assert message["recipients"][0]["tries"] == 1
        assert message["recipients"][0]["next_try"] > message["received"] + 500
        assert rcpts(instance, "--id", message["id"]) == ["r3@one.test"]
        counts = {row["domain"]: row["recipients"] for row in mailq(instance, "--count", "domain")}
        assert counts == {"one.test": 6, "two.test": 2}
        text = run(BIN / "meta1g", "mailq", "-f", instance.conf, "--to", "r3@one.test").stdout
        assert "(tried once, next at " in text
        assert "Total requests: 1" in text

        sink = Sink(ports[0])
        assert qmgrctl(instance, "flush", "--site", "one.test") == {"due": 6}
        until(lambda: len(sink.seen) == 6, 30, "the flushed site is delivered")
        until(lambda: rcpts(instance) == ["x@two.test", "y@two.test"], 30, "mailq agrees with the sink")
        assert sorted(sink.seen) == [str(n) for n in range(6)]
        assert set(sink.seen.values()) == {1}
        status = qmgrctl(instance)
        assert (status["queues"]["deferred"], status["holds"]) == (2, {"all": False, "sites": []})
        assert qmgrctl(instance, "statistics")["counters"]["delivered"] == 6
    sink.close()


def test_hold_and_release(instance: Instance, ports: tuple[int, int]) -> None:
    sink = Sink(ports[0])
    with instance:
        assert qmgrctl(instance, "hold", "--site", "ONE.test")["holds"] == {"all": False, "sites": ["one.test"]}
        instance.send("a@one.test", "X-Number: a\n\ny\n")
        until(lambda: rcpts(instance, "--site", "one.test") == ["a@one.test"], 30, "mailq shows what is held")
        assert mailq(instance)[0]["recipients"][0]["tries"] == 0
        assert rcpts(instance, "--held") == ["a@one.test"]
        assert "(held until qmgrctl release)" in run(BIN / "meta1g", "mailq", "-f", instance.conf).stdout
        assert qmgrctl(instance, "flush")["holds"]["sites"] == ["one.test"]
        instance.ctl("restart")
        assert qmgrctl(instance, "status")["holds"]["sites"] == ["one.test"]
        until(lambda: qmgrctl(instance, "status")["queues"]["aq"] == 0, 30, "QMGR has parked it again")
        assert rcpts(instance) == ["a@one.test"]
        assert sink.seen == {}

        assert "not held: two.test" in qmgrctl(instance, "release", "--site", "two.test", code=65)
        assert qmgrctl(instance, "release", "--site", "one.test") == {"holds": {"all": False, "sites": []}, "due": 1}
        until(lambda: sink.seen["a"] == 1, 30, "what was released arrives")

        qmgrctl(instance, "hold")
        instance.send(["b@one.test", "c@one.test"], "X-Number: b\n\ny\n")
        until(lambda: rcpts(instance) == ["b@one.test", "c@one.test"], 30, "all is held")
        text = run(BIN / "meta1g", "qmgrctl", "-f", instance.conf, "release").stdout
        assert text == "Nothing is held\n"
        until(lambda: sink.seen["b"] == 1, 30, "all goes on")
        until(lambda: rcpts(instance) == [], 30, "mailq agrees with the sink")
    sink.close()


def test_delete_and_expire(instance: Instance) -> None:
    """An administrator gives deferred mail up: silently, or the sender hears of it; mailq and the log agree."""
    with instance:
        instance.send(["a@one.test", "b@one.test", "c@two.test"], "Subject: x\n\ny\n", sender="root@mail.test")
        until(lambda: len(rcpts(instance, "--reason", "refused")) == 3, 30, "all are deferred")
        assert "say whom" in qmgrctl(instance, "delete", code=65)
        assert qmgrctl(instance, "delete", "--to", "a@one.test") == {"due": 1}
        until(lambda: rcpts(instance) == ["b@one.test", "c@two.test"], 30, "one is gone")
        done = run(BIN / "meta1g", "qmgrctl", "-f", instance.conf, "expire", "--site", "one.test")
        assert done.stdout == "1 recipient is given up\n"
        until(lambda: rcpts(instance) == ["c@two.test"], 30, "another one")
        until(lambda: len(instance.mail("root")) == 1, 30, "its sender hears of it")
        text = instance.mail("root")[0].read_text()
        assert "b@one.test" in text
        assert "a@one.test" not in text
        assert qmgrctl(instance, "status")["queues"]["deferred"] == 1


def test_wrong_use(instance: Instance) -> None:
    assert "does QMGR run" in qmgrctl(instance, "status", code=69)
    assert "No such option" in qmgrctl(instance, "hold", "--to", "x", code=64)
    done = run(BIN / "meta1g", "mailq", "-f", instance.conf, "--age", "old", check=False)
    assert (done.returncode, "is no age" in done.stderr) == (64, True)


def test_each_recipient_is_shown_once_as_it_moves(instance: Instance) -> None:
    """From IBDB to DEFEDB, while mailq looks on."""
    with instance:
        load = Load(instance.port, "x@one.test")
        until(lambda: _shows_each_once(instance) and len(load.accepted) >= 300, 60, "mail is accepted")
        load.stop()
        count = len(load.accepted)
        until(lambda: _shows_each_once(instance) == count, 60, "mailq shows all that was accepted")
        assert qmgrctl(instance)["queues"]["deferred"] == count


@pytest.mark.parametrize("wanted", [[], ["--to", "@one.test"]])
def test_a_queue_longer_than_memory(ports: tuple[int, int], wanted: list[str]) -> None:
    """EDBC has room for a few; after a restart, and a flush of all, each message arrives once."""
    made = Instance("mail.test", RETRY)
    made.edit("\nqmgr {", "\nqmgr {\n  DEFEDB { hash_table_entries = 128; }")
    made.add("mt", f"one.test {{ port={ports[0]}; ip={{127.0.0.1}} }}\n")
    made.add("access", "to:@one.test relay\n")
    with made:
        load = Load(made.port, "x@one.test")
        until(lambda: len(load.accepted) >= 1200, 60, "mail is accepted")
        load.stop()
        until(lambda: qmgrctl(made)["queues"]["deferred"] == len(load.accepted), 60, "all is deferred")
        made.ctl("restart")
        assert qmgrctl(made)["queues"]["deferred"] == len(load.accepted)
        sink = Sink(ports[0])
        assert qmgrctl(made, "flush", *wanted)["more"]
        until(lambda: set(sink.seen) == load.accepted, 60, "all of it arrives")
        until(made.is_empty, 30, "the queue is empty")
        assert set(sink.seen.values()) == {1}
        assert qmgrctl(made)["queues"]["deferred"] == 0
    sink.close()


def _shows_each_once(instance: Instance) -> int:
    ids = [rcpt["id"] for message in mailq(instance) for rcpt in message["recipients"]]
    assert len(ids) == len(set(ids))
    return len(ids)
