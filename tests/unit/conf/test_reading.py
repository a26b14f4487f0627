"""Places in the text, sections by name, paths as M1 3.6 says."""
from pathlib import Path

from meta1g.conf.kinds import PathValue
from meta1g.conf.lex import Lexer
from meta1g.conf.load import Config, check_services, load_file, load_text


def test_positions() -> None:
    lexer = Lexer('a = 1;\n  "two" b\n\n/* x\n */ c/* y */#z', "f")
    found = [(token.text, *lexer.position(token.offset)[1:]) for token in lexer.tokens()]
    assert found == [("a", 1, 1), ("=", 1, 3), ("1", 1, 5), (";", 1, 6), ("two", 2, 3), ("b", 2, 9),
                     ("c", 5, 5), ("", 5, 15)]
    assert lexer.errors == []


def test_escapes() -> None:
    assert next(t.text for t in Lexer(r'"a\r\n\t\\\"b\q"', "f").tokens()) == 'a\r\n\t\\"bq'


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
