"""docs/manual.md has all sections of MeTA1's manual and the tables' options; links of all pages lead somewhere."""
import re
from pathlib import Path

import pytest

from meta1g.conf import manualpage

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "manual.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# MeTA1-1.1.Alpha17; 13 has no sections
_LIST = """
1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 1.4
2.1 2.2 2.2.1 2.3 2.3.1 2.3.2 2.4 2.4.1 2.4.2
3.1 3.2 3.2.1 3.3 3.4 3.5 3.6 3.7 3.8 3.8.1 3.9 3.9.1 3.9.2 3.9.3 3.9.4 3.10 3.10.1 3.10.2 3.10.3 3.11 3.11.1
3.12 3.12.1 3.12.2 3.12.3 3.13 3.14
4.1 4.2 4.3 4.3.1 4.3.2 4.4 4.5 4.5.1 4.6 4.7 4.7.1 4.7.2 4.7.3 4.8 4.9 4.9.1 4.10 4.11 4.11.1 4.11.2 4.11.3 4.12
5.1
6.1 6.1.1 6.1.2 6.2 6.3 6.3.1 6.3.2 6.4 6.5 6.6 6.7 6.8 6.8.1
7.1 7.2
8.1 8.1.1 8.2 8.3 8.4 8.5 8.5.1 8.6
9.1 9.2 9.3 9.4
10.1 10.2 10.3 10.4 10.5 10.6
11.1 11.2 11.3
12.1 12.1.1 12.1.2 12.1.3 12.1.4 12.1.5 12.2 12.3 12.3.1 12.3.2
14.1 14.2
15.1 15.1.1 15.1.2 15.1.3 15.1.4 15.1.5 15.1.6 15.1.7 15.1.8 15.1.9 15.1.10 15.1.11 15.1.12 15.1.13 15.1.14 15.2 15.2.1
"""
SECTIONS = _LIST.split()


def by_hand() -> str:
    return PAGE.read_text().partition(manualpage.MARK)[0]


def test_options_are_those_of_the_tables() -> None:
    text = PAGE.read_text()
    assert text == manualpage.renewed(text), "python -m meta1g.conf.manualpage docs/manual.md"


def test_every_section_has_a_row_in_order() -> None:
    assert re.findall(r"^\| (\d[\d.]*) ", by_hand(), re.MULTILINE) == SECTIONS


def test_every_row_says_how_it_is() -> None:
    for line in re.findall(r"^\| \d.*", by_hand(), re.MULTILINE):
        _, _, how, what, _ = (part.strip() for part in re.split(r"(?<!\\)\|", line))
        assert how in {"same", "more", "differs", "not here"}
        assert what or how in {"same", "not here"}, line


def test_options_refer_to_sections_that_are_there() -> None:
    for where, item in manualpage.rows():
        for section, _ in manualpage.numbers(item.m1) if item.m1 else ():
            assert section in SECTIONS, f"{where} {item.name}: {item.m1}"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    return {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in page.read_text().splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target
