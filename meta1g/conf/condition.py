"""The text of a condition to its tree, with every mistake that can be known before mail comes; pure (M1 8.5.1).

Rules
    Operators bind as in C: unary `-`, then `* /`, `+ -`, relations and `=~`, `!`, `&&`, `||`; `!` stands lower
    than in C, as the manual's grammar has it: `!a == b` is `!(a == b)`. All are left-associative.
    `==` and `!=` compare two strings, too, which the manual leaves to strcmp.
    Strings, numbers, comments and blanks are those of the configuration (M1 3.2). Regexes are
    POSIX extended ones, and have case.
"""
import dataclasses
import re
from typing import Final, NamedTuple

from meta1g.conf.errors import Position, nearest
from meta1g.conf.expression import (
    FUNCTIONS,
    IDENTIFIERS,
    LEVELS,
    OR,
    RELATION,
    Binary,
    Call,
    Logic,
    Name,
    Node,
    Number,
    Text,
    Type,
    Unary,
    to_text,
    type_of,
    walk,
)
from meta1g.conf.kinds import BadValue, Kind, number
from meta1g.conf.lex import BLANK, STRING, is_text, unescape
from meta1g.conf.parse import Value
from meta1g.mta import posix

LENGTH_MAX: Final = 8192  # characters: a hundred lines, more than anybody reads; what it costs grows with it
DEPTH_MAX: Final = 50  # parts inside parts, as in regexes: functions here and in smtps/condition.py call themselves
_TOKEN: Final = re.compile(
    r"(?P<number>[0-9]\w*)|(?P<word>[A-Za-z_]\w*)|(?P<mark>&&|\|\||=~|==|!=|<=|>=|[-+*/<>!(),])", re.ASCII)
_MARK_HINTS: Final = {
    "&": "did you mean &&?", "|": "did you mean ||?", "=": "did you mean ==?", "~": "did you mean =~?",
    "}": "end the condition with ;", "'": 'strings stand in "..."',
}


class ConditionError(ValueError):
    """A text is no condition: what is wrong, a hint, and where it is in the text."""

    def __init__(self, message: str, hint: str, offset: int) -> None:
        super().__init__(message)
        self.hint = hint
        self.offset = offset


class _Token(NamedTuple):
    """`kind` is number, word, string, mark or end."""

    kind: str
    text: str
    offset: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while True:
        blank = BLANK.match(text, at)
        at = blank.end() if blank else at
        if at == len(text):
            return [*found, _Token("end", "", at)]
        string, match = STRING.match(text, at), _TOKEN.match(text, at)
        if string is not None:
            found.append(_Token("string", unescape(string[1]), at))
            at = string.end()
        elif match is not None:
            found.append(_Token(str(match.lastgroup), match[0], at))
            at = match.end()
        elif text[at] == '"':
            raise ConditionError("string is not closed on its line", 'end it with "', at)
        else:
            shown = text[at] if text[at].isprintable() else f"U+{ord(text[at]):04X}"
            raise ConditionError(f"unexpected {shown}", _MARK_HINTS.get(text[at], ""), at)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def whole(self) -> Node:
        node = self._expression(OR)
        if self._token.kind != "end":
            raise _unexpected("an operator", self._token)
        if type_of(node) is not Type.CONDITION:
            raise ConditionError(f"expected a condition, found a {type_of(node).value}",
                                 "compare it with something", self._tokens[0].offset)
        return node

    def _expression(self, level: int) -> Node:
        """What operators of at least this level hold together."""
        left = self._operand()
        while self._token.kind == "mark" and LEVELS.get(self._token.text, 0) >= level:
            operator = self._take()
            left = _joined(operator, left, self._expression(LEVELS[operator.text] + 1))
        return left

    def _operand(self) -> Node:
        token = self._take()
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise ConditionError(f"nested deeper than {DEPTH_MAX}", "", token.offset)
        mark = token.text if token.kind == "mark" else ""
        if mark == "!":
            node = _unary(token, self._expression(RELATION))
        elif mark == "-":
            node = _unary(token, self._operand())
        elif mark == "(":
            node = self._expression(OR)
            self._expect(")")
        else:
            node = self._single(token)
        self._depth -= 1
        return node

    def _single(self, token: _Token) -> Node:
        if token.kind == "number":
            try:
                return Number(number(token.text))
            except BadValue as error:
                found = f", found {token.text}" if error.expected.startswith("expected") else ""
                raise ConditionError(f"{error.expected}{found}", error.hint or _unit_hint(token.text),
                                     token.offset) from None
        if token.kind == "string":
            return Text(token.text + self._more_strings(), token.offset)
        if token.kind == "word" and self._token.text == "(" and self._token.kind == "mark":
            return self._call(token)
        if token.kind == "word":
            return _name(token)
        raise _unexpected("a value", token)

    def _more_strings(self) -> str:
        """Adjacent strings are one (M1 3.2.1)."""
        more = []
        while self._token.kind == "string":
            more.append(self._take().text)
        return "".join(more)

    def _call(self, function: _Token) -> Node:
        word = function.text.lower()
        if word not in FUNCTIONS:
            raise ConditionError(f"unknown function {function.text}",
                                 nearest(word, FUNCTIONS) or f"functions are {', '.join(FUNCTIONS)}", function.offset)
        self._expect("(")
        left = self._expression(OR)
        self._expect(",")
        right = self._expression(OR)
        self._expect(")")
        left, right = _settled(left, Type.STRING), _settled(right, Type.STRING)
        if {type_of(left), type_of(right)} != {Type.STRING}:
            raise ConditionError(f"{word} needs strings, found {word}({_word(left)}, {_word(right)})", "",
                                 function.offset)
        if word == "match":
            _check_pattern(right)
        return Call(word, left, right)

    def _expect(self, mark: str) -> None:
        if self._token.kind != "mark" or self._token.text != mark:
            raise _unexpected(mark, self._token)
        self._take()


