"""The API of policy milters, each function of M1 15.1, driven in memory by the helper that authors have."""
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from meta1g.pmilter import (
    CHUNK_SIZE,
    SMTP_R_ACCEPT,
    SMTP_R_CONT,
    SMTP_R_DISCARD,
    SMTP_R_OK,
    SMTP_R_REJECT,
    SMTP_R_RPLCMSG,
    SMTP_R_SSD,
    SMTP_R_TEMP,
    Cap,
    Fct,
    HdrMod,
    Pmm,
    PolicyError,
    PolicyMilter,
    Process,
    Server,
    Session,
    Stage,
    quick,
)
from meta1g.pmilter.caller import Caller, pieces
from meta1g.pmilter.contexts import Words
from meta1g.pmilter.policy import capabilities_of
from meta1g.pmilter.testing import Rig, Said
from meta1g.proto.pmilter import messages, numbers
from meta1g.proto.pmilter.numbers import Step


class AtEnd(PolicyMilter):
    """Does something at the end of a message."""

    def __init__(self, do: Callable[[Session], Any]) -> None:
        self.do = do

    def rcpt(self, session: Session, recipient: str, params: list[str]) -> None:
        """So that recipients are known."""

    def eom(self, session: Session) -> Any:
        return self.do(session)


def end(do: Callable[[Session], Any], *rcpts: str, prdr: bool = False) -> Any:
    client = Rig(AtEnd(do), prdr=prdr).client()
    client.mail("sender@example.net", *(["PRDR"] if prdr else []))
    for rcpt in rcpts or ("one@example.org", "two@example.org"):
        client.rcpt(rcpt)
    return client.message(b"Subject: x\r\n\r\nbody\r\n")


