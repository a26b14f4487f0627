"""DSNs as RFC 3464 says, through the real processes: a failure with 8-bit content, a delay."""
import email
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from tests.lib.instance import Instance
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = pytest.mark.system

EXTRA = """retry_delay_min = 1; retry_delay_max = 2; queue_delay { default = 2; }
  DSN_handling { merge_delay_max = 1; flags = { RFC_Format }; }"""


@pytest.fixture(scope="module")
def server() -> Iterator[Instance]:
    with Instance("local.test", EXTRA) as instance:
        yield instance


def refusing(server: Instance, domain: str, reply: bytes) -> Sink:
    sink = Sink()
    sink.refuse, sink.reply = True, reply
    server.add("mt", f"{domain} {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
    server.add("access", f"to:@{domain} relay\n")
    server.ctl("reload")
    return sink


def submit(server: Instance, rcpt: str, content: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as smtp:
        smtp.sendmail("nobody@local.test", rcpt, content, ["BODY=8BITMIME", "ENVID=Q+2B1", "RET=FULL"],
                      ["ORCPT=rfc822;first@x.test"])


def reports(server: Instance, about: str) -> list[EmailMessage]:
    """What came to nobody about this recipient."""
    found = [path for path in server.mail("nobody") if f"Final-Recipient: rfc822; {about}" in _text(path)]
    return [email.message_from_bytes(path.read_bytes().replace(b"\n", b"\r\n"), policy=SMTP)  # type: ignore[misc]
            for path in found]


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace")


def fields_of(report: EmailMessage) -> dict[str, str]:
    assert report.get_content_type() == "multipart/report"
    blocks = report.get_payload()[1].get_payload()
    return {name: str(value).replace("\r\n", "") for block in blocks for name, value in block.raw_items()}


def test_failure(server: Instance) -> None:
    sink = refusing(server, "bounce.test", b"550-5.1.1 no such user\r\n550 5.1.1 at all\r\n")
    submit(server, "gone@bounce.test", "Subject: Grüße\r\n\r\n.dot\r\nText, ä\r\n".encode())
    (report,) = until(lambda: reports(server, "gone@bounce.test"))
    found = fields_of(report)
    assert found["Diagnostic-Code"] == "smtp; 550-5.1.1 no such user\t550 5.1.1 at all"
    assert (found["Action"], found["Status"]) == ("failed", "5.1.1")
    assert (found["Original-Recipient"], found["Original-Envelope-Id"]) == ("rfc822; first@x.test", "Q+1")
    assert (found["Reporting-MTA"], found["Remote-MTA"]) == ("dns; local.test", "dns; [127.0.0.1]")
    original = report.get_payload()[2]
    assert (original.get_content_type(), original["Content-Transfer-Encoding"]) == ("message/rfc822", "8bit")
    assert bytes(original.get_payload()[0]).endswith("Subject: Grüße\r\n\r\n.dot\r\nText, ä\r\n".encode())
    until(server.is_empty)
    assert server.spool_files() == []
    sink.close()


def test_delay_is_reported_once(server: Instance) -> None:
    sink = refusing(server, "slow.test", b"450 4.2.1 come back later\r\n")
    submit(server, "late@slow.test", b"X-Number: late\r\n\r\ntext\r\n")
    (report,) = until(lambda: reports(server, "late@slow.test"), 30)
    found = fields_of(report)
    assert (found["Action"], found["Status"]) == ("delayed", "4.2.1")
    assert found["Diagnostic-Code"] == "smtp; 450 4.2.1 come back later"
    assert "Will-Retry-Until" in found
    assert report.get_payload()[2].get_content_type() == "text/rfc822-headers"
    before = server.log("qmgr").count("func=q_upd_rcpt_temp")
    until(lambda: server.log("qmgr").count("func=q_upd_rcpt_temp") > before + 1, 30)
    sink.refuse = False
    until(lambda: sink.seen["late"] == 1, 30)
    until(server.is_empty)
    assert len(reports(server, "late@slow.test")) == 1
    assert server.spool_files() == []
    sink.close()
