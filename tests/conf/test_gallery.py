"""Wrong configurations give the exact error; right ones survive being printed and read again."""
from pathlib import Path

import pytest

from meta1g.conf.dump import to_text
from meta1g.conf.errors import ConfErrors
from meta1g.conf.load import check_services, load_checked, load_text, moot_in_use
from meta1g.conf.yamlform import to_yaml

HERE = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(HERE.glob("bad/*.conf")), ids=lambda path: path.stem)
def test_bad(path: Path) -> None:
    with pytest.raises(ConfErrors) as caught:
        load_checked(path.read_text(), path.name)
    assert f"{caught.value}\n" == path.with_suffix(".expected").read_text()


@pytest.mark.parametrize("path", sorted(HERE.glob("good/*.conf")), ids=lambda path: path.stem)
def test_good(path: Path) -> None:
    config = load_text(path.read_text(), path.name)
    assert check_services(config) == []
    text = to_text(config)
    assert text == path.with_suffix(".show").read_text()
    again = load_text(text, path.name)
    assert again == config
    assert load_text(to_yaml(text, path.name), f"{path.name}.yaml").services == config.services


def test_all_options_have_an_effect() -> None:
    path = HERE / "good" / "03-everything.conf"
    assert moot_in_use(load_text(path.read_text(), path.name)) == []
