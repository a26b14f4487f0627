"""Log lines: `name=value` fields, comma and blank between, untrusted text as %XX (M1 10.4)."""
import re
from typing import Final

_UNSAFE: Final = re.compile(r"[^ -~]|[%,]")
_UNSAFE_BYTES: Final = re.compile(rb"[^ -~]|[%,]")


def clean(value: object) -> str:
    """Text of a value from outside, with non-printables, commas and percent signs as %XX.

    Octets stay octets: bytes are encoded one by one, a str as UTF-8.
    """
    if type(value) is int:
        return str(value)
    if isinstance(value, bytes):
        if not _UNSAFE_BYTES.search(value):
            return value.decode("ascii")
        return _UNSAFE_BYTES.sub(lambda m: b"%%%02X" % m[0][0], value).decode("ascii")
    text = str(value)
    if not _UNSAFE.search(text):
        return text
    return clean(text.encode("utf-8", "surrogateescape"))


def fields(**named: object) -> str:
    """One log line body from fields in the order given; None values are left out.

    A trailing underscore of a name is dropped, so that `class_` and the like can be written.
    """
    return ", ".join([f"{name.rstrip('_')}={clean(value)}" for name, value in named.items() if value is not None])


def parse(line: str) -> dict[str, str]:
    """The fields of a line, decoded: the inverse of `fields`, for tools and tests."""
    found = {}
    for part in line.split(", "):
        name, equals, value = part.partition("=")
        if equals:
            raw = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), value.encode())
            found[name] = raw.decode("utf-8", "replace")
    return found
