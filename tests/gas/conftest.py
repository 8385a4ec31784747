"""Gas scenarios run on the core contracts, rolled back after each, always on the same day.

Calldata costs by its bytes: with ISPs and signatures of another day the same call costs a little more or
less.
"""

import pytest

from tests.fixtures.core import *  # noqa: F403
from tests.utils import clock

DAY = 2_208_988_800
"""1 January 2040, 00:00 UTC [Unix s]: later than any day that the tests run on."""


@pytest.fixture(scope="module", autouse=True)
def _same_day(steady_clock):
    clock.move_to(DAY)


@pytest.fixture(autouse=True)
def _rolled_back(core, fn_isolation):
    """Back to the deployed state after each scenario."""
