"""AUTH with real processes: smtplib, swaks, curl and gsasl; Dovecot, saslauthd and a token socket behind it."""
import base64
import os
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.lib.authservers import Dovecot, Saslauthd
from tests.lib.certs import sign
from tests.lib.instance import BIN, Instance, free_port, give, more_smtps, other_user, run, secret_map
from tests.lib.mapserver import Server as MapServer
from tests.lib.peers import needs
from tests.lib.wait import until

pytestmark = [pytest.mark.system]
ROOT = sign("Test CA", is_ca=True)
HOST = sign("local.test", ROOT, hosts=("local.test",))
FRIEND = sign("friend.test", ROOT)
CLEAR = "plaintext_without_TLS = on; failure_delay_max = 1s;"
ALL = ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")
SCHEMES = ("SCRYPT", "SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN")
TRUSTED = "PLAIN LOGIN SCRAM-SHA-256 EXTERNAL OAUTHBEARER"


class Server(Instance):
    """An instance with an SMTP server for each way to know passwords; `at` has their ports by name."""

    def __init__(self, folder: Path, dovecot: str, saslauthd: str) -> None:
        super().__init__("local.test", user=other_user())
        self.etc = self.base / "etc"
        self.passwords = self.etc / "passwords.db"
        self.write_passwords({"joe": "secret", "ann@example.org": "pw"}, *SCHEMES)
        give(HOST.write(self.etc, "server")[1])
        ROOT.write(self.etc, "ca")
        FRIEND.write(self.base, "friend")
        (folder / "meta1.conf").write_text("# of Cyrus SASL\npwcheck_method: saslauthd\nmech_list: plain\n")
        tls = (f"tls {{ cert_file = {self.etc}/server.pem; key_file = {self.etc}/server.key; "
               f"CAcert_file = {self.etc}/ca.pem; }}")
        own, trusted = f"password_map = {self.passwords};", f'trusted_mechanisms = "{TRUSTED}";'
        check = 'check mail { condition == auth_type == "CRAM-MD5" && auth_authen == "joe" && ' \
                'auth_author == "other@local.test"; action = tempfail; }'
        sections = {
            "tls": f'{tls} auth {{ {own} {trusted} mechanisms = "PLAIN CRAM-MD5 EXTERNAL"; }}',
            "dovecot": f"auth {{ dovecot_socket = {dovecot}; {trusted} {CLEAR} }}",
            "saslauthd": f"auth {{ SASL_file = {folder}/meta1.conf; saslauthd_socket = {saslauthd}; {CLEAR} }}",
            "tokens": f"auth {{ {own} token_socket = {folder}/tokens; {trusted} {CLEAR} user_realm = example.org; }}",
            "away": f"auth {{ dovecot_socket = {folder}/nobody; token_socket = {folder}/nobody; {CLEAR} }}",
        }
        text = self.conf.read_text()
        base = text[text.index("\nsmtps {"):]
        self.at = {"own": self.port, **{name: free_port() for name in sections}}
        for number, (name, settings) in enumerate(sections.items(), 1):
            text += more_smtps(base, name, number, self.at[name], settings)
        self.conf.write_text(text.replace("  CDB_gid", f"  {check} auth {{ {own} {trusted} {CLEAR} }}\n  CDB_gid", 1))

    def write_passwords(self, users: dict[str, str], *schemes: str) -> None:
        """Make the map anew."""
        options = [word for scheme in schemes for word in ("-s", scheme)]
        text = "".join(run(BIN / "meta1g", "passwd", user, *options, input=f"{password}\n").stdout
                       for user, password in users.items())
        secret_map(self.passwords, text)


def owner(request: bytes) -> bytes:
    """Whose token it is."""
    reply = b"OK ann@example.org" if request.startswith(b"18:oauth good-token-1") else b"NOTFOUND "
    return b"%d:%b," % (len(reply), reply)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meta1g-tokens.")))
        folder.chmod(0o755)
        tokens = MapServer(owner, f"{folder}/tokens")
        os.chmod(f"{folder}/tokens", 0o777)
        stack.callback(tokens.stop)
        dovecot = str(stack.enter_context(Dovecot()).path) if shutil.which("dovecot") else "/nonexistent/auth"
        saslauthd = str(stack.enter_context(Saslauthd()).path) if shutil.which("saslauthd") else "/nonexistent/mux"
        yield stack.enter_context(Server(folder, dovecot, saslauthd))


def connect(server: Server, name: str = "own", source: str = "127.0.0.1") -> smtplib.SMTP:
    smtp = smtplib.SMTP("127.0.0.1", server.at[name], "client.test", 20, (source, 0))
    smtp.ehlo()
    return smtp


