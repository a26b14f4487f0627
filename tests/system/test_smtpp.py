"""Mail out and in through smtpp, with real processes (M1 4.6)."""
import os
import re
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from meta1g.proto import smtpp
from tests.lib.instance import BIN, Instance, free_port, other_user
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = pytest.mark.system

HOST, CLIENT = "127.0.0.1", "127.0.0.30"
KEY = "a key, with % and blanks"
TO = "nobody@in.test"
_READY = "status=ready"


class Smtpp:
    """A real smtpp; stops at the end of a with statement."""

    def __init__(self, log: Path, *options: object) -> None:
        self._log = log
        begun = self.log.count(_READY) if log.exists() else 0
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(word) for word in (BIN / "meta1g", "smtpp", *options)], stdout=out, stderr=out, user=other_user())
        until(lambda: self.log.count(_READY) > begun or self.process.poll() is not None)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)

    def __enter__(self) -> "Smtpp":
        return self

    def __exit__(self, *unused: object) -> None:
        self.process.kill()
        self.process.wait(20)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def out(port: int) -> Iterator[Instance]:
    """Its mail leaves through smtpp at `port`."""
    made = Instance("out.test")
    made.edit("\nsmtpc {", f"\nsmtpc {{\n  proxy {{ type = inet; address = {HOST}; port = {port};"
                           f' proxy_key = "{KEY}"; }}')
    made.add("access", "to:@sink.test relay\n")
    with made:
        yield made


@pytest.fixture
def sink(out: Instance) -> Iterator[Sink]:
    sink = Sink()
    mt = out.base / "etc" / "mt"
    before = mt.read_text()
    out.add("mt", f"sink.test {{ port={sink.port}; ip={{{HOST}}} }}\n")
    out.ctl("reload")
    yield sink
    mt.write_text(before)
    with suppress(OSError):  # a test may have closed it
        sink.close()


def last_try(out: Instance) -> str:
    return str(out.queue())


def test_out(out: Instance, sink: Sink, port: int, tmp_path: Path) -> None:
    with Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", KEY) as proxy:
        text = "Subject: large\n\n" + ("x" * 70 + "\n") * 20_000
        for number in range(5):
            out.send(f"r{number}@sink.test", text)
        out.send(TO.replace("in", "out"))  # the local mailer is not reached through the proxy
        until(out.is_empty, 60)
        assert len(sink.messages) == 5
        assert all(message.count(b"x" * 70) == 20_000 for message in sink.messages)
        assert f"to={HOST}:{sink.port}, status=connected" in proxy.log
        assert "through=proxy" in out.log("smtpc")
        proxy.process.send_signal(signal.SIGUSR1)
        until(lambda: '"program": "smtpp"' in proxy.log)
        assert KEY not in proxy.log + out.log("smtpc")
        assert proxy.stop() == 0


def test_another_key(out: Instance, sink: Sink, port: int, tmp_path: Path) -> None:
    with Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", "other") as proxy:
        out.send("r@sink.test")
        until(lambda: "the keys differ" in last_try(out), 30)
        assert sink.messages == []
        assert "status=request refused, reason=the keys differ" in proxy.log
        assert "reason=proxy says request refused: the keys differ" in out.log("smtpc")
    with Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", KEY):
        out.flush()
        until(out.is_empty, 60)
        assert len(sink.messages) == 1


def test_server_that_refuses_connections(out: Instance, sink: Sink, port: int, tmp_path: Path) -> None:
    sink.close()
    with Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", KEY):
        out.send("r@sink.test")
        until(lambda: "proxy says Connection refused" in last_try(out), 30)
        assert "4.4.1" in last_try(out)
        again = Sink(sink.port)
        out.flush()
        until(out.is_empty, 60)
        again.close()


def test_proxy_dies_and_comes_back(out: Instance, sink: Sink, port: int, tmp_path: Path) -> None:
    with Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", KEY) as proxy:
        sink.mischief = lambda where: "drop" if where == "dot" and kill(proxy) else ""
        out.send("r@sink.test")
        until(lambda: "connection closed by server" in last_try(out), 30)
    sink.mischief = lambda where: ""
    out.flush()
    until(lambda: "proxy: Connection refused" in last_try(out), 30)
    assert "status=rests" not in out.log("qmgr"), "the hosts behind it are not to blame"
    with Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", KEY):
        out.flush()
        until(out.is_empty, 60)
        assert len(sink.messages) == 1


def kill(proxy: Smtpp) -> bool:
    proxy.process.kill()
    return True


