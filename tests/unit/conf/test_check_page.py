"""check(5) says what the language is; its examples are right."""
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from meta1g.conf.condition import DEPTH_MAX, LENGTH_MAX
from meta1g.conf.expression import FUNCTIONS, IDENTIFIERS, STAGES
from meta1g.conf.load import load_text
from meta1g.smtps.condition import CHOSEN_STATES_MAX

PAGE = Path(__file__).parents[3] / "man" / "check.5"


def test_page_has_every_identifier_with_its_stage() -> None:
    """They stand behind `From .Cm STAGE on:`."""
    text = PAGE.read_text().partition(".Sh IDENTIFIERS")[2].partition(".Sh EXAMPLES")[0]
    found: dict[str, str] = {}
    stage = ""
    for line in text.splitlines():
        if line.startswith(".Cm "):
            stage = line.split()[1]
        elif line.startswith((".Va ", ".It Va ")):
            found |= dict.fromkeys(re.findall(r"[a-z_]+", line.partition("Va ")[2]), stage)
    assert found == {name: identifier.stage for name, identifier in IDENTIFIERS.items()}
    assert set(STAGES) >= set(found.values())


def test_page_has_the_functions_and_limits() -> None:
    words = PAGE.read_text().split()
    assert {*FUNCTIONS, str(DEPTH_MAX), str(LENGTH_MAX), str(CHOSEN_STATES_MAX)} <= set(words)


def test_examples_are_right() -> None:
    examples = re.findall(r"^\.Bd -literal\n(.*?)^\.Ed", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    config = load_text("smtps {" + "".join(examples) + "}", "check.5")
    assert len(config.module("smtps").check) == 6


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not there")
def test_troff_has_no_complaint() -> None:
    command = ["groff", "-mdoc", "-ww", "-Tutf8", "-z", str(PAGE)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
