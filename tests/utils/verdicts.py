"""What the references say about an order of the flex world."""

from offchain.domain.units import Direction
from tests.reference.delivery import Sums, evaluate, money
from tests.utils.flexworld import Home, Issued, World


def reference(world: World, order: Issued, home: Home, delivered, taken=None) -> Sums:
    """Sums of the reference from delivered Wh by position."""
    terms = order.fields
    readings = [
        None if delivered.get(p, 0) is None else home.reading_at(p, delivered.get(p, 0), world.direction)
        for p in range(96)
    ]
    quantities = [int.from_bytes(order.quantities[4 * p : 4 * p + 4]) for p in range(96)]
    return evaluate(
        Direction(world.direction),
        terms["toleranceBps"],
        terms["missingIsShortfall"],
        quantities,
        [(taken or {}).get(p, 0) for p in range(96)],
        home.baseline,
        readings,
    )


def expected_verdict(order, sums, bond, bonus=0) -> dict:
    terms = order.fields
    reward, penalty, net = money(sums, terms["rewardRate"], terms["penaltyRate"], terms["multiplierBps"], bond)
    return {
        "creditedWh": sums.credited_wh,
        "rewardedWh": sums.rewarded_wh,
        "penalisedWh": sums.penalised_wh,
        "missingWh": sums.missing_wh,
        "reward": reward,
        "penalty": penalty,
        "bonus": bonus,
        "net": net,
    }
