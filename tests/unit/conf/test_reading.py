"""Text to tokens, trees and dataclasses: places, sections by name, what overrides what, paths of M1 3.6."""
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from meta1g.conf import kinds
from meta1g.conf.errors import ConfError, ConfErrors, Position, nearest
from meta1g.conf.kinds import PathValue
from meta1g.conf.lex import Lexer
from meta1g.conf.load import Config, check_services, load_file, load_text
from meta1g.conf.parse import parse
from meta1g.conf.spec import bind, named, opt, sub

TOKENS = [
    ("", [("", 1, 1)]),
    ("a", [("a", 1, 1), ("", 1, 2)]),
    ('a = 1;\n  "two" b\n\n/* x\n */ c/* y */#z',
     [("a", 1, 1), ("=", 1, 3), ("1", 1, 5), (";", 1, 6), ("two", 2, 3), ("b", 2, 9), ("c", 5, 5), ("", 5, 15)]),
    ("a{b}\r\n\tc", [("a", 1, 1), ("{", 1, 2), ("b", 1, 3), ("}", 1, 4), ("c", 2, 2), ("", 2, 3)]),
    ('"" "é" z', [("", 1, 1), ("é", 1, 4), ("z", 1, 8), ("", 1, 9)]),
    ('a == x =~ "b;" ; c', [("a", 1, 1), ('x =~ "b;"', 1, 6), (";", 1, 16), ("c", 1, 18), ("", 1, 19)]),
    ("/a/b*c ~x -y", [("/a/b*c", 1, 1), ("~x", 1, 8), ("-y", 1, 11), ("", 1, 13)]),
]
UNCLOSED = [
    ('a = "b;\nc', [(1, 5, "string is not closed on its line")]),
    ('a = "b', [(1, 5, "string is not closed on its line")]),
    ("a = \udcff\0;", [(1, 5, "this is not UTF-8 text")]),
    ("a /* b\nc", [(1, 3, "comment is not closed")]),
]


@pytest.mark.parametrize(("text", "expected"), TOKENS)
def test_tokens(text: str, expected: list[tuple[str, int, int]]) -> None:
    lexer = Lexer(text, "f")
    assert [(token.text, *lexer.position(token.offset)[1:]) for token in lexer.tokens()] == expected
    assert lexer.errors == []


@pytest.mark.parametrize(("text", "expected"), UNCLOSED)
def test_unclosed(text: str, expected: list[tuple[int, int, str]]) -> None:
    lexer = Lexer(text, "f")
    assert lexer.tokens()[-1].kind == "end"
    assert [(error.at.line, error.at.column, error.message) for error in lexer.errors] == expected


def test_escapes() -> None:
    assert next(t.text for t in Lexer(r'"a\r\n\t\\\"b\q"', "f").tokens()) == 'a\r\n\t\\"bq'


@dataclasses.dataclass(frozen=True)
class Inner:
    name: str = ""
    size: int = opt("Size", kinds.count(), 5, m1="", help="")
    other: int = opt("other", kinds.count(), 6, m1="", help="", required=True)


@dataclasses.dataclass(frozen=True)
class Outer:
    word: str = opt("Word", kinds.STRING, "w", m1="", help="")
    flags: frozenset[str] = opt("flags", kinds.flags("One", "two", on=("two",)), frozenset({"two"}), m1="", help="")
    part: Inner | None = sub("Part", Inner, m1="", help="", optional=True)  # noqa: RUF009 - it returns a field
    items: tuple[Inner, ...] = named("item", Inner, m1="", help="")


