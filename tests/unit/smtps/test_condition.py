"""Conditions of sections check: values, bounds, and agreement with a naive evaluator (M1 8.5.1)."""
import re
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meta1g.conf.condition import DEPTH_MAX, LENGTH_MAX, ConditionError, parse
from meta1g.conf.errors import ConfErrors
from meta1g.conf.expression import (
    ARITHMETIC,
    IDENTIFIERS,
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
)
from meta1g.conf.load import load_text
from meta1g.smtps.condition import READERS, Condition, Facts, NoValue, comparable

FACTS = Facts(transactions=3, session_rcpts_total=7, hops=5, message_size=2048, mail=b"a.b@spam.example",
              rcpt=b"u@my.dom", client_ip=b"192.0.2.1", hostname=b"my.dom")

TRUE = [
    'mail =~ ""', 'mail =~ "@spam[.]example$"', r'mail =~ "^a\\.b@"', 'match(rcpt, "^(u|v)@")', '"(x)" =~ "\\\\(x[)]$"',
    'mail == "a.b@spam.example"', 'mail != rcpt', 'client_name == ""', '"a" "b" == "ab"', r'"\"\\\t" != "t"',
    '"" == cipher && alg_bits == 0', 'MAIL =~ "spam"', 'HostName == "my.dom"',
    "1 + 2 * 3 == 7", "(1 + 2) * 3 == 9", "2 - 3 - 4 == -5", "100 / 7 / 2 == 7", "-7 / 2 == -3", "7 / -2 == -3",
    "-7 / -2 == 3", "--1 == 1", "- -1 == 1", "1 - -1 == 2", "-2 * 3 == -6", "0x10 == 16", "010 == 8", "0XfF == 255",
    "1 < 2", "2 <= 2", "2 >= 2", "3 > 2", "2 != 3", "transactions * 2 + 1 >= session_rcpts_total",
    "1 < 2 || 1 < 0 && 1 < 0", "!(1 < 2 && 1 < 0) && 1 < 2", "!1 == 2", "!!1 == 1", "!1 > 2 && 1 == 1",
    'strcmp("a", "b") < 0', 'strcmp("b", "a") > 0', 'strcmp("a", "a") == 0', 'strcmp("A", "a") != 0',
    'strcasecmp("aBc", "AbC") == 0', 'strcasecmp("a", "B") < 0', 'strcmp("", "a") * 5 == -5', 'strcmp("\xe9", "z") > 0',
    "hops == 5", 'hops == "5"', 'hops =~ "^5$"', "hops + 1 > 5", "hops == hops", "-hops == -5",
    'strcmp(hops, "5") == 0',
    "1 < 2 || 1 / (transactions - 3) > 0", "!(1 < 0 && 1 / (transactions - 3) > 0)",
    "9223372036854775807 > 0", "-9223372036854775807 - 1 < 0", "1 /* c */ < # d\n 2",
]
FALSE = [
    'mail =~ "@SPAM"', 'mail =~ "^$"', 'rcpt == "U@my.dom"', 'match("", "a")', "1 < 1", "1 == 2", "!1 == 1",
    "1 < 0 && 1 < 2 || 1 < 0", "transactions > 3", 'tls_version != ""', '"a" == "b"',
]
NO_VALUE = [  # and why; the whole condition is false, whatever stands around
    ("1 / (transactions - 3) == 0", "division by zero"), ("!(1 / (transactions - 3) == 0)", "division by zero"),
    ("1 < 2 && 1 / (transactions - 3) < 1 || 1 < 2", "division by zero"),
    ("9223372036854775807 + 1 > 0", "64 bits"), ("9223372036854775807 * transactions > 0", "64 bits"),
    ("-(-9223372036854775807 - 1) > 0", "64 bits"), ("(-9223372036854775807 - 1) / -1 > 0", "64 bits"),
    ('rcpt =~ hostname && mail =~ cert_issuer && "a" =~ message_id', "closing parenthesis"),
]


@pytest.mark.parametrize("text", TRUE)
def test_true(text: str) -> None:
    assert Condition(text).holds(FACTS)


@pytest.mark.parametrize("text", FALSE)
def test_false(text: str) -> None:
    assert not Condition(text).holds(FACTS)


@pytest.mark.parametrize(("text", "reason"), NO_VALUE)
def test_no_value(text: str, reason: str) -> None:
    with pytest.raises(NoValue, match=reason):
        Condition(text).holds(Facts(transactions=3, message_id=b"<(@x>", rcpt=b"u@my.dom", hostname=b"my.dom"))


def test_facts_have_the_names_and_types_of_the_language() -> None:
    assert READERS.keys() == IDENTIFIERS.keys()
    for name, identifier in IDENTIFIERS.items():
        is_number = isinstance(READERS[name](Facts()), int)
        assert is_number is (identifier.type in (Type.NUMBER, Type.EITHER)), name


