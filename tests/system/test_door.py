"""The SMTP server's extensions and defences over real sockets, with real clients."""
import contextlib
import os
import re
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.instance import BIN, Instance, free_port, other_user, run
from tests.lib.nameserver import Nameserver
from tests.lib.peers import needs
from tests.lib.postfix import Postfix, needs_postfix
from tests.lib.raw import Raw
from tests.lib.wait import until

pytestmark = pytest.mark.system

USER = "nobody"
TO = f"{USER}@mail.test"
HEAD = "PROXY_protocol_peers = { 127.0.0.20 }; XCLIENT_peers = { 127.0.0.21/32 }; VRFY = local;"


@pytest.fixture(scope="module")
def server() -> Iterator[Instance]:
    made = Instance("mail.test", user=other_user())
    made.edit("flags = { 8bitmime", f"{HEAD}\n  flags = {{ 8bitmime")
    with made:
        yield made


def arrived(server: Instance, count: int) -> list[bytes]:
    """The messages that the user got since there were `count`, without what the mailer put before them."""
    until(lambda: len(server.mail(USER)) > count, 20, "the message arrives")
    found = sorted(server.mail(USER), key=lambda path: path.stat().st_mtime_ns)[count:]
    return [path.read_bytes() for path in found]


def test_bdat(server: Instance) -> None:
    before = len(server.mail(USER))
    with Raw(server) as raw:
        raw.read()
        assert "CHUNKING" in raw.say(b"EHLO x\r\n")
        raw.say(b"MAIL FROM:<> BODY=8BITMIME\r\n")
        raw.say(f"RCPT TO:<{TO}>\r\n".encode())
        assert raw.say(b"BDAT 17\r\nSubject: x\r\n\r\n.a\r") == "250 2.0.0 17 octets received"
        assert raw.say(b"BDAT 1\r\n\n").startswith("250")
        assert raw.say(b"DATA\r\n").startswith("503")
        assert raw.say(b"BDAT 5 LAST\r\n.\r\n\xe4\xff").startswith("250 2.0.0 Ok, id S")
        assert raw.say(b"BDAT 6 LAST\r\nQUIT\r\n").startswith("503")
        assert raw.say(b"QUIT\r\n").startswith("221")
    (message,) = arrived(server, before)
    assert message.endswith(b"Subject: x\n\n.a\n.\n\xe4\xff\n")


def test_utf8(server: Instance) -> None:
    before = len(server.mail(USER))
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as smtp:
        smtp.ehlo("x")
        assert smtp.has_extn("smtputf8")
        smtp.command_encoding = "utf-8"
        assert smtp.docmd("MAIL FROM:<\u00e4@m\u00fcller.test>")[0] == 553
        assert smtp.docmd("MAIL FROM:<> SMTPUTF8")[0] == 250
        assert smtp.docmd(f"RCPT TO:<{TO}>")[0] == 250
        assert smtp.data("Subject: \u00fcber\r\n\r\nx\r\n".encode())[0] == 250
    (message,) = arrived(server, before)
    assert "Subject: \u00fcber".encode() in message
    assert b"with UTF8SMTP" in message


def test_dsn_parameters_are_checked(server: Instance) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as smtp:
        smtp.ehlo("x")
        assert smtp.docmd("MAIL FROM:<> RET=HDRS ENVID=a+2Bb")[0] == 250
        assert smtp.docmd(f"RCPT TO:<{TO}> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b.c")[0] == 250
        assert smtp.docmd(f"RCPT TO:<{TO}> NOTIFY=NEVER,DELAY")[0] == 501


def test_success_is_reported(server: Instance) -> None:
    before = len(server.mail("root"))
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as smtp:
        smtp.sendmail("root@mail.test", [TO], "Subject: x\n\nsecret text\n", rcpt_options=["NOTIFY=SUCCESS"])
    until(lambda: len(server.mail("root")) > before, 20)
    report = max(server.mail("root"), key=lambda path: path.stat().st_mtime_ns).read_text()
    assert "Subject: Mail was delivered" in report
    assert f"<{TO}>" in report
    assert "secret" not in report


@pytest.mark.parametrize(("word", "code"), [
    (USER, 250), (TO, 250), ("<nobody-there@mail.test>", 550), ("a@far.test", 252), ("a b", 252)])
def test_vrfy(server: Instance, word: str, code: int) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as smtp:
        assert smtp.docmd("VRFY", word)[0] == code


HEADERS = [
    (b"PROXY TCP4 192.0.2.77 127.0.0.1 1234 25\r\n", "192.0.2.77"),
    (b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + bytes.fromhex("20010db8") + bytes(11) + b"\7" + bytes(20), "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", "127.0.0.20"),
]


