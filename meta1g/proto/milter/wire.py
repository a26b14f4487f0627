"""Packets of the milter protocol: a length of four octets, a letter, data (libmilter's mfdef.h); pure."""
import struct
from typing import Final, NamedTuple

from meta1g.mta.errors import RemoteProtocolError

VERSION: Final = 6
VERSION_MIN: Final = 2
PACKET_MAX: Final = 1 << 20  # octets of a filter's: its largest pieces of a body are of 1 MB
SYMBOLS_MAX: Final = 16 * 1024  # octets of all names of macros that a filter asks for: there are some fifty
CHUNK: Final = 65535  # octets of a body in one packet, unless more is agreed
CHUNK_256K: Final = (1 << 18) - 1
CHUNK_1M: Final = (1 << 20) - 1
_HEAD: Final = struct.Struct("!IB")
_OPTIONS: Final = struct.Struct("!III")


class Actions:
    """What a filter may want to do (SMFIF_*)."""

    ADD_HEADERS: Final = 0x1
    CHANGE_BODY: Final = 0x2
    ADD_RCPT: Final = 0x4
    DELETE_RCPT: Final = 0x8
    CHANGE_HEADERS: Final = 0x10
    QUARANTINE: Final = 0x20
    CHANGE_FROM: Final = 0x40
    ADD_RCPT_PARAMS: Final = 0x80
    SET_SYMBOLS: Final = 0x100


class Steps:
    """What a filter does not want to hear (NO_*) or answer (NR_*), and what else is agreed (SMFIP_*)."""

    NO_CONNECT: Final = 0x1
    NO_HELO: Final = 0x2
    NO_MAIL: Final = 0x4
    NO_RCPT: Final = 0x8
    NO_BODY: Final = 0x10
    NO_HEADERS: Final = 0x20
    NO_EOH: Final = 0x40
    NR_HEADER: Final = 0x80
    NO_UNKNOWN: Final = 0x100
    NO_DATA: Final = 0x200
    SKIP: Final = 0x400
    REFUSED_RCPTS: Final = 0x800
    NR_CONNECT: Final = 0x1000
    NR_HELO: Final = 0x2000
    NR_MAIL: Final = 0x4000
    NR_RCPT: Final = 0x8000
    NR_DATA: Final = 0x10000
    NR_UNKNOWN: Final = 0x20000
    NR_EOH: Final = 0x40000
    NR_BODY: Final = 0x80000
    LEADING_SPACE: Final = 0x100000
    MDS_256K: Final = 0x10000000
    MDS_1M: Final = 0x20000000


ALL_ACTIONS: Final = 0x1FF
ALL_STEPS: Final = 0x1FFFFF | Steps.MDS_256K | Steps.MDS_1M


class Options(NamedTuple):
    """What one side says at first: bits of `Actions` and `Steps`.

    `symbols` are the names of macros that it wants, without braces, by stage (0 to 6).
    """

    version: int
    actions: int
    steps: int
    symbols: dict[int, tuple[str, ...]]


def packet(letter: bytes, data: bytes = b"") -> bytes:
    """One packet."""
    return _HEAD.pack(len(data) + 1, letter[0]) + data


def text(*parts: bytes) -> bytes:
    """Strings, each with a NUL behind it; what they have of NUL themselves goes."""
    joined = b"\0".join(parts)
    if joined.count(b"\0") >= len(parts):
        joined = b"\0".join([part.replace(b"\0", b"") for part in parts])
    return joined + b"\0"


def options_packet(actions: int = ALL_ACTIONS, steps: int = ALL_STEPS) -> bytes:
    """The server's first packet."""
    return packet(b"O", _OPTIONS.pack(VERSION, actions, steps))


def read_options(data: bytes) -> Options:
    """A filter's answer to it. RemoteProtocolError if it wants what there is not, or makes no sense."""
    if len(data) < _OPTIONS.size:
        raise RemoteProtocolError("options are too short")
    version, actions, steps = _OPTIONS.unpack_from(data)
    if not VERSION_MIN <= version <= VERSION:
        raise RemoteProtocolError(f"version {version} of the protocol")
    if actions & ~ALL_ACTIONS or steps & ~ALL_STEPS:
        raise RemoteProtocolError(f"unknown options {actions:#x} {steps:#x}")
    return Options(version, actions, steps, _read_symbols(data[_OPTIONS.size:]))


def _read_symbols(data: bytes) -> dict[int, tuple[str, ...]]:
    """Stage after stage, in four octets, each with a string of names behind it."""
    if len(data) > SYMBOLS_MAX:
        raise RemoteProtocolError("too many names of macros")
    found = {}
    while data:
        names, end, rest = data[4:].partition(b"\0")
        stage = int.from_bytes(data[:4], "big")
        if not end or stage > 6:
            raise RemoteProtocolError("a list of macros makes no sense")
        words = names.decode("ascii", "replace").replace(",", " ").split()
        found[stage] = tuple(dict.fromkeys(word.strip("{}") for word in words))
        data = rest
    return found


class Packets:
    """Octets of a filter in, its packets out."""

    __slots__ = ("_at", "_octets")

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0  # where the next packet begins

    def feed(self, octets: bytes) -> None:
        """What has come."""
        self._octets = octets if self.is_empty else self._octets[self._at:] + octets
        self._at = 0

    def next(self) -> tuple[bytes, bytes] | None:
        """Letter and data of the next one, None if more octets are needed. RemoteProtocolError."""
        octets, at = self._octets, self._at
        if len(octets) < at + _HEAD.size:
            return None
        length, letter = _HEAD.unpack_from(octets, at)
        if not 1 <= length <= PACKET_MAX + 1:
            raise RemoteProtocolError(f"a packet of {length} octets")
        end = at + 4 + length
        if len(octets) < end:
            return None
        self._at = end
        return bytes((letter,)), octets[at + _HEAD.size:end]

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a next packet has come."""
        return self._at >= len(self._octets)
