"""What an operator's own tools see: systemd's protocol, logs as JSON, the files in contrib."""
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.lib.instance import BIN, Instance, other_user, run
from tests.lib.peers import needs
from tests.lib.wait import until

pytestmark = [pytest.mark.system]


def test_systemd_is_told(tmp_path: Path) -> None:
    """READY when all work, WATCHDOG while the loop turns, STOPPING at the end; children know nothing of it."""
    made = Instance("local.test", user=other_user())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(20)
        said: list[str] = []

        def hear(word: str) -> bool:
            while word not in said:
                said.extend(sock.recv(4096).decode().split("\n"))
            return True

        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
        run(BIN / "meta1g-ctl", "-f", made.conf, "start", env=environment)
        assert hear("READY=1") and hear("WATCHDOG=1") and "STATUS=5 of 5 processes work" in said
        assert said.index("READY=1") > said.index("STATUS=0 of 5 processes work") and said.count("READY=1") == 1
        for name, pid in made.pids().items():
            if name != "mcp":
                assert b"NOTIFY" not in Path(f"/proc/{pid}/environ").read_bytes()
        said.clear()
        made.ctl("stop")
        assert hear("STOPPING=1")
    shutil.rmtree(made.base)


def test_logs_as_json() -> None:
    """Each line of each process is an object, with the fields of the other form; queue repair reads it, too."""
    made = Instance("local.test", user=other_user())
    made.edit("hostname =", "log_format = json;\nhostname =")
    with made:
        made.send("root@local.test", sender="a@local.test")
        until(lambda: made.mail("root"))
        until(lambda: '"where": "final_dot"' in made.log("smtpc"))
        shown = run(BIN / "meta1g", "queue", "-f", made.conf, "envelopes", _ta_of(made)).stdout
        logs = {name: [json.loads(line) for line in made.log(name).splitlines()]
                for name in ("mcp", "smtps", "qmgr", "smar", "smtpc", "lda")}
    for name, lines in logs.items():
        assert lines and all(line["prog"] == name and line["time"] > 1e9 for line in lines), name
    (mail,) = [line for line in logs["smtps"] if "mail" in line and "rcpt" not in line]
    assert mail["mail"] == "<a@local.test>" and mail["stat"] == "0"
    ta = mail["ss_ta"]
    assert shown.splitlines() == [f"{ta}: mail=<a@local.test>", f"{ta}: rcpt=<root@local.test>, ended"]


def _ta_of(made: Instance) -> str:
    """The id of the one message in the log."""
    return next(line["ss_ta"] for line in map(json.loads, made.log("smtps").splitlines()) if "rcpt" in line)


@pytest.mark.peer
def test_unit_file() -> None:
    """systemd finds nothing wrong with it but that the programs are not installed here, and rates it as safe."""
    needs("systemd-analyze")
    unit = "contrib/systemd/meta1g.service"
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    expected = ("is not executable", "Command 'man ")
    assert [line for line in done.stderr.splitlines() if "meta1g" in line and not any(
        words in line for words in expected)] == []
    text = subprocess.run(["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True,
                          timeout=60, check=False).stdout
    assert "OK" in text.splitlines()[-1], text


def test_rc_script() -> None:
    """It passes on what it is told; status has LSB's exit codes."""
    made = Instance("local.test", user=other_user())
    ctl = made.base / "ctl"
    ctl.write_text(f'#!/bin/sh\nexec {BIN}/meta1g-ctl -f {made.conf} "$@"\n')
    ctl.chmod(0o755)
    codes = [run("contrib/rc/meta1g", word, check=False, env={**os.environ, "META1G_CTL": str(ctl)}).returncode
             for word in ("status", "try-restart", "start", "status", "force-reload", "restart", "stop", "nonsense")]
    assert codes == [3, 0, 0, 0, 0, 0, 0, 2]
    shutil.rmtree(made.base)
