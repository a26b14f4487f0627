"""DSNs: each format, read by Python's email package; nothing from the network can forge a field or a part."""
import email
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.reply import Reply, parse_reply_text
from meta1g.proto import dsn, dsn_parts
from meta1g.proto.dsn import Action, Notice, Report, Said
from meta1g.proto.smtp.data import stuff, unstuff
from meta1g.proto.smtp.params import decode_xtext

ORIGINAL = b"From: a@b.test\r\nSubject: hello\r\n\r\n.leading dot\r\n--S1/" + b"0" * 32 + b"--\r\nend\r\n"
DATE = "Wed, 25 Nov 2026 12:00:00 +0000"
SAID = Said(Reply(550, "5.1.1", "No such user\nreally not"), "mx.test", "192.0.2.1")
NOTICE = Notice("host.test", b"from@host.test", "S1", DATE, [], "f00d" * 8, b"QQ+3D1", DATE, DATE)


def report(action: Action = Action.FAILED, **changes: object) -> Report:
    made = Report(b"to@x.test", SAID.reply, "RCPT", action, SAID, b"rfc822;o+2Bne@x.test", DATE)
    return made._replace(**changes)


def whole(frame: dsn.Frame, original: bytes = ORIGINAL) -> bytes:
    """What comes out at the other end."""
    return unstuff(frame.head + stuff(original) + frame.tail)


def parsed(frame: dsn.Frame, original: bytes = ORIGINAL) -> EmailMessage:
    message = email.message_from_bytes(whole(frame, original), policy=SMTP)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert part.defects == []
    return message


def fields(block: object) -> dict[str, str]:
    """A block's fields as they stand, unfolded."""
    assert isinstance(block, EmailMessage)
    raw = [(name, str(value).replace("\r\n", "")) for name, value in block.raw_items()]
    assert len(dict(raw)) == len(raw)
    return dict(raw)


def status(message: EmailMessage) -> list[dict[str, str]]:
    return [fields(block) for block in message.get_payload()[1].get_payload()]


def test_report() -> None:
    frame = dsn_parts.report(NOTICE._replace(reports=[report()]))
    message = parsed(frame)
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    assert (message["Subject"], message["Auto-Submitted"]) == ("Undeliverable mail", "auto-replied")
    assert (message["Message-Id"], message["To"]) == ("<S1@host.test>", "from@host.test")
    text, _, original = message.get_payload()
    assert "550 5.1.1 <to@x.test>... No such user\n    really not\nduring RCPT" in text.get_content().replace("\r", "")
    assert status(message) == [
        {"Reporting-MTA": "dns; host.test", "Original-Envelope-Id": "QQ=1", "Arrival-Date": DATE},
        {"Original-Recipient": "rfc822; o+ne@x.test", "Final-Recipient": "rfc822; to@x.test", "Action": "failed",
         "Status": "5.1.1", "Remote-MTA": "dns; mx.test",
         "Diagnostic-Code": "smtp; 550-5.1.1 No such user\t550 5.1.1 really not", "Last-Attempt-Date": DATE}]
    assert original.get_content_type() == "message/rfc822"
    assert bytes(original.get_payload()[0]) == ORIGINAL
    assert (frame.is_8bit, frame.is_utf8) == (False, False)


@pytest.mark.parametrize(("action", "reply", "expected", "subject"), [
    (Action.FAILED, Reply(550, "", "no"), "5.0.0", "Undeliverable mail"),
    (Action.FAILED, Reply(550, "5.4.7", "old"), "5.4.7", "Undeliverable mail"),
    (Action.DELAYED, Reply(450, "4.2.1", "full"), "4.2.1", "Delayed mail (still being retried)"),
    (Action.DELAYED, Reply(0, "", ""), "4.0.0", "Delayed mail (still being retried)"),
    (Action.DELIVERED, Reply(250, "2.1.5", "ok"), "2.1.5", "Mail was delivered"),
    (Action.RELAYED, Reply(250, "", "ok"), "2.0.0", "Mail was delivered"),
    (Action.EXPANDED, Reply(250, "2.1.5", "ok"), "2.1.5", "Mail was passed on"),
])
def test_actions(action: Action, reply: Reply, expected: str, subject: str) -> None:
    entry = report(action, reply=reply, said=None, orcpt=b"")
    message = parsed(dsn_parts.report(NOTICE._replace(reports=[entry])))
    found = status(message)[1]
    assert (found["Action"], found["Status"], message["Subject"]) == (action.value, expected, subject)
    assert ("Will-Retry-Until" in found) is (action is Action.DELAYED)
    assert not found.keys() & {"Diagnostic-Code", "Remote-MTA", "Original-Recipient"}
    plain = dsn.plain(NOTICE._replace(reports=[entry]))
    assert f"Subject: {subject}\r\n".encode() in plain.head
    assert (f"tried again until {DATE}.".encode() in plain.head) is (action is Action.DELAYED)


