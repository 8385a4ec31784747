"""normalise: off boundary, faulty, first, duplicate, older, stuck, gap, wrap, reset, implausible, skew, good.

The property at the end runs a random meter life against what was true.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.store.readings import RegisterState
from oracles.normalise import (
    IspEnergy,
    MeteringPoint,
    NormaliserSettings,
    Quality,
    Rejection,
    normalise,
)
from oracles.sources.port import MeterReading

METER = b"\x07" * 32
POINT = MeteringPoint(METER, max_import_w=10_000, max_export_w=5_000)
SETTINGS = NormaliserSettings(boundary_tolerance_s=60, max_clock_skew_s=30)
BOUNDARY = 1_000
LIMIT_WH = 10_000 * 960 // 3600 + 1
BEFORE = RegisterState(METER, BOUNDARY, 5_000, 7_000, BOUNDARY * 900)


def read(
    boundary=BOUNDARY + 1, import_wh=6_000, export_wh=7_500, *, modulus_wh=2**32, faulty=False, late_s=0, skew_s=0
):
    now = boundary * 900 + late_s
    return MeterReading(METER, now, now + skew_s, import_wh, export_wh, faulty, modulus_wh)


def run(reading, previous=BEFORE):
    return normalise(POINT, previous, reading, SETTINGS)


def test_normalise_returns_difference_of_registers():
    outcome = run(read())
    assert outcome.energy == IspEnergy(METER, BOUNDARY, 1_000, 500, Quality.GOOD)
    assert outcome.state == RegisterState(METER, BOUNDARY + 1, 6_000, 7_500, (BOUNDARY + 1) * 900)


@pytest.mark.parametrize("late_s", [-60, 60])
def test_normalise_accepts_when_within_tolerance(late_s):
    assert run(read(late_s=late_s)).energy.isp == BOUNDARY


@pytest.mark.parametrize(
    ("reading", "rejection"),
    [
        (read(late_s=61), Rejection.OFF_BOUNDARY),
        (read(late_s=-61), Rejection.OFF_BOUNDARY),
        (read(faulty=True), Rejection.FAULTY),
        (read(BOUNDARY), Rejection.DUPLICATE),
        (read(BOUNDARY - 1), Rejection.OUT_OF_ORDER),
        (read(skew_s=-900), Rejection.STUCK),
    ],
)
def test_normalise_keeps_state_when_read_says_nothing(reading, rejection):
    assert run(reading) == (None, rejection, None)


@pytest.mark.parametrize(
    ("reading", "rejection"),
    [
        (read(BOUNDARY + 2), Rejection.GAP),
        (read(import_wh=0, export_wh=0), Rejection.RESET),
        (read(import_wh=0), Rejection.RESET),
        (read(import_wh=5_000 + LIMIT_WH + 1), Rejection.IMPLAUSIBLE),
        (read(export_wh=7_000 + LIMIT_WH), Rejection.IMPLAUSIBLE),
    ],
)
def test_normalise_goes_on_from_new_state_when_isp_is_missing(reading, rejection):
    outcome = run(reading)
    assert (outcome.energy, outcome.rejection) == (None, rejection)
    assert outcome.state.import_register_wh == reading.import_register_wh
    following = read(reading.read_at // 900 + 1, reading.import_register_wh + 3, reading.export_register_wh + 4)
    assert run(following, outcome.state).energy[2:4] == (3, 4)


def test_normalise_starts_when_meter_is_new():
    outcome = run(read(), previous=None)
    assert (outcome.energy, outcome.rejection) == (None, Rejection.FIRST)
    assert outcome.state.boundary == BOUNDARY + 1


@pytest.mark.parametrize("modulus_wh", [2**32, 2**64, 10**9])
def test_normalise_flags_when_counter_wrapped(modulus_wh):
    previous = BEFORE._replace(import_register_wh=modulus_wh - 100)
    energy = run(read(import_wh=900, export_wh=7_000, modulus_wh=modulus_wh), previous).energy
    assert energy == IspEnergy(METER, BOUNDARY, 1_000, 0, Quality.WRAPPED)


def test_normalise_leaves_out_when_counter_fell_that_never_wraps():
    reading = read(import_wh=4_999, modulus_wh=None)
    assert run(reading)[:2] == (None, Rejection.RESET)


@pytest.mark.parametrize("skew_s", [31, -31, -86_400])
def test_normalise_flags_when_meter_clock_is_wrong(skew_s):
    assert run(read(skew_s=skew_s)).energy.quality is Quality.CLOCK_SKEW
    assert run(read(skew_s=30)).energy.quality is Quality.GOOD


def test_normalise_accepts_when_meter_has_no_clock():
    reading = read()._replace(meter_clock=None)
    assert run(reading, BEFORE._replace(meter_clock=None)).energy.quality is Quality.GOOD


@given(
    start=st.integers(0, 2**32 - 1),
    life=st.lists(
        st.tuples(st.integers(0, LIMIT_WH), st.sampled_from(["read", "read", "read", "missed", "faulty", "twice"])),
        max_size=40,
    ),
)
def test_normalise_never_returns_other_than_true_energy(start, life):
    """Whatever is missed: an ISP has its true energy when both its boundaries were read, and else none."""
    state, found, register, read_boundaries = None, {}, start, set()
    for step, (energy_wh, event) in enumerate([(0, "read"), *life]):
        register = (register + energy_wh) % 2**32
        if event == "missed":
            continue
        reading = read(BOUNDARY + step, register, 0, faulty=event == "faulty")
        for _ in range(2 if event == "twice" else 1):
            outcome = run(reading, state)
            state = outcome.state or state
            if outcome.energy:
                assert outcome.energy.isp not in found
                found[outcome.energy.isp] = outcome.energy.import_wh
        if event != "faulty":
            read_boundaries.add(step)
    truth = {BOUNDARY + i: energy_wh for i, (energy_wh, _) in enumerate(life)}
    assert found == {isp: wh for isp, wh in truth.items() if {isp - BOUNDARY, isp - BOUNDARY + 1} <= read_boundaries}
