"""Vectors derived from the settlement rule that BeFlexible D3.1 describes in SUC06.3; the deliverable has no numbers.

One slot, baseline 5,000 Wh, 1,000 Wh requested. Metered 3,800: 1,200 delivered, 1,000 paid. Metered 4,400: 600
delivered, 400 short. Metered 5,200: moved 200 Wh the other way, nothing paid, 1,000 short. Without tolerance.
"""

import pytest

from offchain.domain.units import Direction, delivered_wh
from tests.reference.delivery import Sums, evaluate

BASELINE, REQUESTED = 5_000, 1_000
VECTORS = [(3_800, 1_200, 1_000, 0), (4_400, 600, 600, 400), (5_200, -200, 0, 1_000)]


@pytest.mark.parametrize(("metered", "delivered", "paid", "shortfall"), VECTORS)
def test_reference_follows_the_described_rule(metered, delivered, paid, shortfall):
    assert delivered_wh(Direction.UP, BASELINE, metered) == delivered
    sums = evaluate(Direction.UP, 0, False, [REQUESTED], [], [BASELINE], [(metered, 0)])
    assert sums == Sums(credited_wh=paid, rewarded_wh=paid, penalised_wh=shortfall)


@pytest.mark.parametrize(("metered", "delivered", "paid", "shortfall"), VECTORS)
def test_reference_follows_the_described_rule_mirrored(metered, delivered, paid, shortfall):
    """DOWN with baseline and metered net export instead of import."""
    assert delivered_wh(Direction.DOWN, -BASELINE, -metered) == delivered
    sums = evaluate(Direction.DOWN, 0, False, [REQUESTED], [], [-BASELINE], [(0, metered)])
    assert sums == Sums(credited_wh=paid, rewarded_wh=paid, penalised_wh=shortfall)
