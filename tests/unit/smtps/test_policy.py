"""What the server says to a client: the decisions of M1 3.12.2, and the trace field of 10.5."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Action, Verdict
from meta1g.proto.smtp import replies
from meta1g.smtps.policy import Policy, PolicyFlags, rejection
from meta1g.smtps.setting import greeting_octets
from meta1g.smtps.trace import Client, HeaderScanner, received

ACCESS = PolicyFlags(use_access=True)
DELAY = PolicyFlags(use_access=True, delay_checks=True)


def verdict(action: int = Action.NONE, *, quick: bool = False, local: bool = False, exists: bool = True,
            code: int = 0) -> Verdict:
    return Verdict(action, quick, local, exists, False, code, "5.7.1" if code else "", "no" if code else "", "", "")


NOTHING = verdict()
LOCAL = verdict(local=True)
ERROR = verdict(Action.REJECT, code=551)
R551 = Reply(551, "5.7.1", "no")

RCPTS = [
    # flags, connect, mail, rcpt, reply
    (ACCESS, NOTHING, NOTHING, LOCAL, None),
    (ACCESS, NOTHING, NOTHING, NOTHING, replies.RELAYING_DENIED),
    (ACCESS, NOTHING, NOTHING, verdict(local=True, exists=False), replies.UNKNOWN_USER),
    (ACCESS, NOTHING, NOTHING, verdict(Action.RELAY), None),
    (ACCESS, NOTHING, NOTHING, verdict(Action.OK), replies.RELAYING_DENIED),
    (ACCESS, verdict(Action.RELAY), NOTHING, NOTHING, None),
    (ACCESS, verdict(Action.RELAY, quick=True), NOTHING, NOTHING, None),
    (ACCESS, verdict(Action.RELAY, quick=True), NOTHING, ERROR, None),
    (ACCESS, verdict(Action.RELAY), NOTHING, ERROR, R551),
    (ACCESS, verdict(Action.RELAY), NOTHING, verdict(local=True, exists=False), replies.UNKNOWN_USER),
    (ACCESS, verdict(Action.OK, quick=True), NOTHING, NOTHING, replies.RELAYING_DENIED),
    (ACCESS, NOTHING, NOTHING, ERROR, R551),
    (ACCESS, NOTHING, NOTHING, verdict(Action.REJECT, local=True, code=551), R551),
    (ACCESS, NOTHING, NOTHING, verdict(Action.REJECT, local=True), replies.REJECTED),
    (DELAY, ERROR, NOTHING, LOCAL, R551),
    (DELAY, NOTHING, ERROR, LOCAL, R551),
    (DELAY, ERROR, NOTHING, verdict(Action.OK, quick=True, local=True), None),
    (DELAY, ERROR, verdict(Action.OK, quick=True), LOCAL, None),
    (DELAY, ERROR, verdict(Action.OK), LOCAL, R551),
    (PolicyFlags(lmtp_is_local=False), NOTHING, NOTHING, LOCAL, replies.RELAYING_DENIED),
    (PolicyFlags(trusted_domains=frozenset({"my.dom"})), NOTHING, NOTHING, NOTHING, None),
]


@pytest.mark.parametrize(("flags", "connect", "mail", "rcpt", "reply"), RCPTS)
def test_rcpt(flags: PolicyFlags, connect: Verdict, mail: Verdict, rcpt: Verdict, reply: Reply | None) -> None:
    policy = Policy(flags)
    assert policy.on_connect(connect).reply is None
    assert policy.on_mail(mail).reply is None
    assert policy.on_rcpt(b"user@My.Dom", rcpt).reply == reply


def test_rejections_at_once() -> None:
    assert Policy(ACCESS).on_connect(ERROR).reply == R551
    assert Policy(DELAY).on_connect(ERROR._replace(quick=True)).reply == R551
    policy = Policy(ACCESS)
    policy.on_connect(NOTHING)
    assert policy.on_mail(ERROR).reply == R551
    policy = Policy(ACCESS)
    policy.on_connect(verdict(Action.OK, quick=True))
    assert policy.skips_mail_checks
    assert policy.on_mail(ERROR).reply is None
    assert rejection(verdict(Action.REJECT)) == replies.REJECTED


def test_postmaster_is_always_welcome() -> None:
    policy = Policy(ACCESS)
    policy.on_connect(NOTHING)
    policy.on_null_sender()
    assert policy.on_rcpt(b"postmaster", NOTHING).reply is None


def test_discard() -> None:
    policy = Policy(ACCESS)
    policy.on_connect(verdict(Action.DISCARD))
    policy.on_mail(NOTHING)
    assert policy.discards
    policy = Policy(ACCESS)
    policy.on_connect(NOTHING)
    policy.on_mail(verdict(Action.DISCARD))
    assert policy.discards
    policy.on_mail(NOTHING)
    assert not policy.discards
    one = policy.on_rcpt(b"a@my.dom", verdict(Action.DISCARD, local=True))
    assert (one.reply, one.is_discarded, policy.discards) == (None, True, False)
    policy.on_rcpt(b"a@my.dom", verdict(Action.DISCARD, local=True, quick=True))
    assert policy.discards
    policy.on_null_sender()
    assert not policy.discards


def test_name_in_ehlo_counts_at_mail() -> None:
    policy = Policy(ACCESS)
    policy.on_connect(NOTHING)
    policy.on_ehlo(ERROR)
    assert policy.on_mail(NOTHING).reply == R551
    assert policy.on_null_sender().reply == R551
    policy.on_ehlo(NOTHING)
    assert policy.on_mail(NOTHING).reply is None
    policy = Policy(DELAY)
    policy.on_connect(NOTHING)
    policy.on_ehlo(ERROR)
    assert policy.on_mail(NOTHING).reply is None
    assert policy.on_rcpt(b"u@my.dom", LOCAL).reply == R551
    assert policy.on_mail(verdict(Action.OK, quick=True)).reply is None
    assert policy.on_rcpt(b"u@my.dom", LOCAL).reply is None
    policy = Policy(ACCESS)
    policy.on_connect(verdict(Action.OK, quick=True))
    policy.on_ehlo(ERROR)
    assert policy.on_mail(NOTHING).reply is None


def test_protected_recipient() -> None:
    protected = LOCAL._replace(protected="550 5.7.1 You may not")
    for session, reply in ((NOTHING, Reply(550, "5.7.1", "You may not")), (verdict(Action.RELAY, quick=True), None),
                           (verdict(Action.OK, quick=True), Reply(550, "5.7.1", "You may not"))):
        policy = Policy(ACCESS)
        policy.on_connect(session)
        policy.on_mail(NOTHING)
        assert policy.on_rcpt(b"u@my.dom", protected).reply == reply


@pytest.mark.parametrize(("session", "rcpt", "is_greylisted"), [
    (NOTHING, LOCAL, True), (verdict(Action.OK), LOCAL, False), (verdict(Action.RELAY), LOCAL, False),
    (verdict(Action.CONT), LOCAL, True), (NOTHING, verdict(Action.OK, local=True), True),
    (NOTHING, verdict(Action.OK, quick=True, local=True), False), (NOTHING, verdict(Action.RELAY, quick=True), False),
])
def test_greylisting_comes_last(session: Verdict, rcpt: Verdict, is_greylisted: bool) -> None:
    for flags, conf in ((PolicyFlags(True, greylists=True), ""), (ACCESS, "flags = greylisting;")):
        policy = Policy(flags)
        policy.on_connect(session)
        assert policy.is_greylisted(rcpt._replace(conf=conf)) is is_greylisted
    assert not Policy(ACCESS).is_greylisted(rcpt._replace(conf="flags = other;"))


def test_received() -> None:
    date = "Tue, 24 Nov 2026 00:00:00 +0000"
    text = received(Client(b"helo.test", "mx.test.", "192.0.2.1"), "me.test", "1", "ESMTP", "S0", date)
    assert text == (b"Received: from helo.test (mx.test [192.0.2.1])\r\n\tby me.test (meta1g-1) with ESMTP\r\n"
                    b"\tid S0; Tue, 24 Nov 2026 00:00:00 +0000\r\n")
    assert b"([IPv6:::1])" in received(Client(b"h", "", "::1"), "me", "1", "SMTP", "S0", date)
    assert b"from unknown" in received(Client(b"", "", "::1"), "me", "1", "SMTP", "S0", date)


HEADER = b"Received: a\r\nRECEIVED : b\r\nX-Received: c\r\nMessage-ID: <id@x>\r\nSubject: d\r\n\r\nReceived: body\r\n"


@given(st.integers(1, 40))
def test_header_facts_in_any_pieces(step: int) -> None:
    scanner = HeaderScanner()
    for at in range(0, len(HEADER), step):
        scanner.feed(HEADER[at : at + step])
    assert scanner.facts() == (2, b"<id@x>", True)


def test_header_limits() -> None:
    scanner = HeaderScanner()
    scanner.feed(b"\r\nReceived: body\r\n")
    assert scanner.facts() == (0, b"", True)
    scanner = HeaderScanner()
    scanner.feed(b"x" * (2 << 20))
    assert scanner.is_too_large


@pytest.mark.parametrize(("text", "octets"), [
    ("", b"220 h.test ESMTP meta1g-1\r\n"),
    ("Hello", b"220 h.test Hello\r\n"),
    ("Hello\r\n", b"220 h.test Hello\r\n"),
    ("220 all mine\r\n", b"220 all mine\r\n"),
    (" Welcome\r\n220-a\r\n220 b\r\n", b"220-h.test Welcome\r\n220-a\r\n220 b\r\n"),
])
def test_greeting(text: str, octets: bytes) -> None:
    assert greeting_octets(text, "h.test", "1") == octets
