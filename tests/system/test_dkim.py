"""DKIM with real processes and clients: what is delivered is verified by dkimpy and by OpenDKIM (M1 3.10 item 3)."""
import os
import pwd
import re
import shutil
import signal
import smtplib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meta1g.proto.smtp.data import unstuff
from tests.lib.dkimkeys import Keys
from tests.lib.instance import Instance, other_user, run
from tests.lib.peers import needs
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = pytest.mark.system

HEADER = b"From: Joe <joe@example.org>\r\nTo: nobody@mail.test\r\nSubject: a\r\n  folded \t one\r\n"
MESSAGES = {
    "small": HEADER + b"\r\nHello  there \r\n.\r\n..\r\n\r\n\r\n",
    "8-bit": HEADER + b"X-Name: J\xc3\xb6rg \xff\r\n\r\n\xe4\xff  \xc3\xa4\r\n",
    "no body": HEADER + b"\r\n",
    "header alone": HEADER,
    "large": HEADER + b"\r\n" + b"The quick brown fox \t jumps.\r\n.over\r\n\r\n" * 500_000,
    "large header": HEADER + b"".join(b"X-%d: %s\r\n" % (number, b"y" * 900) for number in range(400)) + b"\r\nx\r\n",
    "from a list": b"Received: by x\r\nReceived: by y\r\nTo: c@d.e\r\n" + HEADER + b"\r\nx\r\n",
}
FORMS = {
    "simple": "",
    "relaxed": "body_canonicalization = relaxed; header_canonicalization = relaxed; "
               "over_sign_headers = { From, To, Cc, Subject };",
}


def made(options: str) -> tuple[Instance, Keys]:
    server = Instance("mail.test", user=other_user())
    keys = Keys(server.base / "etc", "one", "two", "ed")
    for selector in ("one", "two", "ed"):
        if (user := other_user()) is not None:
            os.chown(keys.path(selector), pwd.getpwnam(user).pw_uid, -1)
    sections = " ".join([
        keys.section("one", "from = example.org;"), keys.section("ed", "from = example.org;"),
        keys.section("two", "from = .example.org;")])
    server.edit("flags = { 8bitmime, ", f"DKIM_signing {{ {sections} skip_header = {{ X- }}; {options} }}\n"
                "  flags = { 8bitmime, ")
    return server, keys


@pytest.fixture(scope="module", params=FORMS)
def signing(request: pytest.FixtureRequest) -> Iterator[tuple[Instance, Keys]]:
    server, keys = made(FORMS[request.param])
    with server:
        yield server, keys


def by_data(smtp: smtplib.SMTP, text: bytes) -> None:
    assert smtp.data(text)[0] == 250


def by_bdat(smtp: smtplib.SMTP, text: bytes) -> None:
    for at in range(0, max(len(text), 1), 100_000):
        piece = text[at:at + 100_000]
        smtp.send(f"BDAT {len(piece)}{' LAST' if at + 100_000 >= len(text) else ''}\r\n".encode() + piece)
        assert smtp.getreply()[0] == 250


def delivered(server: Instance, text: bytes, how: Callable[[smtplib.SMTP, bytes], None] = by_data,
              options: tuple[str, ...] = ("BODY=8BITMIME",)) -> bytes:
    """What is in the mailbox after this was sent."""
    before = set(server.mail("nobody"))
    with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as smtp:
        smtp.ehlo("x")
        assert smtp.mail("a@example.org", options)[0] == 250
        assert smtp.rcpt("nobody@mail.test")[0] == 250
        how(smtp, text)
    return newest(server, before)


def newest(server: Instance, before: set[Path]) -> bytes:
    until(lambda: set(server.mail("nobody")) - before, 60)
    (path,) = set(server.mail("nobody")) - before
    return path.read_bytes()


@pytest.mark.parametrize("how", [by_data, by_bdat])
@pytest.mark.parametrize("name", MESSAGES)
def test_delivered_mail_verifies(signing: tuple[Instance, Keys], name: str,
                                 how: Callable[[smtplib.SMTP, bytes], None]) -> None:
    server, keys = signing
    assert keys.verified(delivered(server, MESSAGES[name], how)) == ["one", "ed"]


def test_smtputf8(signing: tuple[Instance, Keys]) -> None:
    server, keys = signing
    text = "From: Jörg <jörg@sub.example.org>\r\nSubject: ä\r\n\r\nö\r\n".encode()
    assert keys.verified(delivered(server, text, options=("BODY=8BITMIME", "SMTPUTF8"))) == ["two"]


def test_other_mail_is_not_signed(signing: tuple[Instance, Keys]) -> None:
    server, _ = signing
    assert b"DKIM-Signature" not in delivered(server, b"From: a@example.com\r\n\r\nx\r\n")
    assert b"DKIM-Signature" not in delivered(server, b"x\r\n")


