"""One deployed market; each test is rolled back."""

import pytest

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