def _unit_hint(text: str) -> str:
    return "numbers have no units here" if text.lstrip("0123456789").isalpha() else ""


def _unexpected(wanted: str, token: _Token) -> ConditionError:
    shown = {"end": "the end", "string": "a string"}.get(token.kind, token.text)
    return ConditionError(f"expected {wanted}, found {shown}", "", token.offset)


def _name(token: _Token) -> Name:
    word = token.text.lower()
    if word in IDENTIFIERS:
        return Name(word, IDENTIFIERS[word].type, token.offset)
    if word in FUNCTIONS:
        raise ConditionError(f"{word} is a function", f'write {word}(string, string)', token.offset)
    hint = nearest(word, IDENTIFIERS) or f"identifiers are {', '.join(IDENTIFIERS)}"
    raise ConditionError(f"unknown identifier {token.text}", hint, token.offset)


def _word(node: Node) -> str:
    return type_of(node).value


def _settled(node: Node, wanted: Type) -> Node:
    """Take `hops` for what the place wants."""
    if isinstance(node, Name) and node.type is Type.EITHER:
        return dataclasses.replace(node, type=wanted)
    return node


def _unary(operator: _Token, operand: Node) -> Node:
    wanted = Type.NUMBER if operator.text == "-" else Type.CONDITION
    operand = _settled(operand, Type.NUMBER)
    if type_of(operand) is not wanted:
        raise ConditionError(f"{operator.text} needs a {wanted.value}, found {operator.text} {_word(operand)}", "",
                             operator.offset)
    return Unary(operator.text, operand)


def _joined(operator: _Token, left: Node, right: Node) -> Node:
    mark = operator.text
    has_string = Type.STRING in (type_of(left), type_of(right))
    wanted = Type.NUMBER
    if mark == "=~" or (mark in ("==", "!=") and has_string):
        wanted = Type.STRING
    elif mark in ("&&", "||"):
        wanted = Type.CONDITION
    usual = Type.NUMBER if wanted is Type.CONDITION else wanted
    left, right = _settled(left, usual), _settled(right, usual)
    if {type_of(left), type_of(right)} != {wanted}:
        needs = "two numbers or two strings" if mark in ("==", "!=") else f"{wanted.value}s"
        is_order = mark in ("<", "<=", ">", ">=") and type_of(left) is type_of(right) is Type.STRING
        raise ConditionError(f"{mark} needs {needs}, found {_word(left)} {mark} {_word(right)}",
                             f"write strcmp(..., ...) {mark} 0" if is_order else "", operator.offset)
    if wanted is Type.CONDITION:
        before = left.parts if isinstance(left, Logic) and left.operator == mark else (left,)
        return Logic(mark, (*before, right))
    if mark == "=~":
        _check_pattern(right)
    if mark == "/" and right == Number(0):
        raise ConditionError("division by zero", "", operator.offset)
    return Binary(mark, left, right)


def _check_pattern(node: Node) -> None:
    if isinstance(node, Text):
        try:
            posix.parse(node.value.encode("utf-8"), is_extended=True)
        except posix.RegexError as error:
            raise ConditionError(f"regex {to_text(node)}: {error}", "", node.offset) from None


def parse(text: str) -> Node:
    """The tree of a condition, at most DEPTH_MAX deep; ConditionError if the text is none."""
    if not is_text(text):
        raise ConditionError("this is not UTF-8 text", "", 0)
    if len(text) > LENGTH_MAX:
        raise ConditionError(f"longer than {LENGTH_MAX} characters", "", 0)
    node = _Parser(text).whole()
    if max(depth for _, depth in walk(node)) > DEPTH_MAX:
        raise ConditionError(f"nested deeper than {DEPTH_MAX}", "", 0)
    if len(to_text(node)) > LENGTH_MAX:  # blanks and escapes may be more than there were
        raise ConditionError(f"longer than {LENGTH_MAX} characters", "", 0)
    return node


def place(value: Value, offset: int) -> Position:
    """Where in the file an offset in a condition's text is."""
    before = value.text[:offset]
    lines = before.count("\n")
    column = len(before) - before.rfind("\n") if lines else value.at.column + offset
    return Position(value.at.file, value.at.line + lines, column)


def _read(values: list[Value]) -> str:
    (value,) = values
    try:
        return to_text(parse(value.text))
    except ConditionError as error:
        raise BadValue(str(error), error.hint, Value(place(value, error.offset), [""])) from None


CONDITION: Final = Kind("condition", _read, str)
