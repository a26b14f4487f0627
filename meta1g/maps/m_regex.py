"""Map type `regex`: lines of /regex/flags value, tried in order (M1 10.1).

Rules
    The first character of a line is the separator; it ends the regex as well. Flags are
    e (extended) and i (ignore case). Value: the rest after white space.
    An outsider chooses the keys. Python's own matcher may need years for forty octets, as
    for (a|a)*b, and holds up every thread meanwhile, so no thread of its own and no deadline
    would help. Hence regexes become automata (posix, dfa), whose time grows with the length
    of the key only; they read POSIX syntax as MeTA1 does, too.
"""
from collections.abc import Iterator
from typing import Final, NamedTuple

from meta1g.maps.dfa import Matcher
from meta1g.maps.map import NOT_FOUND, Found, PermFail, Result, TempFail
from meta1g.mta import limits
from meta1g.mta.posix import RegexError, parse

_KEY_MAX: Final = limits.COMMAND_LINE_EXTENDED  # octets: no address that SMTP lets in is longer


class Rule(NamedTuple):
    """One line of the file."""

    matcher: Matcher
    value: bytes


def parse_line(line: bytes) -> Rule:
    """The rule in a line; RegexError if there is none."""
    separator = line[:1]
    end = line.find(separator, 1)
    if separator.isspace():
        raise RegexError("the line begins with white space, not with a separator")
    if end < 0:
        raise RegexError(f"the second {separator.decode('utf-8', 'replace')} is missing")
    rest = line[end + 1:]
    flags = b"" if rest[:1].isspace() else rest.split(None, 1)[0] if rest else b""
    value = rest[len(flags):].strip()
    if set(flags) - set(b"ei"):
        raise RegexError(f"unknown flags {flags.decode('utf-8', 'replace')}: e and i are known")
    if not value:
        raise RegexError("the value is missing")
    automaton = parse(line[1:end], is_extended=b"e" in flags, is_caseless=b"i" in flags)
    return Rule(Matcher(automaton), value)


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
        if len(key) > _KEY_MAX:
            return PermFail(f"map {self.name}: the key has more than {_KEY_MAX} octets")
        for matcher, value in self._rules:
            if matcher.matches(key):
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