class Everything(PolicyMilter):
    """Notes each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def negotiate(self, server: Server) -> None:
        server.own = "server"
        server.setmaclist(Stage.CONNECT, Pmm.SRVHOSTNAME, "seid", Pmm.END)
        server.addmacsbyname(Stage.DOT, "dot_msgid")
        server.wanted.capabilities |= Cap.RCPT_ST

    def connect(self, session: Session, hostname: str, address: str) -> int:
        session.own = session.server.own, session.server.process.own
        self.calls.append(("connect", hostname, address, session.getmac("srvhostname"), session.getmac(Pmm.SEID)))
        return SMTP_R_CONT

    def helo(self, session: Session, name: str, is_ehlo: bool) -> None:
        self.calls.append(("helo", name, is_ehlo))

    def mail(self, session: Session, sender: str, params: list[str]) -> int:
        self.calls.append(("mail", sender, params))
        return SMTP_R_OK

    def rcpt(self, session: Session, recipient: str, params: list[str]) -> int | None:
        self.calls.append(("rcpt", recipient, session.rcpt_index, session.getstatus().code))
        return session.refuse("550 5.7.1 Not you") if recipient.startswith("not") else None

    def data(self, session: Session) -> None:
        self.calls.append(("data", dict(session.rcpts)))

    def unknown(self, session: Session, command: str) -> int:
        self.calls.append(("unknown", command))
        return SMTP_R_REJECT

    def msg(self, session: Session, chunk: bytes) -> None:
        self.calls.append(("msg", chunk))

    def eom(self, session: Session) -> int:
        self.calls.append(("eom", session.sender, session.own, session.getmac("dot_msgid")))
        return quick(SMTP_R_ACCEPT)

    def abort(self, session: Session) -> None:
        self.calls.append(("abort",))

    def close(self, session: Session) -> None:
        self.calls.append(("close",))


def test_a_whole_session() -> None:
    policy = Everything()
    client = Rig(policy, own="process").client("192.0.2.7", "client.test", "helo.test")
    client.mail("a@b.c", "SIZE=7")
    assert client.rcpt("not@example.org") == Said(550, False, "550 5.7.1 Not you")
    client.rcpt("nobody@example.org", refused="550 5.1.1 User unknown")
    client.rcpt("me@example.org")
    client.data()
    client.symbols(dot_msgid="<1@x>", seid="late", auth_type="not asked for")
    assert client.message(b"Subject: x\r\n\r\n", chunk=10).said == Said(SMTP_R_ACCEPT, True, "")
    assert client.unknown("XYZZY").code == SMTP_R_REJECT
    client.mail("")
    client.abort()
    client.close()
    assert policy.calls == [
        ("connect", "client.test", "192.0.2.7", None, None), ("helo", "helo.test", True), ("mail", "a@b.c", ["SIZE=7"]),
        ("rcpt", "not@example.org", 0, 250), ("rcpt", "nobody@example.org", 0, 550), ("rcpt", "me@example.org", 0, 250),
        ("data", {0: "me@example.org"}), ("msg", b"Subject: x"), ("msg", b"\r\n\r\n"),
        ("eom", "a@b.c", ("server", "process"), "<1@x>"), ("unknown", "XYZZY"), ("mail", "", []), ("abort",),
        ("close",),
    ]


def test_only_what_is_overridden_is_called_and_what_is_needed_for_it_is_told() -> None:
    assert capabilities_of(PolicyMilter()) == Cap(0)
    assert capabilities_of(AtEnd(lambda _: None)) == (
        Cap.CONNECT | Cap.EHLO | Cap.MAIL | Cap.RCPT | Cap.EOM)
    seen = []
    policy = AtEnd(lambda session: seen.append((
        session.client_name, session.client_address, session.helo, session.sender, session.rcpts)))
    rig = Rig(policy)
    assert rig.server.told == Cap.CONNECT | Cap.EHLO | Cap.MAIL
    client = rig.client()
    client.mail("a@b.c")
    client.rcpt("d@e.f")
    client.message(b"x")
    assert seen == [("client.example", "192.0.2.1", "client.example", "a@b.c", {0: "d@e.f"})]
    assert not rig.server.has_prdr


def test_symbols_of_a_transaction_do_not_stay() -> None:
    client = Rig(policy := Everything()).client()
    for text in ("<1@x>", ""):
        client.mail()
        client.rcpt()
        if text:
            client.symbols(dot_msgid=text)
        client.message(b"x")
    assert [call[-1] for call in policy.calls if call[0] == "eom"] == ["<1@x>", None]


def test_negotiate() -> None:
    class Picky(PolicyMilter):
        def negotiate(self, server: Server) -> bool:
            return bool(server.offered.capabilities & Cap.RCPT_ST and server.offered.functions & Fct.HDR_MOD)

    assert not Rig(Picky()).is_refused
    assert Rig(Picky(), capabilities=Cap.MAIL).is_refused

    class Greedy(PolicyMilter):
        def negotiate(self, server: Server) -> None:
            server.wanted.capabilities |= Cap.MSG_RC

    assert Rig(Greedy(), capabilities=Cap.MAIL).is_refused

    class Wrong(PolicyMilter):
        def negotiate(self, server: Server) -> None:
            server.setmaclist(Stage.MAIL, "no_such_symbol")

    assert Rig(Wrong()).is_refused


def test_lists_of_symbols() -> None:
    server = Server(Process(), Words(Cap(0), Fct(0)), Words(Cap(0), Fct(0)))
    with pytest.raises(PolicyError, match="only in negotiate"):
        server.setmaclist(Stage.CONNECT, Pmm.SEID)
    server.is_negotiating = True
    server.setmaclist(Stage.CONNECT, Pmm.SEID)
    with pytest.raises(PolicyError, match="already"):
        server.setmaclist(Stage.CONNECT, Pmm.SEID)
    session = Caller(PolicyMilter(), server).session
    assert session.getmac(Pmm.SEID) is None
    with pytest.raises(PolicyError, match="not asked for"):
        session.getmac("auth_type")


def test_changes_come_in_their_order() -> None:
    def change(session: Session) -> int:
        session.mail_rplc("<new@example.net>", ["RET=HDRS"])
        session.rcpt_add("<three@example.org>")
        session.rcpt_del("<one@example.org>", 0)
        session.hdr_mod(HdrMod.PREPEND, 0, "X-A: 1\r\n")
        session.hdr_mod(HdrMod.INSERT, 2, "X-B: 2")
        session.hdr_mod(HdrMod.REPLACE, 1, b"X-C: 3\r\n folded\r\n")
        session.hdr_mod(HdrMod.REMOVE, 3, "")
        session.add_header("X-D", "4")
        return SMTP_R_OK

    found = end(change)
    assert (found.sender, found.added, found.deleted) == ("new@example.net", ("three@example.org",), (0,))
    assert found.headers == ((1, 0, "X-A: 1\r\n"), (2, 2, "X-B: 2\r\n"), (3, 1, "X-C: 3\r\n folded\r\n"), (4, 3, ""),
                             (5, 0, "X-D: 4\r\n"))


@pytest.mark.parametrize("result", [SMTP_R_TEMP, SMTP_R_REJECT, SMTP_R_DISCARD, 421])
def test_changes_of_a_message_that_is_not_accepted_are_dropped(result: int) -> None:
    def change(session: Session) -> int:
        session.add_header("X-D", "4")
        return result

    found = end(change)
    assert found.code == result and found.headers == ()


def remove_all(session: Session) -> None:
    session.rcpt_del("one@example.org", 0)
    session.rcpt_del("two@example.org", 1)


MISTAKES: list[tuple[Callable[[Session], Any], str]] = [
    (remove_all, "SMTP_R_DISCARD"),
    (lambda at: at.rcpt_del("one@example.org", 7), "no recipient with index 7"),
    (lambda at: at.rcpt_del("two@example.org", 0), "is one@example.org"),
    (lambda at: at.rcpt_add("no address"), "no address"),
    (lambda at: at.rcpt_add(""), "no address"),
    (lambda at: at.rcpt_add("a@b.c", ["NOTIFY=NEVER\r\nDATA"]), "without blanks"),
    (lambda at: at.mail_rplc("a@@b"), "no address"),
    (lambda at: at.hdr_mod(HdrMod.APPEND, 0, "no field"), "no header field"),
    (lambda at: at.hdr_mod(HdrMod.APPEND, 0, "X: 1\r\n\r\nbody"), "no header field"),
    (lambda at: at.hdr_mod(HdrMod.INSERT, -1, "X: 1"), "position -1"),
    (lambda at: at.add_header("X-A", "1\r\nX-B: 2"), "no header field"),
    (lambda at: at.setreply("550 No"), "XYZ D.S.N"),
    (lambda at: at.setreply("No"), "XYZ D.S.N"),
    (lambda at: at.refuse("250 2.0.0 Yes"), "refuses nothing"),
    (lambda at: at.setreply("550 5.7.1 No") or SMTP_R_TEMP, "setreply said 550"),
    (lambda at: at.setreply("550 5.7.1 No"), "setreply said 550"),
    (lambda at: at.setreplies([250, 250]), "has not asked for PRDR"),
    (lambda at: at.getstatus(), "only in rcpt"),
    (lambda at: at.rcpt_index, "only in rcpt"),
    (lambda at: True, "no result"),
    (lambda at: "550", "no result"),
    (lambda at: 354, "no result"),
    (lambda at: 600, "no result"),
]


@pytest.mark.parametrize(("do", "words"), MISTAKES)
def test_mistakes_are_clear_errors(do: Callable[[Session], Any], words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        end(do)


def test_changes_are_for_the_end_only() -> None:
    class Early(PolicyMilter):
        def mail(self, session: Session, sender: str, params: list[str]) -> None:
            session.rcpt_add("a@b.c")

    with pytest.raises(PolicyError, match="only in eom, not in mail"):
        Rig(Early()).client().mail()
    client = Rig(Early()).client()
    with pytest.raises(PolicyError, match="only in eom"):
        client.session.add_header("X", "1")


def test_functions_must_be_negotiated() -> None:
    client = Rig(AtEnd(lambda session: session.rcpt_add("a@b.c")), functions=Fct.HDR_MOD).client()
    client.mail()
    client.rcpt()
    with pytest.raises(PolicyError, match="not negotiated"):
        client.message(b"x")


def test_replies_for_each_recipient() -> None:
    found = end(lambda at: at.setreplies([250, "452 4.2.2 Full"]), prdr=True)
    assert found.each == (250, 452)
    for wrong in ([250], [250, 354], [250, 421], [250, "550 x"]):
        with pytest.raises(PolicyError, match="setreplies"):
            end(lambda at, wrong=wrong: at.setreplies(wrong), prdr=True)


def test_multi_line_replies_with_either_line_end() -> None:
    for reply in ("550-5.7.1 a\n550 5.7.1 b", "550-5.7.1 a\r\n550 5.7.1 b\r\n"):
        assert end(lambda at, reply=reply: at.refuse(reply)).said.reply == "550-5.7.1 a\r\n550 5.7.1 b"


class Replacer(PolicyMilter):
    def __init__(self, given: list[bytes]) -> None:
        self.given = given
        self.status: int | None = None

    def eom(self, session: Session) -> int:
        return SMTP_R_RPLCMSG

    def msg_rplc(self, session: Session) -> Iterator[bytes]:
        yield from self.given

    def msg_rplc_stat(self, session: Session, status: int) -> None:
        self.status = status


@pytest.mark.parametrize("given", [[], [b""], [b"x"], [b"x" * 10] * 9, [b"y" * CHUNK_SIZE], [b"z" * 300_001, b"a"]])
def test_message_replacement(given: list[bytes]) -> None:
    policy = Replacer(given)
    client = Rig(policy).client()
    client.mail()
    assert client.message(b"old").message == b"".join(given)
    assert policy.status == 0
    assert all(len(piece) == CHUNK_SIZE for piece in list(pieces(iter(given)))[:-1])


def test_a_decision_before_the_end_of_the_message() -> None:
    class Early(PolicyMilter):
        heard = 0

        def negotiate(self, server: Server) -> None:
            server.wanted.capabilities |= Cap.MSG_RC

        def msg(self, session: Session, chunk: bytes) -> int:
            self.heard += 1
            return session.refuse("554 5.7.1 Virus") if b"virus" in chunk else SMTP_R_CONT

        def eom(self, session: Session) -> int:
            raise AssertionError("not called")

    policy = Early()
    client = Rig(policy).client()
    client.mail()
    assert client.message(b"a virus and more" * 9, chunk=16).said == Said(554, False, "554 5.7.1 Virus")
    assert policy.heard == 1


class Faulty(PolicyMilter):
    def msg(self, session: Session, chunk: bytes) -> None:
        raise ZeroDivisionError("a\r\nb")

    def eom(self, session: Session) -> int:
        session.add_header("X", "1")
        raise KeyError(session.sender)

    def close(self, session: Session) -> None:
        raise OSError("late")


def test_an_exception_is_logged_and_costs_one_message(caplog: pytest.LogCaptureFixture) -> None:
    server = Rig(Faulty()).server
    caller = Caller(Faulty(), server)
    with caplog.at_level(logging.ERROR):
        assert caller.handle(messages.Msg(False, b"x")) == []
        assert caller.handle(messages.Msg(True, b"x"))[0].code == numbers.SMTP_R_CONT
        [answer] = caller.handle(messages.Step(int(Step.EOM)))
        assert answer.code == SMTP_R_TEMP and answer.reply.startswith(b"451 4.3.0 ")
        assert len(caplog.messages) == 1 and "\n" not in caplog.text.rstrip("\n")
        assert "ZeroDivisionError" in caplog.text and "test_policies.py" in caplog.text
        [answer] = caller.handle(messages.Step(int(Step.EOM)))
        assert answer.code == SMTP_R_TEMP
        caller.handle(messages.Step(int(Step.CLOSE)))
        assert "KeyError" in caplog.text and "OSError" in caplog.text
    assert caller.handle(messages.Step(int(Step.EOM))) == []


def test_the_end_of_a_connection_ends_the_session_once() -> None:
    policy = Everything()
    caller = Caller(policy, Rig(policy).server)
    caller.lose()
    caller.lose()
    assert policy.calls == [("abort",), ("close",)]


def test_options_of_the_process() -> None:
    process = Process()
    assert process.version() == numbers.LIBRARY
    assert (process.threads_soft, process.threads_hard) == (2, 6)  # as libpmilter's
    process.setthreads(3, 9)
    process.setbacklog(5)
    process.setconn("inet:1@::1")
    process.setdbg(2)
    process.settimeout(3)
    for wrong in (lambda: process.setthreads(3, 2), lambda: process.settimeout(0), lambda: process.setbacklog(0)):
        with pytest.raises(PolicyError):
            wrong()


def test_too_many_changes() -> None:
    def add(session: Session) -> None:
        for number in range(numbers.CHANGES_MAX + 1):
            session.rcpt_add(f"a{number}@b.c")

    with pytest.raises(PolicyError, match="too many changes"):
        end(add)


def test_codes_are_kept() -> None:
    assert end(lambda _: 552).said == Said(552, False, "")
    assert end(lambda _: quick(SMTP_R_SSD)).said == Said(421, True, "")
