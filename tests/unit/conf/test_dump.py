"""What -V prints, level by level, and that it means what it says."""
import pytest

from meta1g import __version__
from meta1g.conf.dump import version_text
from meta1g.conf.load import MODULES, Config, load_text

LEVELS = [
    (1, ["smtps: meta1g-"], ["configuration file", "hostname", "# flags:"]),
    (2, ["configuration file: none"], ["hostname", "# flags:"]),
    (3, ["configuration file: none"], ["hostname"]),
    (4, ["configuration file: none"], ["hostname"]),
    (5, ['hostname = "";  # default', '  greeting = "";  # default', "  # CDB_gid is not set",
         "  # tls { ... } is not set", "  # daemon_address is not set"], ["# flags:"]),
    (6, ["  # flags: 8bitmime, smtputf8,"], []),
]


@pytest.mark.parametrize(("level", "there", "missing"), LEVELS)
def test_levels(level: int, there: list[str], missing: list[str]) -> None:
    text = version_text("smtps", level, Config(), MODULES["smtps"]())
    assert text.startswith(f"smtps: meta1g-{__version__}\n")
    assert all(line in text for line in there)
    assert not any(line in text for line in missing)


@pytest.mark.parametrize("level", [5, 6])
@pytest.mark.parametrize("keyword", MODULES)
def test_defaults_are_read_again(keyword: str, level: int) -> None:
    """What is printed is a configuration that means the same."""
    text = version_text(keyword, level, Config(), MODULES[keyword]()).split("\n", 2)[2]
    again = load_text(text, "f")
    assert again.module(keyword) == MODULES[keyword]()
    assert again.global_values() == Config().global_values()


def test_what_is_set_is_no_default() -> None:
    config = load_text('smar { aliases { file = "aliases.db"; } DNS { timeout = 6; retries = 9; } }', "f")
    text = version_text("smar", 5, config, config.module("smar"))
    assert '    file = "aliases.db";\n' in text  # in the queue directory, not beside the file (M1 3.6)
    assert '    # file = "access.db";  # default\n' in text
    assert "    timeout = 6s;  # default\n" in text
    assert "    retries = 9;\n" in text


def test_mcp_shows_its_options_of_every_section() -> None:
    config = load_text("smtps MTA { processes_max = 1; failure_max = 3; flags = { access } } own { path = /x; }", "f")
    text = version_text("mcp", 5, config, None)
    assert "smtps MTA {\n  # start_action is not set\n" in text
    assert "  failure_max = 3;\n" in text
    assert 'own {\n' in text
    assert "access" not in text
