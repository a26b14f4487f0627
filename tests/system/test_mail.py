"""Mail through the real five processes: submitted, delivered, relayed, refused, bounced."""
import os
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.instance import BIN, Instance, other_user, run
from tests.lib.peers import needs
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server() -> Iterator[Instance]:
    instance = Instance("local.test", "retry_delay_min = 1; retry_delay_max = 2; DSN_handling { merge_delay_max = 1; }")
    instance.add("aliases", "list: <root@local.test> <nobody@local.test>\n")
    with instance:
        yield instance


def body_of(path: Path) -> str:
    return path.read_text()


def test_smtplib_to_maildir(server: Instance) -> None:
    server.send("root@local.test", "Subject: one\n\n.dot\n..two\nlast\n")
    path = until(lambda: [p for p in server.mail("root") if "Subject: one" in body_of(p)])[0]
    text = body_of(path)
    assert text.startswith("Return-Path: <a@mail.test>\nDelivered-To: root@local.test\n")
    assert "\n.dot\n..two\nlast\n" in text
    assert "(meta1g-" in text
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    until(server.is_empty)
    assert server.spool_files() == []


@pytest.mark.peer
def test_swaks_to_maildir(server: Instance) -> None:
    needs("swaks")
    run("swaks", "--server", f"127.0.0.1:{server.port}", "--from", "x@swaks.test", "--to", "root@local.test",
        "--header", "Subject: by swaks", "--pipeline")
    until(lambda: any("Subject: by swaks" in body_of(p) for p in server.mail("root")))


def test_detail_goes_to_the_user(server: Instance) -> None:
    server.send("root+detail@local.test", "Subject: detail\n\nx\n")
    until(lambda: any("Delivered-To: root+detail@local.test" in body_of(p) for p in server.mail("root")))


def test_alias_expands_to_several(server: Instance) -> None:
    server.send("list@local.test", "Subject: to the list\n\nx\n")
    for user in ("root", "nobody"):
        until(lambda user=user: any("Subject: to the list" in body_of(p) for p in server.mail(user)))
    until(server.is_empty)
    assert server.spool_files() == []


def test_large_message_streams_to_its_own_file(server: Instance) -> None:
    text = "Subject: large\n\n" + ("0123456789" * 7 + "\n") * 20000
    server.send(["root@local.test", "nobody@local.test"], text)
    path = until(lambda: [p for p in server.mail("root") if p.stat().st_size > 1_000_000])[0]
    assert body_of(path).count("0123456789") == 140_000
    until(server.is_empty)
    until(lambda: server.spool_files() == [])


def test_refusals(server: Instance) -> None:
    with smtplib.SMTP("127.0.0.1", server.port) as smtp:
        smtp.ehlo()
        assert smtp.mail("a@mail.test")[0] == 250
        assert smtp.rcpt("unknown.user@local.test")[0] == 550
        assert smtp.rcpt("x@elsewhere.test")[0] == 550
        assert smtp.rcpt("postmaster@local.test")[0] == 250


def test_early_talker_is_refused(server: Instance) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(b"EHLO early\r\n")
        assert sock.recv(200)[:3] in (b"554", b"220")  # who is late by a packet is not early


