"""The header of a message, and what filters change in it; pure (M1 15.1.9).

Rules
    Filters see the fields that the client sent, our Received is hidden among them. Positions count it: 0 is its own
    at first, so what is inserted there stands in front of it. The nth of a name counts without it.
    The header ends where a line is no field: that line and all behind it are body, with an empty line in front if one
    is missing there once the header is written anew.
    What a filter gives becomes a proper field: line ends are CRLF, further lines begin with a blank, those that have
    nothing else go, and so does NUL.
"""
import re
from collections.abc import Sequence
from typing import Final

from meta1g.mta import limits
from meta1g.proto.dkim.fields import Field, fields_of
from meta1g.proto.smtp.data import stuff
from meta1g.smtps.filter import Change, ChangeField, InsertField, ReplaceField

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_NAME: Final = re.compile(rb"[!-9;-~]{1,500}[ \t]*:")  # RFC 5322 3.6.8


class Header:
    """One message's; `rest` is what of it belongs to the body, in the form that filters see."""

    def __init__(self, received: bytes, octets: bytes) -> None:
        """Our own field, and the header as the client meant it, without dots and without the empty line."""
        found = fields_of(octets)
        end = next((at for at, field in enumerate(found) if not field.name), len(found))
        self.rest = b"".join(field.octets for field in found[end:])
        self._ours = Field(b"received", received)
        self._fields = [self._ours, *found[:end]]
        self._size = len(octets)

    @property
    def fields(self) -> Sequence[Field]:
        """As filters see them."""
        return [field for field in self._fields if field is not self._ours]

    @property
    def parts(self) -> tuple[bytes, bytes, bytes]:
        """In wire form: what stands in front of our Received, it, and what stands behind."""
        fields = self._fields
        at = next((at for at, field in enumerate(fields) if field is self._ours), 0)
        has_ours = at < len(fields) and fields[at] is self._ours
        front = stuff(b"".join(field.octets for field in fields[:at]))
        behind = stuff(b"".join(field.octets for field in fields[at + has_ours:]))
        return front, stuff(self._ours.octets) if has_ours else b"", behind

    def apply(self, change: InsertField | ChangeField | ReplaceField) -> None:
        """Make a change. ValueError if it is none that can be made."""
        match change:
            case InsertField():
                self._insert(change.position, change.octets)
            case ChangeField():
                self._change(change)
            case ReplaceField():
                if not 0 <= change.position < len(self._fields):
                    raise ValueError("there is no such field")
                self._replace(change.position, change.octets)

    def _change(self, change: ChangeField) -> None:
        name, nth = change.name.lower(), max(change.nth, 1)
        places = [at for at, field in enumerate(self._fields) if field.name == name and field is not self._ours]
        if nth <= len(places):
            self._replace(places[nth - 1], change.octets)
        elif change.octets:
            self._insert(None, change.octets)

    def _insert(self, position: int | None, octets: bytes) -> None:
        self._fields.insert(len(self._fields) if position is None else max(position, 0), self._grown(octets))

    def _replace(self, at: int, octets: bytes) -> None:
        if octets:
            self._fields[at] = self._grown(octets)
        else:
            del self._fields[at]

    def _grown(self, octets: bytes) -> Field:
        """A field more; what goes does not count, so that endless changes of a field have an end, too."""
        field = field_of(octets)
        self._size += len(field.octets)
        if self._size > limits.HEADER_SECTION:
            raise ValueError("the header gets too large")
        return field


def field_of(octets: bytes) -> Field:
    """A field in the form that a message may have. ValueError if it has no proper name."""
    first, *more = _LINE_END.split(octets.replace(b"\0", b""))
    if _NAME.match(first) is None:
        raise ValueError("not the name of a field")
    lines = [first, *(line if line[:1] in (b" ", b"\t") else b"\t" + line for line in more if line.strip(b" \t"))]
    if any(len(line) > limits.TEXT_LINE_LENIENT for line in lines):
        raise ValueError("a line is too long")
    return Field(first.partition(b":")[0].rstrip(b" \t").lower(), b"\r\n".join(lines) + b"\r\n")


def is_about_header(change: Change) -> bool:
    """Whether `Header.apply` is for it."""
    return isinstance(change, InsertField | ChangeField | ReplaceField)
