"""Which options differ: by name, those of subsections with theirs in front."""
import pytest

from meta1g.conf.difference import changed_options
from meta1g.conf.load import load_text


def section(text: str) -> object:
    return load_text(f"qmgr {{ {text} }}", "x").module("qmgr")


@pytest.mark.parametrize(("old", "new", "names"), [
    ("", "", []), ("", "AQ_entries_max = 5000;", ["AQ_entries_max"]),
    ("DEFEDB { cache_size = 2MB; }", "DEFEDB { page_size = 8192; }", ["DEFEDB.cache_size", "DEFEDB.page_size"]),
    ("queue_return { default = 3d; }", "queue_return { default = 72h; }", []),  # another word for the same
    ("smtpc { connection_limits slow { connections_max = 2; } }",
     "smtpc { connection_limits slow { connections_max = 3; } connections_max = 9; }",
     ["smtpc.connection_limits", "smtpc.connections_max"]),
    ("", "log { facility = mail; }", ["log"]),
])
def test_changed_options(old: str, new: str, names: list[str]) -> None:
    assert sorted(changed_options(section(old), section(new))) == names
