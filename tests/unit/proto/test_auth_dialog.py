"""What AUTH leaves behind in the machine: the word for Received, and what makes it forget."""
import pytest

from meta1g.proto.smtp import replies
from meta1g.proto.smtp.auth import AuthAsked, AuthResponse, decoded
from meta1g.proto.smtp.events import MailAsked, ProxyAsked
from meta1g.proto.smtp.options import ServerOptions
from meta1g.proto.smtp.params import Offers
from meta1g.proto.smtp.server import SmtpServer
from meta1g.proto.smtp.tally import Tally, TallyLimits


class Machine(SmtpServer):
    """A machine that authenticates everybody."""

    def __init__(self) -> None:
        super().__init__(ServerOptions("h", 1000, Offers(offers_smtputf8=True, offers_auth=True)), Tally(TallyLimits()))
        self.auth.mechanisms = ("PLAIN",)
        self.is_trusted = True
        self.greet(b"220 h\r\n")

    def say(self, line: bytes) -> object:
        """Feed a line; the event that asks."""
        self.feed(line + b"\r\n")
        event = self.next_event()
        return self.next_event() if line[:4] == b"EHLO" else event

    def log_in(self) -> None:
        self.say(b"EHLO c")
        assert self.say(b"AUTH plain") == AuthAsked("PLAIN", None)
        self.challenge(b"")
        assert self.say(b"AGEAYg==") == AuthResponse(b"\0a\0b")
        self.answer(replies.AUTH_OK)


@pytest.mark.parametrize(("mail", "is_tls", "word"), [
    (b"", False, "ESMTPA"), (b"", True, "ESMTPSA"),
    (b" SMTPUTF8", False, "UTF8SMTPA"), (b" SMTPUTF8", True, "UTF8SMTPSA"),
])
def test_word_for_received(mail: bytes, word: str, *, is_tls: bool) -> None:
    """RFC 3848, RFC 6531 4.3."""
    machine = Machine()
    if is_tls:
        machine.begin_tls()
    machine.log_in()
    event = machine.say(b"MAIL FROM:<a@c> AUTH=x+2By@c" + mail)
    assert isinstance(event, MailAsked)
    assert event.params.author == b"x+y@c"
    machine.answer(replies.MAIL_OK)
    assert machine.protocol == word


def test_tls_and_another_client_forget() -> None:
    machine = Machine()
    machine.log_in()
    machine.begin_tls()
    machine.say(b"EHLO c")
    assert machine.protocol == "ESMTPS"
    machine.log_in()
    assert isinstance(machine.say(b"XCLIENT ADDR=192.0.2.1"), ProxyAsked)
    machine.answer(replies.OK)
    machine.say(b"EHLO c")
    assert machine.protocol == "ESMTPS"
    machine.log_in()
    assert machine.say(b"AUTH PLAIN") is None
    assert machine.take_output().endswith(b"503 5.5.1 Already authenticated\r\n")


@pytest.mark.parametrize(("text", "octets"), [
    (b"", b""), (b"=", b""), (b"YQ==", b"a"), (b"YWI=", b"ab"), (b"YWJj", b"abc"), (b"YQ", None), (b"YQ=", None),
    (b"YQ==YQ==", None), (b"Y Q==", None), (b"====", None), (b"YQ==\x00", None), (b"-_-_", None),
])
def test_base64(text: bytes, octets: bytes | None) -> None:
    assert decoded(text) == octets