def test_strangers_get_nothing(port: int, tmp_path: Path) -> None:
    """No key, no connection; nor does one stay for who says nothing, or too much."""
    sink = Sink()
    wanted = smtpp.Wanted(HOST, sink.port)
    with Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", KEY) as proxy:
        for line in (b"EHLO x\r\n", smtpp.request(wanted, b"guess"), b"CONNECT 127.0.0.1:25 HTTP/1.1\r\n", b""):
            assert talk(port, line).startswith(b"SMTPP1 FAILED request refused: ")
        talk(port, b"x" * 4000)
        assert proxy.log.count("status=request refused") == 5
        assert "status=connected" not in proxy.log
        answer = talk(port, smtpp.request(wanted, KEY.encode()) + b"QUIT\r\n")
        assert answer.startswith(b"SMTPP1 OK\r\n220 ")
    sink.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Instance]:
    """It takes clients from a smtpp on this host, over its ordinary socket and over one of their own."""
    made = Instance("in.test", user=other_user())
    made.edit("flags = { 8bitmime", f"log_level = 12; XCLIENT_peers = {{ {HOST} }};\n"
                                    f' proxy {{ type = inet; address = {HOST}; client_key = "{KEY}"; }}\n'
                                    "flags = { 8bitmime")
    made.edit("connections_max = 10000", "connections_max = 2")
    with made:
        yield made


def deliver(server: Instance, port: int, source: str) -> bytes:
    """Send a message from an address; what arrived."""
    before = set(server.mail("nobody"))
    with smtplib.SMTP(HOST, port, timeout=20, source_address=(source, 0)) as smtp:
        smtp.sendmail("a@mail.test", TO, "Subject: in\n\n" + ("x" * 70 + "\n") * 5_000)
    (new,) = until(lambda: set(server.mail("nobody")) - before)
    return new.read_bytes()


def test_in(server: Instance, tmp_path: Path) -> None:
    port = free_port()
    key = server.base / "key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o644)
    options = ("-i", f"{HOST}:{port}", "-s", f"{HOST}:{server.port}", "-K", key)
    with Smtpp(tmp_path / "log", *options) as proxy:
        assert f"[{CLIENT}]".encode() in deliver(server, port, CLIENT)
        assert f"client_ip={CLIENT}" in server.log("smtps")
        with smtplib.SMTP(HOST, port, timeout=20, source_address=(CLIENT, 0)) as smtp:
            assert b"XCLIENT" not in smtp.ehlo()[1], "the proxy may be trusted, its clients are not"
        assert f"client={CLIENT}, to=smtps, status=connected" in proxy.log
        assert proxy.stop() == 0
    assert b"[127.0.0.41]" in deliver(server, server.port, "127.0.0.41"), "others need no proxy"


def test_limits_are_those_of_the_client(server: Instance, tmp_path: Path) -> None:
    port = free_port()
    options = ("-i", f"{HOST}:{port}", "-s", f"{HOST}:{server.port}", "-k", KEY)
    with Smtpp(tmp_path / "log", *options), ExitStack() as stack:
        def greeting(source: str) -> bytes:
            sock = stack.enter_context(socket.create_connection((HOST, port), 20, (source, 0)))
            return sock.recv(512)[:4]

        assert [greeting(CLIENT) for _ in range(2)] == [b"220 ", b"220 "]
        assert greeting(CLIENT)[:1] == b"4"
        assert greeting("127.0.0.42") == b"220 "


@pytest.mark.parametrize(("first", "reason"), [
    (smtpp.introduction(smtpp.Client("192.0.2.1", 25), b"guess"), "the keys differ"),
    (b"EHLO x\r\n", "no CLIENT line of smtpp"), (b"x" * 600, "first line is too long"),
    (smtpp.introduction(smtpp.Client("::1%lo", 25), KEY.encode()), "bad address")])
def test_proxy_without_the_key_is_refused(server: Instance, first: bytes, reason: str) -> None:
    before = server.log("smtps").count(reason)
    assert talk(server.port, first) == b""
    until(lambda: server.log("smtps").count(reason) > before)
    assert "client_ip=127.0.0.1, status=proxy refused" in server.log("smtps")


def test_in_over_a_socket_of_their_own(tmp_path: Path) -> None:
    server = Instance("in.test", user=other_user())
    path = server.base / "spool" / "smtps" / "proxy"
    server.edit("flags = { 8bitmime", "processes = 2; proxy { type = unix; path = smtps/proxy; client_key = k; }"
                                      "\n  flags = { 8bitmime")
    port = free_port()
    with server, Smtpp(tmp_path / "log", "-i", f"{HOST}:{port}", "-s", path, "-k", "k") as proxy:
        assert f"[{CLIENT}]".encode() in deliver(server, port, CLIENT)
        assert b"[127.0.0.1]" in deliver(server, server.port, HOST)
        server.conf.write_text(server.conf.read_text().replace("client_key = k;", "client_key = l;"))
        server.ctl("reload")
        until(lambda: talk(port, b"QUIT\r\n", CLIENT) == b"", what="the new key counts")
        assert "the keys differ" in server.log("smtps")
        server.conf.write_text(server.conf.read_text().replace("client_key = l;", "client_key = k;"))
        server.stop()
        assert talk(port, b"", CLIENT).startswith(b"421 4.3.0 ")
        until(lambda: "to=smtps, status=not connected" in proxy.log)
        server.start()
        assert f"[{CLIENT}]".encode() in deliver(server, port, CLIENT)


