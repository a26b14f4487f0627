"""A real SMAR process in a folder of its own, and a client that talks to its socket."""
import os
import pwd
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from meta1g.proto.msg_ar import VOCABULARY, MapsReopened
from meta1g.proto.rcb import PROTOCOL_VERSION, FrameReader, Hello
from meta1g.shim.mapfile import write_map
from tests.lib.instance import BIN

CONF = """
hostname = "host.my.dom";
SMAR_socket = "{folder}/smar_sock";
smar {{
  {extra}
  DNS {{ nameservers = {{ {nameservers} }}; port = {port}; timeout = {timeout}; retries = 1; {dns} }}
}}
"""


class Client:
    """SMTPS' or QMGR's side of the link."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(15)
        self.sock.connect(path)
        self._reader = FrameReader(VOCABULARY)
        self._tag = 0
        self.others: list[Any] = []
        self.waiting: dict[int, Any] = {}
        self.sock.sendall(VOCABULARY.frame(Hello(PROTOCOL_VERSION, os.getpid(), 0, "test")))

    def send(self, *messages: Any) -> list[int]:
        """Send questions in one write; their tags."""
        tags = []
        octets = b""
        for message in messages:
            self._tag += 1
            tags.append(self._tag)
            octets += VOCABULARY.frame(message, self._tag)
        self.sock.sendall(octets)
        return tags

    def receive(self) -> None:
        """Take what has come; answers go to `waiting`, the rest to `others`."""
        data = self.sock.recv(1 << 18)
        if not data:
            raise ConnectionError("SMAR closed the link")
        for message, tag in self._reader.feed(data):
            if tag:
                self.waiting[tag] = message
            else:
                self.others.append(message)

    def ask(self, message: Any) -> Any:
        """One question, its answer."""
        (tag,) = self.send(message)
        while tag not in self.waiting:
            self.receive()
        return self.waiting.pop(tag)

    def news(self, count: int) -> list[MapsReopened]:
        """Wait until SMAR has told so often about its maps, the first time when the link is up."""
        while len(found := [message for message in self.others if isinstance(message, MapsReopened)]) < count:
            self.receive()
        return found

    def close(self) -> None:
        self.sock.close()


class Smar:
    """The process; root runs it as nobody."""

    def __init__(self, folder: Path, port: int, *, mt: str = "", extra: str = "", dns: str = "",
                 timeout: int = 1, nameservers: str = "127.0.0.1") -> None:
        self.folder = folder
        self.path = str(folder / "smar_sock")
        self.log = folder / "smar.log"
        (folder / "mt").write_text(mt)
        text = CONF.format(folder=folder, port=port, extra=extra, dns=dns, timeout=timeout,
                           nameservers=nameservers)
        (folder / "meta1.conf").write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def map(self, name: str, entries: dict[str, str]) -> None:
        """Write a hash map beside the configuration."""
        write_map(str(self.folder / name), [(k.encode(), v.encode()) for k, v in entries.items()], mode=0o644)

    def start(self, *, wait: bool = True) -> "Smar":
        options: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            open_path(self.folder)
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [str(BIN / "python"), "-m", "meta1g.smar", "-f", str(self.folder / "meta1.conf")],
                stdout=log, stderr=log, cwd=self.folder, **options)
        if wait:
            self.wait_for("status=ready")
        return self

    def wait_for(self, text: str, timeout: float = 15) -> str:
        """Wait until the log holds `text`; the log."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            log = self.log.read_text()
            if text in log:
                return log
            assert self._process is not None
            if self._process.poll() is not None and text not in self.log.read_text():
                raise AssertionError(f"smar ended with {self._process.returncode}: {self.log.read_text()}")
            time.sleep(0.02)
        raise AssertionError(f"no {text!r} in the log: {self.log.read_text()}")

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def cpu_seconds(self) -> float:
        """Processor time used so far, system time included."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def limits(self, name: str) -> tuple[int, int]:
        """A resource limit of the process, soft and hard, by its name in /proc."""
        text = Path(f"/proc/{self.process.pid}/limits").read_text()
        soft, hard = text.split(name)[1].split()[:2]
        return int(soft), int(hard)

    def connect(self) -> Client:
        return Client(self.path)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def __enter__(self) -> "Smar":
        return self.start()

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def open_path(folder: Path) -> None:
    """Let others pass through the folders that pytest made for root."""
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and "pytest" in parent.name:
            parent.chmod(parent.stat().st_mode | 0o011)
