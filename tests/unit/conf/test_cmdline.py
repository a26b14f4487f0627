"""Command lines of the daemons: order, files, -V, -h, what is wrong with them."""
from pathlib import Path

import pytest

from meta1g.conf.cmdline import UsageError, parse_args, usage
from meta1g.conf.errors import ConfErrors
from meta1g.conf.load import MODULES

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
    assert "access" in done.conf.flags
    assert done.trusted_domains == ("x.y", "z")
    assert done.process == 3
    assert parse_args("smtps", ["-i", "5"]).process == 5
    assert parse_args("mcp", ["-f", conf, "-L", "/log"]).log_directory == "/log"
    assert parse_args("smar", ["-x", "1-3.4"]).text == ""


@pytest.mark.parametrize("arguments", [
    ["-Z"], ["-f"], ["x"], ["-C", "many"], ["-C", "0"], ["-c", "0"], ["-C", "9" * 30], ["-O", "Q=1"], ["-O", "R=x"],
    ["-O", "R=0"], ["-O", "5"], ["-i", "q"], ["-i", ""], ["-a"], ["-T", "x"], ["-L", "/x"]])
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


def test_usage_errors_say_what_was_expected() -> None:
    with pytest.raises(UsageError, match=r"^-O R=x: expected a number$"):
        parse_args("qmgr", ["-O", "R=x"])
    with pytest.raises(UsageError, match=r"^-C 0: it must be at least 1$"):
        parse_args("qmgr", ["-C", "0"])


def test_a_later_file_overrides_all_of_an_earlier(conf: str, tmp_path: Path) -> None:
    other = tmp_path / "other.conf"
    other.write_text("qmgr { smtps { connections_max = 5; } }")
    done = parse_args("qmgr", ["-f", conf, "-C", "9", "-f", str(other)])
    assert (done.conf.smtpc.connections_max, done.conf.smtps.connections_max) == (100, 5)
    assert done.config.file == str(other)
    assert done.service is not None and done.service.keyword == "qmgr"


def test_names_choose_sections(tmp_path: Path) -> None:
    path = tmp_path / "meta1.conf"
    path.write_text("smtps MTA { hops_max = 1; } smtps MSA { id = 7; hops_max = 2; }")
    for arguments, hops, process in [
            ([], 1, 0), (["-N", "MSA"], 2, 7), (["-N", "MTA", "-N", "MSA", "-i", "260"], 2, 4)]:
        done = parse_args("smtps", ["-f", str(path), *arguments])
        assert (done.conf.hops_max, done.process) == (hops, process)
