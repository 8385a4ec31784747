"""
evaluate
├── any curves, tolerance, direction, missing, taken → sums of the reference; what follows the curves does not count
├── nothing ordered → all zero
├── largest values → no sum runs over into another
├── the published example of BeFlexible SUC06.3 (tests/validation) → its numbers
└── 96 ordered ISPs → below 300 gas an ISP
evaluateMissing
└── any curves → sums of the reference with every reading missing
rewardOf, rewardableWh → as the reference
"""

from random import Random

import pytest
from eth_abi import decode, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrevm import EVM

from offchain.domain.curves import pack_baseline, pack_quantities, pack_readings
from offchain.domain.units import Direction
from tests.reference import settlement as reference
from tests.reference.delivery import evaluate, evaluate_missing
from tests.validation.test_beflexible_settlement import BASELINE, REQUESTED, VECTORS

LARGEST = 2**32 - 2
CASE = "(uint8,uint256,bool,bytes,bytes,bytes,bytes,bytes)"
CALLER = "0x" + "11" * 20
MANY = settings(max_examples=150)


class Harness:
    """``DeliveryHarness`` in an EVM of this process: thousands of calls a second."""

    def __init__(self, build):
        self._selectors = build["selectors"]
        self._evm = EVM(gas_limit=2**40)
        self._address = self._evm.deploy(CALLER, bytes.fromhex(build["bytecode"]))

    def call(self, name, inputs, outputs, *arguments):
        selector = next(key for key, value in self._selectors.items() if value == name)
        data = bytes.fromhex(selector.removeprefix("0x")) + encode(inputs, arguments)
        return decode(outputs, self._evm.message_call(CALLER, self._address, calldata=data))

    def evaluate(self, direction, tolerance_bps, missing_is_shortfall, quantities, taken, baseline, readings, tail):
        case = (
            int(direction),
            tolerance_bps,
            missing_is_shortfall,
            pack_quantities(quantities),
            pack_quantities(taken) if taken else b"",
            pack_baseline(baseline),
            pack_readings(readings),
            tail,
        )
        sums, gas = self.call("evaluate", [CASE], ["(uint256,uint256,uint256,uint256)", "uint256"], case)
        return sums, gas


@pytest.fixture(scope="module")
def harness():
    from brownie.project import get_loaded_projects

    (project,) = get_loaded_projects()
    contract = project["DeliveryHarness"]
    return Harness({"selectors": contract.selectors, "bytecode": contract.bytecode})


WH = st.one_of(st.integers(0, 3_000), st.integers(0, LARGEST))


