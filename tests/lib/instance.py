"""A whole instance of meta1g for a test: five real processes in a folder of their own."""
import contextlib
import json
import os
import pwd
import random
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.lib.wait import until

PROGRAMS = ("mcp", "smtps", "qmgr", "smar", "smtpc", "lda")
BIN = Path(os.path.realpath(os.path.dirname(sys.executable)))


_PORTS = (10_000, 32_768)  # below net.ipv4.ip_local_port_range


def free_port() -> int:
    """A port that nobody listens on now, and that the kernel gives to no outgoing connection meanwhile."""
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def run(*command: object, check: bool = True, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program of ours or another; its output as text."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120, check=False, **options)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


class Instance:
    """An instance made by meta1g-ctl init; use it as a context manager to start and stop it."""

    def __init__(self, hostname: str = "mail.test", extra: str = "", user: str | None = None,
                 where: Path | None = None, *, has_tls: bool = False) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="meta1g-test.", dir=where))
        self.base.chmod(0o755)
        self.hostname = hostname
        self.port = free_port()
        options = ["--user", user] if user else []
        if not has_tls:
            options.append("--no-tls")
        run(BIN / "meta1g-ctl", "init", self.base, "--port", self.port, "--hostname", hostname, *options)
        self.conf = self.base / "etc" / "meta1.conf"
        self.edit("restart_dependencies = { smtps, smtpc, smar }",
                  f"restart_dependencies = {{ smtps, smtpc, smar }}\n  {extra}" if extra else
                  "restart_dependencies = { smtps, smtpc, smar }")

    def edit(self, old: str, new: str) -> None:
        """Replace a piece of the configuration, which must be there."""
        text = self.conf.read_text()
        assert old in text, old
        self.conf.write_text(text.replace(old, new, 1))

    def add(self, name: str, text: str) -> None:
        """Add lines to a map's text and make the map."""
        path = self.base / "etc" / name
        path.write_text(path.read_text() + text)
        if name != "mt":
            run(BIN / "meta1g", "createmap", "-F", f"{path}.db", input=path.read_text())

    def ctl(self, *arguments: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """meta1g-ctl on this instance."""
        return run(BIN / "meta1g-ctl", "-f", self.conf, *arguments, check=check)

    def status(self) -> dict[str, Any]:
        """meta1g-ctl status --json."""
        found: dict[str, Any] = json.loads(self.ctl("status", "--json", check=False).stdout)
        return found

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {process["name"]: process["pid"] for process in self.status()["processes"]}

    def queue(self) -> list[dict[str, Any]]:
        """mailq --json."""
        found: list[dict[str, Any]] = json.loads(run(BIN / "meta1g", "mailq", "-f", self.conf, "--json").stdout)
        return found

    def is_empty(self) -> bool:
        """Whether QMGR holds no mail at all."""
        queues = self.status().get("queue", {}).get("queues")
        return queues is not None and queues["iqdb"] + queues["aq"] + queues["deferred"] == 0

    def wait_idle(self) -> None:
        """No session with a server is left that could be used again."""
        until(lambda: self.status()["queue"]["connections"]["smtpc"] == 0, 30, "sessions have ended")

    def flush(self) -> None:
        """Try all deferred mail now."""
        run(BIN / "meta1g", "qmgrctl", "-f", self.conf, "--flush")

    def mail(self, user: str) -> list[Path]:
        """Delivered messages of a local user."""
        folder = self.base / "maildir" / user / "new"
        return sorted(folder.iterdir()) if folder.exists() else []

    def send(self, to: str | list[str], text: str = "Subject: test\n\nbody\n", sender: str = "a@mail.test") -> None:
        """Submit a message by smtplib."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as smtp:
            smtp.sendmail(sender, to, text)

    def log(self, name: str) -> str:
        """A process's log."""
        path = self.base / "log" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def spool_files(self) -> list[str]:
        """Content files that are there, by name."""
        spool = self.base / "spool"
        return sorted(path.name for folder in "0123456789ABCDEF" for path in (spool / folder).iterdir())

    def kill(self, name: str) -> int:
        """kill -9 a process; waits until MCP has started and readied another. Its old pid."""
        pid = until(lambda: self.pids().get(name, 0), 60, f"{name} runs")
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.is_ready() and self.pids()[name] not in (0, pid), 60, f"{name} is back")
        return pid

    def running(self) -> dict[int, str]:
        """What runs with this configuration, program by process id; found without the instance's files."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            except OSError:
                continue
            if bytes(self.conf) in words:
                found[int(entry.name)] = next((name for name in PROGRAMS if name.encode() in words), "")
        return found

    def kill_all(self) -> None:
        """kill -9 MCP and all the others."""
        for pid in self.running():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        until(lambda: not self.running(), 20, "all are gone")

    def is_ready(self) -> bool:
        """Whether status says that all processes are ready."""
        return self.ctl("status", check=False).returncode == 0

    def start(self) -> None:
        """meta1g-ctl start."""
        self.ctl("start")

    def stop(self) -> None:
        """meta1g-ctl stop."""
        self.ctl("stop")

    def __enter__(self) -> "Instance":
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()
        shutil.rmtree(self.base, ignore_errors=True)


def other_user() -> str | None:
    """An account to run daemons as when the tests run as root."""
    if os.geteuid() != 0:
        return None
    return pwd.getpwnam("nobody").pw_name


def give(path: Path) -> None:
    """A file goes to the user that the processes have."""
    user = other_user()
    if user is not None:
        shutil.chown(path, user)


def secret_map(path: Path, text: str) -> None:
    """Make a map of secrets, which only the daemons can read."""
    before = os.umask(0o077)
    try:
        run(BIN / "meta1g", "createmap", "-F", path, input=text)
    finally:
        os.umask(before)
    give(path)


def more_smtps(base: str, name: str, number: int, port: int, settings: str) -> str:
    """One more SMTP server: `base` is the section smtps that meta1g-ctl init made, `settings` are its own."""
    text = base.replace("smtps {", f"smtps {name} {{ id = {number};", 1).replace("smtpsfd", f"{name}fd")
    text = re.sub(r"port = \d+", f"port = {port}", text).replace('"meta1g smtps ', f'"meta1g smtps -N {name} ')
    return text.replace("  CDB_gid", f"  {settings}\n  CDB_gid", 1)