def test_started_by_mcp() -> None:
    """MCP binds the public port, and smtpp runs as somebody else."""
    server, port = Instance("in.test", user=other_user()), free_port()
    server.edit("flags = { 8bitmime", "proxy { type = unix; path = smtps/proxy; client_key = k; }\n"
                                      "  flags = { 8bitmime")
    user = f"user = {other_user()};" if other_user() else ""
    server.edit("\nsmtpc {", f"""
smtpp {{
  listen_socket {{ type = inet; address = {HOST}; port = {port}; }}
  start_action = accept; {user}
  path = "{BIN}/meta1g"; arguments = "meta1g smtpp -i - -s smtps/proxy -k k -v 9";
}}

smtpc {{""")
    with server:
        assert f"[{CLIENT}]".encode() in deliver(server, port, CLIENT)
        until(lambda: f"client={CLIENT}, to=smtps, status=end" in server.log("smtpp"))


def test_half_closed_and_full(tmp_path: Path) -> None:
    """A way that has ended does not end the other; one connection more than allowed is told so."""
    port = free_port()
    with socket.create_server((HOST, 0)) as there, \
            Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", KEY, "-n", 1) as proxy:
        there.settimeout(20)
        with socket.create_connection((HOST, port), 20) as near:
            wanted = smtpp.Wanted(HOST, there.getsockname()[1], CLIENT)
            near.sendall(smtpp.request(wanted, KEY.encode()) + b"question")
            near.shutdown(socket.SHUT_WR)
            far, (source, _) = there.accept()
            assert source == CLIENT
            far.settimeout(20)
            assert far.makefile("rb").read() == b"question"
            assert talk(port, b"").startswith(b"SMTPP1 FAILED too many connections")
            far.sendall(bytes(1 << 20))
            far.close()
            assert near.makefile("rb").read() == b"SMTPP1 OK\r\n" + bytes(1 << 20)
        until(lambda: "status=end, forth=8, back=1048576, reason=closed" in proxy.log)


def test_idle_connections_end(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server((HOST, 0)) as there, \
            Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", KEY, "-t", 1) as proxy:
        wanted = smtpp.Wanted(HOST, there.getsockname()[1], "192.0.2.99")
        assert talk(port, smtpp.request(wanted, KEY.encode())) == b"SMTPP1 OK\r\n"
        until(lambda: "reason=timeout" in proxy.log)
        assert "source=192.0.2.99, status=not bound" in proxy.log, "which is no reason not to connect"


@pytest.mark.parametrize(("options", "lines"), [
    ((), r"[0-9-]+ [0-9:.]+ func=smtpp"), (("-v", "8"), ""),
    (("-L", "mail:out:pid,perror"), r"out\[[0-9]+\]: func=smtpp")])
def test_where_and_how_much_is_logged(options: tuple[str, ...], lines: str, tmp_path: Path) -> None:
    port = free_port()
    with Smtpp(tmp_path / "log", "-l", f"{HOST}:{port}", "-k", KEY, *options) as proxy:
        wanted = smtpp.Wanted(HOST, port, "")
        assert talk(port, smtpp.request(wanted, KEY.encode()) + b"QUIT\r\n").startswith(b"SMTPP1 OK\r\nSMTPP1 FAILED")
        assert proxy.stop() == 0
        assert "status=ready" in proxy.log
        found = re.findall(rf"(?m)^{lines}, client=.*, status=connected$", proxy.log)
        assert len(found) == (1 if lines else 0)


@pytest.mark.parametrize(("options", "code"), [((), os.EX_USAGE), (("--help",), 0), (("-V",), 0),
                                               (("-l", ":1", "-K", "/nonexistent"), os.EX_CONFIG)])
def test_ends_at_once(options: tuple[str, ...], code: int, tmp_path: Path) -> None:
    with Smtpp(tmp_path / "log", *options) as proxy:
        assert proxy.process.wait(20) == code
        assert "smtpp" in proxy.log


def talk(port: int, octets: bytes, source: str = HOST) -> bytes:
    """All that comes back."""
    with socket.create_connection((HOST, port), 30, (source, 0)) as sock:
        sock.sendall(octets)
        found = b""
        try:
            while piece := sock.recv(4096):
                found += piece
        except ConnectionResetError:
            pass
        return found
