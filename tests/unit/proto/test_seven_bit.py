"""Mail with 8-bit octets as a 7-bit server gets it."""
import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.proto.smtp.seven_bit import HEADER_MAX, Unconvertible, eight_bit_parts, seven_bit


def convert(content: bytes, step: int = 1 << 20) -> bytes:
    pieces = [content[at:at + step] for at in range(0, len(content), step)]
    return b"".join(seven_bit(pieces, eight_bit_parts(pieces)))


def lines(*each: str) -> bytes:
    return "".join(f"{line}\r\n" for line in each).encode()


def test_plain_text_that_is_no_mime() -> None:
    out = convert(lines("Subject: x", "", "grün = schön ", ".", "." * 200))
    assert out.isascii()
    message = email.message_from_bytes(out, policy=email.policy.SMTP)
    assert message["MIME-Version"] == "1.0"
    assert message.get_content_charset() == "unknown-8bit"
    assert message.get_payload(decode=True) == lines("grün = schön ", ".", "." * 200)
    assert max(map(len, out.split(b"\r\n"))) <= 200


def test_only_parts_that_need_it_change() -> None:
    out = convert(lines(
        "MIME-Version: 1.0", "Content-Type: multipart/mixed;", ' boundary="=x"', "Content-Transfer-Encoding: 8bit", "",
        "Vorwort für niemand", "--=x", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding:", " 8bit",
        "", "grün", "--=x", "Content-Transfer-Encoding: 8BIT", "", "plain = plain", "--=x", "", "no header",
        "--=x--", "Nachwort ü"))
    assert out == lines(
        "MIME-Version: 1.0", "Content-Type: multipart/mixed;", ' boundary="=x"', "Content-Transfer-Encoding: 7bit", "",
        "Vorwort f??r niemand", "--=x", "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable", "", "gr=C3=BCn", "--=x", "Content-Transfer-Encoding: 7bit", "",
        "plain = plain", "--=x", "", "no header", "--=x--", "Nachwort ??")


def test_messages_within_messages() -> None:
    inner = EmailMessage(policy=email.policy.SMTP.clone(cte_type="8bit"))
    inner["Subject"] = "inner"
    inner.set_content("grün\n", cte="8bit")
    outer = EmailMessage(policy=email.policy.SMTP.clone(cte_type="8bit"))
    outer["Subject"] = "outer"
    outer.set_content("ascii\n")
    outer.add_attachment(inner)
    outer.add_attachment(b"\0\1\xff", maintype="application", subtype="octet-stream")
    out = convert(bytes(outer))
    assert out.isascii()
    parts = [part.get_payload(decode=True) for part in email.message_from_bytes(out).walk()
             if part.get_content_maintype() in ("text", "application")]
    assert parts == [b"ascii\r\n", "grün\r\n".encode(), b"\0\1\xff"]


def test_parts_that_are_encoded_already() -> None:
    """A raw octet among quoted-printable or base64 costs neither what is right around it."""
    out = convert(lines(
        "Content-Type: multipart/mixed; boundary=x", "", "--x", "Content-Transfer-Encoding: Quoted-Printable", "",
        "a=3Db café=20", "soft=", "--x", "Content-Transfer-Encoding: base64", "", "YWJé", "--x--"))
    assert out == lines(
        "Content-Type: multipart/mixed; boundary=x", "", "--x", "Content-Transfer-Encoding: Quoted-Printable", "",
        "a=3Db caf=C3=A9=20", "soft=", "--x", "Content-Transfer-Encoding: base64", "", "YWJ", "--x--")


def test_octets_between_parts_only() -> None:
    content = lines("Content-Type: multipart/mixed; boundary=x", "", "für", "--x", "", "a = b", "--x--", "für")
    assert eight_bit_parts([content])
    assert convert(content) == content.replace("ü".encode(), b"??")


@pytest.mark.parametrize("kind", [
    "boundary*=idna''abc", "boundary*=undefined''abc", "boundary*=unicode_escape''%5Cud800", "boundary*=a%00b''abc",
    "boundary*0*=utf-8''a; boundary*=b", "boundary*1" + "9" * 1500 + "=a", 'a="' + ";" * 1900])
def test_strange_parameters_are_text(kind: str) -> None:
    assert convert(lines(f"Content-Type: multipart/mixed; {kind}", "", "für")).isascii()


@pytest.mark.parametrize("content", [
    b"Content-Type: multipart/mixed; " + b";" * 5000 + b"\r\n\r\nx",
    "Subject: grün\r\n\r\nx\r\n".encode(), "Subject: grün".encode(), b"X: " + b"x" * HEADER_MAX,
    b"\r\n" + b"x" * (2 << 20), b"".join(b"Content-Type: multipart/x; boundary=%d\r\n\r\n--%d\r\n" % (n, n)
                                         for n in range(200))])
def test_what_can_not_be_converted(content: bytes) -> None:
    with pytest.raises(Unconvertible):
        convert(content)


@given(st.lists(st.sampled_from([
    b"Content-Type: multipart/x; boundary=a", b"Content-Type: message/rfc822", b"Content-Transfer-Encoding: 8bit",
    b"Content-Transfer-Encoding: base64", b"--a", b"--a--", b"", b"text", b"\xff", b"=\xe4 ", b" folded", b"x" * 90]),
    max_size=30), st.integers(1, 9))
def test_whatever_it_is_it_becomes_ascii_or_is_refused(each: list[bytes], step: int) -> None:
    content = b"\r\n".join([b"Subject: x", *each, b""])
    try:
        out = convert(content, step)
    except Unconvertible:
        return
    assert out.isascii()
    assert out == convert(content)
    if content.isascii():
        assert len(out.split(b"\r\n")) == len(content.split(b"\r\n")) or b"8bit" in content
