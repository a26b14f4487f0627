"""AUTH on the way out: to a real meta1g, to Postfix with Dovecot's SASL, and to servers that can't, won't or lie."""
import base64
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lib.authservers import Dovecot
from tests.lib.certs import sign
from tests.lib.instance import BIN, Instance, free_port, give, more_smtps, other_user, run, secret_map
from tests.lib.nameserver import Nameserver
from tests.lib.peers import needs
from tests.lib.postfix import Postfix, needs_postfix
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = [pytest.mark.system]
ROOT = sign("Test CA", is_ca=True)
SMART = sign("smart.test", ROOT, hosts=("smart.test",))
CLIENT = sign("client.test", ROOT)
SCRAM = b"250-x\r\n250 AUTH SCRAM-SHA-256\r\n"
LOGIN = b"250-x\r\n250 AUTH LOGIN PLAIN\r\n"
OAUTH = b"250-x\r\n250 AUTH XOAUTH2\r\n"
FIRST = b"334 " + base64.b64encode(b"r=other,s=c2FsdA==,i=4096") + b"\r\n"
OK = b"235 2.7.0 ok\r\n"
BAD = {  # what a server says, the account there, and why the mail waits
    "without": (b"250 x\r\n", (), "joe:secret", "no mechanism for this account is offered"),
    "clear": (LOGIN, (), "joe:secret", "the password would be sent without TLS"),
    "wrong": (SCRAM, (b"535 5.7.8 no such user\r\n",), "joe:secret", "535 5.7.8 no such user"),
    "busy": (SCRAM, (b"454 4.7.0 later\r\n",), "joe:secret", "454 4.7.0 later"),
    "nonce": (SCRAM, (FIRST, b"501 no\r\n"), "joe:secret", "SCRAM-SHA-256: malformed challenge"),
    "liar": (SCRAM, (OK,), "joe:secret", "SCRAM-SHA-256"),
    "garbage": (SCRAM, (b"334 no*base64\r\n",), "joe:secret", "A challenge of AUTH is no base64"),
    "token": (OAUTH, (), "{TOKEN}joe:abc", "the password would be sent without TLS"),
    "entry": (SCRAM, (), "secret", "is not user:password"),
}


class Scripted:
    """A server that answers AUTH, and the lines after it, from a script; `said` are the client's lines."""

    def __init__(self, hello: bytes, *answers: bytes) -> None:
        self._hello, self._answers = hello, answers
        self.said: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock, sock.makefile("rb") as lines:
                sock.settimeout(20)
                try:
                    self._talk(sock, lines.readline)
                except OSError:
                    pass

    def _talk(self, sock: socket.socket, read: Callable[[], bytes]) -> None:
        sock.sendall(b"220 scripted.test\r\n")
        answers = iter(self._answers)
        while line := read():
            self.said.append(line.strip())
            if line.startswith(b"EHLO"):
                sock.sendall(self._hello)
            elif line.startswith(b"QUIT"):
                return
            else:
                sock.sendall(next(answers, b"250 ok\r\n"))

    def close(self) -> None:
        self._listener.close()


