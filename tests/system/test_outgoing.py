"""The way out over real sockets: limits of a server, local addresses, session features."""
import email
import smtplib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.lib.instance import BIN, Instance, run
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = pytest.mark.system

HOST = "127.0.0.1"


class Watch:
    """Counts connections on their way to a sink, and where they come from."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.open = self.most = self.total = 0
        self.sources: set[str] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            sock, (ip, _) = self._listener.accept()
            with self._lock:
                self.open += 1
                self.total += 1
                self.most = max(self.most, self.open)
                self.sources.add(ip)
            threading.Thread(target=self._pass_on, args=(sock,), daemon=True).start()

    def _pass_on(self, sock: socket.socket) -> None:
        with sock, socket.create_connection((HOST, self.sink.port)) as there:
            back = threading.Thread(target=_copy, args=(there, sock), daemon=True)
            back.start()
            _copy(sock, there)
        with self._lock:
            self.open -= 1


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Instance]:
    made = Instance("out.test")
    made.edit("qmgr {", """qmgr {
  smtpc {
    connection_limits low { initial_connections = 1; connections_max = 2; }
    source second { ips = { 127.0.0.2, 127.0.0.3 } }
    source gone { ips = { 192.0.2.99 } }
  }""")
    made.edit("\nsmtpc {", "\nsmtpc {\n  session_features timed { flags = { timing } }")
    made.add("access", "to:@sink.test relay\n")
    with made:
        yield made


@pytest.fixture
def watch(server: Instance) -> Iterator[Watch]:
    sink = Sink()
    watch = Watch(sink)
    sink.mischief = lambda where: "slow" if where == "dot" else ""
    mt = server.base / "etc" / "mt"
    before = mt.read_text()
    server.add("mt", f"sink.test {{ port={watch.port}; ip={{{HOST}}} }}\n")
    _configure(server, "")
    yield watch
    mt.write_text(before)
    sink.close()


def _configure(server: Instance, text: str) -> None:
    run(BIN / "meta1g", "createmap", "-F", server.base / "etc" / "qmgr_conf.db", input=text)
    server.ctl("reload")


def _send(server: Instance, count: int, sender: str = "a@mail.test") -> None:
    for number in range(count):
        server.send(f"r{number}@sink.test", sender=sender)
    until(server.is_empty, 60)


@pytest.mark.parametrize("entries", [
    "oci:127. 1\nocm:127. 2\n", "smtpc_conf_rcpt_domain:sink.test connection_limits = low;\n",
    "oci: 1\nocm: 2\n"])
def test_connections_to_a_server_are_limited(server: Instance, watch: Watch, entries: str) -> None:
    _configure(server, entries)
    _send(server, 20)
    assert watch.most == 2


def test_without_limits_there_are_more(server: Instance, watch: Watch) -> None:
    _send(server, 20)
    assert watch.most > 2


def test_connections_a_minute_are_limited(server: Instance, watch: Watch) -> None:
    """The fourth connection waits for the end of the minute, or for another limit; mailq and QMGR have what waits."""
    _configure(server, "ocr:127. 3\nocm:127. 20\noci:127. 20\n")
    watch.sink.mischief = lambda where: "hang" if where == "dot" else ""
    for number in range(6):
        server.send(f"r{number}@sink.test")
    until(lambda: watch.total == 3, 30, "three connections are open")
    until(lambda: server.status()["queue"]["queues"]["aq_states"]["ready"] == 3, 30, "three recipients wait")
    assert sum(len(message["recipients"]) for message in server.queue()) == 6
    assert watch.total == 3
    watch.sink.mischief = lambda where: ""
    watch.sink.go_on.set()
    until(server.is_empty, 30)
    assert watch.total == 3, "the sessions were used again"
    assert len(watch.sink.messages) == 6
    _configure(server, "")


def test_local_address_by_sender(server: Instance, watch: Watch) -> None:
    _configure(server, "smtpc_conf_mail:bulk.test source = second;\nsmtpc_conf_cltaddr:127. source = gone;\n")
    _send(server, 20, sender="news@bulk.test")
    assert watch.sources <= {"127.0.0.2", "127.0.0.3"}
    watch.sources.clear()
    _send(server, 1, sender="me@mail.test")
    assert watch.sources == {HOST}, "an address that is not there is no reason to wait"
    assert "source=192.0.2.99, status=not bound" in server.log("smtpc")


def test_features_by_server(server: Instance, watch: Watch) -> None:
    _configure(server, "smtpc_session_conf:127. session_feature = timed;\n")
    _send(server, 1)
    (line,) = [line for line in server.log("smtpc").splitlines() if "t_eom=" in line]
    assert all(f"{step}=" in line for step in ("t_connect", "t_ehlo", "t_mail", "t_msg"))


def test_mail_waits_for_the_mending_of_its_entry(server: Instance, watch: Watch) -> None:
    _configure(server, "smtpc_session_conf:127. session_feature = times;\n")
    server.send("x@sink.test")
    until(lambda: "has a mistake" in str(server.queue()))
    assert "did you mean timed?" in server.log("qmgr")
    _configure(server, "")
    server.flush()
    until(server.is_empty)


@pytest.mark.parametrize(("extensions", "expected"), [
    (["8BITMIME"], "grün"), ([], "gr=C3=BCn"), (["PIPELINING"], "gr=C3=BCn")])
def test_a_server_that_takes_7_bits_only(
    server: Instance, watch: Watch, extensions: list[str], expected: str
) -> None:
    watch.sink.extensions = extensions
    text = "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ngrün\n.dot\n"
    with smtplib.SMTP(HOST, server.port) as smtp:
        smtp.sendmail("a@mail.test", "x@sink.test", text.replace("\n", "\r\n").encode(), ["BODY=8BITMIME"])
    until(server.is_empty)
    (message,) = watch.sink.messages
    assert f"\r\n\r\n{expected}\r\n..dot\r\n".encode() in message
    found = email.message_from_bytes(message)
    assert found["Content-Transfer-Encoding"] == ("8bit" if "8BITMIME" in extensions else "quoted-printable")


def test_8_bits_in_a_header_come_back(server: Instance, watch: Watch) -> None:
    watch.sink.extensions = []
    with smtplib.SMTP(HOST, server.port) as smtp:
        smtp.sendmail("postmaster@out.test", "x@sink.test", "Subject: grün\r\n\r\nx\r\n".encode(), ["BODY=8BITMIME"])
    report = until(lambda: server.mail("postmaster"))[0].read_text(errors="replace")
    assert "The next server does not offer 8BITMIME, and its header has 8-bit octets" in report
    assert watch.sink.messages == []


def test_utf8_that_is_not_needed(server: Instance, watch: Watch) -> None:
    with smtplib.SMTP(HOST, server.port) as smtp:
        smtp.ehlo()
        smtp.sendmail("a@mail.test", "x@sink.test", b"Subject: x\r\n\r\nx\r\n", ["SMTPUTF8"])
    until(server.is_empty)
    assert len(watch.sink.messages) == 1
