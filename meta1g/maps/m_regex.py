"""Map type `regex`: lines of /regex/flags value, tried in order (M1 10.1).

Rules
    The first character of a line is the separator; it ends the regex as well. Flags are
    e (extended) and i (ignore case). Value: the rest after white space.
    Regexes are POSIX in MeTA1. Python's syntax holds all of the extended form but its
    character class names and collating elements, which are translated; in the basic form
    ( ) { } + ? | are plain, and special with a backslash.
"""
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail

_CLASSES: Final = {
    b"alpha": rb"a-zA-Z", b"digit": rb"0-9", b"alnum": rb"a-zA-Z0-9", b"upper": rb"A-Z", b"lower": rb"a-z",
    b"space": rb"\s", b"blank": rb" \t", b"punct": rb"!-/:-@\[-`{-~", b"xdigit": rb"0-9A-Fa-f", b"print": rb" -~",
    b"graph": rb"!-~", b"cntrl": rb"\x00-\x1f\x7f",
}
_CLASS: Final = re.compile(rb"\[:([a-z]+):\]")
_BASIC: Final = re.compile(rb"\[\^?\]?[^\]]*\]|\\(.)|([(){}+?|])", re.DOTALL)
_KEY_MAX: Final = 512  # octets of a key that is tried: what an address and a tag can be long


class Rule(NamedTuple):
    """One line of the file."""

    pattern: re.Pattern[bytes]
    value: bytes


class RegexError(ValueError):
    """A line of the file is wrong; the text says how."""


def parse_line(line: bytes) -> Rule:
    """The rule in a line; RegexError if there is none."""
    separator = line[:1]
    end = line.find(separator, 1)
    if end < 0:
        raise RegexError(f"the second {separator.decode('utf-8', 'replace')} is missing")
    rest = line[end + 1:]
    words = rest.split(None, 1)
    flags = b"" if rest[:1].isspace() or not words else words.pop(0)
    if set(flags) - set(b"ei"):
        raise RegexError(f"unknown flags {flags.decode('utf-8', 'replace')}: e and i are known")
    if not words:
        raise RegexError("the value is missing")
    source = translate(line[1:end], is_extended=b"e" in flags)
    try:
        pattern = re.compile(source, re.IGNORECASE if b"i" in flags else 0)
    except re.error as error:
        raise RegexError(f"regex: {error}") from None
    return Rule(pattern, b" ".join(words).rstrip() if len(words) == 1 else words[0])


def translate(source: bytes, *, is_extended: bool) -> bytes:
    """A POSIX regex in Python's syntax."""
    if not is_extended:
        source = _BASIC.sub(_from_basic, source)
    return _CLASS.sub(lambda match: _CLASSES.get(match[1], match[0]), source)


def _from_basic(match: re.Match[bytes]) -> bytes:
    escaped, plain = match[1], match[2]
    if plain is not None:
        return b"\\" + plain
    if escaped is not None and escaped in b"(){}+?|":
        return escaped
    return match[0]


def parse_rules(text: bytes) -> Iterator[tuple[int, Rule | str]]:
    """Line number and rule, or what is wrong with the line."""
    for number, line in enumerate(text.split(b"\n"), 1):
        stripped = line.rstrip(b"\r")
        if not stripped.strip() or stripped.startswith(b"#"):
            continue
        try:
            yield number, parse_line(stripped)
        except RegexError as error:
            yield number, str(error)


class RegexMap:
    """Rules from a file; one that cannot be read or has a bad line fails temporarily."""

    is_stable = True
    is_slow = False

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self._rules: list[Rule] = []
        self._failure: TempFail | None = None
        self.reopen()

    def lookup(self, key: bytes) -> Result:
        """The value of the first rule that matches."""
        if self._failure is not None:
            return self._failure
        for pattern, value in self._rules:
            if len(key) <= _KEY_MAX and pattern.search(key):
                return Found(key, value)
        return NOT_FOUND

    def reopen(self) -> str:
        """Read the file; what is wrong with it, empty if nothing. Old rules stay if the new ones are bad."""
        try:
            with open(self.path, "rb") as file:
                parsed = list(parse_rules(file.read()))
        except OSError as error:
            return self._fail(f"map {self.name}: read {self.path}: {error.strerror}")
        wrong = [f"{self.path}:{number}: {rule}" for number, rule in parsed if isinstance(rule, str)]
        if wrong:
            return self._fail("; ".join(wrong))
        self._rules = [rule for _, rule in parsed if isinstance(rule, Rule)]
        self._failure = None
        return ""

    def _fail(self, reason: str) -> str:
        if not self._rules:
            self._failure = TempFail(reason)
        return reason
