"""An option that is accepted does what the manual says: each is used, or marked as planned."""
import re
from pathlib import Path
from typing import Any

import pytest

from meta1g.conf import manpage
from meta1g.conf.load import MODULES
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import ListenSocket, McpConf
from meta1g.conf.spec import Opt, Sub, entries

ROOT = Path(__file__).parents[3]


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
