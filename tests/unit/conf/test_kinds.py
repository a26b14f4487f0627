"""Every kind of value: what it reads, what it refuses, and that what it writes is read again."""
from typing import Any

import pytest

from meta1g.conf import kinds
from meta1g.conf.condition import CONDITION
from meta1g.conf.kinds import BadValue, Kind, PathValue
from meta1g.conf.lex import Lexer
from meta1g.conf.parse import Option, Value, parse

AT = Lexer("", "x").position(0)


def value(*words: str, quoted: bool = False) -> list[Value]:
    return [Value(AT, list(words), quoted)]


GOOD: list[tuple[Kind, list[Value], Any]] = [
    (kinds.count(), value("12"), 12), (kinds.count(), value("0x1F"), 31), (kinds.count(), value("017"), 15),
    (kinds.count(), value("0"), 0),
    (kinds.time(), value("1h", "5m", "12s"), 3912), (kinds.time(), value("5m3s"), 303), (kinds.time(), value("7"), 7),
    (kinds.time(), value("1W2D"), 777600), (kinds.time(), value("1", "h"), 3600),
    (kinds.size(), value("3MB", "5KB"), 3 * 1048576 + 5120), (kinds.size(), value("7"), 7),
    (kinds.size("kb"), value("7"), 7168), (kinds.size("kb"), value("7b"), 7), (kinds.size(), value("1gb"), 1 << 30),
    (kinds.BOOLEAN, value("ON"), True), (kinds.BOOLEAN, value("false"), False), (kinds.BOOLEAN, value("1"), True),
    (kinds.STRING, value("a", "b", quoted=True), "ab"), (kinds.STRING, value("a"), "a"),
    (kinds.enum("Pass", "wait"), value("pass"), "Pass"),
    (kinds.flags("a", "B", on=("a",)), value("b") + value("no_a"), frozenset({"b"})),
    (kinds.flags("a", on=("a",)), value("dont_a"), frozenset()),
    (kinds.flags("a", on=("a",)), value("not_a"), frozenset()),
    (kinds.flags("a", on=("a",)), value("-a"), frozenset()),
    (kinds.flags("a", on=("a",)), value("!a"), frozenset()),
    (kinds.flags("a", on=("a",)), value("~A"), frozenset()),
    (kinds.flags("no_such"), value("no_such"), frozenset({"no_such"})),
    (kinds.many(kinds.count()), value("1") + value("2"), (1, 2)),
    (kinds.ip(), value("2001:DB8::1"), "2001:db8::1"), (kinds.ip(v6=False), value("127.0.0.1"), "127.0.0.1"),
    (kinds.ADDRESS, value("<a@b.c>"), "a@b.c"), (kinds.ADDRESS, value("a@b.c"), "a@b.c"),
    (kinds.DOMAIN, value("Mail.example.org"), "Mail.example.org"), (kinds.DOMAIN, value("localhost"), "localhost"),
    (kinds.DOMAIN, value("", quoted=True), ""),
    (kinds.PREFIX, value("/x/"), "/x/"), (kinds.PREFIX, value("", quoted=True), ""),
    (kinds.LISTEN, value(":25"), ":25"), (kinds.LISTEN, value("[::1]:25"), "[::1]:25"),
    (kinds.LISTEN, value("h:"), "h:"), (kinds.choice(512, 1024), value("0x200"), 512),
    (kinds.many(kinds.STRING), [], ()), (kinds.count(0, 0o777, write=kinds.octal), value("022"), 18),
    (kinds.count(0, 0o777, write=kinds.octal), value("0"), 0), (kinds.count(write=hex), value("0xFF00"), 65280),
    (kinds.PATH, value("/x/y"), PathValue("/x/y", True)), (kinds.PORT, value("25"), 25),
    (kinds.power_of_two(2, 64), value("32"), 32), (CONDITION, value("hops==0x10"), "hops == 16"),
]


@pytest.mark.parametrize(("kind", "values", "expected"), GOOD)
def test_good_value(kind: Kind, values: list[Value], expected: Any) -> None:
    assert kind.read(values) == expected


@pytest.mark.parametrize(("kind", "values"), [row[:2] for row in GOOD if row[0].name != "condition"])
def test_written_values_are_read_again(kind: Kind, values: list[Value]) -> None:
    found = kind.read(values)
    text = f"x = {kind.write(found)}" + ("" if kind.is_list else ";")
    root, errors = parse(text, "t")
    assert errors == []
    assert isinstance(root.entries[0], Option)
    assert kind.read(root.entries[0].values) == found


BAD: list[tuple[Kind, list[Value]]] = [
    (kinds.count(), value("x")), (kinds.count(), value("08")), (kinds.count(), value("-1")), (kinds.count(), []),
    (kinds.count(5), value("4")), (kinds.count(0, 5), value("6")), (kinds.count(), value("1") + value("2")),
    (kinds.count(), value("9" * 5000)), (kinds.count(), value("0x8000000000000000")), (kinds.time(), value("99999w")),
    (kinds.flags("a", "b"), value("a", "b")), (kinds.size(), value("9000000000GB")),
    (kinds.time(), value("5q")), (kinds.time(), value("h")), (kinds.time(), value("")), (kinds.size(), value("5m")),
    (kinds.BOOLEAN, value("yes")), (kinds.STRING, value("a", "b")), (kinds.enum("a"), value("b")),
    (kinds.flags("a"), value("b")), (kinds.flags("a"), value("no_b")), (kinds.many(kinds.count(), 2), value("1")),
    (kinds.many(kinds.count(), 0, 1), value("1") + value("2")), (kinds.many(kinds.count()), value("x")),
    (kinds.ip(), value("1.2.3")), (kinds.ip(v6=False), value("::1")), (kinds.ip(v4=False), value("1.2.3.4")),
    (kinds.DOMAIN, value("a..b")), (kinds.DOMAIN, value("-a.b")), (kinds.DOMAIN, value("é.b")),
    (kinds.DOMAIN, value("a.b.")), (kinds.DOMAIN, value("a b", quoted=True)), (kinds.DOMAIN, value("[1.2.3.4]")),
    (kinds.DOMAIN, value("a." * 127 + "aa")),
    (kinds.PREFIX, value("/x")), (kinds.LISTEN, value("h")), (kinds.LISTEN, value("h:0")),
    (kinds.LISTEN, value("h:65536")), (kinds.LISTEN, value("h:²")), (kinds.LISTEN, value("h:" + "9" * 5000)),
    (kinds.choice(512, 1024), value("513")), (kinds.size(), value("")), (kinds.size(low=5), value("4")),
    (kinds.time(low=5), value("4")), (kinds.PORT, value("65536")), (kinds.power_of_two(2, 64), value("128")),
    (kinds.BOOLEAN, value("1") + value("0")), (kinds.count(), value("0x")),
    (kinds.ADDRESS, value("x")), (kinds.PORT, value("0")), (kinds.power_of_two(2, 64), value("33")),
]


@pytest.mark.parametrize(("kind", "values"), BAD)
def test_bad_value(kind: Kind, values: list[Value]) -> None:
    with pytest.raises(BadValue):
        kind.read(values)
