"""orderDirect with the real dispatch: everything of test_with_dispatch once more, for flexibility DOWN."""

import pytest

from tests.contracts.GridRegime.test_with_dispatch import *  # noqa: F403
from tests.utils.flexibility import DOWN


@pytest.fixture(scope="module")
def direction():
    return DOWN
