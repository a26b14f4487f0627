"""The lines that smtpp exchanges with SMTPC and SMTPS (M1 4.6, docs/formats.md); pure.

Rules
    One ASCII line comes before all other octets of a connection. Its last word is a MAC of the line under the
    shared key, so the key itself is never sent, and no word of the line can be changed.
    An unknown version, a wrong MAC or anything else that is wrong ends the connection.
"""
import hashlib
import hmac
import re
from typing import Final, NamedTuple

from meta1g.mta import addr
from meta1g.mta.errors import RemoteProtocolError

LINE_MAX: Final = 512  # octets with CRLF: the longest request has 190, a reason is cut
HEAD_TIMEOUT: Final = 10.0  # seconds for the line that begins a connection; the peer sends it at once
_VERSION: Final = b"SMTPP1"
_REASON_MAX: Final = 200
_UNSAFE: Final = re.compile(r"[^ -~]")
_WRONG_KEY: Final = "the keys differ"


class Wanted(NamedTuple):
    """Where SMTPC wants to be connected to, and from which address of smtpp's host (empty: any)."""

    ip: str
    port: int
    source: str = ""


class Client(NamedTuple):
    """The client that smtpp passes on to SMTPS."""

    ip: str
    port: int


def request(wanted: Wanted, key: bytes) -> bytes:
    """SMTPC's line to smtpp."""
    return _signed([b"CONNECT", wanted.ip.encode(), b"%d" % wanted.port, wanted.source.encode() or b"-"], key)


def parse_request(line: bytes, key: bytes) -> Wanted:
    """What SMTPC wants; `line` without CRLF. RemoteProtocolError."""
    ip, port, source = _words(line, b"CONNECT", 3, key)
    return Wanted(_ip(ip), _port(port), "" if source == b"-" else _ip(source))


def introduction(client: Client, key: bytes) -> bytes:
    """smtpp's line to SMTPS; what the client sends follows it."""
    return _signed([b"CLIENT", client.ip.encode(), b"%d" % client.port], key)


def parse_introduction(line: bytes, key: bytes) -> Client:
    """Whom smtpp passes on; `line` without CRLF. RemoteProtocolError."""
    ip, port = _words(line, b"CLIENT", 2, key)
    return Client(_ip(ip), _port(port))


def answer(reason: str = "") -> bytes:
    """smtpp's line to SMTPC: connected, or why not."""
    if not reason:
        return _VERSION + b" OK\r\n"
    return b"%s FAILED %s\r\n" % (_VERSION, _UNSAFE.sub("?", reason)[:_REASON_MAX].encode("ascii"))


def parse_answer(line: bytes) -> str:
    """Why smtpp could not connect, empty if it has; `line` without CRLF. RemoteProtocolError."""
    version, _, rest = line.partition(b" ")
    word, _, reason = rest.partition(b" ")
    text = reason.decode("latin-1")
    if version == _VERSION and rest == b"OK":
        return ""
    if version == _VERSION and word == b"FAILED" and text.strip() and not _UNSAFE.search(text):
        return text[:_REASON_MAX]
    raise RemoteProtocolError("the peer is no smtpp of this version")


def _signed(words: list[bytes], key: bytes) -> bytes:
    line = b" ".join([_VERSION, *words])
    return b"%s %s\r\n" % (line, mac(line, key))


def mac(line: bytes, key: bytes) -> bytes:
    """The word that proves who wrote a line: HMAC-SHA-256 in hexadecimal."""
    return hmac.new(key, line, hashlib.sha256).hexdigest().encode()


def _words(line: bytes, verb: bytes, count: int, key: bytes) -> list[bytes]:
    """The words between verb and MAC, once the MAC is right."""
    said, _, proof = line.rpartition(b" ")
    words = said.split(b" ")
    if len(line) > LINE_MAX or words[:2] != [_VERSION, verb] or len(words) != count + 2:
        raise RemoteProtocolError(f"no {verb.decode()} line of smtpp")
    if not key or not hmac.compare_digest(proof, mac(said, key)):
        raise RemoteProtocolError(_WRONG_KEY)
    return words[2:]


def _ip(word: bytes) -> str:
    ip = addr.plain_ip(word.decode("latin-1"))
    if ip is None:
        raise RemoteProtocolError("bad address")
    return ip


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or not 0 < int(word) < 65536:
        raise RemoteProtocolError("bad port")
    return int(word)
