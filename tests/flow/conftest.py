"""What the stories share."""
import pytest

from tests.flow.world import World


@pytest.fixture
def world() -> World:
    return World().begin()
