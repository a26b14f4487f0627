"""meta1.conf(5) is made from the tables, and is right mdoc."""
import shutil
import subprocess
from pathlib import Path

import pytest

from meta1g.conf import manpage
from meta1g.conf.load import MODULES
from meta1g.conf.spec import entries

PAGE = Path(__file__).parents[3] / "man" / "meta1.conf.5"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == manpage.page(), "python -m meta1g.conf.manpage > man/meta1.conf.5"


def test_every_option_is_in_it() -> None:
    text = manpage.page()
    for cls in MODULES.values():
        for _, item in entries(cls).values():
            assert item.name.replace("-", "\\-") in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not there")
def test_troff_has_no_complaint() -> None:
    command = ["groff", "-mdoc", "-ww", "-Tutf8", "-z", str(PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
