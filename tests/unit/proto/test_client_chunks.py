"""The client's machine where CHUNKING is offered: content by BDAT (RFC 3030)."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.limits import CHUNKS_OPEN, ONE_FLIGHT
from meta1g.mta.reply import Reply
from meta1g.proto.smtp.client import SmtpClient
from meta1g.proto.smtp.client_events import (
    Answered,
    Ask,
    ChunkWanted,
    ContentWanted,
    Envelope,
    Event,
    Finished,
    Ready,
)
from meta1g.proto.smtp.data import stuff
from tests.lib.dialog import Client

SMALL = Envelope(b"a@c", (b"b@d", b"e@f"), 100)
LARGE = SMALL._replace(size=ONE_FLIGHT + 1)
BINARY = LARGE._replace(is_8bit=True, params=b"BODY=BINARYMIME")
COMMANDS = b"MAIL FROM:<a@c>\r\nRCPT TO:<b@d>\r\nRCPT TO:<e@f>\r\n"
OK = b"250 ok\r\n"


def begun(envelope: Envelope, *words: str, is_lmtp: bool = False, ignores: frozenset[str] = frozenset()) -> SmtpClient:
    """A client that has begun, and said nothing yet, to a server that offers these."""
    client = SmtpClient("me.test", is_lmtp=is_lmtp, ignores=ignores)
    client.feed("\r\n".join(["220 s", *(f"250-{word}" for word in ("s", *words)), "250 HELP\r\n"]).encode())
    assert isinstance(client.next_event(), Ready)
    client.take_output()
    client.begin(envelope)
    return client


def said(client: SmtpClient, *replies: bytes) -> bytes:
    """What it says after these replies, if nothing else happens."""
    client.feed(b"".join(replies))
    assert client.next_event() is None
    return client.take_output()


def is_wanted(client: SmtpClient, *replies: bytes) -> bool:
    client.feed(b"".join(replies))
    return isinstance(client.next_event(), ChunkWanted)


def chunk(client: SmtpClient, octets: bytes, *, is_last: bool = True) -> bytes:
    client.send_chunk(octets, is_last=is_last)
    return client.take_output()


def finish(client: SmtpClient, *replies: bytes) -> list[tuple[Ask, int]]:
    client.feed(b"".join(replies))
    event = client.next_event()
    assert isinstance(event, Finished)
    assert [answer.at for answer in event.results] == list(range(len(event.results)))
    assert client.is_idle
    return [(answer.ask, answer.reply.code) for answer in event.results]


def in_one_flight(*replies: bytes) -> SmtpClient:
    client = begun(SMALL, "PIPELINING", "CHUNKING")
    assert is_wanted(client)
    assert chunk(client, b".x\r\n") == COMMANDS + b"BDAT 4 LAST\r\n.x\r\n"
    client.feed(b"".join(replies))
    return client


@pytest.mark.parametrize(("replies", "results"), [
    (OK * 4, [(Ask.DOT, 250), (Ask.DOT, 250)]),
    (OK * 2 + b"550 5.1.1 no\r\n" + OK, [(Ask.DOT, 250), (Ask.RCPT, 550)]),
    (b"250 ok\r\n550 a\r\n450 b\r\n250 odd\r\n", [(Ask.RCPT, 550), (Ask.RCPT, 450)]),
    (b"550 no\r\n250 odd\r\n250 odd\r\n250 odd\r\n", [(Ask.MAIL, 550), (Ask.MAIL, 550)]),
])
def test_a_small_message_is_one_flight(replies: bytes, results: list[tuple[Ask, int]]) -> None:
    assert finish(in_one_flight(replies)) == results


@pytest.mark.parametrize(("replies", "results"), [
    (b"250 ok\r\n550 a\r\n450 b\r\n554 5.5.1 no valid recipients\r\n", [(Ask.RCPT, 550), (Ask.RCPT, 450)]),
    (b"550 no\r\n503 x\r\n503 x\r\n503 x\r\n", [(Ask.MAIL, 550), (Ask.MAIL, 550)]),
    (OK * 3 + b"554 spam\r\n", [(Ask.DOT, 554), (Ask.DOT, 554)]),
    (OK * 3 + b"354 odd\r\n", [(Ask.DOT, 354), (Ask.DOT, 354)]),
    (OK * 2 + b"450 later\r\n452 full\r\n", [(Ask.DOT, 452), (Ask.RCPT, 450)]),
])
def test_a_flight_that_fails_is_followed_by_rset(replies: bytes, results: list[tuple[Ask, int]]) -> None:
    client = in_one_flight()
    assert said(client, replies) == b"RSET\r\n"
    assert finish(client, OK) == results


def test_replies_may_come_octet_by_octet() -> None:
    client = in_one_flight()
    for octet in OK * 3 + b"250 2.0.0 taken\r":
        assert said(client, bytes([octet])) == b""
    assert finish(client, b"\n") == [(Ask.DOT, 250), (Ask.DOT, 250)]


def test_a_flight_that_is_lost() -> None:
    client = in_one_flight(OK * 2)
    assert client.next_event() is None
    finished = client.abandon(Reply(451, "4.4.2", "lost"))
    assert finished is not None
    assert [answer.reply.code for answer in finished.results] == [451, 451]


def test_a_small_message_that_is_longer_than_was_said() -> None:
    client = begun(SMALL, "PIPELINING", "CHUNKING")
    assert is_wanted(client)
    assert chunk(client, b"x", is_last=False) == COMMANDS + b"BDAT 1\r\nx"
    assert said(client, OK * 3) == b""
    assert is_wanted(client, OK)
    assert chunk(client, b"y") == b"BDAT 1 LAST\r\ny"
    assert finish(client, OK) == [(Ask.DOT, 250), (Ask.DOT, 250)]


@pytest.mark.parametrize("odd", [b"250 one octet\r\n", b"554 none\r\n"])
def test_the_rest_is_for_nobody(odd: bytes) -> None:
    client = begun(SMALL, "PIPELINING", "CHUNKING")
    assert is_wanted(client)
    chunk(client, b"x", is_last=False)
    assert said(client, OK, b"550 a\r\n", b"550 b\r\n", odd) == b"RSET\r\n"
    assert finish(client, OK) == [(Ask.RCPT, 550), (Ask.RCPT, 550)]


@pytest.mark.parametrize("envelope", [LARGE, SMALL._replace(size=0)])
def test_others_wait_for_a_recipient(envelope: Envelope) -> None:
    client = begun(envelope, "PIPELINING", "CHUNKING")
    assert said(client) == COMMANDS
    assert is_wanted(client, OK * 2, b"450 later\r\n")
    assert chunk(client, b"x") == b"BDAT 1 LAST\r\nx"
    assert finish(client, OK) == [(Ask.DOT, 250), (Ask.RCPT, 450)]


def test_nothing_is_sent_for_nobody() -> None:
    client = begun(LARGE, "PIPELINING", "CHUNKING")
    assert said(client, OK, b"550 a\r\n", b"550 b\r\n") == COMMANDS + b"RSET\r\n"
    assert finish(client, OK) == [(Ask.RCPT, 550), (Ask.RCPT, 550)]


def test_step_by_step_without_pipelining() -> None:
    client = begun(SMALL, "CHUNKING")
    assert said(client) == b"MAIL FROM:<a@c>\r\n"
    assert said(client, OK) == b"RCPT TO:<b@d>\r\nRCPT TO:<e@f>\r\n"
    assert is_wanted(client, OK * 2)
    assert chunk(client, b"x", is_last=False) == b"BDAT 1\r\nx"
    assert said(client) == b"", "each chunk is answered before the next one"
    assert is_wanted(client, OK)
    assert chunk(client, b"") == b"BDAT 0 LAST\r\n"
    assert finish(client, OK) == [(Ask.DOT, 250), (Ask.DOT, 250)]


def with_open_chunks() -> SmtpClient:
    client = begun(LARGE, "PIPELINING", "CHUNKING")
    assert is_wanted(client, OK * 3)
    client.take_output()
    for number in range(CHUNKS_OPEN - 1):
        chunk(client, b"%d" % number, is_last=False)
        assert is_wanted(client)
    chunk(client, b"x", is_last=False)
    assert said(client) == b""
    return client


def test_some_chunks_are_on_their_way_together() -> None:
    client = with_open_chunks()
    assert is_wanted(client, OK)
    chunk(client, b"y")
    assert said(client, OK * (CHUNKS_OPEN - 1)) == b""
    assert finish(client, OK) == [(Ask.DOT, 250), (Ask.DOT, 250)]


def test_nothing_follows_a_refused_chunk() -> None:
    client = with_open_chunks()
    assert said(client, b"452 full\r\n") == b""
    assert said(client, b"503 x\r\n" * (CHUNKS_OPEN - 1)) == b"RSET\r\n"
    assert finish(client, OK) == [(Ask.CHUNK, 452), (Ask.CHUNK, 452)]


@pytest.mark.parametrize(("last", "says"), [(b"503 x\r\n", b"RSET\r\n"), (b"250 odd\r\n", b"")])
def test_the_last_one_does_not_mend_it(last: bytes, says: bytes) -> None:
    client = begun(LARGE, "PIPELINING", "CHUNKING")
    assert is_wanted(client, OK * 3)
    chunk(client, b"x", is_last=False)
    assert is_wanted(client)
    chunk(client, b"y")
    client.feed(b"452 full\r\n" + last)
    if says:
        assert said(client) == says
        client.feed(OK)
    assert finish(client) == [(Ask.CHUNK, 452), (Ask.CHUNK, 452)]


def test_lmtp_has_an_answer_for_each() -> None:
    client = begun(SMALL, "PIPELINING", "CHUNKING", is_lmtp=True)
    assert said(client) == COMMANDS, "without recipients there may be no reply to the last chunk (RFC 2033 4.3)"
    assert is_wanted(client, OK * 3)
    assert chunk(client, b"x", is_last=False) == b"BDAT 1\r\nx"
    assert said(client) == b""
    assert is_wanted(client, OK)
    chunk(client, b"y")
    assert said(client, OK) == b""
    assert said(client, b"452 full\r\n") == b"RSET\r\n"
    assert finish(client, OK) == [(Ask.DOT, 250), (Ask.DOT, 452)]


@pytest.mark.parametrize(("words", "is_lmtp"), [
    (("CHUNKING",), False), (("CHUNKING",), True), (("PIPELINING", "CHUNKING"), True)])
def test_a_chunk_is_refused(words: tuple[str, ...], is_lmtp: bool) -> None:
    client = begun(LARGE, *words, is_lmtp=is_lmtp)
    said(client, *([] if "PIPELINING" in words else [OK]))
    assert is_wanted(client, OK * (3 if "PIPELINING" in words else 2))
    chunk(client, b"x", is_last=False)
    assert said(client, b"452 full\r\n") == b"RSET\r\n"
    assert finish(client, OK) == [(Ask.CHUNK, 452), (Ask.CHUNK, 452)]


def test_with_prdr_content_goes_by_data() -> None:
    assert said(begun(SMALL, "PIPELINING", "CHUNKING", "PRDR")).endswith(b"DATA\r\n")
    assert is_wanted(begun(SMALL._replace(rcpts=(b"b@d",)), "PIPELINING", "CHUNKING", "PRDR"))
    assert b"PRDR" not in said(begun(BINARY, "PIPELINING", "CHUNKING", "PRDR", "BINARYMIME"))


def test_chunking_that_is_ignored() -> None:
    off = frozenset({"CHUNKING"})
    assert said(begun(SMALL, "PIPELINING", "chunking", ignores=off)) == COMMANDS + b"DATA\r\n"
    assert finish(begun(BINARY, "CHUNKING", "BINARYMIME", ignores=off)) == [(Ask.MAIL, 554), (Ask.MAIL, 554)]


def test_binary_content_needs_a_server_for_it() -> None:
    assert finish(begun(BINARY, "PIPELINING", "8BITMIME")) == [(Ask.MAIL, 554), (Ask.MAIL, 554)]
    assert finish(begun(BINARY, "PIPELINING", "CHUNKING")) == [(Ask.MAIL, 554), (Ask.MAIL, 554)]
    client = begun(BINARY, "CHUNKING", "BINARYMIME")
    assert said(client) == b"MAIL FROM:<a@c> BODY=BINARYMIME\r\n"
    assert said(client, OK) == b"RCPT TO:<b@d>\r\nRCPT TO:<e@f>\r\n"
    assert is_wanted(client, OK * 2)
    assert chunk(client, b".\n\0") == b"BDAT 3 LAST\r\n.\n\0"
    assert finish(client, OK) == [(Ask.DOT, 250), (Ask.DOT, 250)]


@given(st.lists(st.sampled_from([b"b@local.test", b"nobody@local.test", b"x@else.test"]), min_size=1, max_size=6),
       st.lists(st.sampled_from([b"line\r\n", b".\r\n", b".x\r\n", b"\r\n", b"QUIT\r\n"]), max_size=5),
       st.lists(st.integers(0, 30), max_size=4), st.sets(st.sampled_from(["PIPELINING", "CHUNKING", "SIZE"])),
       st.booleans())
def test_client_and_server_understand_each_other(rcpts: list[bytes], lines: list[bytes], cuts: list[int],
                                                 ignored: set[str], is_small: bool) -> None:
    """Both machines joined in memory: what the client thinks was accepted is what the server has, in wire form."""
    dialog, client = Client(), SmtpClient("me.test", ignores=frozenset(ignored))
    content = b"".join(lines)
    envelope = Envelope(b"a@c", tuple(rcpts), len(content) if is_small else ONE_FLIGHT + 1)
    ends = sorted({cut for cut in cuts if cut < len(content)} | {len(content)})
    parts = [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    event: Event | None = None
    for _ in range(60):
        dialog.run()
        for line in dialog.lines:
            client.feed(line + b"\r\n")
        dialog.lines.clear()
        event = client.next_event()
        match event:
            case Ready():
                client.begin(envelope)
            case ContentWanted():
                assert ignored & {"CHUNKING"}
                dialog.send(stuff(content))
                client.end_content()
            case ChunkWanted():
                client.send_chunk(parts.pop(0), is_last=not parts)
            case Finished():
                break
        dialog.send(client.take_output())
    assert isinstance(event, Finished)
    expected = [Answered(at, Ask.DOT if b"b@local" in rcpt else Ask.RCPT, Reply(0, "", ""))
                for at, rcpt in enumerate(rcpts)]
    assert [(r.at, r.ask) for r in event.results] == [(e.at, e.ask) for e in expected]
    assert dialog.messages == ([stuff(content)] if any(b"b@local" in rcpt for rcpt in rcpts) else [])
    assert not dialog.closed, "no word of the content was a command"
