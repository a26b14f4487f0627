"""Lines of Dovecot's auth protocol and of saslauthd."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.errors import RemoteProtocolError
from meta1g.proto import dovecot, saslauthd
from meta1g.proto.dovecot import Cont, Fail, Ok
from meta1g.proto.sasl.mechanisms import MECHANISMS


@pytest.mark.parametrize("line", [
    b"MECH\tPLAIN\tplaintext", b"MECH\tLOGIN\tplaintext", b"MECH\tCRAM-MD5\tdictionary\tactive",
    b"MECH\tDIGEST-MD5\tdictionary\tactive\tmutual-auth",
])
def test_mechanisms_are_worth_what_ours_are(line: bytes) -> None:
    found = dovecot.read_mechanism(line)
    assert found is not None
    name, virtues = found
    ours = MECHANISMS[name].virtues
    assert (virtues.noplaintext, virtues.pass_credentials, virtues.noanonymous, virtues.noactive) == (
        ours.noplaintext, ours.pass_credentials, ours.noanonymous, ours.noactive)


def test_other_lines_are_no_mechanisms() -> None:
    assert dovecot.read_mechanism(b"MECH\tANONYMOUS\tanonymous") is not None
    for line in (b"", b"MECH", b"SPID\t1", b"MECH\t\xff"):
        assert dovecot.read_mechanism(line) is None


def test_requests() -> None:
    assert dovecot.hello(7) == b"VERSION\t1\t1\nCPID\t7\n"
    assert dovecot.begin("PLAIN", (b"rip=192.0.2.1", b"secured"), b"\0a\0b") == (
        b"AUTH\t1\tPLAIN\tservice=smtp\tnologin\trip=192.0.2.1\tsecured\tresp=AGEAYg==\n")
    assert dovecot.begin("LOGIN", (), None) == b"AUTH\t1\tLOGIN\tservice=smtp\tnologin\n"
    assert dovecot.go_on(b"") == b"CONT\t1\t\n"


@pytest.mark.parametrize(("line", "answer"), [
    (b"CONT\t1\tVXNlcm5hbWU6", Cont(b"Username:")), (b"CONT\t1\t", Cont(b"")), (b"CONT\t1", Cont(b"")),
    (b"OK\t1\tuser=joe", Ok("joe")), (b"OK\t1\tuser=a\x01tb\x011", Ok("a\tb\x01")),
    (b"FAIL\t1\tuser=joe\tcode=user_disabled", Fail("joe", "user_disabled", False)),
    (b"FAIL\t1", Fail("", "refused by Dovecot", False)),
    (b"FAIL\t1\treason=later\ttemp", Fail("", "later", True)),
])
def test_answers(line: bytes, answer: object) -> None:
    assert dovecot.read_answer(line) == answer


@pytest.mark.parametrize("line", [b"", b"OK", b"OK\t2\tuser=joe", b"OK\t1", b"WHAT\t1", b"CONT\t1\t?", b"CONT\t1\tA"])
def test_answers_that_are_none(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        dovecot.read_answer(line)


@given(st.binary(max_size=60))
def test_any_line(line: bytes) -> None:
    dovecot.read_mechanism(line)
    for text in (line, b"OK\t1\t" + line, b"CONT\t1\t" + line):
        try:
            dovecot.read_answer(text)
        except RemoteProtocolError as error:
            assert str(error)


def test_saslauthd() -> None:
    assert saslauthd.request(b"joe", b"pw", b"smtp", b"") == b"\0\3joe\0\2pw\0\4smtp\0\0"
    assert saslauthd.read_reply(b"\0\2OK") is True
    assert saslauthd.read_reply(b"\0\x0aNO reason ") is False
    assert saslauthd.read_reply(b"\0\0") is False
    for octets in (b"", b"\0", b"\0\2", b"\0\2O", b"\xff\xffOK"):
        assert saslauthd.read_reply(octets) is None
    assert saslauthd.read_reply(b"\xff\xff" + b"x" * 1024) is False