@pytest.mark.parametrize(("name", "ip", "expected"), [
    ("mx.test", "192.0.2.1", "dns; mx.test"), ("", "192.0.2.1", "dns; [192.0.2.1]"), ("", "", None)])
def test_remote_mta(name: str, ip: str, expected: str | None) -> None:
    entry = report(said=Said(SAID.reply, name, ip))
    assert status(parsed(dsn_parts.report(NOTICE._replace(reports=[entry]))))[1].get("Remote-MTA") == expected


def test_mixed() -> None:
    message = parsed(dsn_parts.mixed(NOTICE._replace(reports=[report(), report(Action.DELIVERED)])))
    assert message.get_content_type() == "multipart/mixed"
    what, who, original = message.get_payload()
    assert "could not be delivered" in what.get_content()
    assert "550 5.1.1 <to@x.test>... No such user" in who.get_content()
    assert "was delivered" in who.get_content()
    assert bytes(original.get_payload()[0]) == ORIGINAL


@pytest.mark.parametrize("build", [dsn_parts.mixed, dsn_parts.report])
@pytest.mark.parametrize(("headers", "is_8bit", "is_utf8", "expected"), [
    (False, False, False, "message/rfc822"), (True, False, False, "text/rfc822-headers"),
    (False, True, False, "message/rfc822"), (True, True, False, "text/rfc822-headers"),
    (False, True, True, "message/global"), (True, True, True, "message/global-headers"),
])
def test_original(build: object, headers: bool, is_8bit: bool, is_utf8: bool, expected: str) -> None:
    notice = NOTICE._replace(reports=[report()], is_header_only=headers, is_8bit=is_8bit, is_utf8=is_utf8)
    frame = build(notice)  # type: ignore[operator]
    original = "Subject: Grüße\r\n".encode() if is_8bit else b"Subject: x\r\n"
    message = parsed(frame, original if headers else original + b"\r\nbody\r\n")
    part = message.get_payload()[2]
    assert part.get_content_type() == expected
    encodings = [each.get("Content-Transfer-Encoding", "7bit") for each in (message, part)]
    assert encodings == (["8bit", "8bit"] if is_8bit else ["7bit", "7bit"])
    assert (frame.is_8bit, frame.is_utf8) == (is_8bit, is_utf8)


def test_utf8_addresses() -> None:
    entry = report(address="grün@x.test".encode(), orcpt=rb"utf-8;gr\x{FC}n+2B\x{1F600}@x.test")
    frame = dsn_parts.report(NOTICE._replace(reports=[entry]))
    assert (frame.is_8bit, frame.is_utf8) == (True, True)
    assert "Final-Recipient: utf-8; grün@x.test\r\n".encode() in frame.head
    assert "Original-Recipient: utf-8; grün+\U0001f600@x.test\r\n".encode() in frame.head
    assert b"Content-Type: message/global-delivery-status\r\n" in frame.head
    plain = dsn.plain(NOTICE._replace(reports=[entry], to="ö@x.test".encode()))
    assert (plain.is_8bit, plain.is_utf8) == (True, True)


def test_utf8_address_in_an_ascii_report_stays_encoded() -> None:
    frame = dsn_parts.report(NOTICE._replace(reports=[report(orcpt=rb"utf-8;gr\x{FC}n@x.test")]))
    assert b"Original-Recipient: utf-8; gr\\x{FC}n@x.test\r\n" in frame.head
    assert not frame.is_utf8