@st.composite
def cases(draw):
    n = draw(st.sampled_from([1, 7, 8, 9, 92, 96, 100]))
    quantities = draw(st.lists(st.one_of(st.just(0), WH), min_size=n, max_size=n))
    taken = []
    if draw(st.booleans()):
        shares = draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
        taken = [q * share // 8 for q, share in zip(quantities, shares, strict=True)]
    net = st.one_of(st.integers(-3_000, 3_000), st.integers(-(2**31) + 1, 2**31 - 1))
    baseline = draw(st.lists(net, min_size=n, max_size=n))
    reading = st.one_of(st.none(), st.tuples(WH, WH))
    readings = draw(st.lists(reading, min_size=n, max_size=n))
    return (
        draw(st.sampled_from(Direction)),
        draw(st.integers(0, 10_000)),
        draw(st.booleans()),
        quantities,
        taken,
        baseline,
        readings,
    )


@MANY
@given(cases(), st.binary(max_size=40))
def test_evaluate_equals_the_reference(harness, case, tail):
    sums, _ = harness.evaluate(*case, tail)
    assert sums == evaluate(*case).as_tuple()


def random_case(source: Random) -> tuple:
    """As a household has them: quantities around what it delivers, so that every branch is met."""
    n = source.choice([92, 96, 100])
    largest = source.choice([5, 1_000, LARGEST])
    quantities = [source.choice([0, source.randint(0, largest)]) for _ in range(n)]
    taken = [source.choice([0, q, q // 2]) for q in quantities] if source.random() < 0.5 else []
    scale = min(largest, 2**31 - 1)
    baseline = [source.randint(-scale, scale) for _ in range(n)]
    readings = [
        source.choice([None, (source.randint(0, largest), source.randint(0, largest)), (max(net, 0), 0)])
        for net in baseline
    ]
    tolerance = source.choice([0, 1, 1_000, 10_000])
    return (source.choice(list(Direction)), tolerance, source.random() < 0.5, quantities, taken, baseline, readings)


def test_evaluate_equals_the_reference_in_thousands_of_random_cases(harness):
    source = Random(20_261_120)
    for _ in range(3_000):
        case = random_case(source)
        assert harness.evaluate(*case, b"\xff" * 32)[0] == evaluate(*case).as_tuple(), case


@pytest.mark.parametrize(("metered", "delivered", "paid", "shortfall"), VECTORS)
def test_evaluate_reproduces_the_published_example(harness, metered, delivered, paid, shortfall):
    sums, _ = harness.evaluate(Direction.UP, 0, False, [REQUESTED], [], [BASELINE], [(metered, 0)], b"")
    assert sums == (paid, paid, shortfall, 0)


@settings(max_examples=60)
@given(cases())
def test_evaluateMissing_equals_the_reference(harness, case):
    _, _, missing_is_shortfall, quantities, taken, _, _ = case
    packed = pack_quantities(taken) if taken else b""
    (sums,) = harness.call(
        "evaluateMissing",
        ["bool", "bytes", "bytes"],
        ["(uint256,uint256,uint256,uint256)"],
        missing_is_shortfall,
        pack_quantities(quantities),
        packed,
    )
    assert sums == evaluate_missing(missing_is_shortfall, quantities, taken).as_tuple()
    assert evaluate_missing(missing_is_shortfall, quantities, taken) == evaluate(
        Direction.UP, 0, missing_is_shortfall, quantities, taken, [0] * 100, [None] * 100
    )


def test_evaluate_is_zero_when_nothing_was_ordered(harness):
    sums, _ = harness.evaluate(Direction.UP, 10_000, True, [0] * 96, [], [5] * 96, [None] * 96, b"\xff" * 64)
    assert sums == (0, 0, 0, 0)


@pytest.mark.parametrize("direction", Direction)
def test_evaluate_keeps_sums_apart_when_values_are_largest(harness, direction):
    towards = (0, LARGEST) if direction is Direction.UP else (LARGEST, 0)
    baseline = [2**31 - 1 if direction is Direction.UP else -(2**31) + 1] * 100
    case = (direction, 10_000, True, [LARGEST] * 100, [], baseline)
    sums, _ = harness.evaluate(*case, [towards] * 99 + [None], b"")
    assert sums == evaluate(*case, [towards] * 99 + [None]).as_tuple()
    assert sums[1] > sums[0] == 99 * LARGEST


def test_evaluate_costs_little_when_every_isp_was_ordered(harness):
    _, gas = harness.evaluate(Direction.UP, 1_000, False, [200] * 96, [], [500] * 96, [(300, 0)] * 96, b"")
    assert gas < 300 * 96


@given(st.integers(0, 2**41), st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1))
def test_rewardOf_equals_the_reference(harness, energy, rate, multiplier):
    (paid,) = harness.call("rewardOf", ["uint256"] * 3, ["uint256"], energy, rate, multiplier)
    assert paid == reference.reward_of(energy, rate, multiplier)


@given(WH, st.integers(0, 8), st.integers(0, 10_000))
def test_rewardableWh_equals_the_reference(harness, quantity, eighths, tolerance_bps):
    taken = quantity * eighths // 8
    (wh,) = harness.call("rewardableWh", ["uint256"] * 3, ["uint256"], quantity, taken, tolerance_bps)
    assert wh == reference.rewardable_wh(quantity, taken, tolerance_bps)
    sums = evaluate(Direction.UP, tolerance_bps, False, [quantity], [taken], [2**31 - 1], [(0, LARGEST)])
    assert sums.rewarded_wh <= wh
