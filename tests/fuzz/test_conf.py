"""Any text loads or is refused with reasons; any configuration survives being printed and read again."""
import dataclasses
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from meta1g.conf import kinds
from meta1g.conf.dump import to_text
from meta1g.conf.errors import ConfErrors
from meta1g.conf.kinds import Kind
from meta1g.conf.load import MODULES, Config, check_services, load_text, moot_in_use
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.spec import Opt, Sub, entries
from meta1g.conf.yamlform import to_yaml

PIECES = st.sampled_from([
    "qmgr", "smtps", "smar", "smtpc", "lda", "mailer", "{", "}", "=", "==", ";", ",", ":", "flags", '"', '"a b"', "id",
    "1", "0x", "09", "5m", "3KB", "name", "listen_socket", "type", "inet", "port", "map", "hash", "check", "mail",
    "/*", "*/", "#", "\n", "\\", "-", "[", "]", "&a", "*a", "!!int", "|", "  ", "\t", "\0", "\udc80", "é"])


def load(text: str, name: str) -> Config | None:
    try:
        config = load_text(text, name)
    except ConfErrors as error:
        assert error.errors
        assert all(mistake.message and mistake.at.line > 0 and mistake.at.column > 0 for mistake in error.errors)
        return None
    check_services(config)
    moot_in_use(config)
    return config


@given(st.text(max_size=200), st.sampled_from(["f", "f.yaml"]))
@example("qmgr { AQ_entries_max = " + "9" * 5000 + "; }", "f")
@example("a {" * 5000, "f")
@example("a { x = 1; " * 5000 + "}" * 5000, "f")
@example("{a: " * 50_000 + "1" + "}" * 50_000, "f.yaml")
@example("a: &x {b: *x}", "f.yaml")
@example("hostname: \udc80", "f.yaml")
@example("hostname:", "f.yaml")
@example('hostname: "\\0"', "f.yaml")
@example('qmgr { double_bounce_address = "\udc80@b.c"; }', "f")
@example('hostname = "a\0";', "f")
@example("# M\udcfcller", "f")
@example("? [a]\n: b", "f.yaml")
@example("qmgr: [1, {smtpc: [[]]}]", "f.yaml")
def test_any_text(text: str, name: str) -> None:
    load(text, name)


@given(st.lists(PIECES, max_size=40), st.sampled_from(["", " "]), st.sampled_from(["f", "f.yaml"]))
def test_any_words(words: list[str], between: str, name: str) -> None:
    config = load(between.join(words), name)
    if config is not None:
        assert_same(config)


def assert_same(config: Config) -> None:
    text = to_text(config)
    for again in (load_text(text, "f"), load_text(to_yaml(text, "f"), "f.yaml")):
        assert again.global_values() == config.global_values()
        assert again.services == config.services
    assert to_text(load_text(text, "f")) == text


PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=12)
NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True)


def written(kind: Kind, low: int = 0) -> st.SearchStrategy[str]:
    """Ways to write a value of `kind`; some are out of its range."""
    if kind.name == "flags":
        words = st.lists(st.builds("{}{}".format, st.sampled_from(["", "no_", "-", "!"]), st.sampled_from(kind.words)))
        return words.map(lambda found: "{ " + ", ".join(found) + ", }")
    if kind.is_list:
        items = NAMES if "string" in kind.name else st.ip_addresses().map('"{}"'.format)
        return st.lists(items, min_size=1, max_size=3).map(lambda found: "{" + ",".join(found) + "}")
    return {
        "number": st.sampled_from(["16", "512", "1", "7", "0x1f4", "0X10", "04000"]),
        "time": st.lists(st.builds("{}{}".format, st.integers(1, 99), st.sampled_from("wdhmsWD")), min_size=1,
                         max_size=3).map(" ".join),
        "size": st.lists(st.builds("{}{}".format, st.integers(1, 2000), st.sampled_from(["B", "kb", "MB", "GB", ""])),
                         min_size=1, max_size=2).map(" ".join),
        "boolean": st.sampled_from(["on", "OFF", "1", "0", "true", "False"]),
        "string": st.one_of(NAMES, PLAIN.map(kinds.quote)), "path": PLAIN.map(kinds.quote),
        "word": st.sampled_from(kind.words or ("x",)), "IP address": st.ip_addresses().map('"{}"'.format),
        "host:port": st.just('":25"'), "port": st.integers(1, 65535).map(str),
        "mail address": st.sampled_from(['"<a@b.c>"', '"a@b.c"']),
        "condition": st.sampled_from(['mail =~ "a;b"', "hops > 3", '!(rcpt == "x\\n") && (1 < 2)', "1 < 2 # ;\n"]),
    }[kind.name]


@st.composite
def bodies(draw: st.DrawFn, cls: Any, depth: int = 0) -> str:
    """Some options and subsections of a section."""
    known = [item for _, item in entries(cls).values()]
    chosen = [item for item in known if isinstance(item, Opt) and item.is_required]
    chosen += draw(st.lists(st.sampled_from(known), max_size=5, unique_by=id))
    lines = []
    for item in chosen:
        if isinstance(item, Opt):
            equals = "==" if item.kind.name == "condition" else "="
            lines.append(f"{item.name} {equals} {draw(written(item.kind))};")
        elif isinstance(item, Sub) and depth < 3:
            name = draw(st.sampled_from(["mail", "data", "eom"])) if item.name == "check" else draw(NAMES)
            label = name if item.is_repeated and any(f.name == "name" for f in dataclasses.fields(item.cls)) else ""
            lines.append(f"{item.name} {label} {{ {draw(bodies(item.cls, depth + 1))} }}")
    return "\n".join(lines)


@st.composite
def configurations(draw: st.DrawFn) -> str:
    keyword = draw(st.sampled_from(list(MODULES)))
    mcp = draw(bodies(McpConf)) if draw(st.booleans()) else ""
    return f"{keyword} {draw(NAMES)} {{ {mcp}\n{draw(bodies(MODULES[keyword]))} }}\n"


@given(configurations())
def test_any_configuration_survives_printing(text: str) -> None:
    config = load(text, "f")
    if config is not None:
        assert_same(config)
