"""Markets deployed once; each test is rolled back."""

import pytest

from tests.market.pooling import PoolWorld
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


@pytest.fixture(scope="session")
def pooling_deployed():
    return PoolWorld()


@pytest.fixture
def pooling(pooling_deployed):
    with pooling_deployed.evm.rolled_back():
        yield pooling_deployed
