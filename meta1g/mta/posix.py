"""POSIX regular expressions, basic and extended, as regex(3) reads them: text to an automaton; pure.

Rules
    Octets are matched, as in the C locale. GNU's additions are known: in basic ones \\+ \\? \\|,
    in both \\w \\W \\s \\S \\b \\B \\< \\> \\` \\'.
    Back-references are refused: no matcher bounds their time. So are other letters and
    digits with a backslash, to which POSIX gives no meaning.
    In an automaton a state consumes an octet, or goes on without one to others, under a
    condition or not. Counted repetitions are written out, so its size is limited.
"""
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

STEPS_MAX: Final = 2000  # states of an automaton: a step of the slowest match takes a third of a millisecond
_DEPTH_MAX: Final = 50  # nested parentheses, and repetitions of repetitions: functions here call themselves
_REPEAT_MAX: Final = 255  # POSIX: RE_DUP_MAX
_DIGITS_MAX: Final = 100  # between braces, zeros in front included; int() refuses thousands
_ALL: Final = frozenset(range(256))
_CLASSES: Final = {
    b"alpha": b"a-zA-Z", b"digit": b"0-9", b"alnum": b"a-zA-Z0-9", b"upper": b"A-Z", b"lower": b"a-z",
    b"space": b" \t-\r",
    b"blank": b" \t", b"punct": b"!-/:-@\x5b-`{-~", b"xdigit": b"0-9A-Fa-f", b"print": b" -~", b"graph": b"!-~",
    b"cntrl": b"\0-\x1f\x7f",
}


class RegexError(ValueError):
    """The text is no regular expression, or one that is not supported; says how."""


class Condition(Enum):
    """What must hold between two octets."""

    BEGIN = "^"
    END = "$"
    BOUNDARY = "b"
    NO_BOUNDARY = "B"
    WORD_BEGIN = "<"
    WORD_END = ">"


class Octet(NamedTuple):
    """One octet out of a set."""

    octets: frozenset[int]


class Row(NamedTuple):
    """One after the other."""

    parts: tuple["Node", ...]


class Choice(NamedTuple):
    """One of several."""

    parts: tuple["Node", ...]


class Repeat(NamedTuple):
    """`part` from `low` to `high` times, any number of times if that is None."""

    part: "Node"
    low: int
    high: int | None


Node = Octet | Row | Choice | Repeat | Condition


class State(NamedTuple):
    """A state that consumes one of `octets`, or, if that is None, goes on if `condition` holds (None: always)."""

    octets: frozenset[int] | None
    condition: Condition | None
    after: tuple[int, ...]


@dataclass(slots=True)
class Automaton:
    """States by number; `first` is where to begin, number 0 accepts."""

    states: list[State] = field(default_factory=lambda: [State(None, None, ())])
    first: int = 0
    steps: int = 0


def parse(text: bytes, *, is_extended: bool, is_caseless: bool = False) -> Automaton:
    """The automaton of a regular expression; RegexError if it is none or too large."""
    made = Automaton()
    made.first = _emit(made, _Parser(text, is_extended, is_caseless).all(), 0)
    return made


def _span(text: bytes) -> frozenset[int]:
    """The octets of `a-z0`."""
    found: set[int] = set()
    at = 0
    while at < len(text):
        last = at + 2 if text[at + 1:at + 2] == b"-" and at + 2 < len(text) else at
        found.update(range(text[at], text[last] + 1))
        at = last + 1
    return frozenset(found)


WORD: Final = _span(_CLASSES[b"alnum"]) | {ord("_")}
_SPACE: Final = _span(_CLASSES[b"space"])
_SETS: Final = {b"w": WORD, b"W": _ALL - WORD, b"s": _SPACE, b"S": _ALL - _SPACE}
_CONDITIONS: Final = {
    b"b": Condition.BOUNDARY, b"B": Condition.NO_BOUNDARY, b"<": Condition.WORD_BEGIN, b">": Condition.WORD_END,
    b"`": Condition.BEGIN, b"'": Condition.END,
}


