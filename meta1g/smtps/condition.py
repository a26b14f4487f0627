"""Whether a condition of the configuration holds for a session; pure (M1 8.5.1).

Rules
    Strings are octets. The domain of an address and the name of a client are in lower case, since
    domains have no case; the name comes without its last dot, an address without angle brackets.
    Numbers have 64 bits, a division is truncated as in C. `&&` and `||` go no further than needed.
    What has no value makes the whole condition false, with a reason: a division by zero, a number of
    more than 64 bits, a regex that the client has chosen and that is none, or is large.
    Time: each part is looked at once; a match takes time linear in the string (maps/dfa).
"""
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

from meta1g.conf.condition import parse
from meta1g.conf.expression import Binary, Call, Logic, Name, Node, Number, Text, Type, Unary, patterns
from meta1g.maps.dfa import Matcher
from meta1g.mta import addr, posix

CHOSEN_STATES_MAX: Final = 200  # of a regex that may be the client's: 4 ms for an address of 256 octets
_NUMBER_MAX: Final = (1 << 63) - 1
Value = int | bytes | bool


class NoValue(Exception):
    """A part of a condition has no value; says why."""


@dataclass(slots=True)
class Facts:
    """What is known of a session so far, by the names of the language; what is not there yet is empty or 0."""

    alg_bits: int = 0
    cipher_bits: int = 0
    message_size: int = 0
    session_rcpts_total: int = 0
    transaction_rcpts_ok: int = 0
    transaction_rcpts_total: int = 0
    transactions: int = 0
    auth_authen: bytes = b""
    auth_author: bytes = b""
    auth_type: bytes = b""
    cert_issuer: bytes = b""
    cert_subject: bytes = b""
    cipher: bytes = b""
    client_ip: bytes = b""
    client_name: bytes = b""
    client_resolve: bytes = b""
    cn_issuer: bytes = b""
    cn_subject: bytes = b""
    hops: int = 0
    hostname: bytes = b""
    mail: bytes = b""
    message_id: bytes = b""
    rcpt: bytes = b""
    session_id: bytes = b""
    tls_verify: bytes = b""
    tls_version: bytes = b""
    transaction_id: bytes = b""


# The configuration's names select from this table.
READERS: Final[dict[str, Callable[[Facts], int | bytes]]] = {
    item.name: getattr(Facts, item.name).__get__ for item in fields(Facts)
}


def comparable(address: bytes) -> bytes:
    """An address with its domain in lower case."""
    local, domain = addr.split(address)
    return local + b"@" + domain.lower() if domain else address


def _bounded(value: int) -> int:
    if not -_NUMBER_MAX - 1 <= value <= _NUMBER_MAX:
        raise NoValue("a number has more than 64 bits")
    return value


def _divided(left: int, right: int) -> int:
    if right == 0:
        raise NoValue("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) is (right < 0) else -quotient


_ARITHMETIC: Final[dict[str, Callable[[int, int], int]]] = {
    "+": lambda left, right: left + right, "-": lambda left, right: left - right,
    "*": lambda left, right: left * right, "/": _divided,
}
_RELATIONS: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": lambda left, right: left < right, "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right, ">=": lambda left, right: left >= right,
}


def _compared(left: bytes, right: bytes) -> int:
    return (left > right) - (left < right)


class Condition:
    """A condition with its regexes made ready; ConditionError if the text is none."""

    def __init__(self, text: str) -> None:
        self._tree = parse(text)
        self._matchers: dict[bytes, Matcher] = {}
        for pattern in patterns(self._tree):
            octets = pattern.value.encode("utf-8")
            self._matchers[octets] = Matcher(posix.parse(octets, is_extended=True))

    def holds(self, facts: Facts) -> bool:
        """Whether it is true; NoValue if that can't be said."""
        return bool(self._value(self._tree, facts))

    def _value(self, node: Node, facts: Facts) -> Value:
        match node:
            case Number():
                return node.value
            case Text():
                return node.value.encode("utf-8")
            case Name():
                value = READERS[node.name](facts)
                return b"%d" % value if isinstance(value, int) and node.type is Type.STRING else value
            case Call():
                left, right = self._octets(node.left, facts), self._octets(node.right, facts)
                if node.function == "match":
                    return self._matches(left, right)
                is_caseless = node.function == "strcasecmp"
                return _compared(left.lower(), right.lower()) if is_caseless else _compared(left, right)
            case Unary():
                return _bounded(-self._number(node.operand, facts)) if node.operator == "-" else not self._value(
                    node.operand, facts)
            case Binary():
                return self._binary(node, facts)
            case Logic():
                values = (self._value(part, facts) for part in node.parts)
                return all(values) if node.operator == "&&" else any(values)

    def _binary(self, node: Binary, facts: Facts) -> Value:
        mark = node.operator
        if mark in ("==", "!="):  # numbers or strings
            return (self._value(node.left, facts) == self._value(node.right, facts)) is (mark == "==")
        if mark == "=~":
            return self._matches(self._octets(node.left, facts), self._octets(node.right, facts))
        left, right = self._number(node.left, facts), self._number(node.right, facts)
        if mark in _RELATIONS:
            return _RELATIONS[mark](left, right)
        return _bounded(_ARITHMETIC[mark](left, right))

    def _number(self, node: Node, facts: Facts) -> int:
        value = self._value(node, facts)
        assert isinstance(value, int)
        return value

    def _octets(self, node: Node, facts: Facts) -> bytes:
        value = self._value(node, facts)
        assert isinstance(value, bytes)
        return value

    def _matches(self, key: bytes, pattern: bytes) -> bool:
        matcher = self._matchers.get(pattern)
        return (matcher or _chosen(pattern)).matches(key)


def _chosen(pattern: bytes) -> Matcher:
    """A regex that came with the mail."""
    try:
        automaton = posix.parse(pattern, is_extended=True)
    except posix.RegexError as error:
        raise NoValue(f"regex: {error}") from None
    if len(automaton.states) > CHOSEN_STATES_MAX:
        raise NoValue(f"regex: it has more than {CHOSEN_STATES_MAX} parts")
    return Matcher(automaton)