def test_domains_have_no_case() -> None:
    assert comparable(b"A.B@Spam.EXAMPLE") == b"A.B@spam.example"
    assert (comparable(b""), comparable(b"Postmaster")) == (b"", b"Postmaster")


def test_place_of_a_mistake_in_yaml() -> None:
    for written in ("mail =~ 1", "'mail =~ 1'", '"mail =~ 1"'):
        text = f"smtps:\n  check mail:\n    - {{condition: {written}, action: abort}}\n"
        with pytest.raises(ConfErrors) as caught:
            load_text(text, "f.yaml")
        column = text.split("\n")[2].index("=~") + 1
        assert str(caught.value) == f"f.yaml:3:{column}: condition: =~ needs strings, found string =~ number"
    with pytest.raises(ConfErrors, match=r"f\.yaml:5:"):
        load_text("smtps:\n  check mail:\n    condition: |\n      1 < 2 &&\n      mail =~ 1\n", "f.yaml")


# Bounds

EVIL = ["(a+)+$", "(a|a)*b", "(a*)*b", "(a|aa)+$", "((a{1,30}){1,10}){1,5}b", "(.*)(.*)(.*)(.*)(.*)x"]


@pytest.mark.parametrize("pattern", EVIL)
def test_hostile_strings_take_linear_time(pattern: str) -> None:
    facts = Facts(mail=b"a" * 2000 + b"!", rcpt=b"a" * 2000)
    condition = Condition(f'mail =~ "{pattern}" && match(rcpt, "{pattern}")')
    began = time.process_time()
    condition.holds(facts)
    assert time.process_time() - began < 2.0  # a backtracking matcher needs years


def test_a_regex_from_the_client_is_small() -> None:
    condition = Condition("mail =~ rcpt")
    for pattern in (b".{255}@x", b"a" * 300, b"((a{50}){50}){50}", b"a" + b"*" * 900):
        with pytest.raises(NoValue, match="regex"):
            condition.holds(Facts(mail=b"a" * 256, rcpt=pattern))
    facts = Facts(mail=b"ab" * 128, rcpt=b"(..|a){38}c@x")
    began = time.process_time()
    assert not condition.holds(facts)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("text", [
    "(" * 5000 + "1<2" + ")" * 5000, "!" * 5000 + "1<2", "-" * 5000 + "1<2", "1" + "+1" * 4000 + " > 0",
    "!(" * 2000 + "1<2" + ")" * 2000, "1<2" + " " * LENGTH_MAX, "1<2||" * 1500 + "1<2", "match(" * 1000,
])
def test_deep_and_long_texts_are_refused(text: str) -> None:
    with pytest.raises(ConditionError, match=r"nested deeper|longer"):
        parse(text)


def test_long_lists_are_not_deep() -> None:
    text = " || ".join(f'mail == "user{number}@x.dom"' for number in range(200))
    assert Condition(f"!({text})").holds(FACTS)
    assert parse("(1 < 2 || 2 < 3) || 3 < 4") == parse("1 < 2 || 2 < 3 || 3 < 4")
    assert to_text(parse("1 < 2 || (2 < 3 || 3 < 4)")) == "1 < 2 || (2 < 3 || 3 < 4)"


# Any text, any tree

PIECES = st.sampled_from([
    "mail", "rcpt", "hops", "transactions", "strcmp", "match", "(", ")", ",", "!", "-", "+", "*", "/", "<", "<=", "==",
    "!=", "=~", "&&", "||", "&", "=", '"', '"a"', '"(a"', '"\\"', "\\", "1", "0x", "08", "7", "9" * 30, " ", "\n", "#",
    "/*", "*/", "\0", "\udc80", "\u2028", "é", "_", ";", "}", "'"])


@given(st.one_of(st.text(max_size=100), st.lists(PIECES, max_size=30).map("".join),
                 st.lists(PIECES, max_size=30).map(" ".join),
                 st.binary(max_size=100).map(lambda octets: octets.decode("utf-8", "surrogateescape"))))
@example("1 < 2 /*")
@example('"' + "\\" * 99)
def test_any_text_is_a_tree_or_a_mistake_with_a_place(text: str) -> None:
    try:
        tree = parse(text)
    except ConditionError as error:
        assert 0 <= error.offset <= len(text)
        assert str(error)
        return
    assert parse(to_text(tree)) == tree


STRINGS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
PATTERNS = st.sampled_from(["", "a", "^a", "b$", "a|b", "[a-c]+", "a.b", "@"])
STRING_NAMES = [name for name, identifier in IDENTIFIERS.items() if identifier.type is Type.STRING]
NUMBER_NAMES = [name for name, identifier in IDENTIFIERS.items() if identifier.type is Type.NUMBER]


def strings() -> st.SearchStrategy[Node]:
    names = st.sampled_from([*STRING_NAMES, "hops"]).map(lambda name: Name(name, Type.STRING))
    return st.one_of(STRINGS.map(Text), names)


