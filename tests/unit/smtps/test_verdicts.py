"""What SMTPS remembers of SMAR's verdicts."""
import pytest

from meta1g.mta.errors import LinkDown
from meta1g.proc.log import Log
from meta1g.proto.msg_ar import Action, CheckGrey, CheckRcpt, MapsReopened, Verdict, Want
from meta1g.smtps.peers import UNAVAILABLE, Question, Smar

RELAY = Verdict(Action.RELAY, False, False, True, True, 0, "", "", "", "")


class Resolver(Smar):
    """SMAR with answers from a table by address; others cannot be had."""

    def __init__(self, answers: dict[bytes, Verdict]) -> None:
        super().__init__("nowhere", 0, 1.0, Log("test"))
        self.asked: list[bytes] = []

        def call(question: Question, timeout: float) -> Verdict:
            assert isinstance(question, CheckRcpt | CheckGrey)
            self.asked.append(question.address)
            if question.address not in answers:
                raise LinkDown("gone")
            return answers[question.address]

        self.link.call = call  # type: ignore[method-assign]

    def rcpt(self, address: bytes, wants: int = Want.ACCESS) -> Verdict:
        """The verdict on a recipient."""
        return self.ask(CheckRcpt(wants, "192.0.2.1", b"", address))


def test_verdict_for_a_domain_is_asked_for_once() -> None:
    smar = Resolver({b"a@x.test": RELAY})
    assert smar.rcpt(b"a@x.test") == smar.rcpt(b"b@X.test") == RELAY
    assert smar.rcpt(b"a@sub.x.test") == UNAVAILABLE
    assert smar.asked == [b"a@x.test", b"a@sub.x.test"]
    assert (smar.hits, smar.misses) == (1, 2)


def test_one_question_does_not_answer_another() -> None:
    """VRFY asks without the access map; greylisting's question looks like RCPT's."""
    smar = Resolver({b"a@x.test": RELAY, b"b@y.test": RELAY._replace(for_domain=False)})
    smar.rcpt(b"a@x.test", 0)
    smar.rcpt(b"a@x.test")
    smar.rcpt(b"b@y.test")
    smar.ask(CheckGrey(True, "192.0.2.1", b"", b"b@y.test"))
    assert smar.asked == [b"a@x.test", b"a@x.test", b"b@y.test", b"b@y.test"]


@pytest.mark.parametrize("code", [0, 550])
def test_verdict_for_an_address(code: int) -> None:
    one, other = RELAY._replace(for_domain=False, code=code), RELAY._replace(for_domain=False, action=Action.OK)
    smar = Resolver({b"a@x.test": one, b"b@x.test": other})
    assert [smar.rcpt(b"a@x.test"), smar.rcpt(b"b@x.test"), smar.rcpt(b"a@x.test")] == [one, other, one]
    assert smar.asked == [b"a@x.test", b"b@x.test"]


def test_what_is_not_remembered() -> None:
    smar = Resolver({b"a@x.test": RELAY._replace(code=451), b"a@y.test": RELAY})
    assert [smar.rcpt(b"a@x.test").code for _ in range(2)] == [451, 451]
    smar.rcpt(b"a@y.test")
    smar.link.on_message(MapsReopened(0.0, ""), 0)
    smar.rcpt(b"a@y.test")
    assert smar.asked == [b"a@x.test", b"a@x.test", b"a@y.test", b"a@y.test"]
