"""Extensions that some clients get and others do not, and VERP, over real sockets (M1 3.10 items 4.16, 25, 3.14)."""
import smtplib
from collections.abc import Iterator

import pytest

from tests.lib.instance import Instance, other_user
from tests.lib.wait import until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server() -> Iterator[Instance]:
    made = Instance("mail.test", user=other_user())
    made.edit("flags = { 8bitmime", "session_features plain { flags = { -chunking, -smtputf8, -xverp } }\n"
              "  flags = { lookup_session_conf, xverp, binarymime, 8bitmime")
    (made.base / "etc" / "access").write_text("")
    made.add("access", "smtps_session_conf:127.0.0.10 session_feature = plain;\n"
                       "smtps_se_conf:localhost. session_feature = plain;\n"
                       "smtps_session_conf:127.0.0.11 session_feature = plan;\n"
                       "smtps_session_conf:127.0.0.12 nonsense\n")
    made.add("aliases", "verp-list: local:\nlist: <root@mail.test> <nobody@mail.test>\n")
    with made:
        yield made


def offered(server: Instance, client: str) -> set[str]:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20, source_address=(client, 0)) as smtp:
        smtp.ehlo("x")
        return set(smtp.esmtp_features)


def test_features_of_a_session(server: Instance) -> None:
    most = offered(server, "127.0.0.1")
    assert {"chunking", "smtputf8", "xverp", "dsn", "8bitmime"} <= most
    assert most - offered(server, "127.0.0.10") == {"chunking", "smtputf8", "xverp", "binarymime"}


@pytest.mark.parametrize(("client", "says"), [
    ("127.0.0.11", "there is no session_features plan; did you mean plain?"), ("127.0.0.12", "value=nonsense")])
def test_an_entry_with_a_mistake(server: Instance, client: str, says: str) -> None:
    with pytest.raises(smtplib.SMTPConnectError, match=r"4\.3\.5"):
        offered(server, client)
    assert says in server.log("smtps")


def test_xverp(server: Instance) -> None:
    before = len(server.mail("nobody"))
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as smtp:
        smtp.ehlo("x")
        assert smtp.docmd("MAIL FROM:<root@mail.test> XVERP=yes")[0] == 501
        smtp.sendmail("root@mail.test", ["nobody@mail.test", "daemon@mail.test"], "x", mail_options=["XVERP"])
    until(lambda: len(server.mail("nobody")) > before and server.mail("daemon"), 20)
    assert sender_of_last(server, "nobody") == "root+nobody=mail.test@mail.test"
    assert sender_of_last(server, "daemon") == "root+daemon=mail.test@mail.test"


def test_a_list_that_is_marked(server: Instance) -> None:
    before = len(server.mail("nobody"))
    server.send("list@mail.test", sender="root@mail.test")
    until(lambda: len(server.mail("nobody")) > before, 20)
    assert sender_of_last(server, "nobody") == "root+nobody=mail.test@mail.test"


BINARY = b"Subject: b\r\nContent-Transfer-Encoding: binary\r\n\r\n.\0\n.\xff\r" + bytes(range(256)) * 2000 + b"\r\n"


def test_binary_content(server: Instance) -> None:
    before = len(server.mail("nobody"))
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as smtp:
        smtp.ehlo("x")
        assert smtp.docmd("MAIL FROM:<root@mail.test> BODY=BINARYMIME")[0] == 250
        assert smtp.docmd("RCPT TO:<nobody@mail.test>")[0] == 250
        assert smtp.docmd("DATA")[0] == 503
        for piece, last in ((BINARY[:90], ""), (BINARY[90:], " LAST")):
            smtp.send(f"BDAT {len(piece)}{last}\r\n".encode() + piece)
            assert smtp.getreply()[0] == 250
    until(lambda: len(server.mail("nobody")) > before, 20)
    newest = max(server.mail("nobody"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.read_bytes().endswith(BINARY.replace(b"\r\n", b"\n"))


def sender_of_last(server: Instance, user: str) -> str:
    newest = max(server.mail(user), key=lambda path: path.stat().st_mtime_ns)
    return newest.read_text().split("Return-Path: <")[1].split(">")[0]
