"""
quantity, baseline, reading
└── any curve → equals offchain.domain.curves; below 100 gas an element
total
└── any curve, full last word or not → sum; what follows the curve does not count; below 16 gas an element
isQuantities, isBaseline, isReadings
└── true for 4, 4 and 8 bytes an ISP alone
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.curves import (
    pack_baseline,
    pack_quantities,
    pack_readings,
    unpack_baseline,
    unpack_quantities,
    unpack_readings,
)
from tests.utils import system

QUANTITY = st.integers(0, 2**32 - 2)
QUANTITIES = st.lists(QUANTITY, max_size=100)
BASELINES = st.lists(st.integers(-(2**31) + 1, 2**31 - 1), max_size=100)
READINGS = st.lists(st.none() | st.tuples(QUANTITY, QUANTITY), max_size=100)
DAYS = [92, 96, 100]


@pytest.fixture(scope="module")
def curves(core, actors):
    return system.deploy(actors.admin, "CurvesHarness")


def metered(importWh, exportWh, missing) -> list[tuple[int, int] | None]:
    return [None if gone else pair for *pair, gone in zip(importWh, exportWh, missing, strict=True)]


@given(QUANTITIES)
def test_quantity_equals_its_python_twin(curves, values):
    packed = pack_quantities(values)
    assert list(curves.quantities(packed)[0]) == values == unpack_quantities(packed)


@given(BASELINES)
def test_baseline_equals_its_python_twin(curves, values):
    packed = pack_baseline(values)
    assert list(curves.baseline(packed)[0]) == values == unpack_baseline(packed)


@given(READINGS)
def test_reading_equals_its_python_twin(curves, values):
    packed = pack_readings(values)
    read = [pair and tuple(pair) for pair in metered(*curves.readings(packed)[:3])]
    assert read == values == unpack_readings(packed)


@pytest.mark.parametrize("value", [-(2**31) + 1, -1, 0, 1, 2**31 - 1])
def test_baseline_keeps_its_sign_at_every_position(curves, value):
    assert list(curves.baseline(pack_baseline([value] * 96))[0]) == [value] * 96


@given(QUANTITIES, st.binary(max_size=64))
def test_total_is_the_sum_whatever_follows(curves, values, tail):
    assert curves.total(pack_quantities(values), tail)[0] == sum(values)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, *DAYS])
def test_total_is_the_sum_when_every_quantity_is_the_largest(curves, n):
    assert curves.total(pack_quantities([2**32 - 2] * n), b"\xff" * 64)[0] == n * (2**32 - 2)


@pytest.mark.parametrize("n", DAYS)
def test_accessors_cost_less_than_100_gas_an_element(curves, n):
    assert curves.quantities(pack_quantities([9] * n))[-1] < 100 * n
    assert curves.baseline(pack_baseline([-9] * n))[-1] < 100 * n
    assert curves.readings(pack_readings([(9, 8)] * n))[-1] < 200 * n  # two energies
    assert curves.total(pack_quantities([9] * n), b"")[-1] < 16 * n


@pytest.mark.parametrize("n", [0, 1, *DAYS])
def test_lengths_are_true_for_the_width_of_the_curve_alone(curves, n):
    assert curves.lengths(bytes(4 * n), n) == (True, True, n == 0)
    assert curves.lengths(bytes(8 * n), n) == (n == 0, n == 0, True)
    assert curves.lengths(bytes(8 * n + 1), n) == (False, False, False)
