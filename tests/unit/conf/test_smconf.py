"""smconf: what it prints, where, and its exit codes."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meta1g.cli.smconf import main
from meta1g.conf.load import MODULES, load_text

CONF = Path(__file__).parents[2] / "conf"
GOOD = CONF / "good" / "02-manual-3.10.2.conf"
FEATURES = CONF / "good" / "06-server-features.conf"
BAD = CONF / "bad" / "64-several-at-once.conf"


def smconf(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_right_file() -> None:
    done = smconf(FEATURES)
    assert (done.exit_code, done.stdout) == (0, f"{FEATURES}: ok\n")
    assert done.stderr.startswith(f"{FEATURES}: warning: without effect: MSA: tls DHParam bits: OpenSSL takes ")


def test_wrong_file() -> None:
    done = smconf(BAD)
    assert (done.exit_code, done.stdout) == (os.EX_CONFIG, "")
    assert done.stderr == BAD.with_suffix(".expected").read_text().replace(BAD.name, str(BAD))


def test_services_are_left_out_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "part.conf"
    path.write_text("qmgr { AQ_entries_max = 500; }")
    assert smconf(path).exit_code == os.EX_CONFIG
    assert smconf("--no-services", path).exit_code == 0


def test_json() -> None:
    done = smconf("--json", BAD)
    assert done.exit_code == os.EX_CONFIG
    found = json.loads(done.stdout)
    assert found[1] == {"file": str(BAD), "line": 2, "column": 25, "hint": "",
                        "message": "AQ_entries_max: expected a number, found x"}
    assert len(found) == 5
    assert json.loads(smconf("--json", GOOD).stdout) == []


def test_print() -> None:
    assert smconf("--print", GOOD).stdout == GOOD.with_suffix(".show").read_text()


@pytest.mark.parametrize("path", sorted((CONF / "good").glob("*.conf")), ids=lambda path: path.stem)
def test_yaml_and_back(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "meta1.yaml"
    other.write_text(smconf("--to-yaml", path).stdout)
    assert smconf(other).stdout == f"{other}: ok\n"
    again = tmp_path / "no-ending"
    again.write_text(other.read_text())
    shown = path.with_suffix(".show").read_text()
    assert smconf("--from-yaml", again).stdout == smconf("--from-yaml", other).stdout == shown


def test_mistakes_in_yaml_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("qmgr:\n  AQ_entries_max: [1]\n")
    assert smconf("--from-yaml", "--no-services", path).stderr == (
        f"{path}:2:3: AQ_entries_max takes one number, not a list; leave out {{ }}\n")


def test_defaults() -> None:
    text = smconf("--defaults").stdout
    assert all(f"\n{keyword} {{" in text for keyword in MODULES)
    assert "  AQ_entries_max = 20000;  # default" in text
    text = smconf("--defaults", GOOD).stdout
    assert text.count("hostname =") == 1
    assert "smtps MSA {\n" in text
    assert "  id = 1;\n" in text


@pytest.mark.parametrize("arguments", [[], [GOOD], [CONF / "good" / "03-everything.conf"]], ids=str)
def test_defaults_are_a_configuration(arguments: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "all.conf"
    path.write_text(smconf("--defaults", *arguments).stdout)
    assert smconf("--no-services", path).exit_code == 0
    for given in arguments:
        assert smconf("--print", path).stdout == smconf("--print", given).stdout


def test_usage() -> None:
    assert smconf().exit_code == 2
    assert "name a FILE" in smconf().stderr
    assert smconf("/nonexistent").exit_code == os.EX_NOINPUT
    assert smconf("/nonexistent").stderr == "smconf: /nonexistent: No such file or directory\n"
    assert "smconf --print meta1.conf" in smconf("--help").stdout


def test_as_a_program() -> None:
    command = [sys.executable, "-m", "meta1g.cli.programs", "smconf", str(BAD)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.startswith(f"{BAD}:1:12: expected a value for hostname")


def test_what_it_prints_is_read_again(tmp_path: Path) -> None:
    text = smconf("--print", GOOD).stdout
    assert load_text(text, "f").services == load_text(GOOD.read_text(), "f").services
