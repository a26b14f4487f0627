"""The program sendmail as programs call it: by another user, against a real server; exit codes of sysexits."""
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.instance import BIN, Instance, other_user
from tests.lib.wait import until

pytestmark = [pytest.mark.system]


@pytest.fixture(scope="module")
def server() -> Iterator[Instance]:
    made = Instance("local.test", user=other_user())
    made.add("aliases", "team: root\n")
    with made:
        yield made


def sendmail(server: Instance, *words: str, text: str = "Subject: x\n\nbody\n") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([BIN / "meta1g", "sendmail", "-C", server.conf, *words], input=text, capture_output=True,
                          text=True, timeout=60, check=False, user="nobody" if os.geteuid() == 0 else None)


def newest(server: Instance, before: set[Path]) -> str:
    return until(lambda: set(server.mail("root")) - before, 20, "it is delivered").pop().read_text()


def test_a_message(server: Instance) -> None:
    """From who runs it, with the fields that must be there; recipients without a domain are here."""
    before = set(server.mail("root"))
    done = sendmail(server, "-i", "-F", "Some Body", "root", text="Subject: x\nTo: you\n\n.\nbody \u00e9\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = newest(server, before)
    user = "nobody" if os.geteuid() == 0 else os.environ["USER"]
    assert f'From: "Some Body" <{user}@local.test>' in text and "\nMessage-ID: <" in text and "\nDate: " in text
    assert text.startswith(f"Return-Path: <{user}@local.test>") and text.endswith("\n\n.\nbody \u00e9\n")


def test_recipients_of_the_message(server: Instance) -> None:
    """-t: all of To, Cc and Bcc, and Bcc is for nobody's eyes; the sender as told."""
    before = set(server.mail("root"))
    assert sendmail(server, "-t", "-f", "<>", text="To: Team <team>\nBcc: root@local.test\n\nbody\n").returncode == 0
    text = newest(server, before)
    assert "Bcc" not in text and text.startswith("Return-Path: <>")


@pytest.mark.parametrize(("words", "code", "said"), [
    (["nobody-here"], os.EX_NOUSER, "sendmail: nobody-here@local.test: 550 5.1.1"),
    (["x@elsewhere.test"], os.EX_NOUSER, "550 5.7.1"), ([], os.EX_DATAERR, "no recipients"),
    (["a\nb"], os.EX_DATAERR, "is no address"), (["-k"], os.EX_USAGE, "sendmail -h"),
    (["-bd"], os.EX_USAGE, "meta1g-ctl"),
])
def test_exit_codes(server: Instance, words: list[str], code: int, said: str) -> None:
    done = sendmail(server, *words)
    assert done.returncode == code and said in done.stderr


def test_nobody_is_there(server: Instance, tmp_path: Path) -> None:
    """A caller that tries again later has lost nothing."""
    conf = tmp_path / "meta1.conf"
    conf.write_text("smtps { start_action = pass; listen_socket { type = inet; address = 127.0.0.1; port = 9; } }\n")
    done = subprocess.run([BIN / "meta1g", "sendmail", "-C", conf, "root"], input="x\n", capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == os.EX_TEMPFAIL and "refused" in done.stderr


def test_smtp_on_standard_input(server: Instance) -> None:
    """-bs: what mail programs and uucp speak."""
    before = set(server.mail("root"))
    process = subprocess.Popen([BIN / "meta1g", "sendmail", "-C", server.conf, "-bs"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    for line, code in ((b"", b"220"), (b"HELO x", b"250"), (b"MAIL FROM:<a@b.test>", b"250"),
                       (b"RCPT TO:<root@local.test>", b"250"), (b"DATA", b"354"),
                       (b"Subject: bs\r\n\r\nx\r\n.", b"250"), (b"QUIT", b"221")):
        process.stdin.write(line + b"\r\n" if line else b"")
        process.stdin.flush()
        assert process.stdout.readline().startswith(code)
    assert process.wait(20) == 0
    assert "Subject: bs" in newest(server, before)


@pytest.mark.root
def test_queue_and_aliases(server: Instance) -> None:
    """-bp shows the queue, -bi makes the map of aliases, -q tries all mail."""
    for words, said in ((["-bp"], "queue is empty"), (["-q"], "")):
        done = subprocess.run([BIN / "meta1g", "sendmail", "-C", server.conf, *words], capture_output=True, text=True,
                              timeout=60, check=False)
        assert done.returncode == 0 and said.lower() in done.stdout.lower(), done
    path = server.base / "etc" / "aliases.db"
    was = path.stat().st_mtime_ns
    subprocess.run([BIN / "meta1g", "sendmail", "-C", server.conf, "-bi"], timeout=60, check=True)
    assert path.stat().st_mtime_ns != was
