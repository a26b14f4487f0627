"""Targets: SASL mechanisms, entries of a map of passwords, Dovecot's answers."""
from typing import Any, Final

from meta1g.mta.errors import RemoteProtocolError
from meta1g.proto import dovecot
from meta1g.proto.sasl.entry import BadEntry, parse_entry
from meta1g.proto.sasl.mechanisms import MECHANISMS
from meta1g.proto.sasl.scram import salted
from meta1g.proto.sasl.step import (
    NAME_MAX,
    AuthFailed,
    Challenge,
    CheckPassword,
    CheckToken,
    GetPassword,
    GetScram,
    Scene,
    Success,
)
from tests.fuzz.source import Source

_SCENE: Final = Scene("h", "r", "n", certificate_user="c")
_NAMES: Final = tuple(sorted(MECHANISMS))
_LINES_MAX: Final = 5
_PASSWORD: Final = "a long secret that no octets hit"
_CHALLENGE_MAX: Final = 4500  # octets: SCRAM gives the client's nonce back


def sasl(data: bytes) -> None:
    """Nobody is let in who does not know the password, and nothing but AuthFailed says so."""
    source = Source(data)
    name = source.one_of(_NAMES)
    lines = [source.octets(source.number(256)) for _ in range(source.number(_LINES_MAX))] + [source.rest()]
    mechanism = MECHANISMS[name]
    initial = lines.pop(0) if mechanism.is_client_first and len(lines) > 1 else None
    dialog, answer = mechanism.begin(_SCENE, initial), None
    try:
        while True:
            step = dialog.send(answer)
            if isinstance(step, Challenge):
                assert len(step.octets) < _CHALLENGE_MAX
                if not lines:
                    return
                answer = lines.pop(0)
            else:
                answer = _answer(step)
    except AuthFailed as error:
        assert len(error.user.encode()) <= NAME_MAX
    except StopIteration as end:
        assert isinstance(end.value, Success)
        assert name == "EXTERNAL"


def _answer(step: object) -> Any:
    match step:
        case CheckPassword():
            assert 0 < len(step.user.encode()) <= NAME_MAX
            return False
        case GetPassword():
            return _PASSWORD
        case GetScram():
            return salted(_PASSWORD, step.hash, b"salt", 1)
        case CheckToken():
            return ""
    raise AssertionError(step)


def servers(data: bytes) -> None:
    """An entry or an answer is one, or is said not to be."""
    try:
        assert parse_entry(data).mechanisms >= {"PLAIN", "LOGIN"}
    except BadEntry as error:
        assert len(str(error)) < 200 + len(data)
    dovecot.read_mechanism(data)
    try:
        dovecot.read_answer(data)
    except RemoteProtocolError as error:
        assert str(error)
