"""The recipes of docs/recipes.md (M1 chapter 4), each as it stands there, with real servers around it."""
import re
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lib.dovecot import Dovecot, needs_dovecot
from tests.lib.instance import BIN, Instance, free_port, give, other_user, run, secret_map
from tests.lib.sink import Sink
from tests.lib.tap import Tap
from tests.lib.wait import until

pytestmark = [pytest.mark.system]
PAGE = Path("docs/recipes.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def blocks(title: str) -> list[tuple[str, str]]:
    """A recipe's pieces: which file, and its lines."""
    return re.findall(r"^```\w*\n# ([\w.]+)\n(.*?)^```", SECTIONS[title], re.MULTILINE | re.DOTALL)


class Recipe(Instance):
    """An instance changed as a recipe says; `words` replace what depends on the place, ports and paths."""

    def __init__(self, title: str, words: dict[str, object] | None = None) -> None:
        super().__init__("here.test", user=other_user(), has_tls=True)
        for name, text in blocks(title):
            for word, place in {"/etc/meta1/": f"{self.base}/etc/", **(words or {})}.items():
                text = text.replace(word, str(place))
            if name == "meta1.conf":
                self._merge(text)
            else:
                self._replace(name, text)

    def _replace(self, name: str, text: str) -> None:
        """A map's lines go before those that are there, and instead of those with the same keys."""
        keys = {line.split()[0] for line in text.splitlines()}
        path = self.base / "etc" / name
        path.write_text("\n".join(line for line in path.read_text().splitlines()
                                  if not line.split() or line.split()[0] not in keys) + "\n")
        self.add(name, text)

    def _merge(self, text: str) -> None:
        """Options go into the section that is there; a section with a name is one more."""
        for head, body in re.findall(r"^(\w+(?: \w+)?) \{(.*?)\}\n(?=\w|\Z)", text, re.MULTILINE | re.DOTALL):
            if " " in head:
                body = re.sub(r"user = meta1s; CDB_gid = \d+;", self._account(), body)
                body = body.replace("/usr/local/lib/meta1g/bin/meta1g", f"{BIN}/meta1g")
                self.conf.write_text(f"{self.conf.read_text()}\n{head} {{{body}}}\n")
                continue
            if "listen_socket" in body:
                self.conf.write_text(re.sub(r"listen_socket \{ type = inet;.*?\}", "", self.conf.read_text()))
            self.edit(f"\n{head} {{", f"\n{head} {{{body}\n")

    def _account(self) -> str:
        found = re.search(r"smtps/smtpsfd; (user = \w+;)", self.conf.read_text())
        gid = re.search(r"CDB_gid = \d+;", self.conf.read_text())
        return f"{found[1] if found else ''} {gid[0] if gid else ''}"

    def without(self, section: str) -> None:
        """Remove a section."""
        self.conf.write_text(re.sub(rf"\n{section} \{{.*?\n\}}\n", "\n", self.conf.read_text(), flags=re.DOTALL))


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


def talk(port: int, *commands: str, source: str = "127.0.0.1") -> list[int]:
    """The codes of these commands."""
    with smtplib.SMTP("127.0.0.1", port, "client.test", 20, (source, 0)) as smtp:
        smtp.ehlo()
        return [smtp.docmd(command)[0] for command in commands]


def test_every_recipe_is_tested() -> None:
    tested = re.findall(r'Recipe\(\s*"([^"]+)"', Path(__file__).read_text())
    assert set(tested) == {title for title in SECTIONS if blocks(title)}


def test_only_outgoing(sink: Sink) -> None:
    """Programs send by sendmail; root's mail leaves, too; nobody gets in from another address."""
    port = free_port()
    made = Recipe("Only outgoing mail", {"port = 25": f"port = {port}"})
    made.add("mt", f"far.example {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
    with made:
        for rcpt in ("x@far.example", "root@here.test"):
            run(BIN / "meta1g", "sendmail", "-C", made.conf, "-f", "root", rcpt, input=f"X-Number: {rcpt}\n\nx\n")
        until(lambda: set(sink.seen) == {"x@far.example", "root@here.test"}, 30)
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.2", port)) != 0


@pytest.mark.peer
def test_incoming_to_dovecot() -> None:
    """Dovecot has the mail of those who exist; others are refused in the session."""
    needs_dovecot()
    with Dovecot() as dovecot:
        made = Recipe("Incoming mail, LMTP to Dovecot", {"/run/dovecot/lmtp-meta1": dovecot.socket})
        made.without("lda")
        with made:
            made.send(["info@local.example", "postmaster@local.example"], "Subject: to dovecot\n\nx\n")
            until(lambda: len(dovecot.mail("good")) == 1, 30)
            assert "Subject: to dovecot" in dovecot.mail("good")[0]
            assert talk(made.port, "MAIL FROM:<>", "RCPT TO:<nobody-at-all@local.example>")[-1] == 550


def test_gateway(sink: Sink) -> None:
    """What exists inside is taken for it; hosts inside send anywhere."""
    made = Recipe("A gateway", {"port = 25": f"port = {sink.port}", "10.12.0.1": "127.0.0.1", "10.12.": "127.0.0.12"})
    with made:
        made.send("ann@inside.example", "X-Number: 1\n\nx\n", sender="root@here.test")
        until(lambda: sink.seen["1"] == 1, 30)
        mail = "MAIL FROM:<root@here.test>"
        assert talk(made.port, mail, "RCPT TO:<bob@inside.example>")[-1] == 550
        assert talk(made.port, mail, "RCPT TO:<x@elsewhere.example>")[-1] == 550
        assert talk(made.port, mail, "RCPT TO:<x@elsewhere.example>", source="127.0.0.12")[-1] == 250


def test_backup_mx() -> None:
    """Mail for known addresses waits for the main server; the rest is told to come again."""
    port = free_port()
    made = Recipe("A backup MX", {"10.12.": "127.0.0.12"})
    made.add("mt", f"other.example {{ port={port}; ip={{127.0.0.1}} }}\n")
    with made:
        made.send("user1@other.example", "X-Number: 1\n\nx\n", sender="root@here.test")
        mail = "MAIL FROM:<root@here.test>"
        assert talk(made.port, mail, "RCPT TO:<new@other.example>")[-1] == 451
        assert talk(made.port, mail, "RCPT TO:<new@other.example>", source="127.0.0.12")[-1] == 250
        until(lambda: made.status()["queue"]["queues"]["deferred"] == 1, 30)
        sink = Sink(port)
        run(BIN / "meta1g", "qmgrctl", "-f", made.conf, "flush", "--site", "other.example")
        until(lambda: sink.seen["1"] == 1, 30)
        sink.close()


def test_behind_a_proxy(sink: Sink) -> None:
    """Out through smtpp at the other end of a carried port, in by another; a Tap does ssh's part."""
    there = free_port()
    with ExitStack() as stack:
        out = Tap(there)
        stack.callback(out.close)
        made = Recipe("Behind a proxy, with ssh", {"port = 2525": f"port = {out.port}"})
        made.add("mt", f"far.example {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
        made.add("access", "to:@far.example relay\n")
        key = made.base / "etc" / "proxy.key"
        key.write_text("a long random text\n")
        key.chmod(0o600)
        give(key)
        process = subprocess.Popen([BIN / "meta1g", "smtpp", "-l", f"127.0.0.1:{there}", "-K", str(key)],
                                   user=other_user(), stdout=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        stack.enter_context(made)
        back = Tap(made.port)
        stack.callback(back.close)
        with smtplib.SMTP("127.0.0.1", back.port, timeout=20) as smtp:
            smtp.sendmail("root@here.test", ["x@far.example", "root@here.test"], "X-Number: 1\n\nx\n")
        until(lambda: sink.seen["1"] == 1 and made.mail("root"), 30)
        until(lambda: "through=proxy" in made.log("smtpc"))


def test_users_and_the_world(sink: Sink) -> None:
    """Port 587 wants a password in TLS and sends anywhere; port 25 has mail for here only."""
    port = free_port()
    made = Recipe("A server for users, and one for the world", {"port = 587": f"address = 127.0.0.1; port = {port}"})
    secret_map(made.base / "etc" / "passwords.db",
               run(BIN / "meta1g", "passwd", "joe", input="secret\n").stdout)
    made.add("mt", f"far.example {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
    with made:
        mail, rcpt = "MAIL FROM:<root@here.test>", "RCPT TO:<x@far.example>"
        assert talk(made.port, mail, rcpt)[-1] == 550 and talk(made.port, mail, "RCPT TO:<root@here.test>")[-1] == 250
        assert talk(port, mail, rcpt)[-1] == 550, "without a password"
        with smtplib.SMTP("127.0.0.1", port, "client.test", 20) as smtp:
            smtp.starttls(context=ssl._create_unverified_context())
            smtp.login("joe", "secret")
            smtp.sendmail("root@here.test", "x@far.example", "X-Number: 1\n\nx\n")
        until(lambda: sink.seen["1"] == 1, 30)