def logic(operator: str, parts: list[Node]) -> Node:
    first, *rest = parts
    before = first.parts if isinstance(first, Logic) and first.operator == operator else (first,)
    return Logic(operator, (*before, *rest))


def same_kind(operator: str, left: Node, right: Node) -> Node:
    """hops == hops is a comparison of numbers."""
    if isinstance(left, Name) and isinstance(right, Name) and left.name == right.name == "hops":
        return Binary(operator, Number(1), Number(2))
    return Binary(operator, left, right)


def quotient(left: Node, right: Node) -> Node:
    return Binary("/", left, Number(2) if right == Number(0) else right)


def numbers() -> st.SearchStrategy[Node]:
    leaves = st.one_of(
        st.one_of(st.integers(0, 9), st.integers(0, (1 << 63) - 1)).map(Number),
        st.sampled_from([*NUMBER_NAMES, "hops"]).map(lambda name: Name(name, Type.NUMBER)),
        st.builds(Call, st.sampled_from(["strcmp", "strcasecmp"]), strings(), strings()))
    return st.recursive(leaves, lambda inner: st.one_of(
        st.builds(Binary, st.sampled_from("+-*"), inner, inner), st.builds(quotient, inner, inner),
        inner.map(lambda node: Unary("-", node))), max_leaves=6)


def conditions() -> st.SearchStrategy[Node]:
    leaves = st.one_of(
        st.builds(Binary, st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), numbers(), numbers()),
        st.builds(same_kind, st.sampled_from(["==", "!="]), strings(), strings()),
        st.builds(Binary, st.just("=~"), strings(), PATTERNS.map(Text)),
        st.builds(Call, st.just("match"), strings(), PATTERNS.map(Text)))
    return st.recursive(leaves, lambda inner: st.one_of(
        st.builds(logic, st.sampled_from(["&&", "||"]), st.lists(inner, min_size=2, max_size=4)),
        inner.map(lambda node: Unary("!", node))), max_leaves=8)


def translated(node: Node) -> str:
    """The tree as Python."""
    match node:
        case Number():
            return f"{node.value}"
        case Text():
            return repr(node.value.encode())
        case Name():
            return f"str(facts.{node.name}).encode()" if (node.name, node.type) == ("hops", Type.STRING) else (
                f"facts.{node.name}")
        case Call():
            return f"{node.function}({translated(node.left)}, {translated(node.right)})"
        case Unary():
            inner = translated(node.operand)
            return f"(not {inner})" if node.operator == "!" else f"bits(-({inner}))"
        case Binary("=~" | "/" as operator):
            return f"{'match' if operator == '=~' else 'div'}({translated(node.left)}, {translated(node.right)})"
        case Binary():
            inner = f"({translated(node.left)}) {node.operator} ({translated(node.right)})"
            return f"bits({inner})" if node.operator in ARITHMETIC else f"({inner})"
        case Logic():
            word = " and " if node.operator == "&&" else " or "
            return "(" + word.join(map(translated, node.parts)) + ")"


def bits(value: int) -> int:
    if value.bit_length() > 63 and value != -(1 << 63):
        raise OverflowError
    return value


NAIVE: dict[str, Any] = {
    "bits": bits, "div": lambda a, b: bits(-(-a // b) if (a < 0) != (b < 0) else a // b),
    "strcmp": lambda a, b: (a > b) - (a < b), "match": lambda a, b: re.search(b, a, re.DOTALL) is not None,
    "strcasecmp": lambda a, b: (a.lower() > b.lower()) - (a.lower() < b.lower()),
}
NUMBERS = st.integers(0, 9)
OCTETS = st.sampled_from([b"", b"a", b"b", b"ab", b"B", b"a@b.c", b"5"])
FACTS_OF_ANY_SESSION = st.builds(Facts, **{
    name: NUMBERS if identifier.type is not Type.STRING else OCTETS for name, identifier in IDENTIFIERS.items()})


@given(conditions(), FACTS_OF_ANY_SESSION)
def test_trees_survive_printing_and_mean_what_python_says(tree: Node, facts: Facts) -> None:
    text = to_text(tree)
    assert parse(text) == tree, text
    assert type_of(tree) is Type.CONDITION
    try:
        expected = eval(translated(tree), {**NAIVE, "facts": facts})
    except (ZeroDivisionError, OverflowError):
        with pytest.raises(NoValue):
            Condition(text).holds(facts)
    else:
        assert Condition(text).holds(facts) is bool(expected)


def test_a_tree_as_deep_as_allowed_survives() -> None:
    for before, after in (("!", ""), ("(1 < 2 && ", ")"), ("!(1 < 2 && ", ")")):
        levels = DEPTH_MAX // (2 if before[0] == "!" and after else 1) - 3
        tree = parse(before * levels + "1 < 2" + after * levels)
        assert parse(to_text(tree)) == tree
        Condition(to_text(tree)).holds(FACTS)
