"""Real name servers on loopback ports in folders of their own: nsd, a validating unbound, and zones that ldns signs."""
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from tests.lib.wait import until

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # Debian keeps daemons where users do not look
ALGORITHM = "ECDSAP256SHA256"


def needs_servers(*programs: str) -> None:
    """Skip the test, with the reason, unless these programs are there."""
    missing = [name for name in programs if shutil.which(name, path=PATH) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def free_port(ip: str = "127.0.0.1") -> int:
    """A port that is free for UDP and TCP now."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((ip, 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            port: int = udp.getsockname()[1]
            return port
    raise OSError("no port")


class _Daemon:
    """A server in the foreground; its log is said when it ends too soon."""

    def __init__(self, folder: Path, ip: str = "127.0.0.1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ip = ip
        self.port = free_port(ip)
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Program and arguments."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with (self.folder / "said").open("wb") as said:
            self._process = subprocess.Popen(self.command(), stdout=said, stderr=said, start_new_session=True,
                                             env={**os.environ, "PATH": PATH})
        until(self._listens, 15, f"{self.command()[0]} listens")
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        said = [path.read_text() for path in (self.folder / "said", self.folder / "log") if path.exists()]
        assert self._process.poll() is None, said
        with socket.socket() as sock:
            return sock.connect_ex((self.ip, self.port)) == 0

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def __exit__(self, *unused: object) -> None:
        os.killpg(self.pid, signal.SIGTERM)
        assert self._process is not None
        self._process.wait(15)


class Nsd(_Daemon):
    """nsd with zones by name, each the text of its file; a zone without text is SERVFAIL, any other name REFUSED."""

    def __init__(self, folder: Path, zones: Mapping[str, str], ip: str = "127.0.0.1") -> None:
        super().__init__(folder, ip)
        entries = []
        for number, (name, text) in enumerate(zones.items()):
            if text:
                (folder / f"zone{number}").write_text(text)
            entries.append(f"zone:\n  name: {name}\n  zonefile: zone{number}\n")
        (folder / "nsd.conf").write_text(f"""server:
  ip-address: {ip}
  port: {self.port}
  username: ""
  zonesdir: "{folder}"
  pidfile: "{folder}/pid"
  logfile: "{folder}/log"
  database: ""
  xfrdfile: "{folder}/xfrd"
  xfrdir: "{folder}"
  zonelistfile: "{folder}/zones"
  server-count: 1
  rrl-ratelimit: 0
remote-control:
  control-enable: no
""" + "".join(entries))

    def command(self) -> list[str]:
        return ["nsd", "-d", "-c", str(self.folder / "nsd.conf")]


class Unbound(_Daemon):
    """A validating unbound: `stubs` says at which port a zone is served, `anchors` are DNSKEY or DS records."""

    def __init__(self, folder: Path, stubs: Mapping[str, int], anchors: list[str]) -> None:
        super().__init__(folder)
        trusted = "".join(f"  trust-anchor: \"{' '.join(anchor.split())}\"\n" for anchor in anchors)
        zones = "".join(f"stub-zone:\n  name: {name}\n  stub-addr: 127.0.0.1@{port}\n" for name, port in stubs.items())
        (folder / "unbound.conf").write_text(f"""server:
  interface: 127.0.0.1
  port: {self.port}
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: "{folder}/pid"
  logfile: "{folder}/log"
  use-syslog: no
  num-threads: 1
  module-config: "validator iterator"
  local-zone: "test." nodefault
  do-not-query-localhost: no
{trusted}remote-control:
  control-enable: no
{zones}""")

    def command(self) -> list[str]:
        return ["unbound", "-d", "-c", str(self.folder / "unbound.conf")]


def sign(folder: Path, zone: str, text: str, *dates: str) -> tuple[str, str]:
    """The zone signed with a new key, and that key as a trust anchor; `dates` are options of ldns-signzone."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, signed = folder / f"{zone}.plain", folder / f"{zone}.signed"
    plain.write_text(f"$ORIGIN {zone}.\n{text}")
    made = subprocess.run(["ldns-keygen", "-k", "-a", ALGORITHM, zone], cwd=folder, check=True, capture_output=True,
                          text=True, timeout=20)
    key = made.stdout.strip()
    subprocess.run(["ldns-signzone", *dates, "-o", zone, "-f", str(signed), str(plain), key], cwd=folder, check=True,
                   capture_output=True, timeout=20)
    return signed.read_text(), (folder / f"{key}.key").read_text().split(";")[0]
