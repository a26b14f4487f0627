"""An installation on port 25 in a network namespace of its own: who owns what, who may do what, what stays at last."""
import grp
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lib.instance import run
from tests.lib.wait import until

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, and unshare of util-linux")]
USERS = ("meta1s", "meta1q", "meta1c", "meta1m", "meta1", "nobody")
OWNED = [  # M1 2.4.1
    *((f"spool/{name}", "meta1s", "meta1q", 0o771) for name in "0123456789ABCDEF"),
    ("spool/defedb", "meta1q", "meta1q", 0o700), ("spool/ibdb", "meta1q", "meta1q", 0o700),
    ("spool/ibdb/ibdb", "meta1q", "meta1q", 0o700), ("etc/mt", "meta1m", "meta1m", 0o644),
    ("etc/aliases.db", "meta1m", "meta1m", 0o644), ("etc/meta1.conf", "meta1", "meta1", 0o644),
    ("spool/qmsmar", "meta1q", "meta1m", 0o2770), ("spool/qmsmtpc", "meta1q", "meta1c", 0o2770),
    ("spool/qmsmtps", "meta1q", "meta1s", 0o2770), ("spool/smtps", "meta1s", "meta1s", 0o750),
    *((f"log/{name}.log", owner, "operator", 0o640) for name, owner in (
        ("qmgr", "meta1q"), ("smar", "meta1m"), ("smtpc", "meta1c"), ("smtps", "meta1s"))),
]
MATRIX = [  # what, who may read it, who may write it; of folders who may list and who may make files in it
    ("content", "meta1s meta1c", "meta1s"), ("spool/0", "meta1s meta1q", "meta1s meta1q"),
    ("spool/journal", "meta1s meta1q", "meta1s meta1q"), ("spool/defedb", "meta1q", "meta1q"),
    ("spool/ibdb/ibdb", "meta1q", "meta1q"), ("spool/greylist", "meta1m", "meta1m"),
    ("spool/qmsmtps", "meta1q meta1s", "meta1q meta1s"),
    ("spool/qmsmtpc", "meta1q meta1c meta1s", "meta1q meta1c meta1s"),
    ("spool/qmsmar", "meta1q meta1m meta1s", "meta1q meta1m meta1s"), ("spool/smtps", "meta1s", "meta1s"),
    ("spool/maildir", "meta1", "meta1"), ("etc/key.pem", "meta1s meta1c", "meta1s"),
    ("etc/meta1.conf", " ".join(USERS), "meta1"), ("etc/mt", " ".join(USERS), "meta1m"),
    ("log/smtps.log", "meta1s", "meta1s"), ("log/qmgr.log", "meta1q", "meta1q"),
]
LOOPBACK = """\
import fcntl, socket, struct, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
print("up", flush=True)
time.sleep(600)
"""
TRY = """\
import os, sys, tempfile
mode, path = sys.argv[1:]
if not os.path.isdir(path):
    open(path, "rb" if mode == "read" else "ab").close()
elif mode == "read":
    os.listdir(path)
else:
    tempfile.TemporaryFile(dir=path)
"""