def login(smtp: smtplib.SMTP, mechanism: str, user: str = "joe", password: str = "secret") -> int:
    smtp.user, smtp.password = user, password
    try:
        return smtp.auth(mechanism, getattr(smtp, f"auth_{mechanism.lower().replace('-', '_')}"))[0]
    except smtplib.SMTPAuthenticationError as error:
        return error.smtp_code


def plain(smtp: smtplib.SMTP, text: bytes, mechanism: str = "PLAIN") -> tuple[int, bytes]:
    return smtp.docmd("AUTH", f"{mechanism} {base64.b64encode(text).decode()}")


def newest(server: Server) -> str:
    text = max(server.mail("root"), key=lambda path: path.stat().st_mtime).read_text()
    return " ".join(text[:text.index("\nSubject")].split())


def test_message_of_who_is_authenticated(server: Server) -> None:
    before = len(server.mail("root"))
    with connect(server) as smtp:
        assert smtp.esmtp_features["auth"].split() == [
            "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN"]
        assert login(smtp, "PLAIN") == 235
        assert smtp.docmd("AUTH", "PLAIN AGpvZQBzZWNyZXQ=")[0] == 503
        smtp.sendmail("joe@local.test", ["root@local.test", "x@far.test"], "Subject: a\n\nx\n")
    until(lambda: len(server.mail("root")) > before)
    assert "with ESMTPA id S" in newest(server)
    until(lambda: re.search(r"ss_se=S\w+, client_ip=127.0.0.1, auth=PLAIN, user=joe\n", server.log("smtps")))


@pytest.mark.parametrize(("mechanism", "may_relay"), [("PLAIN", True), ("LOGIN", True), ("CRAM-MD5", False)])
def test_relaying_by_trusted_mechanisms(server: Server, mechanism: str, *, may_relay: bool) -> None:
    with connect(server) as smtp:
        assert smtp.mail("a@local.test")[0] == 250
        assert smtp.rcpt("x@far.test")[0] == 550
        smtp.rset()
        assert login(smtp, mechanism) == 235
        smtp.rset()
        smtp.ehlo()
        smtp.mail("a@local.test")
        assert smtp.rcpt("x@far.test")[0] == (250 if may_relay else 550)


def test_conditions_know_who_it_is(server: Server) -> None:
    with connect(server) as smtp:
        assert smtp.docmd("MAIL", "FROM:<a@local.test> AUTH=other@local.test")[0] == 250, "nobody yet"
        smtp.rset()
        assert login(smtp, "CRAM-MD5") == 235
        assert smtp.docmd("MAIL", "FROM:<a@local.test> AUTH=<>")[0] == 250
        smtp.rset()
        assert smtp.docmd("MAIL", "FROM:<a@local.test> AUTH=other@local.test")[0] == 451


@pytest.mark.parametrize("user", ["ann@example.org", "ANN@example.org"])
def test_names_with_a_realm(server: Server, user: str) -> None:
    with connect(server) as smtp:
        assert login(smtp, "PLAIN", user, "pw") == 235
    with connect(server) as smtp:
        assert login(smtp, "LOGIN", "ann", "pw") == 535
        assert plain(smtp, b"joe\0ann@example.org\0pw")[0] == 535, "nobody acts as another"


def test_a_new_map_counts_at_once(server: Server) -> None:
    with connect(server, source="127.0.1.1") as smtp:
        assert login(smtp, "PLAIN", "new", "secret") == 535
    users = {"joe": "secret", "ann@example.org": "pw", "new": "secret"}
    server.write_passwords(users, *SCHEMES)
    with connect(server, source="127.0.1.1") as smtp:
        assert login(smtp, "PLAIN", "new", "secret") == 235


def test_tls_forgets_and_allows(server: Server) -> None:
    """Without TLS no password is asked for; what was proved before TLS counts no more."""
    before = len(server.mail("root"))
    context = ssl.create_default_context(cafile=str(server.etc / "ca.pem"))
    with connect(server, "tls") as smtp:
        smtp._host = "local.test"  # type: ignore[attr-defined]
        assert smtp.esmtp_features["auth"].split() == ["CRAM-MD5"]
        assert plain(smtp, b"\0joe\0secret")[0] == 538
        assert login(smtp, "CRAM-MD5") == 235
        smtp.starttls(context=context)
        smtp.ehlo()
        assert smtp.esmtp_features["auth"].split() == ["CRAM-MD5", "PLAIN"]
        assert smtp.docmd("AUTH", "EXTERNAL =")[0] == 504
        smtp.mail("a@local.test")
        assert smtp.rcpt("x@far.test")[0] == 550
        smtp.rset()
        assert login(smtp, "PLAIN") == 235
        smtp.sendmail("joe@local.test", ["root@local.test", "x@far.test"], "Subject: a\n\nx\n")
    until(lambda: len(server.mail("root")) > before)
    assert "with ESMTPSA (TLS=" in newest(server)


