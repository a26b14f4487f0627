"""RCB: the records that meta1g's processes send each other, and their framing.

Rules
    A message is a NamedTuple class, its body as `proto.codec` says.
    A frame is length (4), type (2), tag (4), body. The tag of a question comes
    back in its answer; 0 says that no answer is expected.
    Trailing or missing octets raise FrameError, and the link is dropped.
    PROTOCOL_VERSION goes up whenever a message changes.
"""
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from meta1g.mta import limits
from meta1g.mta.errors import FrameError
from meta1g.proto.codec import Codec

PROTOCOL_VERSION: Final = 9
_HEADER: Final = struct.Struct("<IHI")


class Hello(NamedTuple):
    """First message of either side: who speaks (`process` is its 8-bit number), and which version of the messages."""

    version: int
    pid: int
    process: int
    name: str


class PeerUp(NamedTuple):
    """The peer of a link has said Hello; comes in the stream of its messages."""

    hello: Hello


class PeerDown(NamedTuple):
    """The peer is gone; nothing more comes from it."""

    reason: str


class Vocabulary:
    """The message classes that one link speaks, by number; Hello is number 0 of each.

    `frame_max` is how many octets a message may have.
    """

    def __init__(self, numbered: dict[int, Any], frame_max: int = limits.FRAME) -> None:
        self.frame_max = frame_max
        self._decoders: dict[int, Callable[[bytes], Any]] = {}
        self._encoders: dict[Any, tuple[int, Callable[[Any], bytes]]] = {}
        for number, cls in {0: Hello, **numbered}.items():
            codec = Codec(cls)
            self._decoders[number] = codec.decode
            self._encoders[cls] = (number, codec.encode)

    def frame(self, message: Any, tag: int = 0) -> bytes:
        """The octets that carry `message`; FrameError if it is larger than a frame may be."""
        number, encode = self._encoders[type(message)]
        body = encode(message)
        if len(body) > self.frame_max:
            raise FrameError(f"{type(message).__name__}: {len(body)} octets are more than a frame may hold")
        return _HEADER.pack(len(body), number, tag) + body

    def decode(self, number: int, body: bytes) -> Any:
        """The message of type `number` in `body`; FrameError if there is no such type."""
        decoder = self._decoders.get(number)
        if decoder is None:
            raise FrameError(f"unknown message type {number}")
        return decoder(body)


class FrameReader:
    """Octets of a stream in, messages with their tags out."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[Any, int]]:
        """All messages that are complete now, as (message, tag); FrameError on nonsense."""
        if self._rest:
            data = self._rest + data
        found = []
        at, have = 0, len(data)
        while have - at >= _HEADER.size:
            length, number, tag = _HEADER.unpack_from(data, at)
            if length > self._vocabulary.frame_max:
                raise FrameError(f"a frame of {length} octets is longer than allowed")
            end = at + _HEADER.size + length
            if end > have:
                break
            found.append((self._vocabulary.decode(number, data[at + _HEADER.size : end]), tag))
            at = end
        self._rest = data[at:]
        return found


def check_hello(message: Any) -> Hello:
    """The peer's Hello; FrameError with the reason if it is none or speaks another version."""
    if not isinstance(message, Hello):
        raise FrameError(f"{type(message).__name__} came before Hello")
    if message.version != PROTOCOL_VERSION:
        raise FrameError(
            f"{message.name} (pid {message.pid}) speaks version {message.version}, this process {PROTOCOL_VERSION}: "
            "restart all processes after an upgrade"
        )
    return message

