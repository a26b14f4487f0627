"""TLS on the way in: real processes, openssl s_client, smtplib, swaks; requirements met and violated."""
import json
import re
import smtplib
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lib.certs import revoked, sign
from tests.lib.instance import Instance, free_port, give, more_smtps, other_user
from tests.lib.peers import needs
from tests.lib.postfix import Postfix, needs_postfix
from tests.lib.wait import until

pytestmark = [pytest.mark.system]
ROOT = sign("Test CA (1)", org="Test", is_ca=True)
HOST = sign("local.test", ROOT, hosts=("local.test",))
OTHERS = sign("others", ROOT, hosts=("mail.example.test", "*.others.test"))
FRIEND, REVOKED, STRANGER = sign("friend.test", ROOT), sign("revoked.test", ROOT), sign("stranger.test")
TO = "root@local.test"


class Server(Instance):
    """An instance with TLS; `first` is the port of a server that begins with TLS, `strict` of one that needs it."""

    def __init__(self) -> None:
        super().__init__("local.test", user=other_user())
        self.etc = self.base / "etc"
        give(HOST.write(self.etc, "server")[1])
        give(OTHERS.write(self.etc, "others")[1])
        ROOT.write(self.etc, "ca")
        for name, signed in (("friend", FRIEND), ("revoked", REVOKED), ("stranger", STRANGER)):
            signed.write(self.base, name)
        (self.etc / "crl.pem").write_bytes(revoked(ROOT, REVOKED))
        tls = (f"tls {{ cert_file = {self.etc}/server.pem; key_file = {self.etc}/server.key; "
               f"CAcert_file = {self.etc}/ca.pem; CRL_file = {self.etc}/crl.pem; "
               f"certificate others {{ cert_file = {self.etc}/others.pem; key_file = {self.etc}/others.key; }} "
               "flags = { check_access_map_for_relaying } }")
        text = self.conf.read_text()
        base = text[text.index("\nsmtps {"):]
        self.first = free_port()
        more = more_smtps(base, "first", 1, self.first,
                          f"flags = {{ access, smtps }} proxy_protocol_peers = 127.0.0.8; {tls}")
        self.conf.write_text(text.replace(
            "  CDB_gid", f"  flags = {{ access, lookup_session_conf, rcpt_conf }} {tls}\n"
                         "  session_features plain { flags = { no_starttls } }\n  CDB_gid", 1) + more)
        self.add("access", "certissuer:/O=Test/CN=Test+20CA+20+281+29 cont\n"
                           "certsubject:/CN=friend.test relay\n"
                           "smtps_session_conf:127.0.0.2 session_feature=plain;\n"
                           "smtps_session_conf:127.0.0.3 tls_requirements { flags={encrypted}; violation=tempfail; }\n"
                           "smtps_session_conf:127.0.0.4 tls_requirements { common_name=\"friend.test\"; }\n"
                           "smtps_session_conf:127.0.0.5 tls_requirements { flags={verified}; violation=abort; }\n"
                           "smtps_rcpt_conf:secret@local.test tls_requirements { cipher_bits_min=128; }\n")
        self.add("aliases", "secret: root\n")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def context(server: Server, name: str = "") -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(server.etc / "ca.pem"))
    if name:
        made.load_cert_chain(server.base / f"{name}.pem", server.base / f"{name}.key")
    return made


def connect(server: Server, source: str = "127.0.0.1") -> smtplib.SMTP:
    smtp = smtplib.SMTP("127.0.0.1", server.port, "client.test", 20, (source, 0))
    smtp._host = "local.test"  # type: ignore[attr-defined]
    smtp.ehlo()
    return smtp