def test_external(server: Server) -> None:
    context = ssl.create_default_context(cafile=str(server.etc / "ca.pem"))
    context.load_cert_chain(server.base / "friend.pem", server.base / "friend.key")
    for response, code in (("=", 235), (base64.b64encode(b"friend.test").decode(), 235),
                           (base64.b64encode(b"joe").decode(), 535)):
        with connect(server, "tls", "127.0.1.2") as smtp:
            smtp._host = "local.test"  # type: ignore[attr-defined]
            smtp.starttls(context=context)
            smtp.ehlo()
            assert smtp.esmtp_features["auth"].split()[0] == "EXTERNAL"
            assert smtp.docmd("AUTH", f"EXTERNAL {response}")[0] == code
            smtp.mail("a@local.test")
            assert smtp.rcpt("x@far.test")[0] == (250 if code == 235 else 550)


def test_tokens(server: Server) -> None:
    good = b"n,a=ann@example.org,\x01auth=Bearer good-token-1\x01\x01"
    with connect(server, "tokens", "127.0.1.3") as smtp:
        assert {"OAUTHBEARER", "XOAUTH2"} < set(smtp.esmtp_features["auth"].split())
        refusal = base64.b64encode(b'{"status":"invalid_token"}')
        assert plain(smtp, good.replace(b"-1", b"-2"), "OAUTHBEARER") == (334, refusal)
        assert smtp.docmd("AQ==")[0] == 535
        assert plain(smtp, good.replace(b"ann", b"joe"), "OAUTHBEARER")[0] == 334
        assert smtp.docmd("*")[0] == 501
        assert plain(smtp, good, "OAUTHBEARER")[0] == 235
        smtp.mail("a@local.test")
        assert smtp.rcpt("x@far.test")[0] == 250
    with connect(server, "tokens", "127.0.1.3") as smtp:
        assert plain(smtp, b"user=ann@example.org\x01auth=Bearer good-token-1\x01\x01", "XOAUTH2")[0] == 235
    with connect(server, "tokens", "127.0.1.3") as smtp:
        assert login(smtp, "PLAIN", "ann", "pw") == 235, "of this realm"
    until(lambda: "auth=PLAIN, user=ann@example.org" in server.log("tokens"))
    assert not re.search("good-token|secret", server.log("tokens") + server.log("smtps"))


def test_who_knows_is_away(server: Server) -> None:
    with connect(server, "away") as smtp:
        assert set(smtp.esmtp_features["auth"].split()) == {"PLAIN", "OAUTHBEARER", "XOAUTH2"}
        assert plain(smtp, b"\0joe\0secret")[0] == 454
        assert plain(smtp, b"n,,\x01auth=Bearer x\x01\x01", "OAUTHBEARER")[0] == 454
        assert smtp.mail("a@local.test")[0] == 250
    until(lambda: re.search(r"auth=PLAIN, status=Dovecot at .*/nobody: No such file", server.log("away")))


def swaks(server: Server, name: str, mechanism: str, password: str = "secret") -> "subprocess.CompletedProcess[str]":
    return run("swaks", "--server", f"127.0.0.1:{server.at[name]}", "--from", "joe@local.test",
               "--to", "root@local.test", "--auth", mechanism, "--auth-user", "joe", "--auth-password", password,
               "--local-interface", "127.0.2.1", check=False)


@pytest.mark.peer
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5"])
@pytest.mark.parametrize("name", ["own", "dovecot"])
def test_swaks(server: Server, name: str, mechanism: str) -> None:
    needs("swaks", *(["dovecot"] if name == "dovecot" else []))
    if "MD5" in mechanism and run("perl", "-MAuthen::SASL", "-MDigest::HMAC_MD5", "-e", "1", check=False).returncode:
        pytest.skip("needs perl's Authen::SASL and Digest::HMAC_MD5")
    done = swaks(server, name, mechanism)
    assert done.returncode == 0, done.stdout
    assert "235 2.7.0" in done.stdout
    assert swaks(server, name, mechanism, "wrong").returncode == 28, "no authentication"


@pytest.mark.peer
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5"])
def test_curl(server: Server, mechanism: str) -> None:
    needs("curl")
    for password, code in (("secret", 0), ("wrong", 67)):
        done = run("curl", "-sS", f"smtp://127.0.0.1:{server.port}", "--login-options", f"AUTH={mechanism}",
                   "--user", f"joe:{password}", "--mail-from", "joe@local.test", "--mail-rcpt", "root@local.test",
                   "--interface", "127.0.2.2", "-T", "-", input="Subject: c\r\n\r\nx\r\n", check=False)
        assert done.returncode == code, done.stderr


