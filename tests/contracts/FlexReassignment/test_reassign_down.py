"""reassign: everything of test_reassign once more, for flexibility DOWN."""

import pytest

from tests.contracts.FlexReassignment.test_reassign import *  # noqa: F403
from tests.utils import flexworld
from tests.utils.flexibility import DOWN


@pytest.fixture(scope="module")
def world(core, actors):
    return flexworld.open_world(core, actors, direction=DOWN)
