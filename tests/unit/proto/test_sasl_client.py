"""SASL as a client: the RFCs' own dialogs, our server at the other end, servers that lie, and any octets."""
import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.proto.sasl.client import ITERATIONS_MAX, MECHANISMS, Account, Derive, Exchange
from meta1g.proto.sasl.step import AuthFailed, Success
from tests.unit.proto.test_sasl import Talk

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
WITH_PASSWORD = tuple(name for name, mechanism in MECHANISMS.items()
                      if not mechanism.is_for_tokens and name != "EXTERNAL")


def step(exchange: Exchange, challenge: bytes | None) -> Any:
    """The next response."""
    found = exchange.send(challenge)
    while isinstance(found, Derive):
        found = exchange.send(found.answer())
    return found


def meet(name: str, account: Account, talk: dict[str, Any]) -> bytes | Success:
    """A login at our own server; what it said last."""
    exchange = MECHANISMS[name].begin(account, "clientnonce")
    server = Talk(name, step(exchange, None), **talk)
    said = server.said
    while not isinstance(said, Success):
        said = server.say(step(exchange, said))
    if MECHANISMS[name].is_mutual:
        with pytest.raises(StopIteration):
            exchange.send(b"")
    return said


@pytest.mark.parametrize("name", WITH_PASSWORD)
@given(user=NAMES, password=NAMES)
def test_our_own_server(name: str, user: str, password: str) -> None:
    """Each mechanism with any name and password."""
    if name == "CRAM-MD5" or name in ("PLAIN", "LOGIN"):
        password = password.replace("\0", "")
    assert meet(name, Account(user, password), {"passwords": {user: password}}) == Success(user)


@pytest.mark.parametrize("name", WITH_PASSWORD)
def test_wrong_password(name: str) -> None:
    with pytest.raises(AuthFailed):
        meet(name, Account("joe", "wrong"), {"passwords": {"joe": "secret"}})


@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
def test_tokens(name: str) -> None:
    """A good token is the whole dialog; after a bad one the client hears why."""
    assert meet(name, Account("j,oe", "good"), {"tokens": {b"good": "j,oe"}}) == Success("j,oe")
    with pytest.raises(AuthFailed, match="token is not valid"):
        meet(name, Account("joe", "bad"), {"tokens": {b"good": "joe"}})


def test_external() -> None:
    """The certificate says it all."""
    assert step(MECHANISMS["EXTERNAL"].begin(Account("joe", ""), ""), None) == b""


@pytest.mark.parametrize(("name", "nonce", "dialog"), [
    ("SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL", [  # RFC 5802 5
        (None, "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"),
        ("r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
         "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="),
        ("v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "")]),
    ("SCRAM-SHA-256", "rOprNGfwEbeRWgbNEkqO", [  # RFC 7677 3
        (None, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
        ("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
         "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "")]),
])
def test_dialogs_of_the_rfcs(name: str, nonce: str, dialog: list[tuple[str | None, str]]) -> None:
    exchange = MECHANISMS[name].begin(Account("user", "pencil"), nonce)
    for challenge, response in dialog:
        assert step(exchange, None if challenge is None else challenge.encode()) == response.encode()


def test_cram_md5_of_the_rfc() -> None:
    """RFC 2195 2."""
    exchange = MECHANISMS["CRAM-MD5"].begin(Account("tim", "tanstaaftanstaaf"), "")
    assert step(exchange, None) is None
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert step(exchange, challenge) == b"tim b913a602c7eda7a495b4e6e7334d3890"


@pytest.mark.parametrize("server_first", [
    "r=otherclient,s=c2FsdA==,i=4096",  # somebody else's nonce
    "r=nonce,s=c2FsdA==,i=4096",  # none of the server's own
    "r=nonce+,s=c2FsdA==,i=1",  # a hash that is quickly broken
    f"r=nonce+,s=c2FsdA==,i={ITERATIONS_MAX + 1}",  # work without end
    "r=nonce+,s=c2Fsd,i=4096", "m=ext,r=nonce+,s=c2FsdA==,i=4096", "", "e=other-error",
])
def test_scram_with_a_bad_server(server_first: str) -> None:
    exchange = MECHANISMS["SCRAM-SHA-256"].begin(Account("joe", "secret"), "nonce")
    step(exchange, None)
    with pytest.raises(AuthFailed) as caught:
        step(exchange, server_first.encode())
    assert "secret" not in str(caught.value)


def test_scram_with_a_server_that_does_not_know_the_password() -> None:
    """It accepts everything, and can't prove anything."""
    exchange = MECHANISMS["SCRAM-SHA-256"].begin(Account("joe", "secret"), "nonce")
    step(exchange, None)
    step(exchange, b"r=nonce+,s=c2FsdA==,i=4096")
    with pytest.raises(AuthFailed, match="does not know the password"):
        exchange.send(b"v=" + base64.b64encode(bytes(32)))


@pytest.mark.parametrize("name", MECHANISMS)
@given(challenges=st.lists(st.binary(max_size=200), max_size=5))
def test_any_octets(name: str, challenges: list[bytes]) -> None:
    """A server's words end a login, and nothing else."""
    exchange = MECHANISMS[name].begin(Account("joe", "secret"), "nonce")
    try:
        for challenge in (None, *challenges):
            step(exchange, challenge)
    except (AuthFailed, StopIteration):
        pass
