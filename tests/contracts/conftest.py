"""Every contract test gets a fresh core: deployed once a module, rolled back after each test."""

import pytest

from tests.fixtures.core import *  # noqa: F403


@pytest.fixture(autouse=True)
def _rolled_back(core, fn_isolation):
    """Back to the deployed state after each test."""