XTEXT = st.text("az09.;:@ +=\\\"<>", min_size=1, max_size=30)
REPLIES = st.builds(
    parse_reply_text, st.integers(400, 599),
    st.lists(st.binary(max_size=600) | st.sampled_from([
        b"5.1.1 no", b"4.2.2\t", b"", b" ", b"x" * 2000, b"--S1/" + b"f00d" * 8 + b"--", b"Action: delivered",
        b"\r\nTo: x", b" " * 500, "Grüße".encode(), b".", b"\xe2\x80\xa8a: b"]), min_size=1, max_size=5))
ANY_REPLIES = REPLIES | st.builds(Reply, st.integers(0, 599), st.sampled_from(["", "5.1.1", "9", "5.1.1\r\nX: y"]),
                                  st.text(max_size=300))


def xtext(text: str) -> bytes:
    return b"".join(b"+%02X" % ord(c) if c in "+= " else c.encode() for c in text)


@given(st.lists(st.tuples(
    ANY_REPLIES, ANY_REPLIES, XTEXT, st.sampled_from([b"a@b.test", b'"a b\\"<>:;"@b.test', b'".."@[192.0.2.1]']),
    st.sampled_from(list(Action))), min_size=1, max_size=4), XTEXT)
def test_any_words(entries: list[tuple[Reply, Reply, str, bytes, Action]], envid: str) -> None:
    reports = [Report(address, reply, "RCPT", action, Said(said, "mx.test", ""), b"rfc822;" + xtext(orcpt), DATE)
               for reply, said, orcpt, address, action in entries]
    frame = dsn_parts.report(NOTICE._replace(reports=reports, envid=xtext(envid)))
    message = parsed(frame)
    assert [part.get_content_type() for part in message.get_payload()] == [
        "text/plain", "message/delivery-status", "message/rfc822"]
    assert bytes(message.get_payload()[2].get_payload()[0]) == ORIGINAL
    first, *rest = status(message)
    assert first.get("Original-Envelope-Id", "") == envid.strip()
    assert len(rest) == len(reports)
    for found, entry in zip(rest, reports, strict=True):
        assert found["Final-Recipient"] == "rfc822; " + entry.address.decode()
        original = decode_xtext(entry.orcpt).decode()[7:].strip()
        assert found.get("Original-Recipient", "") == ("rfc822; " + original if original else "")
        assert found["Action"] == entry.action
        assert found["Diagnostic-Code"].startswith("smtp; ")
        assert found.keys() <= {
            "Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
            "Last-Attempt-Date", "Will-Retry-Until"}
    assert frame.is_8bit is (not frame.head.isascii())
    _check_lines(frame)


@given(st.lists(st.tuples(ANY_REPLIES, st.binary(max_size=60), st.binary(max_size=60)), min_size=1, max_size=3),
       st.binary(max_size=40), st.sampled_from([dsn.plain, dsn_parts.mixed, dsn_parts.report]))
def test_any_octets_keep_their_place(
    entries: list[tuple[Reply, bytes, bytes]], envid: bytes, build: object
) -> None:
    """Even what no parser would let through can't end a line."""
    reports = [Report(address, reply, "RCPT", orcpt=orcpt, said=Said(reply, "m\r\nx", "")) for reply, address, orcpt
               in entries]
    frame = build(NOTICE._replace(reports=reports, envid=envid))  # type: ignore[operator]
    _check_lines(frame)
    names = {line.partition(b":")[0] for line in frame.head.partition(b"\r\n\r\n")[0].split(b"\r\n")}
    assert {name for name in names if not name.startswith((b"\t", b" "))} <= {
        b"From", b"To", b"Subject", b"Date", b"Message-Id", b"Auto-Submitted", b"MIME-Version", b"Content-Type",
        b"Content-Transfer-Encoding"}
    if build is not dsn.plain:
        assert frame.head.count(b"\r\n--S1/" + b"f00d" * 8) == 3


def _check_lines(frame: dsn.Frame) -> None:
    lines = unstuff(frame.head).split(b"\r\n")
    assert all(len(line) <= 998 for line in lines)
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    assert frame.head.endswith(b"\r\n")
