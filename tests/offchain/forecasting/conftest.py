from pathlib import Path

import pytest

from offchain.grid.scenario import load_scenario

CACHE = Path(__file__).parents[3] / "build" / "simbench"


@pytest.fixture(scope="session")
def quiet():
    return load_scenario("quiet", cache_dir=CACHE)


@pytest.fixture(scope="session")
def evening():
    return load_scenario("evening", cache_dir=CACHE)
