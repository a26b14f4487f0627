"""Kinds of values: text as written to a value, and back (M1 3.2.1, 8.1.1); pure."""
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from meta1g.conf.errors import nearest
from meta1g.conf.parse import Value
from meta1g.mta import addr

_NUMBER: Final = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+")
_PART: Final = re.compile(r"\s*(0[xX][0-9A-Fa-f]+|[0-9]+)\s*([A-Za-z]*)")
_DIGITS_MAX: Final = {8: 21, 10: 19, 16: 16}  # of 63 bits
_TIME_UNITS: Final = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_SIZE_UNITS: Final = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
_TRUE: Final = frozenset(("1", "true", "on"))
_FALSE: Final = frozenset(("0", "false", "off"))
_NUMBER_MAX: Final = (1 << 63) - 1  # what the queue's records hold
_TIME_MAX: Final = (1 << 31) - 1  # 68 years; time_t arithmetic stays sound
_NEGATIONS: Final = ("not_", "dont_", "no_", "-", "!", "~")


class BadValue(ValueError):
    """A value is not of its kind: what was expected, and a hint."""

    def __init__(self, expected: str, hint: str = "", value: Value | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.hint = hint
        self.value = value


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind is read and written.

    `is_list` takes several values, `words` are the only ones, a bare number is in `unit`, `limits` says the range.
    """

    name: str
    read: Callable[[list[Value]], Any]
    write: Callable[[Any], str]
    is_list: bool = False
    words: tuple[str, ...] = ()
    unit: str = ""
    limits: str = ""


@dataclass(frozen=True, slots=True)
class PathValue:
    """A path; a default is relative to the folder its kind names, an explicit one to the queue (M1 3.6)."""

    text: str
    is_explicit: bool = False


def _one(values: list[Value]) -> Value:
    if len(values) != 1:
        raise BadValue("expected one value", "", values[1] if values else None)
    return values[0]


def octal(value: int) -> str:
    """A number as the grammar wants it in octal."""
    return f"0{value:o}" if value else "0"


def number(text: str) -> int:
    """`0x` hexadecimal, `0` octal, or decimal; BadValue if it is none."""
    if not _NUMBER.fullmatch(text):
        raise BadValue("expected a number")
    base = 16 if text[:2].lower() == "0x" else 8 if len(text) > 1 and text[0] == "0" else 10
    if base == 8 and set(text) & {"8", "9"}:
        raise BadValue("expected a number", "a leading 0 makes it octal, which has no 8 and 9")
    digits = text[2:] if base == 16 else text
    if len(digits.lstrip("0")) > _DIGITS_MAX[base] or (value := int(digits, base)) > _NUMBER_MAX:
        raise BadValue(f"{text[:24]}{'...' if text[24:] else ''} is too large", f"at most {_NUMBER_MAX}")
    return value


def _units(text: str, units: dict[str, int], default: str, what: str) -> int:
    at, total = 0, 0
    text = text.strip()
    names = [unit.upper() if what == "size" else unit for unit in units]
    hint = f"units are {', '.join(names)}"
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            raise BadValue(f"expected a {what}", hint)
        unit = match[2].lower()
        if unit not in units and unit:
            raise BadValue(f"expected a {what}, found unit {match[2]}", hint)
        total += number(match[1]) * (units[unit] if unit else units.get(default, 1))
        at = match.end()
    if not text:
        raise BadValue(f"expected a {what}", hint)
    return total


def _in_range(value: int, low: int, high: int | None, write: Callable[[int], str] = str) -> int:
    if value < low or (high is not None and value > high):
        raise BadValue(f"{write(value)} is out of range", f"it must be {_allowed(low, high, write)}")
    return value


def _allowed(low: int, high: int | None, write: Callable[[int], str] = str) -> str:
    return f"at least {write(low)}" if high is None else f"from {write(low)} to {write(high)}"


def count(low: int = 0, high: int | None = None, *, unit: str = "", write: Callable[[int], str] = str) -> Kind:
    """A plain number; `unit` is for the reader only."""
    limits = _allowed(low, high, write) if low or high is not None else ""
    return Kind("number", lambda values: _in_range(number(_one(values).text), low, high, write), write, unit=unit,
                limits=limits)


def time(low: int = 0, high: int = _TIME_MAX) -> Kind:
    """A duration in seconds."""

    def read(values: list[Value]) -> int:
        return _in_range(_units(_one(values).text, _TIME_UNITS, "s", "time"), low, high, _write_time)

    limits = _allowed(low, None if high == _TIME_MAX else high, _write_time) if low or high != _TIME_MAX else ""
    return Kind("time", read, _write_time, unit="s", limits=limits)


def _write_time(value: int) -> str:
    parts = []
    for unit, seconds in _TIME_UNITS.items():
        amount, value = divmod(value, seconds)
        if amount:
            parts.append(f"{amount}{unit}")
    return " ".join(parts) or "0s"


def size(unit: str = "b", low: int = 0, high: int = _NUMBER_MAX) -> Kind:
    """A size in octets; a bare number is in `unit`."""

    def read(values: list[Value]) -> int:
        return _in_range(_units(_one(values).text, _SIZE_UNITS, unit, "size"), low, high, _write_size)

    limits = _allowed(low, None if high == _NUMBER_MAX else high, _write_size) if low or high != _NUMBER_MAX else ""
    return Kind("size", read, _write_size, unit=unit.upper(), limits=limits)


def _write_size(value: int) -> str:
    for unit, octets in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if value and value % octets == 0:
            return f"{value // octets}{unit}"
    return f"{value}B"


def _read_boolean(values: list[Value]) -> bool:
    word = _one(values).text.lower()
    if word not in _TRUE | _FALSE:
        raise BadValue("expected a boolean", "write 1, true or on, or 0, false or off")
    return word in _TRUE


BOOLEAN: Final = Kind("boolean", _read_boolean, lambda value: "true" if value else "false")


def quote(text: str) -> str:
    """A string as the grammar wants it."""
    for raw, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\r", "\\r"), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(raw, escaped)
    return f'"{text}"'


def _read_string(values: list[Value]) -> str:
    value = _one(values)
    if not value.is_quoted and len(value.words) > 1:
        raise BadValue("expected one word or a quoted string", 'put it in "..."')
    return value.text


STRING: Final = Kind("string", _read_string, quote)


def _read_prefix(values: list[Value]) -> str:
    text = _read_string(values)
    if text and not text.endswith("/"):
        raise BadValue("expected a folder with / at its end", f'write "{text}/"')
    return text


PREFIX: Final = Kind("string", _read_prefix, quote)


def _read_domain(values: list[Value]) -> str:
    text = _read_string(values)
    if text and (text.startswith("[") or not addr.is_domain(text.encode("utf-8", "replace"))):
        raise BadValue("expected a domain name", "" if text.isascii() else "write it as xn--... (RFC 5890)")
    return text


def _read_dns_domain(values: list[Value]) -> str:
    """DNS knows names with and without the last dot."""
    text = _read_string(values)
    _read_domain([Value(values[0].at, [text.removesuffix(".")], True)])
    return text


DOMAIN: Final = Kind("string", _read_domain, quote)
DNS_DOMAIN: Final = Kind("string", _read_dns_domain, quote)
PATH: Final = Kind("path", lambda v: PathValue(_read_string(v), True), lambda value: quote(value.text))


def enum(*words: str) -> Kind:
    """One of these words, without regard to case."""

    def read(values: list[Value]) -> str:
        text = _read_string(values).lower()
        for word in words:
            if word.lower() == text:
                return word
        raise BadValue(f"expected one of {', '.join(words)}", nearest(text, words))

    return Kind("word", read, str, words=words)


def flags(*words: str, on: tuple[str, ...] = ()) -> Kind:
    """A set of these words in lower case; those in `on` are set unless negated (M1 8.1.1)."""
    known = {word.lower(): word for word in words}

    def read(values: list[Value]) -> frozenset[str]:
        found = {word.lower() for word in on}
        for value in values:
            name, is_on = _negation(value.text.lower(), known)
            if len(value.words) > 1 and not value.is_quoted:
                raise BadValue(f"expected , between flags, found {value.words[1]}", "", value)
            if name not in known:
                hint = nearest(name, words) or f"flags are {', '.join(words)}"
                raise BadValue(f"unknown flag {value.text}", hint, value)
            (found.add if is_on else found.discard)(name)
        return frozenset(found)

    def write(value: frozenset[str]) -> str:
        shown = [known[name] for name in known if name in value]
        shown += [f"no_{word}" for word in on if word.lower() not in value]
        return "{ " + ", ".join(shown) + " }" if shown else "{ }"

    return Kind("flags", read, write, is_list=True, words=words)


def _negation(word: str, known: dict[str, str]) -> tuple[str, bool]:
    if word in known:
        return word, True
    for prefix in _NEGATIONS:
        if word.startswith(prefix):
            return word[len(prefix):], False
    return word, True


def many(kind: Kind, low: int = 0, high: int | None = None) -> Kind:
    """A list of values of `kind`."""

    def read(values: list[Value]) -> tuple[Any, ...]:
        found = []
        for value in values:
            try:
                found.append(kind.read([value]))
            except BadValue as error:
                raise BadValue(error.expected, error.hint, value) from None
        if len(found) < low or (high is not None and len(found) > high):
            wanted = f"at least {low}" if high is None else f"{low} to {high}"
            last = values[high] if high is not None and len(found) > high else None
            raise BadValue(f"{len(found)} values found, expected {wanted}", "", last)
        return tuple(found)

    def write(value: tuple[Any, ...]) -> str:
        return "{ " + ", ".join(map(kind.write, value)) + " }" if value else "{ }"

    return Kind(f"list of {kind.name}{'es' if kind.name.endswith('s') else 's'}", read, write, is_list=True)


def ip(*, v4: bool = True, v6: bool = True) -> Kind:
    """An IP address as text."""
    what = "an IP address" if v4 and v6 else "an IPv4 address" if v4 else "an IPv6 address"

    def read(values: list[Value]) -> str:
        try:
            address = ipaddress.ip_address(_read_string(values))
        except ValueError:
            raise BadValue(f"expected {what}") from None
        if address.version not in ([4] * v4 + [6] * v6):
            raise BadValue(f"expected {what}")
        return str(address)

    return Kind("IP address", read, quote)


def _read_net(values: list[Value]) -> str:
    try:
        return str(ipaddress.ip_network(_read_string(values), strict=False))
    except ValueError:
        raise BadValue("expected an IP address or a net", "such as 192.0.2.1 or 192.0.2.0/24") from None


NET: Final = Kind("IP address or net", _read_net, quote)


def _read_address(values: list[Value]) -> str:
    text = _read_string(values)
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    if addr.parse_mailbox(bare.encode("utf-8", "replace")) is None:
        raise BadValue("expected a mail address", "in the form <user@domain>")
    return bare


ADDRESS: Final = Kind("mail address", _read_address, lambda value: quote(f"<{value}>"))
PORT: Final = Kind("port", lambda values: _in_range(number(_one(values).text), 1, 65535), str, limits="from 1 to 65535")


def _read_listen(values: list[Value]) -> str:
    text = _read_string(values)
    _, colon, port = text.rpartition(":")
    if not colon or (port and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536)):
        raise BadValue("expected host:port or :port", "such as 127.0.0.1:2525")
    return text


LISTEN: Final = Kind("host:port", _read_listen, quote)


def choice(*values: int) -> Kind:
    """One of these numbers."""
    allowed = ", ".join(map(str, values))

    def read(found: list[Value]) -> int:
        value = number(_one(found).text)
        if value not in values:
            raise BadValue(f"expected one of {allowed}")
        return value

    return Kind("number", read, str, limits=f"one of {allowed}")


def power_of_two(low: int, high: int) -> Kind:
    """A number that is a power of 2."""

    def read(values: list[Value]) -> int:
        value = _in_range(number(_one(values).text), low, high)
        if value & (value - 1):
            below = 1 << value.bit_length() - 1
            raise BadValue(f"{value} is not a power of 2", f"such as {below} or {below * 2}")
        return value

    return Kind("number", read, str, limits=f"a power of 2 {_allowed(low, high)}")
