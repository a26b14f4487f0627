"""Messages of programs made fit for SMTP: line ends, dots, fields, recipients; sendmail's command line."""
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.cli.sendmail import Wrong, main, parse
from meta1g.cli.submission import BadMessage, Message
from meta1g.mta import limits
from meta1g.proto.smtp.data import ContentReader, unstuff


def read(octets: bytes, *, dots_end: bool = True) -> Message:
    return Message(io.BytesIO(octets), dots_end=dots_end)


def wire(octets: bytes, *, dots_end: bool = True) -> bytes:
    with read(octets, dots_end=dots_end) as message:
        return b"".join(message.wire())


@pytest.mark.parametrize(("octets", "dots_end", "expected"), [
    (b"Subject: x\n\nbody\n", True, b"Subject: x\r\n\r\nbody\r\n.\r\n"),
    (b"Subject: x\r\n\r\nbody\r\n", True, b"Subject: x\r\n\r\nbody\r\n.\r\n"),
    (b"A: b\n\n.\nnot there\n", True, b"A: b\r\n\r\n.\r\n"),
    (b"A: b\n\n.\n..x\n", False, b"A: b\r\n\r\n..\r\n...x\r\n.\r\n"),
    (b"A: b\n\nno end", True, b"A: b\r\n\r\nno end\r\n.\r\n"),
    (b"no header\n\nbody\n", True, b"\r\nno header\r\n\r\nbody\r\n.\r\n"),
    (b"From joe Fri Nov 27\nA: b\n c\n\nx\n", True, b"A: b\r\n c\r\n\r\nx\r\n.\r\n"),
    (b"A: b", True, b"A: b\r\n\r\n.\r\n"), (b"A: b\n c", True, b"A: b\r\n c\r\n\r\n.\r\n"),
    (b"", True, b"\r\n.\r\n"), (b"A: b\n\nx\ry\n", True, b"A: b\r\n\r\nx y\r\n.\r\n"),
])
def test_wire_form(octets: bytes, dots_end: bool, expected: bytes) -> None:
    assert wire(octets, dots_end=dots_end) == expected


@given(body=st.binary(max_size=300).filter(lambda octets: b"\r" not in octets and b"\0" not in octets))
def test_any_body_arrives(body: bytes) -> None:
    """What a server makes of it is the body with CRLF, whatever dots are in it."""
    reader = ContentReader()
    out = reader.feed(wire(b"A: b\n\n" + body, dots_end=False))
    assert reader.is_done and not reader.rest and not reader.has_bare_line_end
    normal = body.replace(b"\n", b"\r\n")
    assert unstuff(out) == b"A: b\r\n\r\n" + normal + (b"" if normal.endswith(b"\r\n") or not normal else b"\r\n")


def test_a_message_that_is_only_half_a_header() -> None:
    """What is added must not become a part of its last field."""
    with read(b"Subject: x") as message:
        message.complete("joe@x", "host.test")
        assert b"".join(message.wire()).startswith(b"Subject: x\r\nDate: ")


def test_words_that_are_no_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Octets of a command line that are no UTF-8, and an account that does not exist."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"A: b\n\n")))
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert main("sendmail", ["-C", "/dev/null", "r\udcff@x"]) == os.EX_DATAERR
    assert "is no address" in capsys.readouterr().err


def test_recipients() -> None:
    """From the fields of a message, comments and groups and all; of a resent one from its own fields only."""
    text = b'To: a@b, "x, y" <c@d> (no)\ncc: e@f,\n g@h\nBCC: i@j\nSubject: k@l\n\n'
    with read(text) as message:
        assert message.recipients() == ["a@b", "c@d", "e@f", "g@h", "i@j"]
        message.complete("joe@x", "x")
        assert b"i@j" not in b"".join(message.wire())
    with read(b"Resent-To: m@n\n" + text) as message:
        assert message.recipients() == ["m@n"]


def test_fields_that_must_be_there() -> None:
    with read(b"subject: x\n\nbody\n") as message:
        message.complete('"Joe" <joe@x>', "host.test")
        header = b"".join(message.wire()).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert [line.partition(b":")[0] for line in header] == [b"subject", b"Date", b"From", b"Message-ID"]
    assert header[2] == b'From: "Joe" <joe@x>' and header[3].endswith(b"@host.test>")
    with read(b"DATE: a\nfrom: b\nMessage-Id: c\n\n") as message:
        message.complete("d@e", "f")
        assert b"".join(message.wire()) == b"DATE: a\r\nfrom: b\r\nMessage-Id: c\r\n\r\n.\r\n"


def test_a_header_without_end() -> None:
    with pytest.raises(BadMessage, match="header is larger"):
        read(b"A: b\n" * (limits.HEADER_SECTION // 5 + 1))


@pytest.mark.parametrize(("name", "words", "said"), [
    ("sendmail", "-t -i", {"from_header": True, "ignores_dots": True}),
    ("sendmail", "-oi -oem a@b c@d", {"ignores_dots": True, "rcpts": ["a@b", "c@d"]}),
    ("sendmail", "-fjoe@x -F Joe a@b", {"sender": "joe@x", "full_name": "Joe"}),
    ("sendmail", "-f <> -ti", {"sender": "", "from_header": True}),
    ("sendmail", "a@b -i", {"ignores_dots": True, "rcpts": ["a@b"]}), ("sendmail", "-- -x@b", {"rcpts": ["-x@b"]}),
    ("sendmail", "-B8BITMIME -R hdrs -V a+b -N never x@y", {
        "mail_words": ["BODY=8BITMIME", "RET=HDRS", "ENVID=a+2Bb"], "rcpt_words": ["NOTIFY=NEVER"]}),
    ("sendmail", "-N success,delay", {"rcpt_words": ["NOTIFY=SUCCESS,DELAY"]}),
    ("sendmail", "-bs", {"mode": "s"}), ("mailq", "", {"mode": "p"}), ("newaliases", "", {"mode": "i"}),
    ("sendmail", "-q30m", {"mode": "q"}), ("sendmail", "-bp -C /x", {"mode": "p", "conf": "/x"}),
    ("sendmail", "-Am -d0.1 -n -m -U -GL x a@b", {"rcpts": ["a@b"]}),
])
def test_command_line(name: str, words: str, said: dict[str, object]) -> None:
    """As Sendmail 8 and Postfix read it."""
    found = parse(name, words.split())
    assert {key: getattr(found, key) for key in said} == said


@pytest.mark.parametrize("words", ["-k", "-f", "-bx", "-B 9BIT", "-R x", "-N sometimes"])
def test_wrong_command_lines(words: str) -> None:
    with pytest.raises(Wrong):
        parse("sendmail", words.split())
