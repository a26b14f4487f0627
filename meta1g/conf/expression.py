"""The language of conditions as a tree: its parts, their types, the identifiers; as text again; pure (M1 8.5.1).

Rules
    A part is a number, a string or a condition; the operators say which they take, and nothing
    turns one into another. Only `hops` is a number or a string, as the place needs it: the
    manual lists it among the strings, but it is a count.
    A tree prints as text that reads as the same tree, with parentheses where they are needed.
"""
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from meta1g.conf.kinds import quote

STAGES: Final = ("connect", "mail", "rcpt", "data", "eom")  # in the order of the dialog


class Type(Enum):
    """What a part of an expression is; the values are words for messages."""

    NUMBER = "number"
    STRING = "string"
    CONDITION = "condition"
    EITHER = "number or string"


class Identifier(NamedTuple):
    """What a name is, and the stage from which on it has a value."""

    type: Type
    stage: str


_NAMES: Final = {  # check(5) says what they are
    (Type.STRING, "connect"): "client_ip client_name client_resolve hostname session_id",
    (Type.STRING, "mail"): "mail transaction_id auth_authen auth_author auth_type cert_issuer cert_subject cipher "
                           "cn_issuer cn_subject tls_verify tls_version",
    (Type.NUMBER, "mail"): "transactions session_rcpts_total alg_bits cipher_bits",
    (Type.STRING, "rcpt"): "rcpt",
    (Type.NUMBER, "rcpt"): "transaction_rcpts_total transaction_rcpts_ok",
    (Type.STRING, "eom"): "message_id",
    (Type.NUMBER, "eom"): "message_size",
    (Type.EITHER, "eom"): "hops",
}
IDENTIFIERS: Final = {name: Identifier(*key) for key, names in _NAMES.items() for name in names.split()}
FUNCTIONS: Final = {"strcmp": Type.NUMBER, "strcasecmp": Type.NUMBER, "match": Type.CONDITION}  # of two strings
ARITHMETIC: Final = frozenset(("+", "-", "*", "/"))

# How strongly operators bind, as in C; a higher number binds first. `!` reaches as far as a relation: M1 8.5.1.
OR, AND, NOT, RELATION, SUM, PRODUCT, NEGATION, SINGLE = range(1, 9)
LEVELS: Final = {
    "||": OR, "&&": AND, "=~": RELATION, **dict.fromkeys(("<", "<=", "==", "!=", ">=", ">"), RELATION),
    "+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT,
}


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: int


@dataclass(frozen=True, slots=True)
class Text:
    """A string as written, without its escapes."""

    value: str
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    """An identifier; `type` is what the place takes it for."""

    name: str
    type: Type
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One of FUNCTIONS with its two strings."""

    function: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Unary:
    """`!` before a condition, or `-` before a number."""

    operator: str
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic, a relation or `=~`."""

    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Logic:
    """Two or more conditions with `&&` or `||` between them; the first is never a Logic with the same operator."""

    operator: str
    parts: tuple["Node", ...]


Node = Number | Text | Name | Call | Unary | Binary | Logic


def type_of(node: Node) -> Type:
    """What a part is."""
    match node:
        case Number():
            return Type.NUMBER
        case Text():
            return Type.STRING
        case Name():
            return node.type
        case Call():
            return FUNCTIONS[node.function]
        case Unary():
            return Type.NUMBER if node.operator == "-" else Type.CONDITION
        case Binary():
            return Type.NUMBER if node.operator in ARITHMETIC else Type.CONDITION
        case Logic():
            return Type.CONDITION


def parts_of(node: Node) -> tuple[Node, ...]:
    """The parts directly below."""
    match node:
        case Number() | Text() | Name():
            return ()
        case Unary():
            return (node.operand,)
        case Call() | Binary():
            return (node.left, node.right)
        case Logic():
            return node.parts


def walk(node: Node) -> Iterator[tuple[Node, int]]:
    """All parts with their depth, which is 1 for `node`; without recursion, so that any depth will do."""
    todo = [(node, 1)]
    while todo:
        one, depth = todo.pop()
        yield one, depth
        todo += [(part, depth + 1) for part in parts_of(one)]


def patterns(node: Node) -> Iterator[Text]:
    """The regexes that are written out: those known before any mail comes."""
    for one, _ in walk(node):
        match one:
            case Binary("=~", _, Text() as pattern) | Call("match", _, Text() as pattern):
                yield pattern


def too_early(node: Node, stage: str) -> list[Name]:
    """The identifiers that have no value yet at `stage`, in the order of the text."""
    now = STAGES.index(stage)
    found = [one for one, _ in walk(node)
             if isinstance(one, Name) and STAGES.index(IDENTIFIERS[one.name].stage) > now]
    return sorted(found, key=lambda name: name.offset)


def to_text(node: Node) -> str:
    """The tree as a condition is written, on one line."""
    match node:
        case Number():
            return str(node.value)
        case Text():
            return quote(node.value)
        case Name():
            return node.name
        case Call():
            return f"{node.function}({to_text(node.left)}, {to_text(node.right)})"
        case Unary():
            is_same = isinstance(node.operand, Unary) and node.operand.operator == node.operator
            return node.operator + (to_text(node.operand) if is_same else _inside(node.operand, NEGATION))
        case Binary():
            level = LEVELS[node.operator]
            return f"{_inside(node.left, level)} {node.operator} {_inside(node.right, level + 1)}"
        case Logic():
            level = LEVELS[node.operator]
            rest = [_inside(part, level + 1) for part in node.parts[1:]]
            return f" {node.operator} ".join([_inside(node.parts[0], level), *rest])


def _level(node: Node) -> int:
    match node:
        case Binary() | Logic():
            return LEVELS[node.operator]
        case Unary():
            return NEGATION if node.operator == "-" else NOT
        case _:
            return SINGLE


def _inside(node: Node, level: int) -> str:
    return to_text(node) if _level(node) >= level else f"({to_text(node)})"
