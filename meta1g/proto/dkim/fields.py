"""The fields of a header, and which of them are signed (RFC 6376 5.4, M1 3.10 items 3.5 to 3.7); pure."""
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from meta1g.mta.errors import MtaError
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies

_NAME: Final = re.compile(rb"[!-9;-~]+")  # RFC 5322 3.6.8


class Unsignable(MtaError):
    """The message is not one that can be signed; `reply` is what the client is told."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class Field(NamedTuple):
    """A header field: its name in lower case, and all its octets with CRLF.

    What can't be read as a field has an empty name.
    """

    name: bytes
    octets: bytes


def fields_of(header: bytes) -> list[Field]:
    """The fields of a header without the empty line and without transparency dots, in their order."""
    lines = header.removesuffix(b"\r\n").split(b"\r\n") if header else []
    found: list[Field] = []
    begin = 0
    for at in range(1, len(lines) + 1):
        if at == len(lines) or lines[at][:1] not in (b" ", b"\t"):
            name = lines[begin].partition(b":")[0].rstrip(b" \t") if b":" in lines[begin] else b""
            is_name = _NAME.fullmatch(name) is not None
            found.append(Field(name.lower() if is_name else b"", b"\r\n".join(lines[begin:at]) + b"\r\n"))
            begin = at
    return found


def check(fields: Sequence[Field], value_max: int) -> None:
    """Unsignable unless all are fields, none of them longer than `value_max` octets, and From is not there twice.

    Others would mend such a message, each in its way, and what is signed must be what readers see (RFC 6376 3.8, 8.15).
    """
    if not all(field.name for field in fields):
        raise Unsignable(replies.HEADER_MALFORMED)
    if any(len(field.octets) - len(field.name) - 3 > value_max for field in fields):
        raise Unsignable(replies.FIELD_TOO_LONG)
    if sum(field.name == b"from" for field in fields) > 1:
        raise Unsignable(replies.TWO_FROM)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which fields are signed; all names in lower case.

    `skip` has beginnings of names with their colon, an empty `sign` stands for all names, and `over` has those
    that are listed once more than they are there.
    """

    sign: frozenset[bytes] = frozenset()
    skip: tuple[bytes, ...] = ()
    over: tuple[bytes, ...] = ()

    def wants(self, name: bytes) -> bool:
        """Whether fields of this name are signed."""
        if (name + b":").startswith(self.skip):
            return False
        return not self.sign or name in self.sign or name in self.over

    def names(self, fields: Iterable[Field]) -> list[bytes]:
        """The names for h=, in the header's order; those to be over-signed come once more at the end."""
        return [*(field.name for field in fields if self.wants(field.name)), *self.over]


def signed(fields: Sequence[Field], names: Iterable[bytes]) -> list[bytes]:
    """The fields that these names stand for, in that order: of several of a name the last comes first.

    RFC 6376 5.4.2; a name beyond those that are there stands for nothing.
    """
    wanted = Counter(names)
    stacks: dict[bytes, list[bytes]] = {name: [] for name in wanted}
    for field in fields:
        if field.name in stacks:
            stacks[field.name].append(field.octets)
    return [stacks[name].pop() for name in names if stacks[name]]
