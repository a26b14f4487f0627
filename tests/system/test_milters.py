"""Real milters with real processes: each is asked, what it wants is done, and the next one sees it."""
import re
import shutil
import smtplib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email import message_from_bytes
from email.message import Message

import pytest

from meta1g.proto.smtp.data import unstuff
from tests.lib.dkimkeys import Keys
from tests.lib.instance import BIN, Instance, other_user, run
from tests.lib.milters import ALL, EICAR, GTUBE, GTUBE_MARK, ClamAv, Everything, Milter, OpenDkim, Rspamd, SpamAssassin
from tests.lib.wait import until

pytestmark = [pytest.mark.system, pytest.mark.peer]


class Mta:
    """An instance with all milters that are there, and our own signature for signed.test."""

    def __init__(self, stack: ExitStack) -> None:
        found = [stack.enter_context(kind()) for kind in ALL if kind.is_there()]
        self.milters: dict[type[Milter], Milter] = {type(milter): milter for milter in found}
        self.server = Instance("mail.test", user=other_user())
        self.keys = Keys(self.server.base / "etc", "own")
        if (user := other_user()) is not None:
            shutil.chown(self.keys.path("own"), user)
        away = 'milter away { socket { type = unix; path = "/nonexistent"; } default_action = accept; }\n'
        signing = f"DKIM_signing {{ {self.keys.section('own', 'from = signed.test;', 'signed.test')} }}\n"
        sections = "".join(milter.section for milter in found)
        self.server.edit("flags = { 8bitmime, ", f"{sections}{away}{signing}XCLIENT_peers = {{ 127.0.0.1 }}\n"
                         "  flags = { 8bitmime, ")
        self.server.add("access", "to:550@mail.test relay\nto:421@mail.test relay\nto:accept@mail.test relay\n")
        stack.enter_context(self.server)

    def needs(self, kind: type[Milter]) -> Milter:
        if kind not in self.milters:
            pytest.skip(f"needs {kind.name if kind is not Everything else 'python3-milter'}")
        return self.milters[kind]

    @property
    def everything(self) -> Everything:
        found = self.needs(Everything)
        assert isinstance(found, Everything)
        return found

    @contextmanager
    def session(self, ip: str = "") -> Iterator[smtplib.SMTP]:
        with smtplib.SMTP("127.0.0.1", self.server.port, timeout=60) as smtp:
            if ip:
                assert smtp.docmd(f"XCLIENT ADDR={ip} NAME=client.example.org")[0] == 220
            smtp.ehlo("client.test")
            yield smtp

    def send(self, text: str | bytes, *, ip: str = "", mail: str = "root@mail.test",
             to: tuple[str, ...] = ("nobody@mail.test",)) -> tuple[int, bytes]:
        """The reply to the final dot."""
        with self.session(ip) as smtp:
            reply = smtp.mail(mail)
            assert reply[0] == 250, reply
            for address in to:
                assert smtp.rcpt(address)[0] == 250
            return smtp.data(text)

    def delivered(self, text: str | bytes, user: str = "nobody", **options: str) -> bytes:
        """What comes of a message in a mailbox, as it was sent by SMTPC."""
        before = set(self.server.mail(user))
        code, reply = self.send(text, **options)  # type: ignore[arg-type]
        assert code == 250, reply
        (path,) = until(lambda: set(self.server.mail(user)) - before, 20, "it is delivered")
        return path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@pytest.fixture(scope="module")
def mta() -> Iterator[Mta]:
    with ExitStack() as stack:
        yield Mta(stack)


def doing(*actions: str, head: str = "", body: str = "old body\r\n") -> str:
    """A message that has everyaction.py do this."""
    fields = "".join(f"X-Do: {action}\r\n" for action in actions)
    return f"From: Joe <joe@example.org>\r\nSubject:  two spaces\r\n{head}{fields}\r\n{body}"


def names(message: Message) -> list[str]:
    return [name for name in message if name not in ("X-Do", "X-Virus-Scanned", "X-Virus-Status", "X-Spam-Status",
                                                     "X-Spam-Checker-Version", "X-Spam-Level", "Authentication-Results",
                                                     "X-Spam", "X-Rspamd-Action", "DKIM-Filter")]


def test_header(mta: Mta) -> None:
    """Added, inserted by position, changed, removed, folded."""
    mta.needs(Everything)
    found = message_from_bytes(mta.delivered(doing(
        "add X-Added one|\ttwo|three", "insert 0 X-Top a", "insert 1 X-Second b", "insert 3 X-Behind c",
        "change Subject 1 changed", "change Received 1 theirs", "change X-Gone 2", "change X-New 7 was not there",
        head="Received: from far\r\n\tby away\r\nX-Gone: 1\r\nX-Gone: 2\r\nX-Gone: 3\r\n")))
    want = ["X-Top", "X-Second", "Received", "X-Behind", "From", "Subject", "Received", "X-Gone", "X-Gone", "X-Added",
            "X-New"]
    assert found.get_payload() == "old body\r\n"
    shown = names(found)
    begin = shown.index("X-Top")
    assert shown[begin:] == want
    assert found.get_all("X-Gone") == ["1", "3"]
    assert (found["X-Added"], found["Subject"]) == ("one\r\n\ttwo\r\n\tthree", "changed")
    assert [value.split()[0] for value in found.get_all("Received", [])[1:]] == ["from", "theirs"]
    assert "by mail.test" in found.get_all("Received", [])[1]
    told = mta.everything.told
    assert "header 'Received' ' from far\\n\\tby away'" in told
    assert "header 'Subject' '  two spaces'" in told


