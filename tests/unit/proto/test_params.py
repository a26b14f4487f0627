"""Parameters of MAIL and RCPT, XCLIENT's attributes, PROXY headers: tables of good and bad."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.errors import RemoteProtocolError
from meta1g.mta.reply import Reply
from meta1g.proto import proxy
from meta1g.proto.smtp import xclient
from meta1g.proto.smtp.command import Bdat, Mail, Rcpt, Syntax, parse_command
from meta1g.proto.smtp.params import (
    MailParams,
    Offers,
    author_of_mail,
    decode_xtext,
    ehlo_words,
    mail_params,
    rcpt_params,
    reporting,
    reports,
    split_onward,
    with_author,
)

ALL = Offers(True, True, True, True, True, True)
NONE = Offers(False)
UTF8 = Syntax(utf8=True)


def mail(text: bytes) -> tuple[tuple[bytes, bytes], ...]:
    command = parse_command(b"MAIL FROM:<a@b.c> " + text, UTF8)
    assert isinstance(command, Mail), command
    return command.params


MAIL = [
    (b"", MailParams()), (b"SIZE=10", MailParams(10)), (b"size=0", MailParams()), (b"SIZE=", None), (b"SIZE=x", None),
    (b"BODY=7BIT", MailParams(body=b"7BIT")), (b"BODY=8bitmime", MailParams(body=b"8BITMIME")), (b"BODY=9", None),
    (b"BODY=BINARYMIME", MailParams(body=b"BINARYMIME", onward=b"BODY=BINARYMIME")),
    (b"SMTPUTF8", MailParams(is_utf8=True)),
    (b"SMTPUTF8=1", None), (b"RET=FULL", MailParams(onward=b"RET=FULL")), (b"RET=hdrs", MailParams(onward=b"RET=hdrs")),
    (b"RET=all", None), (b"RET", None), (b"ENVID=a+2Bb", MailParams(onward=b"ENVID=a+2Bb")), (b"ENVID=a+b", None),
    (b"ENVID", None), (b"ENVID=" + b"x" * 100, MailParams(onward=b"ENVID=" + b"x" * 100)),
    (b"ENVID=" + b"x" * 101, None), (b"XVERP", MailParams(onward=b"XVERP")), (b"XVERP=1", None), (b"AUTH=<>", None),
    (b"RET=FULL ENVID=q SIZE=7", MailParams(7, onward=b"RET=FULL ENVID=q")),
]


@pytest.mark.parametrize(("text", "found"), MAIL)
def test_mail(text: bytes, found: MailParams | None) -> None:
    try:
        params = mail(text)
    except AssertionError:
        assert found is None
        return
    parsed = mail_params(params, ALL, 1000)
    assert isinstance(parsed, Reply) if found is None else parsed == found
    if params and params[0][0] != b"SIZE":
        assert isinstance(mail_params(params, NONE, 1000), Reply)


def test_declared_size_is_compared() -> None:
    found = mail_params(mail(b"SIZE=1001"), ALL, 1000)
    assert isinstance(found, Reply)
    assert found.code == 552


RCPT = [
    (b"NOTIFY=NEVER", True), (b"NOTIFY=never", True), (b"NOTIFY=SUCCESS,FAILURE,DELAY", True), (b"NOTIFY=DELAY", True),
    (b"NOTIFY=NEVER,DELAY", False), (b"NOTIFY=SUCCESS,SUCCESS", False), (b"NOTIFY=", False), (b"NOTIFY", False),
    (b"NOTIFY=MAYBE", False), (b"ORCPT=rfc822;a+2Bb@c.d", True), (b"ORCPT=rfc822;a+b@c.d", False),
    (b"ORCPT=a@b", False),
    (b"ORCPT=;a", False), (b"ORCPT=rfc822;", False), (b"ORCPT=rfc822;" + b"x" * 500, False),
    ("ORCPT=utf-8;\u00e4@b.c".encode(), True), ("ORCPT=rfc822;\u00e4@b.c".encode(), False),
    (b"ORCPT=utf-8;\\x{E4}@b.c", True), (b"SIZE=1", False), (b"NOTIFY=DELAY ORCPT=rfc822;a@b", True),
]


@pytest.mark.parametrize(("text", "is_good"), RCPT)
def test_rcpt(text: bytes, is_good: bool) -> None:
    command = parse_command(b"RCPT TO:<a@b.c> " + text, UTF8)
    found = rcpt_params(command.params, ALL, is_utf8=True) if isinstance(command, Rcpt) else command
    assert found == text if is_good else isinstance(found, Reply)
    if isinstance(command, Rcpt):
        assert isinstance(rcpt_params(command.params, NONE, is_utf8=True), Reply)


def test_onward_comes_apart_again() -> None:
    assert split_onward(b"RET=FULL ENVID=a+2Bb XVERP") == {b"RET": b"FULL", b"ENVID": b"a+2Bb", b"XVERP": b""}
    assert decode_xtext(b"a+2Bb") == b"a+b"


def test_ehlo() -> None:
    assert ehlo_words(NONE, 9, rcpts_max=10**7, mails_max=10**7) == [
        "PIPELINING", "SIZE 9", "ENHANCEDSTATUSCODES", "HELP"]
    assert "LIMITS RCPTMAX=7" in ehlo_words(ALL, 9, rcpts_max=7, mails_max=10**7)


@pytest.mark.parametrize(("line", "found"), [
    (b"BDAT 0 LAST", Bdat(0, True)), (b"bdat 12", Bdat(12, False)), (b"BDAT 12 last", Bdat(12, True)), (b"BDAT", None),
    (b"BDAT x", None), (b"BDAT -1", None), (b"BDAT 1 FIRST", None), (b"BDAT 1 LAST LAST", None),
    (b"BDAT " + b"9" * 21, None),
])
def test_bdat(line: bytes, found: Bdat | None) -> None:
    command = parse_command(line, UTF8)
    assert command == found if found else isinstance(command, Reply)


@pytest.mark.parametrize(("text", "found"), [
    (b"ADDR=192.0.2.1 NAME=a.b", {"ADDR": "192.0.2.1", "NAME": "a.b"}),
    (b"addr=IPv6:2001:DB8::1", {"ADDR": "2001:db8::1"}), (b"NAME=[UNAVAILABLE]", {"NAME": ""}),
    (b"HELO=a+20b", {"HELO": "a b"}), (b"ADDR=[TEMPUNAVAIL]", {"ADDR": ""}), (b"ADDR=nonsense", None),
    (b"WHAT=x", None),
    (b"NAME", None), (b"NAME=", None), (b"NAME=+0A", None), (b"", None), (b"NAME=" + b"x" * 300, None),
])
def test_xclient(text: bytes, found: dict[str, str] | None) -> None:
    got = xclient.attributes(text, xclient.XCLIENT)
    assert got == found if found is not None else isinstance(got, Reply)


V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\nEHLO", ("192.0.2.1", b"EHLO")),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n", ("2001:db8::1", b"")),
    (b"PROXY UNKNOWN\r\nx", ("", b"x")), (b"PROXY UNKNOWN ff 1 2\r\n", ("", b"")),
    (V2 + b"\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 25]) + b"rest", ("192.0.2.1", b"rest")),
    (V2 + b"\x21\x21\0\x24" + bytes(15) + b"\1" + bytes(20), ("::1", b"")),
    (V2 + b"\x20\x00\0\0x", ("", b"x")), (V2 + b"\x21\x31\0\x02zz", ("", b"")),
]
BAD_PROXY = [
    b"EHLO x\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", b"PROXY TCP4 ::1 ::2 1 2\r\n", b"PROXY TCP5 1 2 3 4\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n", b"PROXY " + b"x" * 200, V2 + b"\x31\x11\0\0",
    V2 + b"\x21\x11\0\x04abcd",
    V2 + b"\x21\x11\xff\xff",
]


@pytest.mark.parametrize(("octets", "found"), PROXY)
def test_proxy(octets: bytes, found: tuple[str, bytes]) -> None:
    assert proxy.parse(octets) == found
    header = len(octets) - len(found[1])
    for cut in range(header):
        assert proxy.parse(octets[:cut]) is None


@pytest.mark.parametrize("octets", BAD_PROXY)
def test_bad_proxy(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        proxy.parse(octets)


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", V2, V2 + b"\x21\x11"]), st.binary(max_size=120))
def test_any_octets(start: bytes, octets: bytes) -> None:
    try:
        proxy.parse(start + octets)
    except RemoteProtocolError:
        pass


def test_reporting() -> None:
    made = reporting(b"NOTIFY=SUCCESS ORCPT=rfc822;a@b", "expanded")
    assert reports(made) == "expanded"
    assert split_onward(made)[b"ORCPT"] == b"rfc822;a@b"
    assert reports(b"NOTIFY=SUCCESS") == ""
    assert reports(b"") == ""


@pytest.mark.parametrize(("onward", "author", "text"), [
    (b"", b"", b""), (b"RET=HDRS", b"", b"RET=HDRS"), (b"", b"joe@a.b", b"AUTH=joe@a.b"),
    (b"RET=HDRS", b"a+b=c@d", b"RET=HDRS AUTH=a+2Bb+3Dc@d"),
])
def test_author(onward: bytes, author: bytes, text: bytes) -> None:
    """RFC 4954 5: who wrote a mail goes on with it, as xtext."""
    assert with_author(onward, author) == text
    assert author_of_mail(text) == b" AUTH=" + (text.partition(b"AUTH=")[2] or b"<>")
