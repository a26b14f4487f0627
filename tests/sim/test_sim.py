"""A mailing and the mail of many, to servers that are fast, slow, greylisting, limited, tarpits, down or dead."""
import statistics

import pytest

from tests.sim.run import play

HOUR = 3600.0


@pytest.mark.parametrize("seed", range(4))
def test_all_mail_arrives_and_no_limit_is_exceeded(seed: int) -> None:
    """The limits are asserted at every step; here: nobody starves, nobody is hammered, nothing is left."""
    sim = play(rcpts=4000, sites=200, seed=seed, hours=24)
    healthy = [rcpt for rcpt, (_, kind) in sim.arrived.items() if kind != "dead"]
    assert all(sim.ends[rcpt] == 1 for rcpt in healthy)
    assert statistics.quantiles(sim.delays["fast"], n=100)[98] < 120, "slow servers hold others up"
    assert max(sim.delays["fast"]) < 2 * HOUR
    assert max(sim.delays["outage"], default=0.0) < 4 * HOUR
    for site in sim.sites.values():
        if site.kind in ("dead", "outage"):  # slow start takes up to 10, then a probe each ten minutes
            hours = 24 if site.kind == "dead" else 1
            assert site.tries_while_down <= 16 + 7 * hours, (site.kind, site.tries_while_down)
    left = {rcpt.address for rcpt in sim.store.rcpts.values()}
    assert all(sim.arrived[rcpt][1] == "dead" for rcpt in left), "only mail to dead servers waits"