@pytest.mark.parametrize(("header", "ip"), HEADERS)
def test_proxy_protocol(server: Instance, header: bytes, ip: str) -> None:
    with Raw(server, "127.0.0.20") as raw:
        assert raw.say(header).startswith("220 ")
        assert raw.say(b"QUIT\r\n").startswith("221")
    until(lambda: f"client_ip={ip}" in server.log("smtps"), 10)


def test_proxy_header_is_needed_from_peers_and_nonsense_from_others(server: Instance) -> None:
    with Raw(server, "127.0.0.20") as raw:
        assert raw.say(b"EHLO x\r\n") == ""
    with Raw(server) as raw:
        assert raw.say(b"PROXY TCP4 192.0.2.77 127.0.0.1 1234 25\r\n")[:3] in ("220", "554")


def test_xclient(server: Instance) -> None:
    with Raw(server, "127.0.0.21") as raw:
        raw.read()
        assert "XCLIENT NAME" in raw.say(b"EHLO x\r\n")
        assert raw.say(b"XFORWARD NAME=far.test ADDR=192.0.2.5\r\n").startswith("250")
        assert raw.say(b"XCLIENT NAME=far.test ADDR=192.0.2.66\r\n").startswith("220 ")
        raw.say(b"EHLO x\r\n")
        raw.say(b"MAIL FROM:<>\r\n")
        assert raw.say(b"RCPT TO:<a@outside.test>\r\n").startswith("550")
        before = len(server.mail(USER))
        raw.say(f"RCPT TO:<{TO}>\r\n".encode())
        raw.say(b"DATA\r\n")
        assert raw.say(b"x\r\n.\r\n").startswith("250")
    (message,) = arrived(server, before)
    assert b"from x (far.test [192.0.2.66])" in message
    with Raw(server) as raw:
        raw.read()
        assert "XCLIENT" not in raw.say(b"EHLO x\r\n")
        assert raw.say(b"XCLIENT ADDR=192.0.2.66\r\n").startswith("550")


def test_own_name_is_logged(server: Instance) -> None:
    with Raw(server, "127.0.0.21") as raw:
        raw.read()
        raw.say(b"XCLIENT ADDR=192.0.2.99\r\n")
        assert raw.say(b"EHLO mail.test\r\n").startswith("250")
    until(lambda: "status=Identity_Theft" in server.log("smtps"), 10)


def limited(extra: str) -> Instance:
    made = Instance("mail.test", user=other_user())
    made.edit("flags = { 8bitmime", f"{extra}\n  flags = {{ 8bitmime")
    return made


def test_full_server_says_so() -> None:
    with limited("threads_max = 3;") as server, contextlib.ExitStack() as stack:
        held = [stack.enter_context(Raw(server)) for _ in range(3)]
        assert all(raw.read().startswith("220") for raw in held)
        with Raw(server) as late:
            assert late.read() == "421 4.3.2 Too many connections, try again later"
        held[0].say(b"QUIT\r\n")
        assert until(lambda: _greeting(server).startswith("220"), 10)


def _greeting(server: Instance) -> str:
    with Raw(server) as raw:
        return raw.read()


def test_time_is_bounded() -> None:
    with limited("IO_timeout = 1s; session_time_max = 3s;") as server:
        with Raw(server) as slow:
            slow.read()
            for octet in b"EHLO":  # it trickles, and is out of time all the same
                slow.sock.sendall(bytes([octet]))
                until(lambda: True, 1)
            assert slow.read().startswith("421 4.4.2")
        with Raw(server) as busy:
            busy.read()
            assert until(lambda: busy.say(b"NOOP\r\n").startswith("421"), 10)


def test_two_addresses(tmp_path: Path) -> None:
    """M1 8.5 item 1: a server without MCP's socket listens on all of daemon_address."""
    ports = [free_port(), free_port()]
    made = Instance("mail.test", user=other_user())
    text = made.conf.read_text()
    start = text.index("listen_socket", text.index("\nsmtps {"))
    end = text.index("start_action = pass; pass_fd_socket = smtps/smtpsfd;", start)
    addresses = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    made.conf.write_text(text[:start] + f"daemon_address = {{ {addresses} }};\n  start_action = wait;"
                         + text[end:].removeprefix("start_action = pass; pass_fd_socket = smtps/smtpsfd;"))
    with made:
        for port in ports:
            with smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
                assert smtp.noop()[0] == 250


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("smtp-source") is None, reason="smtp-source is not here")
def test_reload_under_load_fails_no_session() -> None:
    """A new process takes the socket, the old one lets its sessions finish."""
    made = Instance("mail.test", user=other_user())
    made.edit("flags = { 8bitmime", 'greeting = "number 0"; flags = { 8bitmime')
    with made as server, Raw(server) as old:
        assert old.read() == "220 mail.test number 0"
        load = subprocess.Popen(["smtp-source", "-s", "10", "-m", "1500", "-f", "root@mail.test", "-t", TO,
                                 f"127.0.0.1:{server.port}"], stderr=subprocess.PIPE, text=True)
        for number in range(1, 4):
            server.edit(f'"number {number - 1}"', f'"number {number}"')
            server.ctl("reload")
            until(lambda number=number: _greeting(server) == f"220 mail.test number {number}", 20)  # type: ignore[misc]
        assert load.wait(60) == 0, load.stderr.read() if load.stderr else ""
        old.say(b"EHLO x\r\n")
        old.say(b"MAIL FROM:<>\r\n")
        old.say(f"RCPT TO:<{TO}>\r\n".encode())
        old.say(b"DATA\r\n")
        assert old.say(b"x\r\n.\r\n").startswith("250")
        assert old.say(b"QUIT\r\n").startswith("221")
        until(lambda: len(server.mail(USER)) == 1501, 60)
        until(lambda: list(server.running().values()).count("smtps") == 1, 20)


