"""meta1g-ctl keeps its contract (design 7): exit codes, reasons, reload; and the installation with five users."""
import json
import os
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.instance import BIN, Instance, run
from tests.lib.wait import until

pytestmark = pytest.mark.system
CTL = BIN / "meta1g-ctl"


@pytest.fixture
def instance() -> Iterator[Instance]:
    made = Instance("ctl.test")
    yield made
    made.__exit__()


def test_life(instance: Instance) -> None:
    assert instance.ctl("status", check=False).returncode == 3
    assert json.loads(instance.ctl("status", "--json", check=False).stdout)["running"] is False
    assert instance.ctl("check").stdout.endswith("ok\n")
    instance.start()
    first = instance.pids()
    assert set(first) == {"mcp", "smar", "qmgr", "lda", "smtpc", "smtps"}
    assert len(instance.ctl("status").stdout.splitlines()) == 6
    instance.start()  # once more changes nothing
    assert instance.pids() == first
    instance.ctl("restart")
    assert not set(first.values()) & set(instance.pids().values())
    instance.stop()
    instance.stop()
    assert instance.ctl("status", check=False).stdout == "not running\n"


def test_wrong_configuration_is_told_and_changes_nothing(instance: Instance) -> None:
    instance.start()
    before = instance.pids()
    good = instance.conf.read_text()
    instance.conf.write_text(good.replace("start_action = pass", "start_action = psas"))
    for command in ("check", "reload", "start"):
        done = instance.ctl(command, check=False)
        assert done.returncode == os.EX_CONFIG
        assert "did you mean pass?" in done.stderr
    instance.conf.write_text(good)
    assert instance.pids() == before


def test_reload_restarts_what_changed(instance: Instance) -> None:
    instance.start()
    before = instance.pids()
    instance.edit("flags = { 8bitmime", 'greeting = "changed";\n  flags = { 8bitmime')
    instance.ctl("reload")
    after = instance.pids()
    assert {name for name in before if before[name] != after[name]} == {"smtps"}
    with socket.create_connection(("127.0.0.1", instance.port), 10) as sock:
        assert sock.recv(100) == b"220 ctl.test changed\r\n"


def test_reload_restarts_smar_for_what_it_knows_of_others(instance: Instance) -> None:
    instance.start()
    before = instance.pids()
    instance.edit("\nqmgr {", "\nqmgr { smtpc { rcpt_conf_lookup_flags = { domain } }")
    instance.ctl("reload")
    after = instance.pids()
    assert {name for name in before if before[name] != after[name]} == {"smar"}


def test_maps_are_reopened_without_a_restart(instance: Instance) -> None:
    instance.start()
    before = instance.pids()
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        instance.send("x@new.test")
    instance.add("mt", "new.test lmtp:\n")
    instance.add("aliases", "x: <root@ctl.test>\n")
    instance.ctl("reload")
    instance.send("x@new.test")
    until(lambda: instance.mail("root"))
    assert instance.pids() == before


def test_start_says_why_it_can_not(instance: Instance) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", instance.port))
        taken.listen()
        done = instance.ctl("start", check=False)
    assert done.returncode == os.EX_UNAVAILABLE
    assert f"port {instance.port}: Address already in use" in done.stderr
    assert "mcp.log" in done.stderr
    (instance.base / "etc" / "mt").unlink()
    done = instance.ctl("start", check=False)
    assert done.returncode != 0
    assert "smar" in done.stderr
    assert "mt" in done.stderr
    assert instance.ctl("status", check=False).returncode == 3


def test_init_refuses_what_can_not_work(instance: Instance, tmp_path: Path) -> None:
    done = run(CTL, "init", instance.base, check=False)
    assert done.returncode == os.EX_CANTCREAT
    assert "is there already" in done.stderr
    if os.geteuid() == 0:
        done = run(CTL, "init", tmp_path / "x", "--user", "no-such-user", check=False)
        assert "does not exist" in done.stderr
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        done = run(CTL, "init", closed / "x", "--user", "nobody", check=False)
        assert done.returncode == os.EX_CANTCREAT
        assert "can't run" in done.stderr
    done = run(CTL, "-f", "/nonexistent", "start", check=False)
    assert (done.returncode, "meta1g-ctl init" in done.stderr) == (os.EX_NOINPUT, True)