def test_message_over_starttls(server: Server) -> None:
    before = len(server.mail("root"))
    with connect(server) as smtp:
        assert smtp.has_extn("starttls")
        smtp.starttls(context=context(server))
        assert smtp.mail("x@y")[0] == 250, "EHLO is not demanded"
        smtp.ehlo()
        assert not smtp.has_extn("starttls")
        assert smtp.docmd("STARTTLS")[0] == 503
        smtp.sendmail("a@local.test", TO, "Subject: tls\n\n" + ("x" * 70 + "\n") * 5000)
    until(lambda: len(server.mail("root")) > before)
    text = max(server.mail("root"), key=lambda path: path.stat().st_mtime).read_text()
    field = " ".join(text[:text.index("\nSubject")].split())
    assert re.search(r"with ESMTPS \(TLS=TLSv1\.3, cipher=TLS_AES_256_GCM_SHA384, bits=256, verify=NO\) id S", field)
    assert "starttls=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256, verify=NO" in server.log("smtps")


def test_tls_first(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.first), 20) as plain, \
            context(server).wrap_socket(plain, server_hostname="local.test") as sock, sock.makefile("rb") as lines:
        assert lines.readline().startswith(b"220 local.test")
        sock.sendall(b"EHLO x\r\nQUIT\r\n")
        text = lines.read()
        assert b"STARTTLS" not in text
        assert text.endswith(b"221 2.0.0 Bye\r\n")


@pytest.mark.parametrize("is_together", [True, False])
def test_tls_first_behind_a_balancer(server: Server, is_together: bool) -> None:
    """The PROXY header comes before TLS, perhaps in one packet with the client's hello."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(server).wrap_bio(into, out, server_hostname="local.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    header = b"PROXY TCP4 192.0.2.77 192.0.2.1 1000 465\r\n"
    with socket.create_connection(("127.0.0.1", server.first), 20, ("127.0.0.8", 0)) as sock:
        if is_together:
            sock.sendall(header + out.read())
        else:
            sock.sendall(header)
            sock.sendall(out.read())
        while True:
            into.write(sock.recv(65536))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        sock.sendall(out.read())
        tls.write(b"QUIT\r\n")
        sock.sendall(out.read())
    until(lambda: "client_ip=192.0.2.77" in server.log("first"))


@pytest.mark.parametrize(("name", "code"), [("friend", 250), ("revoked", 550), ("stranger", 550), ("", 550)])
def test_relaying_by_certificate(server: Server, name: str, code: int) -> None:
    with connect(server, "127.0.0.9") as smtp:
        smtp.starttls(context=context(server, name))
        smtp.ehlo()
        smtp.mail("a@local.test")
        assert smtp.rcpt("someone@elsewhere.test")[0] == code


@pytest.mark.parametrize(("source", "name", "plain", "mail"), [
    ("127.0.0.3", "", 450, 250), ("127.0.0.4", "friend", 530, 250), ("127.0.0.4", "revoked", 530, 550),
    ("127.0.0.5", "friend", 421, 250), ("127.0.0.5", "stranger", 421, 421),
])
def test_requirements_of_sessions(server: Server, source: str, name: str, plain: int, mail: int) -> None:
    with connect(server, source) as smtp:
        assert smtp.mail("a@local.test")[0] == plain
        if plain == 421:
            smtp.close()
            smtp = connect(server, source)
        smtp.starttls(context=context(server, name))
        smtp.ehlo()
        assert smtp.mail("a@local.test")[0] == mail


def test_requirements_of_recipients(server: Server) -> None:
    with connect(server) as smtp:
        smtp.mail("a@local.test")
        assert smtp.rcpt("secret@local.test")[0] == 530
        assert smtp.rcpt(TO)[0] == 250
        smtp.rset()
        smtp.starttls(context=context(server))
        smtp.ehlo()
        smtp.mail("a@local.test")
        assert smtp.rcpt("secret@local.test")[0] == 250


def test_no_tls_for_some(server: Server) -> None:
    with connect(server, "127.0.0.2") as smtp:
        assert not smtp.has_extn("starttls")
        assert smtp.docmd("STARTTLS")[0] == 502


@pytest.mark.parametrize("injected", [b"NOOP\r\n", b"EHLO evil\r\nMAIL FROM:<evil@x.test>\r\n", b"\x16\x03\x01"])
def test_nothing_is_injected(server: Server, injected: bytes) -> None:
    """What comes with STARTTLS in one packet is refused, not kept for the time when TLS is there (CVE-2011-0411)."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as sock, sock.makefile("rb") as lines:
        assert lines.readline().startswith(b"220")
        sock.sendall(b"EHLO x\r\n")
        while not lines.readline().startswith(b"250 "):
            pass
        sock.sendall(b"STARTTLS\r\n" + injected)
        assert lines.readline().startswith(b"554 5.5.0")
        assert lines.readline() == b""