def codes(server: Instance, client: str, count: int) -> list[str]:
    """The codes of so many greetings, all connections open at once."""
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(Raw(server, client)).read()[:3] for _ in range(count)]


def test_connections_of_one_client_are_limited() -> None:
    """M1 3.8 item 17, 3.8.1: open at once and a minute, for all, for a net, and by name; read anew by qmgrctl."""
    made = Instance("mail.test", user=other_user())
    with Nameserver({"5.0.0.127.in-addr.arpa PTR": "slow.dom.", "slow.dom A": "127.0.0.5"}) as ns:
        made.edit("smar {", f"smar {{\n  DNS {{ nameservers = {{ 127.0.0.1 }}; port = {ns.address[1]}; }}")
        made.edit("connections_max = 10000; connection_rate_max = 10000000;", "connections_max = 3;")
        run(BIN / "meta1g", "createmap", "-F", made.base / "etc" / "qmgr_conf.db",
            input="icm:127.0.0.2 1\nicr:127.0.0.3 2\nicc:slow.dom 0\n")
        with made as server:
            assert codes(server, "127.0.0.1", 5) == ["220"] * 3 + ["421"] * 2
            assert codes(server, "127.0.0.2", 3) == ["220", "421", "421"]
            until(lambda: codes(server, "127.0.0.2", 1) == ["220"], 10)
            assert [codes(server, "127.0.0.3", 1) for _ in range(3)] == [["220"], ["220"], ["421"]]
            assert codes(server, "127.0.0.5", 1) == ["421"]
            run(BIN / "meta1g", "createmap", "-F", made.base / "etc" / "qmgr_conf.db", input="icm:127.0.0.5 2\n")
            run(BIN / "meta1g", "qmgrctl", "-f", server.conf, "-r")
            until(lambda: codes(server, "127.0.0.5", 3) == ["220", "220", "421"], 10)


def test_processes_take_turns() -> None:
    made = Instance("mail.test", user=other_user())
    made.edit("flags = { 8bitmime", "processes = 2; wait_threads_min = 3; flags = { serialize_accept, 8bitmime")
    with made as server:
        before = len(server.mail(USER))
        for _ in range(20):
            server.send(TO, sender="")
        assert len(arrived(server, before + 19)) == 1
        assert (server.base / "spool" / "smtps" / "accept.lock").exists()


