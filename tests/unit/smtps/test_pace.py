"""How long a client may take."""
from meta1g.smtps.pace import Pace


def test_a_command_has_its_time_however_it_trickles() -> None:
    pace = Pace(300, 0, 100, 1000.0)
    assert pace.left(1000.0) == 300
    assert pace.left(1299.0) == 1  # octets that are no complete command do not help
    assert pace.left(1300.0) <= 0
    pace.command(1299.0)
    assert pace.left(1300.0) == 299


def test_content_may_pause_but_not_crawl() -> None:
    pace = Pace(300, 0, 100, 0.0)
    pace.octets(1, 1.0)
    assert pace.left(2.0) == 299
    for second in range(2, 60):
        pace.octets(1, float(second))
    assert pace.left(60.0) > 0
    assert pace.left(63.0) <= 0
    pace.octets(10_000, 63.0)
    assert pace.left(100.0) > 0
    pace.command(100.0)
    pace.octets(1, 200.0)  # the next message has its own minute
    assert pace.left(230.0) > 0
    free = Pace(300, 0, 0, 0.0)
    free.octets(1, 1.0)
    assert free.left(300.0) > 0


def test_the_session_ends() -> None:
    pace = Pace(300, 1000, 0, 0.0)
    pace.command(900.0)
    assert pace.left(900.0) == 100
    pace.octets(10**9, 999.0)
    assert pace.left(1000.0) <= 0
