from pathlib import Path

import numpy as np
import pytest

from offchain.grid.scenario import load_scenario
from offchain.optimisation.member import Member

CACHE = Path(__file__).parents[3] / "build" / "simbench"


@pytest.fixture(scope="session")
def noon():
    return load_scenario("noon", cache_dir=CACHE)


@pytest.fixture(scope="session")
def evening():
    return load_scenario("evening", cache_dir=CACHE)


@pytest.fixture
def member():
    """Factory of members of a four-ISP day."""

    def make(name, possible_wh=(1_000,) * 4, reward=100_000, max_w=100_000, available=(True,) * 4, **more):
        return Member(
            id=name,
            max_up_w=max_w,
            max_down_w=max_w // 2,
            reward_utoken_per_kwh=reward,
            available=np.array(available),
            possible_wh=np.array(possible_wh),
            **more,
        )

    return make