def test_relay_only_where_the_access_map_says(server: Instance) -> None:
    sink = Sink()
    server.add("mt", f"relay.test {{ port={sink.port}; ip={{127.0.0.1}} }}\n"
                     f"closed.test {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
    server.add("access", "to:@relay.test relay\nfrom:bad@mail.test error:551 5.7.1 No, thanks\n"
                         "to:@discard.test relay\n")
    server.ctl("reload")
    server.send("x@relay.test", "X-Number: relayed\n\nx\n")
    until(lambda: sink.seen["relayed"] == 1)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        server.send("x@closed.test")
    sink.close()


def test_permanent_failure_comes_back_as_dsn(server: Instance) -> None:
    sink = Sink()
    sink.refuse, sink.reply = True, b"550-5.1.1 no such user\r\n550 5.1.1 at all\r\n"
    server.add("mt", f"bounce.test {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
    server.add("access", "to:@bounce.test relay\n")
    server.ctl("reload")
    server.send("gone@bounce.test", "Subject: to be returned\n\ntext\n", sender="nobody@local.test")
    path = until(lambda: [p for p in server.mail("nobody") if "Undeliverable mail" in body_of(p)])[0]
    text = body_of(path)
    assert "From: Mailer-Daemon@local.test" in text
    assert "550 5.1.1 <gone@bounce.test>... no such user" in text
    assert "during RCPT" in text
    assert "Subject: to be returned" in text
    assert text.startswith("Return-Path: <>")
    until(server.is_empty)
    assert server.spool_files() == []
    sink.close()


def test_double_bounce_ends(server: Instance) -> None:
    """A DSN that can't be delivered goes to the double bounce address, and when that fails it ends."""
    sink = Sink()
    sink.refuse, sink.reply = True, b"550 5.1.1 no\r\n"
    server.add("mt", f"double.test {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
    server.add("access", "to:@double.test relay\n")
    server.ctl("reload")
    server.send("gone@double.test", sender="gone.too@double.test")
    until(lambda: "status=double bounce failed" in server.log("qmgr"), 30)
    until(server.is_empty)
    assert server.spool_files() == []
    sink.close()


def test_statistics_and_log_rewind(server: Instance) -> None:
    pid = server.pids()["smtps"]
    subprocess.run(["kill", "-USR1", str(pid)], check=True)
    until(lambda: '"program": "smtps"' in server.log("smtps"))
    subprocess.run(["kill", "-USR2", str(pid)], check=True)
    until(lambda: '"program": "smtps"' not in server.log("smtps"))


def test_sessions_over_the_limit_get_421() -> None:
    instance = Instance("limit.test")
    instance.edit("connections_max = 10000", "connections_max = 2")
    with instance:
        first = [smtplib.SMTP("127.0.0.1", instance.port) for _ in range(2)]
        with pytest.raises(smtplib.SMTPConnectError) as caught:
            smtplib.SMTP("127.0.0.1", instance.port)
        assert caught.value.smtp_code == 421
        first[0].quit()
        until(lambda: _can_connect(instance.port))
        first[1].quit()


def _can_connect(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port):
            return True
    except smtplib.SMTPException:
        return False


def test_daemons_do_not_run_as_root(server: Instance) -> None:
    if os.geteuid() == 0:
        for name in ("qmgr", "smar", "smtps", "smtpc", "lda"):
            done = run(BIN / "meta1g", name, "-f", server.conf, check=False)
            assert done.returncode == os.EX_NOPERM
            assert "must not run as root" in done.stderr
        for name, pid in server.pids().items():
            uid = os.stat(f"/proc/{pid}").st_uid
            assert (uid == 0) is (name == "mcp"), name
    assert (other_user() is None) is (os.geteuid() != 0)


def test_several_processes_share_the_port() -> None:
    instance = Instance("many.test")
    instance.edit("smtps {\n  flags", "smtps {\n  processes = 3;\n  flags")
    with instance:
        parent = instance.pids()["smtps"]
        until(lambda: instance.status()["queue"]["peers"]["smtps"] == 3)
        for number in range(30):
            instance.send("root@many.test", f"Subject: {number}\n\nx\n")
        until(lambda: len(instance.mail("root")) == 30)
        numbers = {line.split("ss_ta=")[1][17:19] for line in instance.log("smtps").splitlines() if "size=" in line}
        assert len(numbers) > 1, "more than one process served"
        worker = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
        os.kill(worker, 9)
        until(lambda: "status=ended, exit=-9" in instance.log("smtps"))
        until(lambda: instance.status()["queue"]["peers"]["smtps"] == 3)
