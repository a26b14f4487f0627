"""meta1g-ctl reload: everything changes under load and no session fails; what can't change is named."""
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.lib.instance import Instance, other_user
from tests.lib.peers import needs
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = [pytest.mark.system]
MESSAGES = 4000
CHANGES = {  # an option of each section, with a value that is counted up
    "smtps": "message_size_max = {};", "smtpc": "IO_timeout = {};", "qmgr": "retry_delay_max = {};",
    "smar": "threads_max = {};",
}


class World(Instance):
    """An instance that relays to a sink."""

    def __init__(self) -> None:
        super().__init__("local.test", user=other_user())
        self.sink = Sink()
        self.add("mt", f"sink.test {{ port={self.sink.port}; ip={{127.0.0.1}} }}\n")
        self.add("access", "to:@sink.test relay\n")
        self.values = dict.fromkeys(CHANGES, 50)
        self.edit("\nqmgr {", "\nqmgr {\n  retry_delay_min = 1;")
        for section, text in CHANGES.items():
            self.edit(f"\n{section} {{", f"\n{section} {{\n  {text.format(50)}")

    def change(self, section: str) -> None:
        """Another value, and a reload."""
        value = self.values[section]
        self.values[section] += 1
        self.edit(CHANGES[section].format(value), CHANGES[section].format(value + 1))
        self.ctl("reload")


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made
    made.sink.close()


@pytest.mark.peer
def test_no_session_fails(world: World) -> None:
    """Twelve reloads while smtp-source sends: SMTPS and SMTPC roll over, QMGR goes on, SMAR is waited for."""
    needs("smtp-source")
    load = subprocess.Popen(["smtp-source", "-s", "10", "-m", str(MESSAGES), "-l", "1024", "-f", "a@b.test", "-t",
                             "x@sink.test", f"127.0.0.1:{world.port}"], stderr=subprocess.PIPE, text=True)
    before = world.pids()
    for _ in range(3):
        for section in CHANGES:
            world.change(section)
    assert load.wait(100) == 0, load.stderr.read() if load.stderr else ""
    until(lambda: len(world.sink.messages) == MESSAGES and world.is_empty(), 60, "all is delivered")
    after = world.pids()
    assert {name for name in before if before[name] != after[name]} == {"smtps", "smtpc", "smar"}
    assert "status=uncertain" not in world.log("qmgr")


def test_a_delivery_under_way_is_finished(world: World) -> None:
    """The old SMTPC waits for a slow server, while the new one delivers what comes."""
    world.sink.mischief = lambda where: "hang" if where == "dot" and not world.sink.messages else ""
    world.send("slow@sink.test", sender="root@local.test")
    until(lambda: world.status()["queue"]["queues"]["aq_states"]["busy"] == 1)
    old = world.pids()["smtpc"]
    world.change("smtpc")
    assert world.pids()["smtpc"] != old and world.running()[old] == "smtpc"
    world.send("root@local.test", sender="a@b.test")
    until(lambda: world.mail("root"))
    world.sink.go_on.set()
    until(lambda: len(world.sink.messages) == 1 and world.is_empty())
    until(lambda: old not in world.running(), 20, "the old process has left")
    assert "status=uncertain" not in world.log("qmgr")


def test_options_that_wait_for_a_start_are_named(world: World) -> None:
    """QMGR takes the others up; the value that it had at its start is the one that counts."""
    world.edit("\nqmgr {", "\nqmgr {\n  DEFEDB { page_size = 8192; } fds_max = 500; retry_delay_min = 2;")
    world.edit("retry_delay_min = 1;", "")
    pid = world.pids()["qmgr"]
    assert world.ctl("reload").stdout == "qmgr: these count after a restart: DEFEDB.page_size fds_max\n"
    world.edit("fds_max = 500;", "")
    assert world.ctl("reload").stdout == "qmgr: these count after a restart: DEFEDB.page_size\n"
    assert world.pids()["qmgr"] == pid
    world.ctl("restart")
    assert world.ctl("reload").stdout == ""


def test_a_new_process_that_does_not_come_up(world: World) -> None:
    """The old one serves on; reload and status say so, until the mistake is mended."""
    text = world.conf.read_text()
    section = text.index("\nsmtps {")
    world.conf.write_text(text[:section] + text[section:].replace('"meta1g smtps ', '"meta1g smtps -Z ', 1))
    pid = world.pids()["smtps"]
    for _ in range(2):
        done = world.ctl("reload", check=False)
        assert done.returncode == os.EX_UNAVAILABLE and "the old configuration\n  smtps: " in done.stderr, done
    assert world.pids()["smtps"] == pid and "with an old configuration" in world.ctl("status").stdout
    world.send("root@local.test", sender="a@b.test")
    world.conf.write_text(text)
    world.ctl("reload")
    assert "old configuration" not in world.ctl("status").stdout