def test_envelope(mta: Mta) -> None:
    """Sender, recipients with parameters, one less."""
    mta.needs(Everything)
    text = doing("from b@example.org ENVID=x", "to root@mail.test NOTIFY=NEVER", "not-to NOBODY@mail.test",
                 "to not@an@address")
    before = set(mta.server.mail("nobody"))
    found = message_from_bytes(mta.delivered(text, "root"))
    assert found["Return-Path"] == "<b@example.org>"
    assert set(mta.server.mail("nobody")) == before
    assert "change=AddRcpt <not@an@address>, status=change refused" in mta.server.log("smtps")


def test_body(mta: Mta) -> None:
    """Replaced by a small one, by a large one that goes to the disk, and seen by who comes next."""
    mta.needs(Everything)
    assert mta.delivered(doing("body Hello|.dot||end")).endswith(b"\r\n\r\nHello\r\n.dot\r\n\r\nend\r\n")
    large = mta.delivered(doing("large 25", "add X-More yes"))
    assert message_from_bytes(large)["X-More"] == "yes"
    assert large.partition(b"\r\n\r\n")[2].startswith(b"The quick brown fox.\r\n.dots\r\n" * 50_000)
    if ClamAv in mta.milters:
        assert mta.send(doing(f"body {EICAR}"))[0] == 550
    assert not [name for name in mta.server.spool_files() if not re.fullmatch(r"S[0-9A-F]{18}", name)]


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_our_signature_covers_what_is_sent(mta: Mta, size: int) -> None:
    mta.needs(Everything)
    body = ("x" * 70 + "\r\n.\r\n") * (size // 70)
    text = doing("add X-Added a", "insert 0 Subject again", "body New|.one", body=body)
    for actions in (text, text.replace("X-Do: body New|.one\r\n", "")):
        sent = mta.delivered(actions.replace("joe@example.org", "joe@signed.test"))
        assert sent.endswith(b"New\r\n.one\r\n" if "body New" in actions else body.encode())
        assert mta.keys.verified(sent[sent.index(b"Subject: again"):]) == ["own"]


def test_replies(mta: Mta) -> None:
    """At every stage: 4yz, 5yz, several lines, discarded, 421."""
    mta.needs(Everything)
    with mta.session() as smtp:
        assert smtp.docmd("FROB nicate") == (502, b"5.7.9 as you like\n5.7.9 a second line, 100%")
        assert smtp.docmd("XYZZY")[0] == 500
        assert smtp.mail("reject@do.test")[0] == 550
        assert smtp.mail("tempfail@do.test") == (451, b"4.7.1 Service unavailable, try again later")
        assert smtp.mail("452@do.test")[0] == 452
        assert smtp.mail("a@do.test")[0] == 250
        assert smtp.rcpt("550@mail.test") == (550, b"5.7.9 as you like\n5.7.9 a second line, 100%")
        assert smtp.rcpt("unknown.user@mail.test")[0] == 550
        assert smtp.rcpt("nobody@mail.test")[0] == 250
        assert smtp.data(doing("eoh 554"))[0] == 554
    for actions, code in ((["end 451"], 451), (["end reject"], 550), (["end discard"], 250), (["end accept"], 250)):
        assert mta.send(doing("add X-Answer x", *actions))[0] == code
    with mta.session() as smtp:
        smtp.ehlo("reject.test")
        assert smtp.mail("a@b.test")[0] == 550
    with mta.session() as smtp:
        smtp.mail("a@do.test")
        assert smtp.rcpt("421@mail.test")[0] == 421
    told = mta.everything.told
    assert "unknown XYZZY" in told
    assert "rcpt {rcpt_mailer} error" in told
    assert "rcpt {rcpt_host} 5.1.1" in told
    assert "abort" in told


def test_commands_between_chunks(mta: Mta) -> None:
    """libmilter gives a session up that says an unknown command there: no way around it for who knows that."""
    mta.needs(Everything)
    with mta.session() as smtp:
        smtp.mail("a@do.test")
        smtp.rcpt("nobody@mail.test")
        wire = doing("end reject").encode()
        smtp.send(b"BDAT %d\r\n%b" % (len(wire), wire))
        assert smtp.getreply()[0] == 250
        assert smtp.docmd("XYZZY between")[0] == smtp.docmd("FROB nicate")[0] == 500
        assert smtp.docmd("BDAT 0 LAST")[0] == 550
    assert "XYZZY between" not in mta.everything.told


def test_macros(mta: Mta) -> None:
    """They come as they do from sendmail and Postfix; and the rest of a body that is skipped does not come."""
    milter = mta.everything
    code, reply = mta.send(doing("skip", head="Message-ID: <m@x>\r\n", body="x\r\n" * 50_000), ip="192.0.2.7")
    assert code == 250
    ta = reply.split()[-1].decode()
    lines = until(lambda: f"eom i {ta}\n" in milter.told and milter.told, 5).splitlines()
    for line in ("connect j mail.test", "connect _ client.example.org [192.0.2.7]", "connect {daemon_name} smtps",
                 "connect {client_addr} 192.0.2.7", "connect {client_name} client.example.org",
                 "connect client.example.org 2 ('192.0.2.7', 0)", f"mail i {ta}", "mail {mail_addr} root@mail.test",
                 "rcpt {rcpt_addr} nobody@mail.test", "rcpt {rcpt_host} mail.test", "eom {msg_id} <m@x>",
                 "eom {nrcpts} 1", "helo client.test"):
        assert line in lines, line
    sizes = [int(line.split()[1]) for line in lines[:lines.index(f"eom i {ta}")] if re.fullmatch(r"eom \d+", line)]
    assert 0 < sizes[-1] < 150_000


def test_quarantine(mta: Mta) -> None:
    mta.needs(Everything)
    code, reply = mta.send(doing("quarantine looks, odd"))
    ta = reply.split()[-1].decode()

    def held() -> list[str]:
        return [rcpt["reason"] for found in mta.server.queue() for rcpt in found["recipients"]
                if found["id"] == ta and rcpt["held"]]

    assert code == 250
    assert until(held, 10) == ["450 4.7.0 Quarantine: looks, odd"]
    before = set(mta.server.mail("nobody"))
    run(BIN / "meta1g", "qmgrctl", "-f", mta.server.conf, "release", "--id", ta)
    until(lambda: set(mta.server.mail("nobody")) - before, 10, "it is delivered")
    until(mta.server.is_empty, 10)


def test_rspamd(mta: Mta) -> None:
    mta.needs(Rspamd)
    code, reply = mta.send(f"Subject: x\r\n\r\n{GTUBE}\r\n")
    assert (code, b"Gtube" in reply) == (554, True)
    found = message_from_bytes(mta.delivered(f"Subject: x\r\n\r\n{GTUBE_MARK}\r\n"))
    assert found["X-Spam"] == "Yes", found.as_string()


def test_clamav(mta: Mta) -> None:
    mta.needs(ClamAv)
    assert mta.send(f"Subject: x\r\n\r\n{EICAR}\r\n") == (550, b"5.7.1 found Eicar-Test.UNOFFICIAL")
    assert message_from_bytes(mta.delivered("Subject: x\r\n\r\nx\r\n"))["X-Virus-Status"] == "Clean"


def test_spamassassin(mta: Mta) -> None:
    """Its milter adds fields that it takes from what spamc says."""
    mta.needs(SpamAssassin)
    found = message_from_bytes(mta.delivered("Subject: x\r\nFrom: a@example.org\r\n\r\nhello\r\n"))
    assert found["X-Spam-Checker-Version"].startswith("SpamAssassin")


def test_opendkim(mta: Mta) -> None:
    """It signs what a host of its own sends, and says of other mail whether the signature is right."""
    milter = mta.needs(OpenDkim)
    assert isinstance(milter, OpenDkim)
    signed = mta.delivered(doing("add X-Added a") if Everything in mta.milters else doing(), ip="192.0.2.1")
    begin = signed.index(b"DKIM-Signature")
    assert milter.keys.verified(signed[begin:]) == ["od"]
    again = unstuff(signed[begin:])
    for text, result in ((again, "pass"), (again.replace(b"old body", b"new body"), "fail")):
        found = message_from_bytes(mta.delivered(text, ip="192.0.2.9"))
        assert f"dkim={result}" in found["Authentication-Results"]


def test_one_that_is_away(mta: Mta) -> None:
    """It is told once, nobody waits for it, and counts are kept."""
    log = mta.server.log("smtps")
    assert log.count("milter=away, status=away, reason=No such file or directory") == 1
    if Everything in mta.milters:
        counted: Callable[[], bool] = lambda: "everything" in (  # noqa: E731
            mta.server.status()["queue"]["smtps"][0].get("filters", {}))
        until(counted, 10)


def test_last_one_dies(mta: Mta) -> None:
    """In the middle of a message: the client is told to try again, and then again with it."""
    milter = mta.everything
    with mta.session() as smtp:
        smtp.mail("a@example.org")
        smtp.rcpt("nobody@mail.test")
        milter.stop()
        assert smtp.docmd("DATA")[0] == 451
        smtp.rset()
        assert smtp.mail("a@example.org")[0] == 451
    with pytest.raises(smtplib.SMTPConnectError, match="421"), mta.session():
        pass
    milter.run()
    milter.path.chmod(0o666)
    until(lambda: _is_taken(mta), 15, "it is asked again", pause=0.2)
    assert "milter=everything, status=back" in mta.server.log("smtps")


def _is_taken(mta: Mta) -> bool:
    try:
        return mta.send(doing("end accept"))[0] == 250
    except smtplib.SMTPConnectError:
        return False
