"""The examples in docs/configuration.md, docs/milters.md, docs/pmilter.md and docs/guide.md are right."""
import re
from pathlib import Path

import pytest

from meta1g.conf.load import load_text

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "".join((DOCS / name).read_text() for name in ("configuration.md", "milters.md", "pmilter.md", "guide.md"))
EXAMPLES = re.findall(r"^```(conf|yaml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("ending", "text"), EXAMPLES, ids=[str(number) for number in range(len(EXAMPLES))])
def test_example(ending: str, text: str) -> None:
    config = load_text(text, f"example.{ending}")
    assert config.services


def test_there_are_examples() -> None:
    assert {ending for ending, _ in EXAMPLES} == {"conf", "yaml"}
