"""The targets of `make fuzz` with hypothesis, with what atheris has kept, and with the transcripts."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, WORDS, corpus, seeds


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    for octets in corpus(name) + seeds(name):
        TARGETS[name](octets)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_any_octets(name: str, data: st.DataObject) -> None:
    words = st.lists(st.sampled_from(WORDS[name]), max_size=20).map(b"".join)
    TARGETS[name](data.draw(st.binary(max_size=200) | words))


def test_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 200_000
