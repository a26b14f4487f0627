"""Kinds of values, the lexer's positions, command lines, -V, the man page, options in use."""
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.conf import kinds, manpage
from meta1g.conf.cmdline import UsageError, parse_args, usage
from meta1g.conf.dump import to_text
from meta1g.conf.errors import ConfErrors
from meta1g.conf.kinds import BadValue, Kind, PathValue
from meta1g.conf.lex import Lexer
from meta1g.conf.load import MODULES, Config, check_services, load_file, load_text
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import ListenSocket, McpConf
from meta1g.conf.parse import Value
from meta1g.conf.spec import Opt, Sub, entries

ROOT = Path(__file__).parents[3]
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
    (kinds.PATH, value("/x/y"), PathValue("/x/y", True)), (kinds.PORT, value("25"), 25),
    (kinds.power_of_two(2, 64), value("32"), 32), (kinds.CONDITION, value("a == b"), "a == b"),
]


@pytest.mark.parametrize(("kind", "values", "expected"), GOOD)
def test_good_value(kind: Kind, values: list[Value], expected: Any) -> None:
    assert kind.read(values) == expected


@pytest.mark.parametrize(("kind", "values"), [row[:2] for row in GOOD if row[0].name != "condition"])
def test_written_values_are_read_again(kind: Kind, values: list[Value]) -> None:
    found = kind.read(values)
    text = f"x = {kind.write(found)}" + ("" if kind.is_list else ";")
    from meta1g.conf.parse import Option, parse  # noqa: PLC0415

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
    (kinds.ADDRESS, value("x")), (kinds.PORT, value("0")), (kinds.power_of_two(2, 64), value("33")),
]


@pytest.mark.parametrize(("kind", "values"), BAD)
def test_bad_value(kind: Kind, values: list[Value]) -> None:
    with pytest.raises(BadValue):
        kind.read(values)


def test_positions() -> None:
    lexer = Lexer('a = 1;\n  "two" b\n\n/* x\n */ c/* y */#z', "f")
    found = [(token.text, *lexer.position(token.offset)[1:]) for token in lexer.tokens()]
    assert found == [("a", 1, 1), ("=", 1, 3), ("1", 1, 5), (";", 1, 6), ("two", 2, 3), ("b", 2, 9),
                     ("c", 5, 5), ("", 5, 15)]
    assert lexer.errors == []


def test_escapes() -> None:
    assert next(t.text for t in Lexer(r'"a\r\n\t\\\"b\q"', "f").tokens()) == 'a\r\n\t\\"bq'


FILE = 'qmgr { smtpc { connections_max = 7; } smtps { connections_max = 8; } }\nsmtps A { id = 3; }\n'


@pytest.fixture
def conf(tmp_path: Path) -> str:
    path = tmp_path / "meta1.conf"
    path.write_text(FILE)
    return str(path)


def test_options_are_processed_in_order(conf: str) -> None:
    """M1 3.1: later settings override earlier ones."""
    assert parse_args("qmgr", ["-C", "9", "-f", conf]).conf.smtpc.connections_max == 7
    done = parse_args("qmgr", ["-f", conf, "-C", "9", "-c", "0x2", "-O", "R=5", "-O", "O=6"]).conf
    assert (done.smtpc.connections_max, done.smtpc.initial_connections) == (9, 2)
    assert (done.smtps.connection_rate_max, done.smtps.connections_max) == (5, 6)
    assert parse_args("qmgr", []).conf.smtpc.connections_max == 100


def test_server_options(conf: str) -> None:
    done = parse_args("smtps", ["-f", conf, "-N", "A", "-a", "-T", "x.y", "-T", "z"])
    assert done.conf.flags == {"access"}
    assert done.trusted_domains == ("x.y", "z")
    assert done.process == 3
    assert parse_args("smtps", ["-i", "5"]).process == 5
    assert parse_args("mcp", ["-f", conf, "-L", "/log"]).log_directory == "/log"
    assert parse_args("smar", ["-x", "1-3.4"]).text == ""


@pytest.mark.parametrize("arguments", [
    ["-Z"], ["-f"], ["x"], ["-C", "many"], ["-O", "Q=1"], ["-O", "R=x"], ["-i", "q"]])
def test_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_args("qmgr", arguments)


def test_unknown_section_name_and_missing_file(conf: str) -> None:
    with pytest.raises(ConfErrors, match="no section smtps B"):
        parse_args("smtps", ["-f", conf, "-N", "B"])
    with pytest.raises(OSError, match="No such file"):
        parse_args("qmgr", ["-f", "/nonexistent"])


@pytest.mark.parametrize("program", ["mcp", *MODULES])
def test_help_and_version(program: str, conf: str) -> None:
    assert parse_args(program, ["-h"]).text == usage(program)
    assert parse_args(program, ["-V"]).text.startswith(f"{program}: meta1g-")
    assert conf in parse_args(program, ["-f", conf, "-VV"]).text
    assert "hostname" in parse_args(program, ["-VVVVV"]).text
    if program != "mcp":
        assert "log_level = 9;  # default" in parse_args(program, ["-VVVVV"]).text
    if program == "smtps":
        assert "# flags: 8bitmime" in parse_args(program, ["-VVVVVV"]).text
        assert "# flags: 8bitmime" not in parse_args(program, ["-VVVVV"]).text


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


@given(st.text(max_size=120))
def test_any_text_loads_or_is_refused_with_reasons(text: str) -> None:
    try:
        load_text(text, "f")
    except ConfErrors as error:
        assert error.errors


WORDS = st.lists(st.sampled_from(["qmgr", "smtps", "{", "}", "=", ";", ",", "flags", '"', "id", "1", "5m", "name", "==",
                                  "listen_socket", "port", "/*", "*/", "#", "\n"]), max_size=25)


@given(WORDS)
def test_any_words_load_or_are_refused(words: list[str]) -> None:
    for name in ("f", "f.yaml"):
        try:
            config = load_text(" ".join(words), name)
        except ConfErrors:
            continue
        assert load_text(to_text(config), "f").services == config.services


def test_man_page_is_up_to_date() -> None:
    assert (ROOT / "man" / "meta1.conf.5").read_text() == manpage.page()


def declared(cls: Any, is_planned: bool = False) -> list[tuple[str, bool]]:
    """Field names of a section's options, and whether they are planned."""
    found = []
    for name, item in entries(cls).values():
        if isinstance(item, Opt):
            found.append((name, is_planned or item.is_planned))
        elif isinstance(item, Sub):
            found += [(name, is_planned or item.is_planned), *declared(item.cls, is_planned or item.is_planned)]
    return found


SOURCES = "\n".join(
    path.read_text() for path in (ROOT / "meta1g").rglob("*.py") if path.parent.name != "conf")


@pytest.mark.parametrize("cls", [GlobalConf, McpConf, ListenSocket, *MODULES.values()])
def test_every_option_that_is_not_planned_is_used(cls: Any) -> None:
    """Accepting an option and ignoring it is a defect (design 8)."""
    limits = {f"{name}_max" for name in re.findall(r"^    (\w+): int = ", (
        ROOT / "meta1g/proto/smtp/tally.py").read_text(), re.MULTILINE)} | {"id"}  # cmdline makes it the process number
    unused = [name for name, is_planned in declared(cls)
              if not is_planned and name not in limits and not re.search(rf"\.{name}\b", SOURCES)]
    assert unused == []