class _Parser:
    """Reads tokens: one octet, or a backslash and one, and in brackets all of them."""

    def __init__(self, text: bytes, is_extended: bool, is_caseless: bool) -> None:
        self.text, self.at, self.depth, self.stacked = text, 0, 0, 0
        self.is_extended, self.is_caseless = is_extended, is_caseless

    def operator(self) -> bytes:
        """The operator that comes next, without the backslash it has in a basic one; empty if it is none."""
        plain, escaped = self.text[self.at:self.at + 1], self.text[self.at + 1:self.at + 2]
        if self.is_extended:
            return plain if plain in (b"(", b")", b"|", b"*", b"+", b"?", b"{") else b""
        if plain == b"\\":
            return escaped if escaped in (b"(", b")", b"|", b"+", b"?", b"{") else b""
        return plain if plain == b"*" else b""

    def skip(self, operator: bytes) -> None:
        self.at += 1 if self.is_extended or operator == b"*" else 2

    def all(self) -> Node:
        node = self.choice()
        if self.at < len(self.text):
            raise RegexError("an opening parenthesis is missing")
        return node

    def choice(self) -> Node:
        parts = [self.row()]
        while self.operator() == b"|":
            self.skip(b"|")
            parts.append(self.row())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def row(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.text):
            operator = self.operator()
            if operator == b"|" or (operator == b")" and (self.depth or not self.is_extended)):
                break
            parts.append(self.repeated(self.part(is_first=not parts), parts))
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def repeated(self, part: Node, before: list[Node]) -> Node:
        found = part
        while self.operator() in (b"*", b"+", b"?", b"{") and not self.is_plain(part, before):
            self.stacked += found is not part
            if self.stacked > _DEPTH_MAX:
                raise RegexError(f"more than {_DEPTH_MAX} repetitions of repetitions")
            found = Repeat(found, *self.times())
        return found

    def is_plain(self, part: Node, before: list[Node]) -> bool:
        """Whether a * comes behind ^ at the beginning of a basic one, and stands for itself."""
        if not isinstance(part, Condition):
            return False
        if not self.is_extended and part is Condition.BEGIN and not before and self.operator() == b"*":
            return True
        raise RegexError(f"{self.operator().decode()} has nothing to repeat")

    def part(self, *, is_first: bool) -> Node:
        operator = self.operator()
        if operator == b"(":
            return self.group()
        if operator in (b"*", b"+", b"?", b"{"):
            if self.is_extended or operator == b"{":
                raise RegexError(f"{operator.decode()} has nothing to repeat")
            self.skip(operator)
            return self.octets(operator)
        octet = self.text[self.at:self.at + 1]
        self.at += 1
        if octet == b"[":
            return Octet(self.bracket())
        if octet == b".":
            return Octet(_ALL)
        if octet == b"\\":
            return self.escaped()
        if octet == b"^" and (self.is_extended or is_first):
            return Condition.BEGIN
        if octet == b"$" and (self.is_extended or self.at == len(self.text) or self.operator() in (b")", b"|")):
            return Condition.END
        return self.octets(octet)

    def group(self) -> Node:
        self.skip(b"(")
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            raise RegexError(f"parentheses are nested deeper than {_DEPTH_MAX}")
        node = self.choice()
        if self.operator() != b")":
            raise RegexError("a closing parenthesis is missing")
        self.skip(b")")
        self.depth -= 1
        return node

    def octets(self, octet: bytes) -> Octet:
        return Octet(frozenset(octet.lower() + octet.upper() if self.is_caseless else octet))

    def escaped(self) -> Node:
        octet = self.text[self.at:self.at + 1]
        self.at += 1
        if not octet:
            raise RegexError("nothing comes behind the last backslash")
        if octet in _SETS:
            return Octet(_SETS[octet])
        if octet in _CONDITIONS:
            return _CONDITIONS[octet]
        if octet.isdigit():
            raise RegexError(f"\\{octet.decode()}: back-references are not supported")
        if octet.isalpha():
            hint = ", write [0-9]" if octet == b"d" else ""
            raise RegexError(f"\\{octet.decode()} has no meaning in POSIX{hint}")
        return self.octets(octet)

    def times(self) -> tuple[int, int | None]:
        operator = self.operator()
        self.skip(operator)
        if operator != b"{":
            return {b"*": (0, None), b"+": (1, None), b"?": (0, 1)}[operator]
        end = b"}" if self.is_extended else b"\\}"
        inside, found, _ = self.text[self.at:].partition(end)
        low, comma, high = inside.partition(b",")
        is_number = all(not digits or digits.isdigit() for digits in (low, high)) and (low or comma)
        if not found or not is_number or len(inside) > _DIGITS_MAX:
            raise RegexError("{ has no number or no }")
        self.at += len(inside) + len(end)
        least = int(low or b"0")
        most = least if not comma else int(high) if high else None
        if max(least, most or 0) > _REPEAT_MAX or (most is not None and most < least):
            raise RegexError(f"bad numbers of repetitions: {inside.decode()}; at most {_REPEAT_MAX}")
        return least, most

    def bracket(self) -> frozenset[int]:
        is_negated = self.text[self.at:self.at + 1] == b"^"
        self.at += is_negated
        found: set[int] = set()
        is_first = True
        while is_first or self.text[self.at:self.at + 1] != b"]":
            is_first = False
            found |= self.item()
        self.at += 1
        if self.is_caseless:
            found = {other for octet in found for other in bytes((octet,)).lower() + bytes((octet,)).upper()}
        return _ALL - found if is_negated else frozenset(found)

    def item(self) -> frozenset[int]:
        if self.text[self.at:self.at + 2] == b"[:":
            name = self.named(b":]")
            if name not in _CLASSES:
                raise RegexError(f"unknown class [:{name.decode('utf-8', 'replace')}:]")
            return _span(_CLASSES[name])
        low = self.element()
        if self.text[self.at:self.at + 1] != b"-" or self.text[self.at + 1:self.at + 2] in (b"]", b""):
            return frozenset((low,))
        self.at += 1
        high = self.element()
        if high < low:
            raise RegexError(f"bad range {chr(low)}-{chr(high)}")
        return frozenset(range(low, high + 1))

    def element(self) -> int:
        for begin, end in ((b"[.", b".]"), (b"[=", b"=]")):
            if self.text[self.at:self.at + 2] == begin:
                name = self.named(end)
                if len(name) != 1:
                    raise RegexError(f"unknown element {(begin + name + end).decode('utf-8', 'replace')}")
                return name[0]
        if self.at >= len(self.text):
            raise RegexError("a closing ] is missing")
        self.at += 1
        return self.text[self.at - 1]

    def named(self, end: bytes) -> bytes:
        name, found, _ = self.text[self.at + 2:].partition(end)
        if not found:
            raise RegexError("a closing ] is missing")
        self.at += 2 + len(name) + len(end)
        return name


