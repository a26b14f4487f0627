"""Configuration text to tokens (M1 3.2); pure."""
import re
from typing import Final, NamedTuple

from meta1g.conf.errors import ConfError, Position

BLANK: Final = re.compile(r"(?:\s+|#[^\n]*|/\*.*?\*/)+", re.DOTALL)
_WORD: Final = re.compile(r"(?:(?!/\*)[^\s;,{}=\"#])+")
STRING: Final = re.compile(r'"((?:[^"\\\n]|\\.)*)"')  # on one line, as in C (M1 3.2.1)
_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")  # octets that are no UTF-8 are read as surrogates
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


class Token(NamedTuple):
    """`kind` is `word`, `string`, `condition`, `end` or the mark itself (`; , { } =`)."""

    kind: str
    text: str
    offset: int


def is_text(text: str) -> bool:
    """Whether a value can be used: no NUL, and nothing that was not UTF-8 in the file."""
    return _NO_TEXT.search(text) is None


class Lexer:
    """Tokens of one text; mistakes are collected in `errors`."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.errors: list[ConfError] = []

    def position(self, offset: int) -> Position:
        """Line and column of an offset."""
        low, high = 0, len(self._starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._starts[middle] <= offset else (low, middle)
        return Position(self._name, low + 1, offset - self._starts[low] + 1)

    def tokens(self) -> list[Token]:
        """All tokens, the last of kind `end`."""
        found: list[Token] = []
        at, text = 0, self._text
        while True:
            blank = BLANK.match(text, at)
            if blank:
                at = blank.end()
            if at >= len(text):
                found.append(Token("end", "", len(text)))
                return found
            token, at = self._one(at)
            if token is not None:
                if not is_text(token.text):
                    self._error(token.offset, "this is not UTF-8 text", "save the file as UTF-8")
                found.append(token)

    def _one(self, at: int) -> tuple[Token | None, int]:
        text, mark = self._text, self._text[at]
        if text.startswith("==", at):
            return self._condition(at)
        if mark in ";,{}=":
            return Token(mark, mark, at), at + 1
        if mark == '"':
            return self._string(at)
        if text.startswith("/*", at):
            self._error(at, "comment is not closed", "end it with */")
            return None, len(text)
        match = _WORD.match(text, at)
        assert match is not None
        return Token("word", match[0], at), match.end()

    def _string(self, at: int) -> tuple[Token | None, int]:
        match = STRING.match(self._text, at)
        if match is None:
            self._error(at, "string is not closed on its line", 'end it with "; adjacent strings are joined')
            end = self._text.find("\n", at)
            line = self._text[at : len(self._text) if end < 0 else end]
            return Token("string", "", at), at + len(line.rstrip().removesuffix(";"))
        return Token("string", unescape(match[1]), at), match.end()

    def _condition(self, at: int) -> tuple[Token, int]:
        """The raw text between `==` and its `;` (M1 8.5.1)."""
        blank = BLANK.match(self._text, at + 2)
        begin = end = blank.end() if blank else at + 2
        while end < len(self._text) and self._text[end] != ";":
            match = STRING.match(self._text, end) or BLANK.match(self._text, end)
            end = match.end() if match else end + 1
        return Token("condition", self._text[begin:end].rstrip(), begin), end

    def _error(self, at: int, message: str, hint: str = "") -> None:
        self.errors.append(ConfError(self.position(at), message, hint))


def unescape(text: str) -> str:
    """What a string's inside stands for (M1 3.2.1)."""
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text)
