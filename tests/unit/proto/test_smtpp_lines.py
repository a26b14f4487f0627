"""The lines between smtpp, SMTPC and SMTPS."""
import pytest

from meta1g.mta.errors import RemoteProtocolError
from meta1g.proto import smtpp
from meta1g.proto.smtpp import Client, Wanted

KEY = b"secret"
WANTED = [Wanted("192.0.2.1", 25), Wanted("2001:db8::1", 65535, "2001:db8::2"), Wanted("192.0.2.1", 1, "192.0.2.3")]
CLIENTS = [Client("192.0.2.1", 1), Client("2001:db8::ffff", 65535)]


@pytest.mark.parametrize("wanted", WANTED)
def test_request(wanted: Wanted) -> None:
    line = smtpp.request(wanted, KEY)
    assert line.endswith(b"\r\n")
    assert len(line) < smtpp.LINE_MAX
    assert KEY not in line
    assert smtpp.parse_request(line[:-2], KEY) == wanted


@pytest.mark.parametrize("client", CLIENTS)
def test_introduction(client: Client) -> None:
    line = smtpp.introduction(client, KEY)
    assert smtpp.parse_introduction(line[:-2], KEY) == client
    with pytest.raises(RemoteProtocolError):
        smtpp.parse_request(line[:-2], KEY)


def test_form_is_fixed() -> None:
    """Another version of smtpp may be at the other end."""
    assert smtpp.introduction(CLIENTS[0], KEY) == (
        b"SMTPP1 CLIENT 192.0.2.1 1 eef9afe34b561c6920c8f43648786737617a88851a596eeffc9a3cd760882016\r\n")


@pytest.mark.parametrize("key", [b"Secret", b"secret ", b""])
def test_another_key(key: bytes) -> None:
    line = smtpp.request(WANTED[0], key)[:-2]
    for right in (KEY, b""):
        with pytest.raises(RemoteProtocolError, match="keys differ"):
            smtpp.parse_request(line, right)


def test_no_octet_can_be_changed() -> None:
    line = smtpp.request(WANTED[2], KEY)[:-2]
    for at in range(len(line)):
        with pytest.raises(RemoteProtocolError):
            smtpp.parse_request(line[:at] + bytes([line[at] ^ 1]) + line[at + 1:], KEY)
        with pytest.raises(RemoteProtocolError):
            smtpp.parse_request(line[:at], KEY)


@pytest.mark.parametrize("words", [
    b"CONNECT 192.0.2.1 0 -", b"CONNECT 192.0.2.1 65536 -", b"CONNECT 192.0.2.1 +25 -", b"CONNECT host.test 25 -",
    b"CONNECT fe80::1%eth0 25 -", b"CONNECT 192.0.2.1 25 x", b"CONNECT 192.0.2.1 25", b"CONNECT 192.0.2.1  25 -",
    b"connect 192.0.2.1 25 -", b"CONNECT 192.0.2.1 25 - -"])
def test_bad_requests(words: bytes) -> None:
    line = b"SMTPP1 " + words
    with pytest.raises(RemoteProtocolError):
        smtpp.parse_request(line + b" " + smtpp.mac(line, KEY), KEY)


ANSWERS = [("", ""), ("Connection refused", "Connection refused"), ("a\r\nb\xe4", "a??b?"), ("x" * 900, "x" * 200)]


@pytest.mark.parametrize(("reason", "found"), ANSWERS)
def test_answer(reason: str, found: str) -> None:
    line = smtpp.answer(reason)
    assert len(line) <= smtpp.LINE_MAX
    assert line.count(b"\r\n") == 1
    assert smtpp.parse_answer(line[:-2]) == found


@pytest.mark.parametrize("line", [b"", b"220 host ESMTP", b"SMTPP2 OK", b"SMTPP1 OK then", b"SMTPP1 FAILED",
                                  b"SMTPP1 FAILED \0"])
def test_bad_answers(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        smtpp.parse_answer(line)
