"""dispatch: everything of test_dispatch once more, for flexibility DOWN."""

import pytest

from tests.contracts.FlexDispatch.test_dispatch import *  # noqa: F403
from tests.utils import flexworld
from tests.utils.flexibility import DOWN


@pytest.fixture(scope="module")
def world(core, actors):
    return flexworld.open_world(core, actors, direction=DOWN)