@pytest.mark.peer
@pytest.mark.parametrize("mechanism", ALL)
@pytest.mark.parametrize("name", ["own", "dovecot"])
def test_gsasl(server: Server, name: str, mechanism: str) -> None:
    """It looks at what a server proves, too."""
    needs("gsasl", *(["dovecot"] if name == "dovecot" else []))
    for password, is_right in (("secret", True), ("wrong", False)):
        done = run("gsasl", "--smtp", "--connect", f"127.0.0.1:{server.at[name]}", "--no-starttls",
                   "--mechanism", mechanism, "--authentication-id", "joe", "--password", password,
                   input="", check=False)
        assert (done.returncode == 0) is is_right, done.stdout + done.stderr
        assert ("\n235 2.7.0" in done.stdout) is is_right


@pytest.mark.peer
def test_dovecot(server: Server) -> None:
    needs("dovecot")
    with connect(server, "dovecot", "127.0.2.3") as smtp:
        assert smtp.esmtp_features["auth"].split() == [
            "PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"]
        assert smtp.docmd("AUTH", "LOGIN")[0] == 334
        assert smtp.docmd("*")[0] == 501
        assert login(smtp, "LOGIN") == 235
        smtp.mail("a@local.test")
        assert smtp.rcpt("x@far.test")[0] == 250
    until(lambda: "auth=LOGIN, user=joe" in server.log("dovecot"))


@pytest.mark.peer
def test_saslauthd(server: Server) -> None:
    """Cyrus SASL's file names PLAIN only."""
    needs("saslauthd")
    with connect(server, "saslauthd", "127.0.2.4") as smtp:
        assert smtp.esmtp_features["auth"].split() == ["PLAIN"]
        assert smtp.docmd("AUTH", "LOGIN")[0] == 504
        assert plain(smtp, b"\0joe\0wrong")[0] == 535
        assert plain(smtp, b"\0joe\0secret")[0] == 235


def test_guessing_slows_nobody_else(server: Server) -> None:
    """60 clients guess without end; others are served, and who guesses is answered later and later."""
    is_over = threading.Event()
    answers: list[bytes] = []

    def guess(number: int) -> None:
        user = b"joe" if number % 2 else b"who%d" % number  # for whom scrypt takes its time
        while not is_over.is_set():
            with suppress(OSError, smtplib.SMTPException), connect(server, source="127.0.3.1") as smtp:
                while not is_over.is_set():
                    code, text = plain(smtp, b"\0%b\0guess%d" % (user, number))
                    answers.append(b"%d %b" % (code, text))
                    if code == 421:
                        break

    threads = [threading.Thread(target=guess, args=(number,), daemon=True) for number in range(60)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(answers) > 100, 60, "guesses are answered")
        slowest = 0.0
        for _ in range(20):
            begin = time.monotonic()
            with connect(server, source="127.0.3.2") as smtp:
                smtp.noop()
            slowest = max(slowest, time.monotonic() - begin)
        assert slowest < 2.0
        with connect(server, source="127.0.3.2") as smtp:
            assert login(smtp, "PLAIN") == 235, "the account is not locked"
    finally:
        is_over.set()
        for thread in threads:
            thread.join(60)
    assert any(answer.startswith(b"454 4.7.0 Too many logins at once") for answer in answers)
    assert any(answer.startswith(b"535 5.7.8") for answer in answers)


def test_a_session_ends_with_its_third_failure(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20, ("127.0.3.3", 0)) as sock, \
            sock.makefile("rb") as lines:
        lines.readline()
        sock.sendall(b"EHLO x\r\n")
        while not lines.readline().startswith(b"250 "):
            pass
        sock.sendall(b"AUTH PLAIN AGpvZQB4\r\n" * 4)
        assert lines.read().split(b"\r\n") == [
            b"535 5.7.8 Authentication credentials invalid", b"535 5.7.8 Authentication credentials invalid",
            b"421 4.7.0 Too many failed logins, closing", b""]


def test_a_map_that_others_can_read_is_a_mistake(server: Server) -> None:
    server.passwords.chmod(0o644)
    try:
        for command in ("check", "reload"):
            done = server.ctl(command, check=False)
            assert done.returncode == 78
            assert f"mode 644 makes it no secret; chmod 640 {server.passwords}" in done.stdout + done.stderr
    finally:
        server.passwords.chmod(0o600)
    assert server.ctl("check").returncode == 0
    with connect(server, source="127.0.3.4") as smtp:
        assert login(smtp, "PLAIN") == 235
