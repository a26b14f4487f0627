"""Tokens to a tree of sections and options, by the grammar of M1 3.2; pure.

A mistake does not end the reading: it goes on behind the next `;` or `}`.
"""
from dataclasses import dataclass, field
from typing import Final

from meta1g.conf.errors import ConfError, Position
from meta1g.conf.lex import Lexer, Token

DEPTH_MAX: Final = 20  # M1 needs 4; more is a mistake or an attack on the stack


@dataclass(slots=True)
class Value:
    """One value as written: adjacent words or strings. `is_quoted` if any part was."""

    at: Position
    words: list[str]
    is_quoted: bool = False

    @property
    def text(self) -> str:
        """The value as one string: strings are joined, words keep a blank between them."""
        return ("" if self.is_quoted else " ").join(self.words)


@dataclass(slots=True)
class Option:
    """`name = value;` or `name = { values }`; `is_condition` for `name == expression;`."""

    at: Position
    name: str
    values: list[Value]
    is_list: bool = False
    is_condition: bool = False


@dataclass(slots=True)
class Section:
    """`keyword [name] { entries }`; the whole file is one without a keyword."""

    at: Position
    keyword: str = ""
    name: str = ""
    entries: list["Option | Section"] = field(default_factory=list)


class _Parser:
    def __init__(self, text: str, name: str) -> None:
        self._lexer = Lexer(text, name)
        self._tokens = self._lexer.tokens()
        self._next = 0
        self._depth = 0
        self._is_cut = False
        self.errors: list[ConfError] = self._lexer.errors

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _at(self, token: Token) -> Position:
        return self._lexer.position(token.offset)

    def _error(self, token: Token, message: str, hint: str = "") -> None:
        self.errors.append(ConfError(self._at(token), message, hint))

    def file(self) -> Section:
        root = Section(self._at(self._token))
        while True:
            self._entries(root)
            if self._token.kind == "end":
                return root
            self._error(self._take(), "unexpected }", "there is no open section here")

    def _entries(self, section: Section) -> None:
        while self._token.kind not in ("}", "end"):
            entry = self._entry()
            if entry is not None:
                section.entries.append(entry)

    def _entry(self) -> Option | Section | None:
        first = self._take()
        if first.kind == ";":
            return None
        if first.kind not in ("word", "string"):
            self._error(first, f"expected an option or a section, found {_shown(first)}")
            self._skip()
            return None
        following = self._token
        if following.kind == "=":
            self._take()
            return self._option(first)
        if following.kind == "condition":
            self._take()
            option = Option(self._at(first), first.text, [Value(self._at(following), [following.text], True)])
            option.is_condition = True
            self._semicolon(option.name)
            return option
        if following.kind == "{":
            return self._section(first, "")
        if following.kind in ("word", "string") and self._tokens[self._next + 1].kind == "{":
            return self._section(first, self._take().text)
        self._error(following, f"expected = or {{ after {first.text}, found {_shown(following)}")
        self._skip()
        return None

    def _section(self, keyword: Token, name: str) -> Section:
        opening = self._take()
        section = Section(self._at(keyword), keyword.text, name)
        if self._depth == DEPTH_MAX:
            self._error(keyword, f"sections are nested more than {DEPTH_MAX} deep")
            self._next, self._is_cut = len(self._tokens) - 1, True
            return section
        self._depth += 1
        self._entries(section)
        self._depth -= 1
        if self._token.kind == "}":
            self._take()
        elif not self._is_cut:
            self._error(opening, f"section {keyword.text} is not closed", "add }")
        if self._token.kind == ";":
            self._take()
        return section

    def _option(self, name: Token) -> Option | None:
        option = Option(self._at(name), name.text, [])
        if self._token.kind == "{":
            opening = self._take()
            option.is_list = True
            return option if self._list(option, opening) else None
        value = self._value()
        if value is None:
            self._error(self._token, f"expected a value for {name.text}, found {_shown(self._token)}")
            self._skip()
            return None
        option.values.append(value)
        self._semicolon(name.text)
        return option

    def _list(self, option: Option, opening: Token) -> bool:
        while self._token.kind != "}":
            value = self._value()
            if value is not None:
                option.values.append(value)
            if self._token.kind == ",":
                self._take()
            elif self._token.kind == ";" and self._goes_on():
                self._error(self._take(), f"values of {option.name} are divided by semicolons", "use commas")
            elif self._token.kind != "}":
                self._error(opening, f"list of {option.name} is not closed", "add }")
                self._skip()
                return False
        self._take()
        if self._token.kind == ";":
            self._take()
        return True

    def _goes_on(self) -> bool:
        """Behind this `;` comes another value of the list or its end, not the next option."""
        following, last = self._tokens[self._next + 1], self._tokens[min(self._next + 2, len(self._tokens) - 1)]
        return following.kind == "}" or (following.kind in ("word", "string") and last.kind in (";", ",", "}"))

    def _value(self) -> Value | None:
        value: Value | None = None
        while self._token.kind in ("word", "string"):
            if self._tokens[self._next + 1].kind == "=" and value is not None:
                break  # the next option begins: the semicolon is missing
            token = self._take()
            if value is None:
                value = Value(self._at(token), [])
            value.words.append(token.text)
            value.is_quoted |= token.kind == "string"
        return value

    def _semicolon(self, name: str) -> None:
        if self._token.kind == ";":
            self._take()
            return
        self._error(self._token, f"expected ; after the value of {name}, found {_shown(self._token)}", "add ;")

    def _skip(self) -> None:
        """Go on behind the next `;`, or before the next `}`."""
        while self._token.kind not in (";", "}", "end"):
            self._take()
        if self._token.kind == ";":
            self._take()


def _shown(token: Token) -> str:
    return "the end of the file" if token.kind == "end" else token.text or token.kind


def parse(text: str, name: str) -> tuple[Section, list[ConfError]]:
    """The tree of a configuration text, and what is wrong with its form."""
    parser = _Parser(text, name)
    root = parser.file()
    return root, parser.errors