BOUND = [
    ("", Outer()),
    ("WORD = x; word = y;", Outer(word="y")),
    ("flags = { ONE, no_two }", Outer(flags=frozenset({"one"}))),
    ("part { other = 1; }", Outer(part=Inner(other=1))),
    ("part { other = 1; size = 2; } PART { other = 3; }", Outer(part=Inner(other=3, size=2))),
    ("item a { other = 1; } item b { other = 2; }", Outer(items=(Inner("a", other=1), Inner("b", other=2)))),
    ("theirs = 5; theirs { }", Outer()),
]
NOT_BOUND = [
    ("part { }", ["section part needs option other"]),
    ("part { other = ; }", ["expected a value for other, found ;", "section part needs option other"]),
    ("part = 1;", ["part is a section; write part { ... }"]),
    ("word { }", ["word is an option; write word = value;"]),
    ("word == 1;", ["Word is set with =; write Word = value;"]),
    ("word = { a }", ["Word takes one string, not a list; leave out { }"]),
    ("part x { other = 1; }", ["section Part takes no name"]),
    ("item { other = 1; }", ["section item needs a name; item NAME { ... }"]),
    ("item a { other = 1; } item a { other = 1; }", ["section item a is there twice"]),
    ("ward = 1;", ["unknown option ward; did you mean Word?"]),
    ("One = 1;", ["unknown option One; it is a flag: flags = { One }"]),
    ("part { siz = 1; other = 1; }", ["unknown option siz in section part; did you mean Size?"]),
    ("far = 1;", ["unknown option far; it is far away"]),
    ("part { far { } other = 1; }", ["unknown section far in section part; it is far away"]),
]


def bound(text: str) -> tuple[Outer, list[ConfError]]:
    root, errors = parse(text, "f")
    value = bind(Outer, root, errors, frozenset({"theirs"}), lambda word: "it is far away" if word == "far" else "")
    return value, errors


@pytest.mark.parametrize(("text", "expected"), BOUND)
def test_bind(text: str, expected: Outer) -> None:
    assert bound(text) == (expected, [])


@pytest.mark.parametrize(("text", "expected"), NOT_BOUND)
def test_bind_complains(text: str, expected: list[str]) -> None:
    assert [str(error).split(": ", 1)[1] for error in bound(text)[1]] == expected


@pytest.mark.parametrize(("word", "expected"), [
    ("retry_dealy", "did you mean retry_delay?"), ("MAX_connections", "did you mean connections_max?"), ("xyz", ""),
])
def test_nearest(word: str, expected: str) -> None:
    assert nearest(word, ["retry_delay", "connections_max", "connections_min"]) == expected


def test_errors_are_in_order() -> None:
    errors = ConfErrors([ConfError(Position("f", 2, 1), "b", "hint"), ConfError(Position("f", 1, 9), "a")])
    assert str(errors) == "f:1:9: a\nf:2:1: b; hint"


def test_reading_needs_neither_yaml_nor_click() -> None:
    """The daemons' start stays cheap."""
    code = "import sys, meta1g.conf.cmdline; print(sorted({'yaml', 'click', 'json', 'gevent'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_paths_of_the_manual(tmp_path: Path) -> None:
    """M1 3.6: defaults lie beside the configuration file, explicit relative paths in the queue."""
    path = tmp_path / "meta1.conf"
    path.write_text('smar { aliases { file = "my.db"; } }\nqmgr { control_socket = x/ctl; }\n')
    config = load_file(str(path))
    smar = config.module("smar")
    assert config.map_path(smar.access_map.file) == str(tmp_path / "access.db")
    assert config.map_path(smar.aliases.file) == "my.db"
    assert config.queue_path(config.module("qmgr").control_socket) == "x/ctl"
    assert config.queue_path("plain") == "plain"


def test_section_lookup() -> None:
    config = load_text("smtps A { id = 1; } smtps B { id = 2; } mailer { path = /x; }", "f")
    assert [service.label for service in config.services] == ["A", "B", "mailer"]
    found = config.section("smtps", "B")
    assert found is not None and found.conf.id == 2
    assert config.section("smtps") is config.services[0]
    assert config.section("lda") is None
    assert config.module("lda").maildir_base == PathValue("maildir")
    assert len(check_services(config)) == 8
    assert Config().global_values()[0] == ""
