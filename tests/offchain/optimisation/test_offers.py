import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.domain.units import Direction
from offchain.optimisation.member import first_position_after_notice, positions_of_bitmap
from offchain.optimisation.offers import build_offer

REQUEST = np.array([0, 1_500, 1_500, 0])
CAP = 300_000


def test_build_offer_takes_the_cheapest_when_enough(member):
    members = [member("dear", reward=200_000), member("cheap", reward=100_000)]
    offer = build_offer(members, REQUEST, Direction.UP, price_cap_utoken_per_kwh=CAP, margin_bps=1_000)
    assert offer.quantity_wh.tolist() == REQUEST.tolist()
    assert dict(zip(offer.member_ids, offer.plan_wh.tolist(), strict=True)) == {
        "cheap": [0, 1_000, 1_000, 0],
        "dear": [0, 500, 500, 0],
    }
    # mean reward (2 kWh at 0.10 and 1 kWh at 0.20) is 133,333.3; a tenth more, rounded up
    assert offer.price_utoken_per_kwh == 146_667


def test_build_offer_offers_what_members_can_do_when_request_is_larger(member):
    offer = build_offer([member("a")], REQUEST, Direction.UP, price_cap_utoken_per_kwh=CAP)
    assert offer.quantity_wh.tolist() == [0, 1_000, 1_000, 0]


def test_build_offer_keeps_agreed_power_of_the_direction_when_smaller(member):
    a = member("a", max_w=2_402)
    up, down = (build_offer([a], REQUEST, d, price_cap_utoken_per_kwh=CAP) for d in Direction)
    assert up.quantity_wh.tolist() == [0, 600, 600, 0]
    assert down.quantity_wh.tolist() == [0, 300, 300, 0]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({"available": (True, True, False, True)}, [0, 1_000, 0, 0]),
        ({"blocked": np.array([False, True, False, False])}, [0, 0, 1_000, 0]),
        ({"first_position": 2}, [0, 0, 1_000, 0]),
        ({"possible_wh": (0, 10, 20, 0)}, [0, 10, 20, 0]),
    ],
)
def test_build_offer_leaves_out_positions_when_not_available(member, limit, expected):
    offer = build_offer([member("a", **limit)], REQUEST, Direction.UP, price_cap_utoken_per_kwh=CAP)
    assert offer.quantity_wh.tolist() == expected


def test_build_offer_keeps_energy_limit_when_small(member):
    offer = build_offer([member("a", energy_limit_wh=1_200)], REQUEST, Direction.UP, price_cap_utoken_per_kwh=CAP)
    assert offer.quantity_wh.sum() == 1_200


def test_build_offer_keeps_back_a_reserve_when_asked(member):
    offer = build_offer([member("a")], REQUEST, Direction.UP, price_cap_utoken_per_kwh=CAP, reserve_bps=2_000)
    assert offer.quantity_wh.tolist() == [0, 800, 800, 0]


def test_build_offer_never_exceeds_the_price_cap_when_members_are_dear(member):
    members = [member("a", reward=270_000), member("b", reward=272_728)]
    offer = build_offer(members, REQUEST, Direction.UP, price_cap_utoken_per_kwh=CAP, margin_bps=1_000)
    assert offer.member_ids == ("a",)
    assert offer.price_utoken_per_kwh == 297_000


@pytest.mark.parametrize("limit", [{"reward": 300_001}, {"activations_left": 0}, {"possible_wh": (0,) * 4}])
def test_build_offer_is_none_when_nobody_can(member, limit):
    assert build_offer([member("a", **limit)], REQUEST, Direction.UP, price_cap_utoken_per_kwh=CAP) is None
    assert build_offer([], REQUEST, Direction.UP, price_cap_utoken_per_kwh=CAP) is None


def test_build_offer_raises_with_member_when_day_has_other_length(member):
    with pytest.raises(DomainError, match="member a: 4 positions of availability"):
        build_offer([member("a")], np.zeros(96, int), Direction.UP, price_cap_utoken_per_kwh=CAP)


def test_positions_of_bitmap_reads_bit_p_as_position_p_when_set():
    assert positions_of_bitmap(0b101, 4).tolist() == [True, False, True, False]
    assert positions_of_bitmap(1 << 99, 100)[99]


@pytest.mark.parametrize(
    ("order_time_s", "notice_s", "position"),
    [(0, 0, 0), (9_000, 0, 0), (9_000, 1, 1), (9_001, 899, 1), (9_000, 1_800, 2)],
)
def test_first_position_after_notice_is_first_isp_late_enough_when_ordered(order_time_s, notice_s, position):
    assert first_position_after_notice(10, order_time_s, notice_s) == position
