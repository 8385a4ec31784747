"""Machines run on the deployed core, each from the same state."""

import pytest

from tests.fixtures.core import *  # noqa: F403


@pytest.fixture(autouse=True)
def _rolled_back(core, fn_isolation):
    """What one machine leaves behind must not be the start of the next."""
