"""Octets of a message: one `struct` for all its numbers, then its octets and lists in order.

Rules
    A message is a NamedTuple class. Its fields stand in this order: numbers (`int` as signed
    64 bit, `float`, `bool`), then `bytes` and `str`, then tuples of other message classes.
    The `struct` holds the numbers, the lengths of octets and text, and the counts of lists.
"""
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from meta1g.mta.errors import FrameError

_LETTERS: Final = {int: "q", float: "d", bool: "?"}


class _Fields(NamedTuple):
    """A class's fields by kind, under the names that they have in the compiled source."""

    numbers: dict[str, Any]
    blobs: dict[str, Any]
    lists: dict[str, Any]

    @property
    def target(self) -> str:
        return ", ".join([*self.numbers, *self.blobs, *self.lists]) + ","


class Codec:
    """Encoder and decoder of one message class.

    Like `namedtuple` itself it writes its functions as source from the names of the class's fields and
    compiles them: a loop over the fields of each message costs three times as much.
    """

    def __init__(self, cls: Any) -> None:
        fields = _fields(cls)
        letters = "".join(_LETTERS[kind] for kind in fields.numbers.values())
        head = struct.Struct("<" + letters + "I" * (len(fields.blobs) + len(fields.lists)))
        scope = {
            "cls": cls, "new": tuple.__new__, "join": b"".join,
            "pack": head.pack, "unpack": head.unpack_from, "size": head.size,
            **{f"{name}_codec": Codec(get_args(kind)[0]) for name, kind in fields.lists.items()},
        }
        exec(_encoder(fields) + _decoder(fields), scope)
        self.cls = cls
        self._write: Callable[[Any], bytes] = scope["write"]
        self._read: Callable[[bytes, int], tuple[Any, int]] = scope["read"]

    def encode(self, message: Any) -> bytes:
        """Its octets; struct.error if a number does not fit its field."""
        return self._write(message)

    def decode(self, body: bytes) -> Any:
        """The message in `body`; FrameError unless it fills it exactly."""
        try:
            message, end = self._read(body, 0)
        except (struct.error, UnicodeDecodeError) as error:
            raise FrameError(f"{self.cls.__name__}: {error}") from None
        if end != len(body):
            raise FrameError(f"{self.cls.__name__}: {end} octets are needed, {len(body)} are there")
        return message


def _fields(cls: Any) -> _Fields:
    hints = get_type_hints(cls)
    ranks = [_rank(hints[name]) for name in cls._fields]
    if ranks != sorted(ranks):
        raise TypeError(f"{cls.__name__}: fields must be numbers, then bytes and str, then tuples")
    sorts: tuple[dict[str, Any], ...] = ({}, {}, {})
    for name, rank in zip(cls._fields, ranks, strict=True):
        sorts[rank][f"field_{name}"] = hints[name]
    return _Fields(*sorts)


def _rank(kind: Any) -> int:
    if kind in _LETTERS:
        return 0
    if kind in (bytes, str) or getattr(kind, "__supertype__", None) is str:
        return 1
    if get_origin(kind) is tuple:
        return 2
    raise TypeError(f"{kind} can't be part of a message")


def _encoder(fields: _Fields) -> str:
    """Source of `write(message)`, which returns octets."""
    lines = ["def write(message):", f" {fields.target} = message"]
    for name, kind in fields.blobs.items():
        if kind is not bytes:
            lines.append(f" {name} = {name}.encode('utf-8', 'surrogateescape')")
    sizes = ", ".join([*fields.numbers, *(f"len({name})" for name in (*fields.blobs, *fields.lists))])
    lists = [f"join([{name}_codec._write(item) for item in {name}])" for name in fields.lists]
    parts = [f"pack({sizes})", *fields.blobs, *lists]
    return "\n".join([*lines, f" return {' + '.join(parts)}", ""])


def _decoder(fields: _Fields) -> str:
    """Source of `read(body, at)`: the message and where it ends, behind the body's end if that is cut short."""
    lines = ["def read(body, at):", f" {fields.target} = unpack(body, at)", " at += size"]
    for name, kind in fields.blobs.items():
        piece = f"body[at:at + {name}]"
        value = piece if kind is bytes else f"str({piece}, 'utf-8', 'surrogateescape')"
        lines.append(f" at, {name} = at + {name}, {value}")
    for name in fields.lists:
        lines += [
            " items = []",
            f" for _ in range({name}):",
            f"  item, at = {name}_codec._read(body, at)",
            "  items.append(item)",
            f" {name} = tuple(items)",
        ]
    return "\n".join([*lines, f" return new(cls, ({fields.target})), at", ""])
