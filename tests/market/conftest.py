"""Markets deployed once; each test is rolled back."""

import pytest

from tests.market.settling import SettlingWorld
from tests.market.world import MarketWorld


@pytest.fixture(scope="session")
def deployed():
    return MarketWorld()


@pytest.fixture
def world(deployed):
    with deployed.evm.rolled_back():
        yield deployed


@pytest.fixture
def session(world):
    return world.open()


@pytest.fixture(scope="session")
def settling_deployed():
    return SettlingWorld()


@pytest.fixture
def settling(settling_deployed):
    with settling_deployed.evm.rolled_back():
        yield settling_deployed
