"""A sample of what `make crash` does in full."""
import pytest

from tests.crash.explorer import calls, explore, explore_error, flush_sites, missed

CALLS = calls()


@pytest.mark.parametrize("first", range(1, CALLS + 1, 50))
def test_stop_at_each_call(first: int) -> None:
    """Every call once, with other luck than its neighbours."""
    for stop_at in range(first, min(first + 50, CALLS + 1)):
        explore(stop_at, seed=0)


@pytest.mark.parametrize("is_full", [False, True])
def test_error_at_each_call(is_full: bool) -> None:
    for fail_at in range(1, CALLS + 1):
        explore_error(fail_at, is_full=is_full)


@pytest.mark.parametrize("site", flush_sites())
def test_each_flush_is_missed(site: str) -> None:
    """Without any one of them the law breaks somewhere; one that nobody misses could go."""
    assert missed(site, seeds=3, total=CALLS)
