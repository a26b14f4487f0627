"""The client's machine: against scripted servers, and against our own server's machine."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.errors import LocalProtocolError, RemoteProtocolError
from meta1g.mta.reply import Reply
from meta1g.proto.smtp.client import SmtpClient
from meta1g.proto.smtp.client_events import (
    Ask,
    AuthChallenge,
    AuthWanted,
    Bye,
    ContentWanted,
    Envelope,
    Finished,
    Ready,
    Refused,
    TlsWanted,
)
from meta1g.proto.smtp.data import stuff, unstuffed
from meta1g.proto.smtp.reply_reader import ReplyReader

PIPELINING = b"220 s\r\n", b"250-s\r\n250-PIPELINING\r\n250-SIZE 5000\r\n250 8BITMIME\r\n"
PLAIN = b"220 s\r\n", b"250 s\r\n"
ENVELOPE = Envelope(b"a@c", (b"b@d", b"e@f"), 100, True)


def ready(*replies: bytes, is_lmtp: bool = False) -> SmtpClient:
    client = SmtpClient("me.test", is_lmtp=is_lmtp)
    client.feed(b"".join(replies))
    assert isinstance(client.next_event(), Ready)
    client.take_output()
    return client


def finish(client: SmtpClient) -> list[tuple[int, Ask, int]]:
    event = client.next_event()
    assert isinstance(event, Finished)
    return [(answer.at, answer.ask, answer.reply.code) for answer in event.results]


def test_pipelined_transaction() -> None:
    client = ready(*PIPELINING)
    client.begin(ENVELOPE)
    assert client.take_output() == (
        b"MAIL FROM:<a@c> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<b@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n")
    client.feed(b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n")
    assert isinstance(client.next_event(), ContentWanted)
    client.end_content()
    assert client.take_output() == b".\r\n"
    client.feed(b"250 2.0.0 taken\r\n")
    assert finish(client) == [(0, Ask.DOT, 250), (1, Ask.RCPT, 550)]
    assert client.is_idle


def test_extensions_that_a_message_needs() -> None:
    envelope = Envelope(b"a@c", (b"b@d", b"e@f"), 100, True, True, b"RET=HDRS", (b"NOTIFY=NEVER", b""))
    client = ready(*PIPELINING)
    client.begin(envelope)
    assert finish(client) == [(0, Ask.MAIL, 553), (1, Ask.MAIL, 553)]  # no SMTPUTF8
    assert client.is_idle
    client = ready(b"220 s\r\n", b"250-s\r\n250-PIPELINING\r\n250-SMTPUTF8\r\n250-DSN\r\n250 8BITMIME\r\n")
    client.begin(envelope)
    assert client.take_output() == (
        b"MAIL FROM:<a@c> BODY=8BITMIME SMTPUTF8 RET=HDRS\r\nRCPT TO:<b@d> NOTIFY=NEVER\r\nRCPT TO:<e@f>\r\nDATA\r\n")


def test_step_by_step_without_pipelining() -> None:
    client = ready(*PLAIN)
    client.begin(ENVELOPE)
    said = []
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"452 4.2.2 full\r\n"):
        said.append(client.take_output())
        client.feed(reply)
        assert client.next_event() is None
    assert said == [b"MAIL FROM:<a@c>\r\n", b"RCPT TO:<b@d>\r\nRCPT TO:<e@f>\r\n", b""]
    assert client.take_output() == b"DATA\r\n"
    client.feed(b"354 go\r\n")
    assert isinstance(client.next_event(), ContentWanted)


@pytest.mark.parametrize(("replies", "results", "said"), [
    (b"550 5.7.1 no\r\n503 x\r\n503 x\r\n503 x\r\n", [(0, Ask.MAIL, 550), (1, Ask.MAIL, 550)], b"RSET\r\n"),
    (b"250 ok\r\n550 a\r\n450 b\r\n554 none\r\n", [(0, Ask.RCPT, 550), (1, Ask.RCPT, 450)], b"RSET\r\n"),
    (b"250 ok\r\n550 a\r\n450 b\r\n354 odd\r\n", [(0, Ask.RCPT, 550), (1, Ask.RCPT, 450)], b".\r\n"),
    (b"250 ok\r\n250 ok\r\n250 ok\r\n451 later\r\n", [(0, Ask.DATA, 451), (1, Ask.DATA, 451)], b"RSET\r\n"),
    (b"250 ok\r\n250 ok\r\n250 ok\r\n250 odd\r\n", [(0, Ask.DATA, 451), (1, Ask.DATA, 451)], b"RSET\r\n"),
])
def test_refusals(replies: bytes, results: list[tuple[int, Ask, int]], said: bytes) -> None:
    client = ready(*PIPELINING)
    client.begin(ENVELOPE)
    client.take_output()
    client.feed(replies)
    assert client.next_event() is None
    assert client.take_output() == said
    client.feed(b"250 reset\r\n")
    assert finish(client) == results
    assert client.is_idle


def test_plain_refusal_of_mail_and_of_all_recipients() -> None:
    for replies in ([b"550 no\r\n"], [b"250 ok\r\n", b"550 a\r\n550 b\r\n"]):
        client = ready(*PLAIN)
        client.begin(ENVELOPE)
        client.take_output()
        for reply in replies:
            client.feed(reply)
            assert client.next_event() is None
        assert client.take_output().endswith(b"RSET\r\n")
        client.feed(b"250 ok\r\n")
        assert len(finish(client)) == 2


def test_lmtp_has_a_reply_for_each_accepted_recipient() -> None:
    client = SmtpClient("me.test", is_lmtp=True)
    client.feed(b"220 s\r\n")
    assert client.next_event() is None
    assert client.take_output() == b"LHLO me.test\r\n"
    client.feed(b"250-s\r\n250 PIPELINING\r\n")
    assert isinstance(client.next_event(), Ready)
    client.begin(Envelope(b"", (b"a@b", b"c@d", b"e@f"), 0))
    client.feed(b"250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n")
    assert isinstance(client.next_event(), ContentWanted)
    client.end_content()
    client.feed(b"250 ok\r\n")
    assert client.next_event() is None
    client.feed(b"452 4.2.2 full\r\n")
    assert finish(client) == [(0, Ask.DOT, 250), (1, Ask.RCPT, 550), (2, Ask.DOT, 452)]


def test_size_is_checked_before_sending() -> None:
    client = ready(*PIPELINING)
    client.begin(Envelope(b"a@b", (b"c@d",), 6000))
    assert client.take_output() == b""
    assert finish(client) == [(0, Ask.MAIL, 552)]


def test_helo_when_ehlo_is_unknown() -> None:
    client = SmtpClient("me.test")
    client.feed(b"220 s\r\n500 what\r\n")
    assert client.next_event() is None
    assert client.take_output() == b"EHLO me.test\r\nHELO me.test\r\n"
    client.feed(b"250 s\r\n")
    assert isinstance(client.next_event(), Ready)


@pytest.mark.parametrize(("octets", "ask"), [
    (b"554 go away\r\n", Ask.GREETING), (b"421 busy\r\n", Ask.GREETING),
    (b"220 s\r\n421 x\r\n", Ask.EHLO), (b"220 s\r\n450 x\r\n", Ask.EHLO), (b"220 s\r\n500 x\r\n500 y\r\n", Ask.HELO),
])
def test_servers_that_do_not_want_us(octets: bytes, ask: Ask) -> None:
    client = SmtpClient("me.test")
    client.feed(octets)
    event = client.next_event()
    assert isinstance(event, Refused)
    assert event.ask is ask


def test_421_in_the_middle_and_unasked() -> None:
    client = ready(*PIPELINING)
    client.begin(ENVELOPE)
    client.feed(b"250 ok\r\n421 4.3.2 down\r\n")
    event = client.next_event()
    assert isinstance(event, Refused)
    finished = client.abandon(event.reply)
    assert finished is not None
    assert [answer.reply.code for answer in finished.results] == [421, 421]
    assert client.abandon(event.reply) is None
    client = ready(*PLAIN)
    client.feed(b"421 4.4.2 idle\r\n")
    assert isinstance(client.next_event(), Refused)
    client = ready(*PLAIN)
    client.feed(b"250 what\r\n")
    with pytest.raises(RemoteProtocolError, match="unasked"):
        client.next_event()


def test_quit() -> None:
    client = ready(*PLAIN)
    client.quit()
    client.feed(b"221 bye\r\n")
    assert client.next_event() == Bye(Reply(221, "", "bye"))


@pytest.mark.parametrize("octets", [b"hello\r\n", b"25 x\r\n", b"250?x\r\n", b"999 x\r\n", b"250-a\r\n251 b\r\n",
                                    b"x" * 5000, b"250-x\r\n" * 300])
def test_malformed_replies(octets: bytes) -> None:
    reader = ReplyReader()
    reader.feed(octets)
    with pytest.raises(RemoteProtocolError):
        reader.next()


@given(st.binary(max_size=200))
def test_any_octets_are_replies_or_a_protocol_error(octets: bytes) -> None:
    client = SmtpClient("me.test")
    client.feed(octets)
    try:
        while client.next_event() is not None:
            pass
    except RemoteProtocolError:
        pass


def test_misuse() -> None:
    client = SmtpClient("me.test")
    with pytest.raises(LocalProtocolError):
        client.begin(ENVELOPE)


@given(st.lists(st.sampled_from([b".", b"..", b"\r", b"\n", b"\r\n", b"x", b""])), st.lists(st.integers(0, 40)))
def test_content_is_unstuffed_wherever_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    content = b"".join([*parts, b"\r\n"])
    ends = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    pieces = [stuff(content)[start:end] for start, end in zip(ends, [*ends[1:], None], strict=True)]
    assert b"".join(unstuffed(pieces)) == content


PRDR = b"220 s\r\n", b"250-s\r\n250 PRDR\r\n"


def with_prdr(*answers: bytes) -> SmtpClient:
    """A transaction with two recipients up to the final dot, and what the server says then."""
    client = ready(*PRDR)
    client.begin(ENVELOPE)
    assert client.take_output() == b"MAIL FROM:<a@c> PRDR\r\n"
    client.feed(b"250 ok\r\n")
    assert client.next_event() is None
    client.feed(b"250 ok\r\n250 ok\r\n")
    assert client.next_event() is None
    client.feed(b"354 go\r\n")
    assert isinstance(client.next_event(), ContentWanted)
    client.end_content()
    for answer in answers:
        assert client.next_event() is None
        client.feed(answer)
    return client


@pytest.mark.parametrize(("answers", "codes"), [
    ((b"353 each\r\n", b"250 first\r\n", b"550 no\r\n", b"250 taken\r\n"), [250, 550]),
    ((b"353 each\r\n250 first\r\n450 later\r\n", b"250 taken\r\n"), [250, 450]),
    ((b"353 each\r\n550 no\r\n550 no\r\n550 none\r\n",), [550, 550]),
    ((b"353 each\r\n250 yes\r\n550 no\r\n451 after all\r\n",), [451, 550]),
    ((b"250 taken\r\n",), [250, 250]),
    ((b"554 spam\r\n",), [554, 554]),
])
def test_recipients_are_answered_after_the_content(answers: tuple[bytes, ...], codes: list[int]) -> None:
    client = with_prdr(*answers)
    assert finish(client) == [(0, Ask.DOT, codes[0]), (1, Ask.DOT, codes[1])]
    assert client.is_idle


def test_prdr_that_breaks_off_has_delivered_to_nobody() -> None:
    client = with_prdr(b"353 each\r\n", b"250 first\r\n")
    assert client.next_event() is None
    finished = client.abandon(Reply(451, "4.4.2", "lost"))
    assert finished is not None
    assert [answer.reply.code for answer in finished.results] == [451, 451]


def test_prdr_is_for_several_recipients() -> None:
    client = ready(*PRDR)
    client.begin(ENVELOPE._replace(rcpts=(b"b@d",)))
    assert client.take_output() == b"MAIL FROM:<a@c>\r\n"


def hello(*lines: bytes) -> SmtpClient:
    """A client that must log in, after EHLO was answered so."""
    client = SmtpClient("me.test")
    client.must_log_in = True
    client.feed(b"220 s\r\n" + b"".join(lines))
    return client


def test_login() -> None:
    """RFC 4954: the initial response goes with the command, challenges are answered, and then the session is ready."""
    client = hello(b"250-s\r\n250 AUTH plain SCRAM-SHA-256\r\n")
    assert client.next_event() == AuthWanted(("PLAIN", "SCRAM-SHA-256"))
    client.take_output()
    client.authenticate("SCRAM-SHA-256", b"n,,n=a,r=b")
    assert client.take_output() == b"AUTH SCRAM-SHA-256 biwsbj1hLHI9Yg==\r\n"
    client.feed(b"334 cj1iYw==\r\n")
    assert client.next_event() == AuthChallenge(b"r=bc")
    client.respond(b"")
    assert client.take_output() == b"\r\n"
    client.feed(b"235 2.7.0 ok\r\n")
    assert isinstance(client.next_event(), Ready)
    for params, said in ((b"", b"<>"), (b"RET=FULL AUTH=joe+2Bx@a", b"joe+2Bx@a")):  # RFC 4954 5
        client.begin(Envelope(b"a@c", (b"b@d",), 0, params=params))
        assert client.take_output().endswith(b"MAIL FROM:<a@c> AUTH=" + said + b"\r\n")
        client.feed(b"550 no\r\n250 ok\r\n")
        assert isinstance(client.next_event(), Finished)


def test_login_that_fails() -> None:
    """Another mechanism may be tried; without one nothing follows."""
    client = hello(b"250 s\r\n")
    assert client.next_event() == AuthWanted(())
    client = hello(b"250 AUTH\r\n")
    client.next_event()
    for initial, said in ((b"", b"AUTH PLAIN =\r\n"), (None, b"AUTH PLAIN\r\n")):
        client.take_output()
        client.authenticate("PLAIN", initial)
        assert client.take_output() == said
        client.feed(b"504 5.5.4 no\r\n")
        assert client.next_event() == Refused(Ask.AUTH, Reply(504, "5.5.4", "no"))
    assert not client.is_idle
    client.authenticate("PLAIN", b"")
    client.respond(None)
    assert client.take_output().endswith(b"*\r\n")


def test_nobody_logs_in_without_tls_that_is_offered() -> None:
    """RFC 3207 before RFC 4954; what was offered before counts no more."""
    client = hello(b"250-s\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n", b"220 go\r\n")
    assert isinstance(client.next_event(), TlsWanted)
    client.begin_tls()
    client.feed(b"250-s\r\n250 AUTH LOGIN\r\n")
    assert client.next_event() == AuthWanted(("LOGIN",))