BIG = 20 * 1024 * 1024
TEXT = b"Subject: test\r\nFrom: a@mail.test\r\nTo: b@mail.test\r\n\r\n"
BODIES = {
    "plain": b"line\r\n.dot\r\n..dots\r\n\r\n.\r\nlast\r\n", "8 bit": b"gr\xfc\xdfe\r\n\xff\xfe\r\n",
    "UTF-8": "gr\u00fc\u00dfe \u4f60\u597d\r\n".encode(),
    "20 MB": b"x" * 998 + b"\r\n" + b"0123456789abcdef\r\n" * (BIG // 18),
}


@pytest.mark.peer
@pytest.mark.parametrize("client", ["smtplib", "burst", "swaks", "curl", "msmtp", "nodemailer"])
@pytest.mark.parametrize("kind", BODIES)
def test_clients(server: Instance, tmp_path: Path, client: str, kind: str) -> None:
    """What each client sends arrives octet for octet."""
    if client in ("swaks", "curl", "msmtp"):
        needs(client)
    before = len(server.mail(USER))
    path = tmp_path / "message"
    path.write_bytes(TEXT + BODIES[kind])
    port = str(server.port)
    match client:
        case "smtplib":
            with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as smtp:
                smtp.sendmail("", [TO], path.read_bytes(), ["BODY=8BITMIME"])
        case "burst":
            _burst(server, path.read_bytes())
        case "nodemailer":
            _nodemailer(server, path)
        case "swaks":
            run("swaks", "--server", f"127.0.0.1:{port}", "--from", "<>", "--to", TO, "--data", f"@{path}", "--silent")
        case "curl":
            run("curl", "-sS", f"smtp://127.0.0.1:{port}/x", "--mail-from", "", "--mail-rcpt", TO, "-T", path)
        case "msmtp":
            with path.open("rb") as file:
                subprocess.run(["msmtp", "--host=127.0.0.1", f"--port={port}", "--from=root@mail.test", "--tls=off",
                                "--auth=off", TO], stdin=file, check=True, timeout=60)
    assert_body(arrived(server, before), kind)


def assert_body(messages: list[bytes], kind: str) -> None:
    """One message came, and says what was sent, but for empty lines at its end."""
    (message,) = messages
    body = message[message.index(b"\n\n") + 2:]
    expected = BODIES[kind].replace(b"\r\n", b"\n")
    assert body.rstrip(b"\n") == expected.rstrip(b"\n")


def _burst(server: Instance, message: bytes) -> None:
    """All that may go out together does (RFC 2920): the envelope with DATA, the content with QUIT."""
    with Raw(server) as raw:
        raw.read()
        assert "PIPELINING" in raw.say(b"EHLO x\r\n")
        raw.sock.sendall(f"RSET\r\nMAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<{TO}>\r\nDATA\r\n".encode())
        assert [raw.read()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        raw.sock.sendall(re.sub(rb"(?m)^\.", b"..", message) + b".\r\nQUIT\r\n")
        assert [raw.read()[:3] for _ in range(3)] == ["250", "221", ""]


NODE = """
const [port, to, path] = process.argv.slice(1);
const transport = require("nodemailer").createTransport({host: "127.0.0.1", port: Number(port), ignoreTLS: true});
transport.sendMail({envelope: {from: "root@mail.test", to: [to]}, raw: require("fs").readFileSync(path)}).then(
    () => transport.close(), error => { console.error(error); process.exit(1); });
"""
NODE_PATH = os.environ.get("NODE_PATH", "/var/lib/meta1g/dev/node/node_modules")


def _nodemailer(server: Instance, path: Path) -> None:
    needs("node")
    if not Path(NODE_PATH, "nodemailer").exists():
        pytest.skip(f"needs nodemailer in {NODE_PATH}: contrib/setup.sh check installs it")
    run("node", "-e", NODE, server.port, TO, path, env={**os.environ, "NODE_PATH": NODE_PATH})


@pytest.fixture(scope="module", params=["", "pipelining"])
def postfix(server: Instance, request: pytest.FixtureRequest) -> Iterator[Postfix]:
    """As a client; it may not see these words in our answer to EHLO."""
    needs_postfix()
    with Postfix(server.port, request.param) as made:
        yield made


@pytest.mark.peer
@pytest.mark.parametrize("kind", BODIES)
def test_postfix_as_client(server: Instance, postfix: Postfix, kind: str) -> None:
    """Octet for octet, too; it does not send by BDAT."""
    before = len(server.mail(USER))
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=60) as smtp:
        smtp.sendmail("root@mail.test", [TO], TEXT + BODIES[kind], ["BODY=8BITMIME"])
    assert_body(arrived(server, before), kind)


@pytest.mark.peer
def test_postfix_sends_utf8_and_asks_for_a_report(server: Instance, postfix: Postfix) -> None:
    before, reports = len(server.mail(USER)), len(server.mail("root"))
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=60) as smtp:
        smtp.sendmail("root@mail.test", [TO], "Subject: \u00fcber\r\n\r\n\u00e4\r\n".encode(),
                      ["BODY=8BITMIME", "SMTPUTF8", "RET=HDRS", "ENVID=abc"], ["NOTIFY=SUCCESS"])
    (message,) = arrived(server, before)
    assert "Subject: \u00fcber\n".encode() in message
    assert message.endswith("\n\n\u00e4\n".encode())
    assert b"with UTF8SMTP" in message
    until(lambda: len(server.mail("root")) > reports, 20, "the report comes")
    report = max(server.mail("root"), key=lambda path: path.stat().st_mtime_ns).read_text()
    assert "Subject: Mail was delivered" in report


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("smtp-source") is None, reason="smtp-source is not here")
@pytest.mark.parametrize("options", [[], ["-d"]])
def test_smtp_source(server: Instance, options: list[str]) -> None:
    """Postfix's client, with a connection for each message and with kept ones."""
    before = len(server.mail(USER))
    run("smtp-source", "-s", "5", "-m", "50", "-f", "root@mail.test", "-t", TO, *options, f"127.0.0.1:{server.port}")
    until(lambda: len(server.mail(USER)) >= before + 50, 30)


def test_lookup_knows_the_front_door(server: Instance) -> None:
    done = run(BIN / "meta1g", "lookup", "-f", server.conf, "rcpt", TO)
    assert "is_local=True" in done.stdout
