import resource

import pytest

from meta1g.smar.descriptors import CLIENTS_MIN, divide, needed

CASES = [
    (1024, 60, 4096, (1024, 964)),
    (1024, 60, resource.RLIM_INFINITY, (1024, 964)),
    (16, 60, 4096, (60 + CLIENTS_MIN, CLIENTS_MIN)),  # less than SMAR needs
    (1024, 60, 256, (256, 196)),  # more than the system allows
    (1024, 60, 40, (40, 1)),
]


@pytest.mark.parametrize(("fds_max", "own", "hard", "expected"), CASES)
def test_divide(fds_max: int, own: int, hard: int, expected: tuple[int, int]) -> None:
    assert divide(fds_max, own, hard) == expected


def test_needed_grows_with_what_is_asked() -> None:
    assert needed(10, 1, 0) < needed(11, 1, 0) < needed(11, 1, 1) < needed(11, 4, 1) < 150
