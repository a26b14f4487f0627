"""RCB: the records that meta1g's processes send each other, and their framing.

Rules
    A message is a NamedTuple class. Its fields stand in this order: numbers
    (`int` as signed 64 bit, `float`, `bool`), then `bytes` and `str`, then
    tuples of other message classes. One `struct` packs all numbers, lengths
    and counts; the octets follow in order.
    A frame is length (4), type (2), tag (4), body. The tag of a question comes
    back in its answer; 0 says that no answer is expected.
    Trailing or missing octets raise FrameError, and the link is dropped.
    PROTOCOL_VERSION goes up whenever a message changes.
"""
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from meta1g.mta import limits
from meta1g.mta.errors import FrameError

PROTOCOL_VERSION: Final = 1
_HEADER: Final = struct.Struct("<IHI")
_LETTERS: Final = {int: "q", float: "d", bool: "?"}


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


class Codec:
    """Encoder and decoder of one message class."""

    def __init__(self, cls: Any) -> None:
        hints = get_type_hints(cls)
        names = list(cls._fields)
        kinds = [hints[name] for name in names]
        order = [_rank(kind) for kind in kinds]
        if order != sorted(order):
            raise TypeError(f"{cls.__name__}: fields must be numbers, then bytes and str, then tuples")
        self.cls = cls
        self._fixed = order.count(0)
        self._is_str = [kind is str for kind in kinds if _rank(kind) == 1]
        self._items = [Codec(get_args(kind)[0]) for kind in kinds if _rank(kind) == 2]
        letters = "".join(_LETTERS[kind] for kind in kinds[: self._fixed])
        self._struct = struct.Struct("<" + letters + "I" * (len(names) - self._fixed))
        self._lists_at = self._fixed + len(self._is_str)

    def encode(self, message: Any) -> bytes:
        """Body of a frame; struct.error if a number does not fit its field."""
        blobs = [
            field.encode("utf-8", "surrogateescape") if is_str else field
            for is_str, field in zip(self._is_str, message[self._fixed : self._lists_at], strict=True)
        ]
        lists = message[self._lists_at :]
        parts = [self._struct.pack(*message[: self._fixed], *map(len, blobs), *map(len, lists)), *blobs]
        for codec, items in zip(self._items, lists, strict=True):
            parts.extend(map(codec.encode, items))
        return b"".join(parts)

    def decode(self, body: bytes) -> Any:
        """The message in `body`; FrameError unless it fills it exactly."""
        try:
            message, end = self._read(body, 0)
        except (struct.error, UnicodeDecodeError) as error:
            raise FrameError(f"{self.cls.__name__}: {error}") from None
        if end != len(body):
            raise FrameError(f"{self.cls.__name__}: {len(body) - end} octets too many")
        return message

    def _read(self, body: bytes, at: int) -> tuple[Any, int]:
        values = list(self._struct.unpack_from(body, at))
        at += self._struct.size
        for slot, is_str in enumerate(self._is_str, self._fixed):
            end = at + values[slot]
            blob = body[at:end]
            if len(blob) != values[slot]:
                raise FrameError(f"{self.cls.__name__}: field {slot} is cut short")
            values[slot] = blob.decode("utf-8", "surrogateescape") if is_str else blob
            at = end
        for slot, codec in enumerate(self._items, self._lists_at):
            items = []
            for _ in range(values[slot]):
                item, at = codec._read(body, at)
                items.append(item)
            values[slot] = tuple(items)
        return self.cls._make(values), at


def _rank(kind: Any) -> int:
    if kind in _LETTERS:
        return 0
    if kind in (bytes, str) or getattr(kind, "__supertype__", None) is str:
        return 1
    if get_origin(kind) is tuple:
        return 2
    raise TypeError(f"{kind} can't be part of a message")


class Vocabulary:
    """The message classes that one link speaks, by number; Hello is number 0 of each."""

    def __init__(self, numbered: dict[int, Any]) -> None:
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
        if len(body) > limits.FRAME:
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
            if length > limits.FRAME:
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

