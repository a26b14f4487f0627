"""SMAR against a real nameserver: nsd on a loopback port."""
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meta1g.proto.msg_ar import CheckConnect, CheckMail, Resolve
from tests.lib.smarproc import Smar

pytestmark = [pytest.mark.system, pytest.mark.peer]
NSD = shutil.which("nsd") or shutil.which("nsd", path="/usr/sbin")

ZONE = """$TTL 120
@ SOA ns hostmaster 1 3600 600 86400 30
@ NS ns
@ MX 20 mx2
@ MX 10 mx1
ns A 127.0.0.1
mx1 A 192.0.2.1
mx1 AAAA 2001:db8::1
mx2 A 192.0.2.2
alias CNAME chain
chain CNAME @
only A 192.0.2.3
null MX 0 .
ip MX 10 192.0.2.7.
loop MX 10 host.my.dom.
dead MX 10 nowhere
l1 CNAME l2
l2 CNAME l1
*.wild MX 10 mx1
"""
REVERSE = """$TTL 120
@ SOA ns.nsd.test. hostmaster.nsd.test. 1 3600 600 86400 30
@ NS ns.nsd.test.
1 PTR mx1.nsd.test.
2 PTR only.nsd.test.
"""


def free_port() -> int:
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            port: int = udp.getsockname()[1]
            return port
    raise OSError("no port")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if NSD is None:
        pytest.skip("nsd is not installed")
    folder: Path = tmp_path_factory.mktemp("nsd")
    number = free_port()
    many = "\n".join(f"many MX {n} m{n}" for n in range(200))
    addresses = "\n".join(f"m{n} A 192.0.2.{n}" for n in range(200))
    (folder / "zone").write_text(f"{ZONE}\n{many}\n{addresses}\n")
    (folder / "reverse").write_text(REVERSE)
    (folder / "nsd.conf").write_text(f"""server:
  ip-address: 127.0.0.1
  port: {number}
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
zone:
  name: nsd.test
  zonefile: zone
zone:
  name: 2.0.192.in-addr.arpa
  zonefile: reverse
""")
    process = subprocess.Popen([NSD, "-d", "-c", str(folder / "nsd.conf")], stderr=subprocess.DEVNULL,
                               start_new_session=True)
    try:
        wait_for(number, process, folder)
        yield number
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


def wait_for(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"nsd ended: {(folder / 'log').read_text()}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nsd does not listen")


@pytest.fixture
def smar(tmp_path: Path, port: int) -> Iterator[Smar]:
    made = Smar(tmp_path, port, mt="via.test nsd.test\n")
    made.map("access.db", {"mxbadip:192.0.2.2": "error:551 5.7.1 Bad IP address in MX/A list"})
    with made:
        yield made


CASES = [
    (b"nsd.test", 0, {"192.0.2.1", "2001:db8::1", "192.0.2.2"}),
    (b"alias.nsd.test", 0, {"192.0.2.1", "2001:db8::1", "192.0.2.2"}),
    (b"via.test", 0, {"192.0.2.1", "2001:db8::1", "192.0.2.2"}),
    (b"only.nsd.test", 0, {"192.0.2.3"}),
    (b"x.wild.nsd.test", 0, {"192.0.2.1", "2001:db8::1"}),
    (b"none.nsd.test", 550, set()),
    (b"null.nsd.test", 556, set()),
    (b"ip.nsd.test", 550, set()),
    (b"loop.nsd.test", 554, set()),
    (b"dead.nsd.test", 550, set()),
    (b"l1.nsd.test", 451, set()),
    (b"other.test", 451, set()),  # nsd refuses what is not its own
]


def test_routes(smar: Smar) -> None:
    client = smar.connect()
    for domain, code, ips in CASES:
        (target,) = client.ask(Resolve(20, True, b"u@" + domain)).targets
        assert (domain, target.code, {hop.ip for hop in target.hops}) == (domain, code, ips)
        if not code:
            assert 0 < target.ttl <= 120


def test_order_of_preference(smar: Smar) -> None:
    (target,) = smar.connect().ask(Resolve(20, True, b"u@nsd.test")).targets
    assert [hop.name for hop in target.hops] == ["mx1.nsd.test", "mx1.nsd.test", "mx2.nsd.test"]


def test_truncated_answer(smar: Smar) -> None:
    (target,) = smar.connect().ask(Resolve(20, True, b"u@many.nsd.test")).targets
    assert [hop.name for hop in target.hops] == [f"m{n}.nsd.test" for n in range(64)]  # mx.MX_MAX


def test_checks(smar: Smar) -> None:
    client = smar.connect()
    found = client.ask(CheckConnect(1, "192.0.2.1"))
    assert (found.resolve, found.client_name) == ("ok", "mx1.nsd.test")
    assert client.ask(CheckConnect(1, "192.0.2.2")).resolve == "no"
    assert client.ask(CheckConnect(1, "192.0.2.9")).resolve == "no"
    assert client.ask(CheckConnect(1, "198.51.100.1")).resolve == "tempptr"
    for domain, code in ((b"only.nsd.test", 0), (b"nsd.test", 551), (b"none.nsd.test", 553), (b"other.test", 451),
                         (b"ip.nsd.test", 553), (b"null.nsd.test", 550)):
        assert (domain, client.ask(CheckMail(True, False, "", b"u@" + domain)).code) == (domain, code)


def test_many_at_once(smar: Smar) -> None:
    client = smar.connect()
    begin, cpu = time.monotonic(), smar.cpu_seconds()
    tags = client.send(*[Resolve(30, True, b"u@h%d.wild.nsd.test" % n) for n in range(3000)])
    while not all(tag in client.waiting for tag in tags):
        client.receive()
    taken, cpu = time.monotonic() - begin, smar.cpu_seconds() - cpu
    print(f"\nuncached: {3000 / taken:.0f} a second, {cpu / 3000 * 1e6:.0f} microseconds of processor time each")
    assert {client.waiting[tag].targets[0].code for tag in tags} == {0}
