"""A policy at a real SMTP server: each call and each function of M1 15.1, and what clients and mailboxes see of it."""
import hashlib
import smtplib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from meta1g.pmilter import (
    SMTP_R_ACCEPT,
    SMTP_R_CONT,
    SMTP_R_DISCARD,
    SMTP_R_OK,
    SMTP_R_RPLCMSG,
    Cap,
    HdrMod,
    PolicyMilter,
    Session,
    Stage,
    quick,
)
from meta1g.pmilter import Server as Context
from tests.lib.instance import Instance, free_port, more_smtps, other_user
from tests.lib.pmilters import serving
from tests.lib.raw import Raw
from tests.lib.wait import until

pytestmark = [pytest.mark.system]
ME = "postmaster@local.test"
BODY = b"Subject: test\r\n\r\nbody\r\n"


class Told(PolicyMilter):
    """Does what senders, recipients and subjects say, and keeps what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.digests: dict[str, str] = {}
        self.status: list[int] = []
        self._lock = threading.Lock()

    def note(self, *call: object) -> None:
        with self._lock:
            self.calls.append(call)

    def negotiate(self, server: Context) -> None:
        server.own = server.hostname
        server.setmaclist(Stage.CONNECT, "srvhostname", "seid", "client_resolve")
        server.setmaclist(Stage.MAIL, "mail_taid")
        server.setmaclist(Stage.DOT, "dot_msgid", "hops")
        server.wanted.capabilities |= Cap.RCPT_ST

    def connect(self, session: Session, hostname: str, address: str) -> int | None:
        session.own = hashlib.sha256()
        self.note("connect", address, session.getmac("srvhostname"), session.getmac("seid"), session.client_port > 0)
        if address == "127.0.0.2":
            return session.refuse("554 5.7.1 Not from you")
        if address == "127.0.0.3":
            return quick(session.refuse("554 5.7.1 Not from you"))
        if address == "127.0.0.4":
            return SMTP_R_ACCEPT
        if address == "127.0.0.5":
            return quick(SMTP_R_OK)
        return SMTP_R_DISCARD if address == "127.0.0.6" else SMTP_R_CONT

    def helo(self, session: Session, name: str, is_ehlo: bool) -> int | None:
        self.note("helo", name, is_ehlo)
        return session.refuse("550 5.7.1 Bad name") if name == "bad.test" else None

    def mail(self, session: Session, sender: str, params: list[str]) -> int | None:
        self.note("mail", sender, params, session.getmac("mail_taid"))
        local = sender.partition("@")[0]
        if local.isdigit():
            return int(local)
        if local == "text":
            session.setreply("250 2.1.0 With pleasure")
            return SMTP_R_OK
        return SMTP_R_DISCARD if local == "discard" else None

    def rcpt(self, session: Session, recipient: str, params: list[str]) -> int | None:
        self.note("rcpt", recipient, params, session.rcpt_index, session.getstatus().code)
        local = recipient.partition("@")[0].partition("+")[2]
        if local == "discard":
            return SMTP_R_DISCARD
        if local == "quick":
            return quick(SMTP_R_DISCARD)
        return int(local) if local.isdigit() else None

    def data(self, session: Session) -> int | None:
        self.note("data", list(session.rcpts.values()))
        return session.refuse("450 4.7.1 No data") if session.sender.startswith("nodata") else None

    def unknown(self, session: Session, command: str) -> int | None:
        self.note("unknown", command)
        return session.refuse("502 5.5.1 How dare you") if command == "DARE" else None

    def msg(self, session: Session, chunk: bytes) -> None:
        session.own.update(chunk)

    def eom(self, session: Session) -> int:
        self.note("eom", session.sender, session.getmac("dot_msgid"), session.getmac("hops"))
        self.digests[session.sender] = session.own.hexdigest()
        session.own = hashlib.sha256()
        what = session.sender.partition("@")[0].partition("+")[0]
        doing = getattr(self, f"_{what}", None)
        return doing(session) if doing is not None else SMTP_R_CONT

    def _change(self, session: Session) -> int:
        session.mail_rplc("<changed@local.test>")
        session.rcpt_add("daemon@local.test")
        session.rcpt_del("root+two@local.test", 1)
        session.hdr_mod(HdrMod.REMOVE, 1, "")
        session.hdr_mod(HdrMod.REPLACE, 3, "Third: replaced\r\n and folded\r\n")
        session.hdr_mod(HdrMod.INSERT, 2, "New-1: a")
        session.hdr_mod(HdrMod.INSERT, 2, "New-2: b")
        session.hdr_mod(HdrMod.PREPEND, 0, "Front: c")
        session.hdr_mod(HdrMod.APPEND, 0, "Last: d")
        return SMTP_R_OK

    def _replace(self, session: Session) -> int:
        return SMTP_R_RPLCMSG

    _large = _replace

    def msg_rplc(self, session: Session) -> Iterator[bytes]:
        yield b"Subject: other\r\n\r\n"
        yield b".dot\n" if session.sender != "replace+nul@b.test" else b"\0"
        if session.sender.startswith("large"):
            for number in range(20_000):
                yield b"%050d\r\n" % number

    def msg_rplc_stat(self, session: Session, status: int) -> None:
        self.status.append(status)

    def _prdr(self, session: Session) -> int:
        session.setreplies([550 if "bad" in rcpt else "452 4.2.2 Full" if "full" in rcpt else 250
                            for rcpt in session.rcpts.values()])
        return SMTP_R_CONT

    def _refused(self, session: Session) -> int:
        session.add_header("X-Never", "seen")
        return session.refuse("554-5.7.1 No\n554 5.7.1 Never")

    def _closed(self, session: Session) -> int:
        return session.refuse("421 4.7.0 Go away")

    def _bug(self, session: Session) -> int:
        raise ZeroDivisionError

    def abort(self, session: Session) -> None:
        self.note("abort", session.sender)

    def close(self, session: Session) -> None:
        self.note("close", session.client_address)


class Server(Instance):
    """An instance whose second server delays refusals; both ask the same policy, it over TCP."""

    def __init__(self) -> None:
        super().__init__("local.test", user=other_user())
        self.path = self.base / "sockets" / "policy"
        self.path.parent.mkdir()
        text = self.conf.read_text()
        base = text[text.index("\nsmtps {"):]
        socket = f"socket {{ type = unix; path = {self.path}; }}"
        section = f"policy_milter {{ {socket} timeout = 10; flags = {{ abort }}; }}"
        self.delayed = free_port()
        self.inet = free_port()
        socket = f"socket {{ type = inet; address = 127.0.0.1; port = {self.inet}; }}"
        more = more_smtps(base, "delayed", 1, self.delayed, f"policy_milter {{ {socket} }}")
        text += more.replace("{ 8bitmime,", "{ delay_checks, 8bitmime,")
        self.conf.write_text(text.replace("  CDB_gid", f"  {section}\n  CDB_gid", 1))
        self.add("access", "cltaddr:127.0.0.8 error:550 5.7.1 Not listed\nto:root@local.test quick:ok\n")


@pytest.fixture(scope="module")
def policy() -> Told:
    return Told()


@pytest.fixture(scope="module")
def server(policy: Told) -> Iterator[Server]:
    found = Server()
    with serving(policy, str(found.path)), serving(policy, f"inet:{found.inet}@127.0.0.1"), found:
        yield found


@pytest.fixture(autouse=True)
def _anew(policy: Told) -> Iterator[None]:
    yield
    until(lambda: [call[0] for call in policy.calls].count("close") ==
          [call[0] for call in policy.calls].count("connect"), 10, "all sessions have ended")
    policy.calls.clear()


def client(server: Server, address: str = "127.0.0.1", port: int = 0) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", port or server.port, "client.test", 20, source_address=(address, 0))


def send(server: Server, sender: str, *rcpts: str, body: bytes = BODY) -> tuple[int, bytes]:
    with client(server) as smtp:
        smtp.ehlo()
        assert smtp.mail(sender)[0] == 250
        for rcpt in rcpts or (ME,):
            assert smtp.rcpt(rcpt)[0] == 250
        return smtp.data(body)


def text_of(server: Server, user: str, mark: str) -> str:
    """The delivered message with this in it."""
    return until(lambda: next((path.read_text() for path in server.mail(user) if mark in path.read_text()), ""),
                 20, f"{mark} is delivered to {user}")


def test_what_a_policy_is_told(server: Server, policy: Told) -> None:
    with client(server) as smtp:
        smtp.ehlo("client.test")
        smtp.mail("a@b.test", ["SIZE=30", "BODY=8BITMIME"])
        smtp.rcpt(ME, ["NOTIFY=NEVER"])
        smtp.rcpt("nobody-at-all@local.test")
        smtp.rcpt("x@elsewhere.test")
        smtp.data(b"Message-Id: <1@b.test>\r\nReceived: x\r\n\r\nbody\r\n")
        assert smtp.docmd("XYZZY", "1 2")[0] == 500
        assert smtp.docmd("DARE") == (502, b"5.5.1 How dare you")
        smtp.mail("again@b.test")
        smtp.rset()
        smtp.helo("old.test")
    until(lambda: policy.calls[-1][0] == "close", 10)
    seid, taid = policy.calls[0][3], policy.calls[2][3]
    assert seid.startswith("S") and taid.startswith("S") and seid < taid
    again = policy.calls[10][3]
    assert policy.calls == [
        ("connect", "127.0.0.1", "local.test", seid, True), ("helo", "client.test", True),
        ("mail", "a@b.test", ["SIZE=30", "BODY=8BITMIME"], taid), ("rcpt", ME, ["NOTIFY=NEVER"], 0, 250),
        ("rcpt", "nobody-at-all@local.test", [], 1, 550), ("rcpt", "x@elsewhere.test", [], 1, 550),
        ("data", [ME]), ("eom", "a@b.test", "<1@b.test>", "1"), ("unknown", "XYZZY 1 2"), ("unknown", "DARE"),
        ("mail", "again@b.test", [], again), ("abort", "again@b.test"), ("helo", "old.test", False),
        ("close", "127.0.0.1"),
    ]


def test_refusals_of_each_stage(server: Server) -> None:
    with Raw(server, "127.0.0.2") as raw:
        assert raw.read() == "554 5.7.1 Not from you"
    with client(server) as smtp:
        smtp.ehlo()
        assert smtp.mail("550@b.test") == (550, b"5.7.1 Command rejected")
        assert smtp.mail("451@b.test") == (451, b"4.7.1 Service unavailable, try again later")
        assert smtp.mail("552@b.test")[0] == 552
        assert smtp.mail("nodata@b.test")[0] == 250
        assert smtp.rcpt("root+550@local.test")[0] == 550
        assert smtp.rcpt("root+452@local.test")[0] == 452
        assert smtp.rcpt(ME)[0] == 250
        assert smtp.docmd("DATA") == (450, b"4.7.1 No data")
        smtp.rset()
        assert smtp.mail("text@b.test") == (250, b"2.1.0 With pleasure")
    assert send(server, "refused@b.test") == (554, b"5.7.1 No\n5.7.1 Never")
    assert send(server, "bug@b.test") == (451, b"4.3.0 Policy not available, try again later")
    with client(server) as smtp:
        smtp.ehlo("bad.test")
        assert smtp.mail("a@b.test") == (550, b"5.7.1 Bad name")
    with client(server) as smtp:
        smtp.ehlo()
        smtp.mail("421@b.test")
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.noop()
    with Raw(server) as raw:
        assert raw.read().startswith("220")
        for line in (b"EHLO x\r\n", b"MAIL FROM:<closed@b.test>\r\n", b"RCPT TO:<postmaster>\r\n", b"DATA\r\n"):
            raw.say(line)
        assert raw.say(b"\r\n.\r\n") == "421 4.7.0 Go away" and raw.read() == ""


def test_delayed_and_quick(server: Server) -> None:
    """M1 3.9.3: refusals wait for RCPT where delay_checks says so, unless they are quick; quick:ok passes checks."""
    with client(server, "127.0.0.2", server.delayed) as smtp:
        smtp.ehlo()
        assert smtp.mail("a@b.test")[0] == 250
        assert smtp.rcpt(ME) == (554, b"5.7.1 Not from you")
        assert smtp.rcpt("root@local.test")[0] == 250  # to:root is quick:ok
    with pytest.raises(smtplib.SMTPConnectError, match="Not from you"):
        client(server, "127.0.0.3", server.delayed)
    with client(server, port=server.delayed) as smtp:
        smtp.ehlo()
        assert smtp.mail("550@b.test")[0] == 250
        assert smtp.rcpt(ME)[0] == 550
    with client(server, "127.0.0.5", server.delayed) as smtp:
        smtp.ehlo()
        assert smtp.mail("a@b.test")[0] == 250
        assert smtp.rcpt(ME)[0] == 250
        assert smtp.rcpt("x@elsewhere.test")[0] == 550  # what is necessary to allow relaying counts


def test_accepted_sessions_hear_no_more(server: Server, policy: Told) -> None:
    with client(server, "127.0.0.4") as smtp:
        smtp.ehlo("bad.test")
        assert smtp.mail("550@b.test")[0] == 250
    until(lambda: ("close", "127.0.0.4") in policy.calls, 10)
    assert [call[0] for call in policy.calls] == ["connect", "close"]


def test_discarded(server: Server) -> None:
    with client(server, "127.0.0.6") as smtp:
        smtp.ehlo()
        assert smtp.sendmail("a@b.test", [ME], "Subject: gone1\n\nx\n") == {}
    for mark, sender, rcpts in (("gone2", "discard@b.test", [ME]),
                                ("gone3", "a@b.test", ["root+discard@local.test"]),
                                ("gone4", "a@b.test", ["root@local.test", "root+quick@local.test"]),
                                ("here", "a@b.test", ["root+discard@local.test", ME])):
        assert send(server, sender, *rcpts, body=b"Subject: %s\r\n\r\nx\r\n" % mark.encode())[0] == 250
    assert "Subject: here" in text_of(server, "postmaster", "Subject: here")
    until(server.is_empty, 10)
    texts = [path.read_text() for user in ("postmaster", "root") for path in server.mail(user)]
    assert not any("Subject: gone" in text for text in texts)
    assert sum("Subject: here" in text for text in texts) == 1


def test_changes(server: Server) -> None:
    body = b"First: 1\r\nSecond: 2\r\nThird: 3\r\nFourth: 4\r\n\r\nchanged body\r\n"
    assert send(server, "change@b.test", ME, "root+two@local.test", body=body)[0] == 250
    text = text_of(server, "postmaster", "changed body")
    assert "Return-Path: <changed@local.test>" in text
    header = text.partition("\n\n")[0]
    names = [line.partition(":")[0] for line in header.splitlines() if line[0] not in " \t"]
    assert names[-8:] == ["Front", "Received", "New-1", "New-2", "Second", "Third", "Fourth", "Last"]
    assert "Third: replaced\n and folded\n" in text
    assert "Delivered-To: daemon@local.test" in text_of(server, "daemon", "changed body")
    until(server.is_empty, 10)
    assert not any("changed body" in path.read_text() for path in server.mail("root"))


def test_replaced_messages(server: Server, policy: Told) -> None:
    assert send(server, "replace@b.test", body=b"Subject: old\r\n\r\nold body\r\n")[0] == 250
    text = text_of(server, "postmaster", "Subject: other")
    assert text.endswith("Subject: other\n\n.dot\n") and "old" not in text
    assert send(server, "large@b.test", body=BODY)[0] == 250
    text = text_of(server, "postmaster", f"{19_999:050d}")
    assert text.count("\n0000") == 20_000
    until(lambda: policy.status == [0, 0], 10)
    assert send(server, "replace+nul@b.test")[0] == 451


def test_a_large_message_is_seen_as_it_was_sent(server: Server, policy: Told) -> None:
    body = b"Subject: large\r\n\r\n" + b"".join(b".%070d\r\n" % number for number in range(40_000))
    assert send(server, "hash@b.test", body=body)[0] == 250
    assert policy.digests["hash@b.test"] == hashlib.sha256(body).hexdigest()


def test_prdr(server: Server) -> None:
    def prdr(*users: str) -> list[str]:
        with Raw(server) as raw:
            raw.read()
            assert "250-PRDR\n" in raw.say(b"EHLO x\r\n")
            assert raw.say(b"MAIL FROM:<prdr@b.test> PRDR\r\n").startswith("250")
            for user in users:
                raw.say(b"RCPT TO:<root+%b@local.test>\r\n" % user.encode())
            raw.say(b"DATA\r\n")
            found = [raw.say(b"Subject: prdr %b\r\n\r\nx\r\n.\r\n" % "-".join(users).encode())]
            while len(found) < len(users) + 2 and found[0].startswith("353"):
                found.append(raw.read())
            return [reply[:9] for reply in found]

    assert prdr("ok1", "bad1", "discard", "full1", "ok2") == [
        "353 Recip", "250 2.1.5", "550 5.7.1", "250 2.1.5", "452 4.2.2", "250 2.1.5", "250 2.0.0"]
    assert prdr("bad2", "full2") == ["353 Recip", "550 5.7.1", "452 4.2.2", "452 4.2.2"]
    assert prdr("ok3") == ["353 Recip", "250 2.1.5", "250 2.0.0"]
    until(server.is_empty, 20)
    found = [path.read_text() for path in server.mail("root") if "Subject: prdr" in path.read_text()]
    assert sorted(line for text in found for line in text.splitlines() if line.startswith("Delivered-To")) == [
        f"Delivered-To: root+{user}@local.test" for user in ("ok1", "ok2", "ok3")]


def test_many_sessions_at_once(server: Server) -> None:
    def one(number: int) -> int:
        return send(server, f"n{number}@b.test", body=b"Subject: many\r\n\r\n%d\r\n" % number)[0]

    since = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(one, range(100))) == {250}
    assert time.monotonic() - since < 20
    until(lambda: sum("Subject: many" in path.read_text() for path in server.mail("postmaster")) == 100, 20)
    assert "policy_milter=policy_milter, status=session" not in server.log("smtps")