@pytest.mark.parametrize("octets", [b"EHLO x\r\n", b"\x16\x03\x01\x02\x00\x01", b"\x15\x03\x01\x00\x02\x02\x28"])
def test_broken_handshakes(server: Server, octets: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as sock, sock.makefile("rb") as lines:
        lines.readline()
        sock.sendall(b"STARTTLS\r\n")
        assert lines.readline().startswith(b"220 2.0.0")
        sock.sendall(octets)
        with suppress(OSError):  # it has not read all of it, and is gone
            sock.shutdown(socket.SHUT_WR)
            assert b"250" not in lines.read()
    until(lambda: "starttls=failed" in server.log("smtps"))
    with connect(server) as smtp:
        assert smtp.noop()[0] == 250


@pytest.mark.parametrize("name", ["huge", "nul"])
def test_monstrous_certificates(server: Server, name: str) -> None:
    """One of 250 KB ends its handshake (SSL_CTX_set_max_cert_list(3)); one with NUL in its names proves nothing."""
    signed = (sign("huge.test", ROOT, hosts=tuple(f"host{number}.example.test" for number in range(10_000)))
              if name == "huge" else sign("friend.test\0.evil.test", ROOT, hosts=("friend.test\0.evil.test",)))
    signed.write(server.base, name)
    made = context(server, name)
    made.maximum_version = ssl.TLSVersion.TLSv1_2  # in which the client hears of it at once
    with connect(server) as smtp:
        if name == "huge":
            with pytest.raises((ssl.SSLError, OSError)):
                smtp.starttls(context=made)
            smtp.close()
        else:
            smtp.starttls(context=made)
            assert smtp.docmd("MAIL FROM:<a@b.test>")[0] == 250
            assert smtp.docmd("RCPT TO:<x@elsewhere.test>")[0] == 550
    logged = "excessive" if name == "huge" else "cert_subject=/CN=friend.test\\x00.evil.test"
    until(lambda: logged in server.log("smtps"))
    with connect(server) as smtp:
        assert smtp.noop()[0] == 250


def s_client(server: Server, *options: str, text: str = "QUIT\r\n") -> str:
    done = subprocess.run(
        ["openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{server.port}", "-crlf", "-CAfile",
         str(server.etc / "ca.pem"), *options], input=text, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("asked", "shown"), [
    ("mail.example.test", "others"), ("A.Others.Test", "others"), ("a.b.others.test", "local.test"),
    ("local.test", "local.test"), ("", "local.test"), ("x" * 255, "local.test")])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_certificate_by_name(server: Server, asked: str, shown: str, version: str) -> None:
    """SNI: a client sees the certificate for the name that it asks for, and the usual one for others."""
    text = s_client(server, version, *(("-servername", asked) if asked else ("-noservername",)))
    assert f"subject=CN = {shown}\n" in text.replace("CN=", "CN = ")
    assert "Verify return code: 0 (ok)" in text


def test_openssl_s_client(server: Server, tmp_path: Path) -> None:
    text = s_client(server)
    assert "Verify return code: 0 (ok)" in text
    assert "/CN=Test CA (1)" in text.replace(" = ", "=").replace(", ", "/") or "Test CA (1)" in text
    assert "TLSv1.2" in s_client(server, "-tls1_2")
    assert "no protocols available" in s_client(server, "-tls1_1") or "alert" in s_client(server, "-tls1_1")
    session = str(tmp_path / "session")
    s_client(server, "-tls1_2", "-sess_out", session)
    assert "Reused, TLSv1.2" in s_client(server, "-tls1_2", "-sess_in", session)
    until(lambda: "resumed=1" in server.log("smtps"))
    assert "RENEGOTIATING" in s_client(server, "-tls1_2", text="R\n")
    with connect(server) as smtp:
        assert smtp.noop()[0] == 250


@pytest.mark.peer
def test_testssl(server: Server, tmp_path: Path) -> None:
    """Nothing that testssl.sh rates as high: protocols, and each attack that it knows."""
    needs("testssl")
    found = tmp_path / "found.json"
    subprocess.run(["testssl", "--quiet", "--color", "0", "-p", "-U", "--starttls", "smtp", "--jsonfile", str(found),
                    f"127.0.0.1:{server.port}"], capture_output=True, timeout=110, check=False)
    by_id = {entry["id"]: entry for entry in json.loads(found.read_text())}
    assert by_id["TLS1_3"]["finding"].startswith("offered") and "secure_client_renego" in by_id
    assert [entry for entry in by_id.values() if entry["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")] == []


def swaks(port: int, *options: object) -> None:
    command = ["swaks", "--server", f"127.0.0.1:{port}", "--to", TO, "--from", "a@local.test", *map(str, options)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.mark.peer
def test_swaks(server: Server) -> None:
    before = len(server.mail("root"))
    for options in (("--tls",), ("--tls", "--tls-cert", server.base / "friend.pem", "--tls-key",
                                 server.base / "friend.key")):
        swaks(server.port, *options)
    swaks(server.first, "--tlsc")
    until(lambda: len(server.mail("root")) == before + 3)
    assert "verify=OK, cert_subject=/CN=friend.test" in server.log("smtps")


@pytest.mark.peer
def test_postfix_as_client(server: Server, tmp_path: Path) -> None:
    """It verifies our certificate and shows its own, which is verified here."""
    needs_postfix()
    tmp_path.chmod(0o755)
    cert, key = FRIEND.write(tmp_path, "postfix")
    ROOT.write(tmp_path, "root")
    before = len(server.mail("root"))
    extra = (f"smtp_tls_security_level = verify\nsmtp_tls_CAfile = {tmp_path}/root.pem\nsmtp_tls_cert_file = {cert}\n"
             f"smtp_tls_key_file = {key}\nsmtp_tls_verify_cert_match = local.test\n")
    with Postfix(server.port, extra=extra) as postfix, smtplib.SMTP("127.0.0.1", postfix.port, timeout=20) as smtp:
        smtp.sendmail("a@local.test", TO, "Subject: by postfix\n\nx\n")
        until(lambda: len(server.mail("root")) > before, 60)
    text = max(server.mail("root"), key=lambda path: path.stat().st_mtime).read_text()
    assert "verify=OK" in text[:text.index("by postfix")]


def test_a_wrong_section_is_told_and_stops_nothing_else() -> None:
    """A key that everybody may read: the server does not start, the log names the file and the remedy."""
    made = Instance("local.test", user=other_user())
    give(HOST.write(made.base / "etc", "server")[1])
    (made.base / "etc" / "server.key").chmod(0o644)
    etc = made.base / "etc"
    made.edit("  CDB_gid", f"  tls {{ cert_file = {etc}/server.pem; key_file = {etc}/server.key; }}\n  CDB_gid")
    done = made.ctl("start", check=False)
    assert done.returncode != 0
    assert "makes it no secret; chmod 640" in done.stderr + made.log("smtps")
    made.stop()


def test_a_new_instance_offers_tls() -> None:
    """meta1g-ctl init makes a certificate for its name; the key is for its owner and group only."""
    with Instance("fresh.test", has_tls=True) as made:
        assert stat.S_IMODE((made.base / "etc" / "key.pem").stat().st_mode) == 0o640
        trust = ssl.create_default_context(cafile=str(made.base / "etc" / "cert.pem"))
        with smtplib.SMTP("127.0.0.1", made.port, "client.test", 20) as smtp:
            smtp._host = "fresh.test"  # type: ignore[attr-defined]
            smtp.starttls(context=trust)
            smtp.sendmail("a@fresh.test", "root@fresh.test", "Subject: x\n\nx\n")
        until(lambda: len(made.mail("root")) == 1)
        assert "with ESMTPS" in made.mail("root")[0].read_text()
