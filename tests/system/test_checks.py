"""Sections check of a real server (M1 8.5.1)."""
import smtplib
from collections.abc import Iterator

import pytest

from tests.lib.instance import BIN, Instance, other_user, run
from tests.lib.wait import until

pytestmark = pytest.mark.system

CHECKS = r"""
  check connect { condition == client_ip == "127.0.0.66"; action = permfail; }
  check connect { condition == client_ip == "127.0.0.67"; action = tempfail; }
  check connect { condition == client_ip =~ "^127[.]0[.]0[.]6[0-9]$" && hostname == "my.dom"; action = abort; }
  check mail { condition == mail =~ "@spam[.]dom$"; action = permfail; }
  check mail { condition == transactions > 3 || mail == "abort@out.dom"; action = abort; }
  check rcpt { condition == transaction_rcpts_ok >= 2 && client_ip == "127.0.0.2"; action = tempfail; }
  check rcpt { condition == session_rcpts_total > 3; action = tempfail; }
  check data { condition == 4 / (transaction_rcpts_total - 1) == 2 && mail =~ "^data@"; action = permfail; }
  check eom { condition == message_size > 2000; action = permfail; }
  check eom { condition == message_id =~ "^<bad@" || hops >= 2; action = tempfail; }
  check eom { condition == match(message_id, "^<abort@"); action = abort; }
"""
POLICY = "Rejected by the policy of this server"
NOW = "Rejected for now by the policy of this server, try again later"


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    made = Instance("my.dom", user=other_user())
    made.edit("flags = { 8bitmime", f"{CHECKS}  XCLIENT_peers = {{ 127.0.0.3 }}\n  flags = {{ 8bitmime")
    made.edit("map passwd { type = passwd; }", "map passwd { type = passwd; }\n  DNS { timeout = 1; retries = 0; "
              "nameservers = { 127.0.0.1 }; port = 9; }")
    (made.base / "etc" / "access").write_text("")
    made.add("access", "cltaddr:127.0.0.1 quick:ok\ncltaddr:127.0.0.2 quick:relay\n")
    with made:
        yield made


def connect(instance: Instance, client: str = "127.0.0.1") -> smtplib.SMTP:
    smtp = smtplib.SMTP(timeout=30, source_address=(client, 0))
    smtp.connect("127.0.0.1", instance.port)
    smtp.ehlo("client.dom")
    return smtp


def wait_for(instance: Instance, words: str) -> None:
    until(lambda: words in instance.log("smtps"), 10, words)


@pytest.mark.parametrize(("client", "answer", "label"), [
    ("127.0.0.66", (550, f"5.7.1 {POLICY}"), "connect 1, action=permfail"),
    ("127.0.0.67", (421, f"4.7.1 {NOW}"), "connect 2, action=tempfail"),  # the session is over: RFC 5321 wants 421
    ("127.0.0.68", (421, f"4.7.1 {POLICY}, closing"), "connect 3, action=abort"),
])
def test_connect(instance: Instance, client: str, answer: tuple[int, str], label: str) -> None:
    smtp = smtplib.SMTP(timeout=30, source_address=(client, 0))
    code, text = smtp.connect("127.0.0.1", instance.port)
    assert (code, text.decode()) == answer
    with pytest.raises(smtplib.SMTPServerDisconnected):
        smtp.noop()
    wait_for(instance, f"status=check {label}")


@pytest.mark.parametrize("client", ["127.0.0.1", "127.0.0.2"])
def test_sender_is_refused_whatever_the_access_map_says(instance: Instance, client: str) -> None:
    with connect(instance, client) as smtp:
        assert smtp.mail("any@Spam.Dom") == (550, f"5.7.1 {POLICY}".encode())
        assert smtp.mail("any@spam.dom.org")[0] == 250
    wait_for(instance, "status=check mail 1, action=permfail")


def test_abort_closes_the_session(instance: Instance) -> None:
    smtp = connect(instance)
    assert smtp.docmd("MAIL FROM:<abort@out.dom>") == (421, f"4.7.1 {POLICY}, closing".encode())
    with pytest.raises(smtplib.SMTPServerDisconnected):
        smtp.noop()
    wait_for(instance, "status=check mail 2, action=abort")