def _emit(made: Automaton, node: Node, then: int) -> int:
    """Add the states of `node`, behind which comes `then`; where they begin."""
    made.steps += 1
    if made.steps > STEPS_MAX:
        raise RegexError(f"too large: it has more than {STEPS_MAX} parts with its repetitions written out")
    if isinstance(node, Octet):
        return _add(made, State(node.octets, None, (then,)))
    if isinstance(node, Condition):
        return _add(made, State(None, node, (then,)))
    if isinstance(node, Row):
        for part in reversed(node.parts):
            then = _emit(made, part, then)
        return then
    if isinstance(node, Choice):
        return _add(made, State(None, None, tuple(_emit(made, part, then) for part in node.parts)))
    return _emit_repeat(made, node, then)


def _emit_repeat(made: Automaton, node: Repeat, then: int) -> int:
    end = then
    if node.high is None:
        then = _add(made, State(None, None, (end,)))
        made.states[then] = State(None, None, (_emit(made, node.part, then), end))
    else:
        for _ in range(node.high - node.low):
            then = _add(made, State(None, None, (_emit(made, node.part, then), end)))
    for _ in range(node.low):
        then = _emit(made, node.part, then)
    return then


def _add(made: Automaton, state: State) -> int:
    made.states.append(state)
    return len(made.states) - 1
