"""When meta1g-ctl reload believes that a process has taken the new configuration up."""
from meta1g.cli.ctl import _is_taken_up


def test_who_can_not_be_asked_has_not_taken_it_up() -> None:
    """Its socket may have been busy for a moment, before or after."""
    assert _is_taken_up((7, 3), (7, 2)) and _is_taken_up((8, 2), (7, 2)) and _is_taken_up((7, 3), (7, -1))
    assert not _is_taken_up((7, 2), (7, 2)) and not _is_taken_up((7, -1), (7, 2))
