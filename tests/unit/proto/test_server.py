"""The server's machine: what octets may never do. Its dialogs stand in tests/transcripts."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.errors import LocalProtocolError
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.command import Syntax
from meta1g.proto.smtp.data import stuff
from meta1g.proto.smtp.events import Chunk, Closed, ContentEnd, MailAsked
from meta1g.proto.smtp.options import ServerOptions
from meta1g.proto.smtp.states import State
from tests.lib.dialog import Client

BEGIN = b"EHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<b@local.test>\r\nDATA\r\n"


def begun() -> Client:
    dialog = Client()
    dialog.send(BEGIN)
    dialog.run()
    assert dialog.machine.state is State.DATA
    return dialog


LINES = st.lists(st.sampled_from([b".", b"..", b".x", b"", b"text", b"\x80", b"a" * 100]), max_size=8)


@given(LINES, st.integers(1, 7))
def test_content_comes_out_as_it_went_in(lines: list[bytes], step: int) -> None:
    """Whatever the cuts: the octets between DATA and the final dot, and nothing else."""
    content = b"".join(line.replace(b".", b"..", 1) + b"\r\n" if line.startswith(b".") else line + b"\r\n"
                       for line in lines)
    wire = content + b".\r\nNOOP\r\n"
    dialog = begun()
    for at in range(0, len(wire), step):
        dialog.send(wire[at : at + step])
        dialog.run()
    assert dialog.messages == [content]
    assert dialog.machine.state is State.READY
    assert dialog.lines[-1] == b"250 2.0.0 Ok"


@given(LINES, st.lists(st.integers(0, 9), max_size=6), st.booleans(), st.integers(1, 9))
def test_bdat_gives_what_data_would(lines: list[bytes], cuts: list[int], has_end: bool, step: int) -> None:
    """Whatever the chunks: the same content in wire form as by DATA."""
    text = b"\r\n".join(lines) + (b"\r\n" if has_end and lines else b"")
    wire, at = b"", 0
    for cut in cuts:
        wire += b"BDAT %d\r\n%b" % (len(text[at:at + cut]), text[at:at + cut])
        at += cut
    wire += b"BDAT %d LAST\r\n%bNOOP\r\n" % (len(text[at:]), text[at:])
    dialog = Client()
    dialog.send(BEGIN.removesuffix(b"DATA\r\n"))
    dialog.run()
    for at in range(0, len(wire), step):
        dialog.send(wire[at : at + step])
        dialog.run()
    assert dialog.messages == [stuff(text)]
    assert dialog.machine.state is State.READY
    assert [line[:3] for line in dialog.lines[-len(cuts) - 2:]] == [b"250"] * (len(cuts) + 2)


@given(st.lists(st.sampled_from([
    b"EHLO c\r\n", b"MAIL FROM:<a@c>\r\n", b"RCPT TO:<b@local.test>\r\n", b"RCPT TO:<nobody@local.test>\r\n",
    b"BDAT 3\r\nabc", b"BDAT 0\r\n", b"BDAT 6 LAST\r\nQUIT\r\n", b"BDAT 2000000\r\n" + b"x" * 2_000_000, b"RSET\r\n",
    b"DATA\r\n", b"NOOP\r\n", b"VRFY x\r\n", b"BDAT x\r\n"]), max_size=14))
def test_octets_of_chunks_are_never_commands(parts: list[bytes]) -> None:
    dialog = Client()
    for part in parts:
        if dialog.machine.state is State.DATA:
            dialog.send(b"\r\n.\r\n")
            dialog.run()
        dialog.send(part)
        dialog.run()
    assert not any(line.startswith((b"221", b"500")) for line in dialog.lines)


@given(st.binary(max_size=300))
def test_any_octets_are_answered_or_wait(octets: bytes) -> None:
    dialog = Client()
    for at in range(0, len(octets), 17):
        dialog.send(octets[at : at + 17])
        dialog.run()
    assert all(line[:3].isdigit() for line in dialog.lines)


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"x", b"\r\n."]), max_size=12))
def test_bare_line_ends_never_pass(parts: list[bytes]) -> None:
    body = b"".join(parts)
    dialog = begun()
    dialog.send(body + b"\r\n.\r\n")
    dialog.run()
    for message in dialog.messages:
        rest = message.replace(b"\r\n", b"")
        assert b"\r" not in rest
        assert b"\n" not in rest


def test_long_lines_cost_bounded_memory() -> None:
    dialog = Client()
    for _ in range(100):
        dialog.send(b"A" * 1000)
        dialog.run()
    dialog.send(b"\r\nNOOP\r\n")
    dialog.run()
    assert dialog.lines == [b"220 host.test", b"500 5.5.2 Line too long", b"250 2.0.0 Ok"]


def test_long_command_line_is_refused_but_parameters_may_be_longer() -> None:
    dialog = Client()
    dialog.send(b"NOOP " + b"x" * 600 + b"\r\n")
    dialog.run()
    assert dialog.lines[-1].startswith(b"500 5.5.2")


def test_long_content_line_is_refused() -> None:
    dialog = begun()
    dialog.send(b"x" * 70000 + b"\r\n.\r\n")
    dialog.run()
    assert dialog.lines[-1].startswith(b"554 5.6.0")


def test_misuse_is_our_own_fault() -> None:
    dialog = Client()
    with pytest.raises(LocalProtocolError, match="nothing to answer"):
        dialog.machine.answer(replies.OK)
    with pytest.raises(LocalProtocolError, match="no content"):
        dialog.machine.answer_each([])
    dialog.machine.feed(b"MAIL FROM:<>\r\n")
    dialog.machine.next_event()
    with pytest.raises(LocalProtocolError, match="not been answered"):
        dialog.machine.next_event()


def test_421_from_policy_closes() -> None:
    dialog = Client()
    dialog.machine.feed(b"MAIL FROM:<>\r\n")
    assert isinstance(dialog.machine.next_event(), MailAsked)
    closed = dialog.machine.answer(replies.BUSY)
    assert isinstance(closed, Closed)
    assert dialog.machine.next_event() is None


def test_lmtp_answers_each_recipient() -> None:
    options = ServerOptions("host.test", 1 << 20, syntax=Syntax(is_lmtp=True))
    dialog = Client(options)
    dialog.send(b"EHLO c\r\nLHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@local.test>\r\nRCPT TO:<c@local.test>\r\nDATA\r\n")
    dialog.run()
    assert dialog.lines[1].startswith(b"500")
    assert dialog.machine.protocol == "ESMTP"
    dialog.lines.clear()
    dialog.machine.feed(b"x\r\n.\r\n")
    assert isinstance(dialog.machine.next_event(), Chunk)
    assert isinstance(dialog.machine.next_event(), ContentEnd)
    dialog.machine.answer_each([replies.OK, replies.NO_SPACE])
    assert dialog.machine.take_output() == bytes(replies.OK) + bytes(replies.NO_SPACE)


def test_xclient_begins_anew_and_only_for_trusted_clients() -> None:
    dialog = Client()
    dialog.send(b"EHLO c\r\nXCLIENT ADDR=192.0.2.1\r\n")
    dialog.run()
    assert dialog.lines[-1].startswith(b"550 5.7.0")
    assert not any(b"XCLIENT" in line for line in dialog.lines)
    dialog.machine.is_trusted = True
    dialog.send(b"EHLO c\r\nXFORWARD HELO=x\r\nXCLIENT NAME=\r\nXCLIENT NAME=a ADDR=::1\r\n")
    dialog.run()
    assert any(line.startswith(b"250-XCLIENT NAME ADDR") for line in dialog.lines)
    assert [line[:3] for line in dialog.lines[-3:]] == [b"250", b"501", b"220"]
    assert dialog.machine.state is State.START
    dialog.send(b"MAIL FROM:<a@b>\r\nXCLIENT NAME=a\r\n")
    dialog.run()
    assert dialog.lines[-1].startswith(b"503")


def test_protocol_for_received() -> None:
    dialog = Client()
    assert dialog.machine.protocol == "SMTP"
    dialog.send("EHLO c\r\nMAIL FROM:<\u00e4@c> SMTPUTF8\r\n".encode())
    dialog.run()
    assert dialog.machine.protocol == "UTF8SMTP"