class World:
    """An instance with accounts at servers; domains NAME.test go to them."""

    def __init__(self, stack: ExitStack) -> None:
        ns = stack.enter_context(Nameserver({"smart.test A": "127.0.0.1", "other.test A": "127.0.0.1"}))
        self.hub = Instance("hub.test", user=other_user())
        self._set_up_hub()
        self.mail = made = Instance("mail.test", user=other_user())
        self.accounts: dict[str, str] = {}
        etc = made.base / "etc"
        for path in (*CLIENT.write(etc, "client"), *ROOT.write(etc, "ca")):
            give(path)
        made.edit("smar {", f"smar {{\n  DNS {{ nameservers = {{ 127.0.0.1 }}; port = {ns.address[1]}; }}")
        tls = f"cert_file = {etc}/client.pem; key_file = {etc}/client.key; CAcert_file = {etc}/ca.pem;"
        made.edit("\nsmtpc {", f"\nsmtpc {{ auth {{ password_map = {etc}/accounts.db; }} tls {{ {tls} }}")
        made.edit("\nqmgr {", "\nqmgr {\n  retry_delay_min = 10m; retry_delay_max = 1h;")
        for name, port in self.ports.items():
            self._add(name, port, "smart.test", {"external": "client.test:"}.get(name, "joe:secret"))
            self.hub.add("mt", f"{name}.test lmtp:\n")
        self._add("stranger", self.ports["plain"], "other.test", "joe:secret")
        self.bad = {name: Scripted(hello, *answers) for name, (hello, answers, _, _) in BAD.items()}
        for name, server in self.bad.items():
            stack.callback(server.close)
            self._add(name, server.port, "smart.test", BAD[name][2])
        self.write_accounts()

    def _set_up_hub(self) -> None:
        """Servers for each mechanism, all with the same certificate."""
        hub, etc = self.hub, self.hub.base / "etc"
        secret_map(etc / "passwords.db", run(BIN / "meta1g", "passwd", "joe", "-s", "SCRYPT", "-s", "SCRAM-SHA-256",
                                             "-s", "SCRAM-SHA-1", "-s", "PLAIN", input="secret\n").stdout)
        give(SMART.write(etc, "smart")[1])
        ROOT.write(etc, "ca")
        text = hub.conf.read_text()
        base = text[text.index("\nsmtps {"):]
        self.ports = {}
        tls = f"tls {{ cert_file = {etc}/smart.pem; key_file = {etc}/smart.key; CAcert_file = {etc}/ca.pem; }}"
        for number, (name, mechanisms) in enumerate({"scram": "SCRAM-SHA-256 PLAIN", "plain": "PLAIN",
                                                     "external": "EXTERNAL"}.items(), 1):
            self.ports[name] = free_port()
            text += more_smtps(base, name, number, self.ports[name],
                               f'{tls} auth {{ password_map = {etc}/passwords.db; mechanisms = "{mechanisms}"; '
                               f'trusted_mechanisms = "{mechanisms}"; }}')
        hub.conf.write_text(text)

    def _add(self, name: str, port: int, host: str, account: str) -> None:
        """Mail for NAME.test goes to this port, where the client has an account."""
        self.accounts[f"{host}:{port}"] = account
        self.mail.add("mt", f"{name}.test {{ port={port}; host={host}; flags={{no_MX_lookup}} }}\n")
        self.mail.add("access", f"to:@{name}.test relay\n")

    def write_accounts(self) -> None:
        """Make the client's map anew."""
        secret_map(self.mail.base / "etc" / "accounts.db",
                   "".join(f"{key} {value}\n" for key, value in self.accounts.items()))

    def reason(self, name: str, text: str) -> bool:
        """Waits until this is why mail for NAME.test waits."""
        return until(lambda: any(text in str(entry) for entry in self.mail.queue() if f"r@{name}.test" in str(entry)),
                     30, text)

    def send(self, address: str) -> None:
        self.mail.send(address, f"Subject: {address}\n\nx\n", sender="root@mail.test")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with ExitStack() as stack:
        made = World(stack)
        stack.enter_context(made.hub)
        stack.enter_context(made.mail)
        for name in ("stranger", *BAD):
            made.send(f"r@{name}.test")
        yield made


@pytest.mark.parametrize(("name", "mechanism"), [
    ("scram", "SCRAM-SHA-256"), ("plain", "PLAIN"), ("external", "EXTERNAL")])
def test_login_at_meta1g(world: World, name: str, mechanism: str) -> None:
    """The best mechanism that both have; passwords go to who has a verified certificate with the right name."""
    before = set(world.hub.mail("root"))
    world.send(f"root@{name}.test")
    text = until(lambda: set(world.hub.mail("root")) - before, 30, "the hub has it").pop().read_text()
    assert " with ESMTPSA " in " ".join(text.split())
    user = "client.test" if name == "external" else "joe"
    until(lambda: f"auth={mechanism}, user={user}, status=ok" in world.mail.log("smtpc"))


def test_password_for_another_host(world: World) -> None:
    """The server has a good certificate, but not the name that the account is for: it learns nothing."""
    assert world.reason("stranger", "the server's certificate is for other hosts")


@pytest.mark.parametrize("name", BAD)
def test_no_login(world: World, name: str) -> None:
    """The mail waits, with the reason; nothing of it was said, nor the password."""
    assert world.reason(name, BAD[name][3])
    said = b"\n".join(world.bad[name].said)
    assert b"MAIL" not in said
    assert b"secret" not in said and base64.b64encode(b"secret") not in said


def test_new_password(world: World) -> None:
    """A map that was mended counts with the next session."""
    port = world.bad["wrong"].port
    world.accounts[f"smart.test:{port}"] = "{TOKEN}joe:t"
    world.write_accounts()
    world.mail.flush()
    assert world.reason("wrong", "no mechanism for this account is offered: SCRAM-SHA-256")


@pytest.mark.peer
def test_login_at_postfix(tmp_path: Path) -> None:
    """Postfix with Dovecot's SASL takes mail only from who authenticates, and knows who wrote it."""
    needs_postfix()
    needs("dovecot")
    sink, mail = Sink(), Instance("mail.test", user=other_user())
    cert, key = SMART.write(tmp_path, "smart")
    with Dovecot() as dovecot, Postfix(sink.port, extra=f"""
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {dovecot.path}
smtpd_sasl_authenticated_header = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
""") as postfix:
        secret_map(mail.base / "etc" / "accounts.db", "127.0.0.1 joe:secret\n")
        mail.edit("\nsmtpc {", f"\nsmtpc {{ auth {{ password_map = {mail.base}/etc/accounts.db; }}")
        mail.add("mt", f"far.test {{ port={postfix.port}; ip={{127.0.0.1}} }}\n")
        mail.add("access", "to:@far.test relay\n")
        with mail:
            mail.send("r@far.test", sender="root@mail.test")
            until(lambda: sink.messages, 30, "it has passed Postfix")
            assert b"(Authenticated sender: joe)" in sink.messages[0]
            until(lambda: "auth=SCRAM-SHA-256, user=joe, status=ok" in mail.log("smtpc"))
    sink.close()
