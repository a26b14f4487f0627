"""docs/pictures is what contrib/pictures.py writes, and that is what the code and docs/flow.md say."""
import re
from xml.etree import ElementTree

from contrib.pictures import FOLDER, ROOT, WAY, pictures


def test_pictures_are_up_to_date() -> None:
    found = {path.name: path.read_text() for path in FOLDER.glob("*.svg")}
    assert found == pictures(), "python -m contrib.pictures"


def test_pictures_are_xml() -> None:
    for text in pictures().values():
        assert ElementTree.fromstring(text).tag.endswith("svg")


def test_way_follows_the_page() -> None:
    page = (ROOT / "docs" / "flow.md").read_text()
    steps = dict(re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^$)", page, re.MULTILINE | re.DOTALL))
    for step in WAY:
        assert step.word in (steps[step.number] if step.number else page), step
