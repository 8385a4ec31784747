import time

import numpy as np
import pytest

from offchain.domain.errors import InfeasibleError
from offchain.domain.units import Direction
from offchain.optimisation.disaggregation import disaggregate
from offchain.optimisation.member import Member

ORDER = np.array([0, 1_500, 700, 0])


def plain(result):
    return {name: curve.tolist() for name, curve in result.curves_wh.items()}


def test_disaggregate_sums_to_the_order_when_feasible(member):
    result = disaggregate(ORDER, [member("a"), member("b", reward=90_000)], Direction.UP)
    assert sum(result.curves_wh.values()).tolist() == ORDER.tolist()
    assert plain(result)["b"] == [0, 1_000, 700, 0]


def test_disaggregate_does_not_depend_on_the_order_of_members_when_shuffled(member):
    members = [member(f"m{i}") for i in range(6)]
    assert plain(disaggregate(ORDER, members, Direction.UP)) == plain(disaggregate(ORDER, members[::-1], Direction.UP))


def test_disaggregate_uses_few_members_when_prices_are_close(member):
    small = [member(f"small{i}", possible_wh=(400,) * 4, reward=99_000) for i in range(8)]
    large = [member("large", possible_wh=(2_000,) * 4, reward=100_000)]
    assert list(disaggregate(ORDER, small + large, Direction.UP).curves_wh) == ["large"]
    dear = [member("large", possible_wh=(2_000,) * 4, reward=300_000)]
    assert "large" not in disaggregate(ORDER, small + dear, Direction.UP).curves_wh


def test_disaggregate_raises_naming_the_isp_when_members_are_short(member):
    with pytest.raises(InfeasibleError, match="1000 of 1500 Wh ordered at ISP 501") as caught:
        disaggregate(ORDER, [member("a")], Direction.UP, isps=range(500, 504))
    assert caught.value.isp == 501


def test_disaggregate_takes_what_is_possible_when_shortfall_is_allowed(member):
    result = disaggregate(ORDER, [member("a")], Direction.UP, allow_shortfall=True)
    assert plain(result) == {"a": [0, 1_000, 700, 0]}
    assert result.uncovered_wh.tolist() == [0, 500, 0, 0]


@pytest.mark.parametrize(
    "limit",
    [
        {"available": (True, False, True, True)},
        {"blocked": np.array([False, True, False, False])},
        {"activations_left": 0},
        {"energy_limit_wh": 499},
        {"first_position": 2},
        {"max_w": 1_000},
    ],
)
def test_disaggregate_refuses_when_the_only_help_is_limited(member, limit):
    with pytest.raises(InfeasibleError):
        disaggregate(ORDER, [member("a"), member("b", **limit)], Direction.UP)


def test_disaggregate_shifts_between_members_when_energy_is_limited(member):
    order = np.array([1_000, 1_000, 1_000, 1_000])
    early = member("early", energy_limit_wh=2_000, reward=50_000)
    late = member("late", available=(False, False, True, True))
    result = disaggregate(order, [early, late], Direction.UP)
    assert plain(result) == {"early": [1_000, 1_000, 0, 0], "late": [0, 0, 1_000, 1_000]}


def test_disaggregate_is_quick_and_exact_when_150_members_and_96_isps():
    rng = np.random.default_rng(7)
    members = [
        Member(
            id=f"m{i:03}",
            max_up_w=int(rng.integers(1_000, 11_000)),
            max_down_w=0,
            reward_utoken_per_kwh=int(rng.integers(80_000, 120_000)),
            available=rng.random(96) < 0.8,
            possible_wh=rng.integers(0, 1_500, 96),
            energy_limit_wh=int(rng.integers(3_000, 20_000)),
            blocked=rng.random(96) < 0.1,
            activations_left=int(rng.integers(0, 3)),
        )
        for i in range(150)
    ]
    order = rng.integers(2_000, 6_000, 96)
    start = time.perf_counter()
    result = disaggregate(order, members, Direction.UP)
    assert time.perf_counter() - start < 5
    assert (sum(result.curves_wh.values()) == order).all()
    by_id = {m.id: m for m in members}
    for name, curve in result.curves_wh.items():
        m = by_id[name]
        assert curve.dtype == np.int64
        assert m.activations_left > 0
        assert not curve[~m.available | m.blocked].any()
        assert (curve * 4 <= m.max_up_w).all() and (curve <= m.possible_wh).all()
        assert curve.sum() <= m.energy_limit_wh