def test_errors_are_told(signing: tuple[Instance, Keys]) -> None:
    server, _ = signing
    for header, says in [(HEADER + b"From: x@y.z\r\n", "554 5.6.0 Message has more than one From field"),
                         (HEADER + b"no field\r\n", "554 5.6.0 Message header has a line that is no field")]:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as smtp:
            smtp.ehlo("x")
            smtp.mail("a@example.org")
            smtp.rcpt("nobody@mail.test")
            code, reply = smtp.data(header + b"\r\nx\r\n")
            assert f"{code} {reply.decode()}".startswith(says)
    assert "status=not signed, reason=Message has more than one From field" in server.log("smtps")


@pytest.mark.peer
def test_swaks(signing: tuple[Instance, Keys]) -> None:
    needs("swaks")
    server, keys = signing
    before = set(server.mail("nobody"))
    run("swaks", "--server", f"127.0.0.1:{server.port}", "--to", "nobody@mail.test", "--from", "joe@example.org",
        "--header", "Subject: by swaks")
    assert keys.verified(newest(server, before)) == ["one", "ed"]


@pytest.mark.peer
def test_opendkim(signing: tuple[Instance, Keys], tmp_path: Path) -> None:
    """OpenDKIM's library verifies each signature of each message."""
    needs("opendkim")
    server, keys = signing
    (tmp_path / "keys").write_text("".join(
        f"{selector}._domainkey.example.org {keys.record(selector)}\n" for selector in ("one", "two", "ed")))
    (tmp_path / "conf").write_text(f"Mode v\nTestPublicKeys {tmp_path}/keys\nMaximumHeaders 0\n")
    for name, text in MESSAGES.items():
        (tmp_path / "message").write_bytes(delivered(server, text))
        said = run("opendkim", "-x", tmp_path / "conf", "-vv", "-t", tmp_path / "message").stdout
        assert re.findall(r"dkim=(\w+).*header\.s=(\w+)", said) == [("pass", "one"), ("pass", "ed")], name


def test_ignore_errors() -> None:
    server, keys = made("ignore_errors = on; total_header_len = 4KB;")
    with server:
        for header in (HEADER + b"From: x@y.z\r\n", HEADER + b"no field\r\n", HEADER + b"X: y\r\n" * 1000):
            assert b"DKIM-Signature" not in delivered(server, header + b"\r\nx\r\n")
        assert keys.verified(delivered(server, MESSAGES["small"])) == ["one", "ed"]
        until(lambda: [found["signed"] for found in server.status()["queue"]["smtps"]] == [1], 10)


def test_a_key_that_others_can_read() -> None:
    """Nothing begins with it, a reload changes nothing, and a server that meets it ends and says why."""
    server, keys = made("")
    path = keys.path("two")
    why = f"{path}: mode 644 makes it no secret; chmod 640 {path}"
    path.chmod(0o644)
    for command in ("start", "check"):
        done = server.ctl(command, check=False)
        assert (done.returncode, done.stderr) == (os.EX_CONFIG, f"{server.conf}: section smtps: {why}\n")
    path.chmod(0o600)
    with server:
        path.chmod(0o644)
        assert server.ctl("reload", check=False).returncode == os.EX_CONFIG
        assert keys.verified(delivered(server, MESSAGES["small"])) == ["one", "ed"]
        os.kill(server.pids()["smtps"], signal.SIGKILL)
        until(lambda: f"option=DKIM_signing, status={why}" in server.log("smtps"), 20)
        until(lambda: {p["name"]: p["state"] for p in server.status()["processes"]}["smtps"] == "failed", 20)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_key_that_only_root_can_read() -> None:
    server, keys = made("")
    os.chown(keys.path("ed"), 0, 0)
    done = server.ctl("check", check=False)
    assert done.returncode == os.EX_CONFIG
    assert f"{keys.path('ed')}: user {pwd.getpwnam('nobody').pw_uid} can't read it; chgrp" in done.stderr
    os.chown(keys.path("ed"), 0, pwd.getpwnam("nobody").pw_gid)
    keys.path("ed").chmod(0o640)
    assert server.ctl("check").returncode == 0
    shutil.rmtree(server.base)


def test_deferred_mail_keeps_its_signature() -> None:
    """Content that waits moves to its file; after kill -9 of all it still is what was signed."""
    server, keys = made(FORMS["simple"])
    sink = Sink()
    sink.refuse = True
    server.edit("qmgr {", "qmgr { retry_delay_min = 1; retry_delay_max = 2;")
    server.add("mt", f"sink.test {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
    server.add("access", "to:@sink.test relay\n")
    with server:
        for name in ("small", "large"):
            with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as smtp:
                smtp.sendmail("a@example.org", ["x@sink.test"], MESSAGES[name])
        until(lambda: len([name for name in server.spool_files() if name.startswith("S")]) == 2, 30)
        server.kill_all()
        server.start()
        sink.refuse = False
        until(server.is_empty, 60)
    sink.close()
    assert [keys.verified(unstuff(text)) for text in sink.messages if text] == [["one", "ed"]] * 2
