"""Gas scenarios run on the core contracts, rolled back after each."""

import pytest

from tests.fixtures.core import *  # noqa: F403


@pytest.fixture(autouse=True)
def _rolled_back(core, fn_isolation):
    """Back to the deployed state after each scenario."""