def test_counts_of_a_session(instance: Instance) -> None:
    smtp = connect(instance)
    answers = []
    for rcpts in (["root"], ["root", "no-such-user"], ["root"], []):
        answers.append(smtp.mail("a@my.dom")[0])
        answers += [smtp.rcpt(f"{name}@my.dom")[0] for name in rcpts]
        if rcpts:
            smtp.docmd("RSET")
    assert answers == [250, 250, 250, 250, 550, 250, 451, 421]  # the fourth recipient, the fourth transaction
    wait_for(instance, "status=check rcpt 2, action=tempfail")


def test_counts_of_a_transaction(instance: Instance) -> None:
    with connect(instance, "127.0.0.2") as smtp:
        smtp.mail("a@my.dom")
        codes = [smtp.rcpt(f"{name}@my.dom")[0] for name in ("root", "no-such-user", "daemon")]
        assert codes == [250, 550, 250]
        smtp.docmd("RSET")
        smtp.mail("a@my.dom")
    with connect(instance, "127.0.0.2") as smtp:
        smtp.mail("a@my.dom")
        assert [smtp.rcpt(f"{name}@my.dom")[0] for name in ("root", "daemon")] == [250, 250]
        assert smtp.rcpt("bin@my.dom") == (451, f"4.7.1 {NOW}".encode())
        assert smtp.data("Subject: x\n\nx\n")[0] == 250
    wait_for(instance, "status=check rcpt 1, action=tempfail")


def test_data_and_division_by_zero(instance: Instance) -> None:
    with connect(instance) as smtp:
        smtp.mail("data@my.dom")
        smtp.rcpt("root@my.dom")
        assert smtp.data("x\n")[0] == 250  # 1 / 0: taken for false
        smtp.mail("data@my.dom")
        smtp.rcpt("root@my.dom")
        smtp.rcpt("daemon@my.dom")
        smtp.rcpt("bin@my.dom")
        assert smtp.docmd("DATA") == (550, f"5.7.1 {POLICY}".encode())
    wait_for(instance, "func=smtps, check=data 1, status=division by zero; taken for false")


def send(instance: Instance, text: str) -> int:
    with connect(instance) as smtp:
        smtp.mail("")
        smtp.rcpt("root@my.dom")
        return smtp.data(text)[0]


def test_end_of_message(instance: Instance) -> None:
    assert send(instance, "Subject: x\n\n" + "x" * 1900) == 250
    assert send(instance, "Subject: x\n\n" + "x" * 2000) == 550
    assert send(instance, "Message-Id: <bad@x>\n\nx") == 451
    assert send(instance, "Received: a\n\nx") == 250
    assert send(instance, "Received: a\nReceived: b\n\nx") == 451
    smtp = connect(instance)
    smtp.mail("")
    smtp.rcpt("root@my.dom")
    assert smtp.data("Message-Id: <abort@x>\n\nx")[0] == 421
    with pytest.raises(smtplib.SMTPServerDisconnected):
        smtp.noop()
    wait_for(instance, "status=check eom 3, action=abort")


def test_chunks(instance: Instance) -> None:
    """BDAT is DATA and final dot in one."""
    for mail, rcpts, text, code in (("data", 3, "x", 550), ("a", 1, "x" * 2001, 550), ("a", 1, "x" * 1998, 250)):
        with connect(instance) as smtp:
            smtp.mail(f"{mail}@my.dom")
            for name in ("root", "daemon", "bin")[:rcpts]:
                smtp.rcpt(f"{name}@my.dom")
            smtp.send(f"BDAT {len(text) + 2} LAST\r\n{text}\r\n")
            assert smtp.getreply()[0] == code


def test_client_behind_a_proxy(instance: Instance) -> None:
    smtp = connect(instance, "127.0.0.3")
    assert smtp.docmd("XCLIENT ADDR=192.0.2.9")[0] == 220
    smtp.close()
    smtp = connect(instance, "127.0.0.3")
    assert smtp.docmd("XCLIENT ADDR=127.0.0.68") == (421, f"4.7.1 {POLICY}, closing".encode())


def test_mistakes_stop_a_reload(instance: Instance) -> None:
    text = instance.conf.read_text()
    try:
        instance.edit("check mail { condition == mail =~", "check mail { condition == rcpt =~")
        done = instance.ctl("reload", check=False)
        assert done.returncode != 0
        assert "rcpt has no value yet in check mail; it needs check rcpt, data or eom" in done.stdout + done.stderr
        assert run(BIN / "meta1g", "smconf", instance.conf, check=False).returncode == 78
    finally:
        instance.conf.write_text(text)
    assert send(instance, "Subject: x\n\nx\n") == 250