class Site:
    """The installation; `ctl` and others run in its namespace."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="meta1g-install."))
        self.base.chmod(0o755)
        self.conf = self.base / "etc" / "meta1.conf"
        self.holder = subprocess.Popen(["unshare", "-n", sys.executable, "-c", LOOPBACK], stdout=subprocess.PIPE)
        assert self.holder.stdout is not None and self.holder.stdout.readline() == b"up\n"
        self.install("install", "--conf-dir", self.base / "etc", "--queue-dir", self.base / "spool", "--log-dir",
                     self.base / "log", "--man", "man", "--sendmail")
        with (self.base / "etc" / "mt").open("a") as mt:
            mt.write("down.test { port=9; ip={127.0.0.1} }\n")

    def install(self, what: str, *options: object) -> str:
        return run(sys.executable, "-m", "meta1g.cli.install", what, "--prefix", self.base / "usr", *options).stdout

    def inside(self, *command: object, check: bool = True, **options: Any) -> "subprocess.CompletedProcess[str]":
        """A program in the namespace."""
        return run("nsenter", "-t", self.holder.pid, "-n", *command, check=check, **options)

    def ctl(self, *words: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.inside(self.base / "usr/bin/meta1g-ctl", *words, check=check)

    def submit(self, *rcpts: str) -> None:
        self.inside(self.base / "usr/sbin/sendmail", "-f", "root@localhost", *rcpts, input="Subject: x\n\nbody\n")

    def pids(self) -> dict[str, int]:
        found = json.loads(self.ctl("status", "--json").stdout)
        return {process["name"]: process["pid"] for process in found["processes"]}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site()
    try:
        made.ctl("start")
        made.submit("postmaster@localhost", "x@down.test")
        until(lambda: list(made.base.glob("spool/[0-9A-F]/S*")), 30, "it is delivered, and deferred")
        yield made
    finally:
        made.ctl("stop", check=False)
        made.holder.kill()
        made.holder.wait()
        shutil.rmtree(made.base)


@pytest.mark.parametrize(("path", "owner", "group", "mode"), OWNED)
def test_owners_and_modes(site: Site, path: str, owner: str, group: str, mode: int) -> None:
    state = (site.base / path).stat()
    assert (pwd.getpwuid(state.st_uid).pw_name, grp.getgrgid(state.st_gid).gr_name, stat.S_IMODE(state.st_mode)) == (
        owner, group, mode)


def test_checks(site: Site) -> None:
    """What is as it should be, and what is not, with the command that mends it (sm.check.sh -p, -P)."""
    assert site.ctl("check", "-p", "-P").stdout == ""
    log = site.base / "log" / "qmgr.log"
    log.chmod(0o666)
    done = run(site.base / "usr/sbin/sm.check.sh", "-P", check=False)
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, f"{log}: mode is 666 instead of 644; chmod 644 {log}\n")
    run("sh", "-c", done.stdout.rpartition("; ")[2])
    log.chmod(0o640)
    assert site.ctl("check", "-P").stdout == ""


def test_nobody_but_mcp_is_root(site: Site) -> None:
    """The others have neither root's id in any place, nor a capability, nor a way to get one by running something."""
    pids = site.pids()
    users = {"smar": "meta1m", "qmgr": "meta1q", "lda": "meta1", "smtpc": "meta1c", "smtps": "meta1s"}
    for name, user in users.items():
        text = Path(f"/proc/{pids.pop(name)}/status").read_text()
        facts = {line.partition(":")[0]: line.partition(":")[2].split() for line in text.splitlines()}
        account = pwd.getpwnam(user)
        assert facts["Uid"] == [str(account.pw_uid)] * 4 and facts["Gid"] == [str(account.pw_gid)] * 4
        assert set(facts["Groups"]) == {str(account.pw_gid), *(
            str(entry.gr_gid) for entry in grp.getgrall() if user in entry.gr_mem)}
        assert [facts[cap] for cap in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [["0" * 16]] * 4
        assert facts["NoNewPrivs"] == ["1"]
    assert set(pids) == {"mcp"}


@pytest.mark.parametrize(("what", "readers", "writers"), MATRIX)
def test_who_may_do_what(site: Site, what: str, readers: str, writers: str) -> None:
    """Tried as each user, and as one who is none of them."""
    path = next(iter(site.base.glob("spool/[0-9A-F]/S*"))) if what == "content" else site.base / what
    able = {mode: [user for user in USERS if _can(user, path, mode)] for mode in ("read", "write")}
    assert {mode: sorted(users) for mode, users in able.items()} == {
        "read": sorted(readers.split()), "write": sorted(writers.split())}


def _can(user: str, path: Path, mode: str) -> bool:
    """Whether a process of this user, with its groups, gets to it."""
    account = pwd.getpwnam(user)
    done = subprocess.run(
        ["/usr/bin/python3", "-c", TRY, mode, str(path)], user=account.pw_uid, group=account.pw_gid, check=False,
        extra_groups=[entry.gr_gid for entry in grp.getgrall() if user in entry.gr_mem], cwd="/", capture_output=True)
    return done.returncode == 0


def test_scripts_of_meta1(site: Site) -> None:
    """runas meta1q mailq, the wrappers, and the envelopes in the logs."""
    usr = site.base / "usr"
    for command in ([usr / "bin/runas", "meta1q", usr / "bin/mailq"], [usr / "bin/mailq.sh"]):
        assert "<x@down.test>" in run(*command).stdout
    assert '"deferred": 1' in run(usr / "bin/qmgrctl.sh", "--json").stdout
    assert "rcpt=<x@down.test>" in run(usr / "bin/rcvrenvfromlog.sh").stdout
    for daemon in ("smtps", "qmgr", "smtpc", "smar"):
        assert run(usr / "libexec" / daemon, check=False).returncode == os.EX_NOPERM, "must not run as root"


def test_rotation(site: Site) -> None:
    """M1 4.9.1: a copy, and USR2, after which the file begins anew with the same owner."""
    log = site.base / "log" / "smtps.log"
    assert log.stat().st_size
    os.kill(site.pids()["smtps"], signal.SIGUSR2)
    until(lambda: log.stat().st_size == 0, 10)
    site.submit("postmaster@localhost")
    until(lambda: "postmaster@localhost" in log.read_text(), 10)
    assert pwd.getpwuid(log.stat().st_uid).pw_name == "meta1s"


def test_port_25_and_reload(site: Site) -> None:
    """The port is MCP's; a reload lets another SMTPS have it."""
    before = site.pids()["smtps"]
    site.conf.write_text(site.conf.read_text().replace("smtps {\n", "smtps {\n  greeting = \"changed\";\n"))
    site.ctl("reload")
    assert site.pids()["smtps"] != before
    code = "import smtplib; print(smtplib.SMTP('127.0.0.1', 25).ehlo()[0])"
    assert site.inside("/usr/bin/python3", "-c", code).stdout == "250\n"
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", 25)), "only there"


def test_another_installation_keeps_what_is_there(site: Site) -> None:
    """Configuration and programs of others stay; what was installed goes, and nothing else."""
    text = site.conf.read_text()
    (site.base / "usr/bin/newaliases").write_text("#!/bin/sh\n# somebody else's\n")
    said = site.install("install", "--conf-dir", site.base / "etc", "--queue-dir", site.base / "spool", "--log-dir",
                        site.base / "log", "--sendmail")
    assert "configuration kept in" in said and site.conf.read_text() == text
    site.ctl("stop")
    site.install("uninstall")
    left = [path for path in (site.base / "usr").rglob("*") if not path.is_dir()]
    assert left == [] and site.conf.exists() and list(site.base.glob("spool/[0-9A-F]/S*"))
