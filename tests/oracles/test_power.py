"""Energy from power: integrated between values, import and export apart; missing where the power was not seen.

pause longer than allowed, in the middle or at an end → missing; device brings it later → then; killed → from disk
"""

import math
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.isp import isp_start
from offchain.store.readings import readings_of_meter
from oracles.live import LiveChannel
from oracles.normalise import MeteringPoint, Quality
from oracles.pipeline import MeteringPipeline
from oracles.power import PowerIntegration, PowerMeter, energy_wh
from oracles.sources.port import Observation, Quantity

ISP, START = 1_000, 900_000


def every(step_s, power_w, *, first=START - 30, last=START + 930):
    """Values of a device that speaks every so many seconds."""
    return [(at, float(power_w(at - START))) for at in range(first, last + 1, step_s)]


@pytest.mark.parametrize(
    ("power_w", "expected"),
    [
        (lambda _: 2_000, (500, 0)),
        (lambda _: -2_000, (0, 500)),
        (lambda t: 4 * t, (450, 0)),  # 0 to 3,600 W
        (lambda t: 8 * (t - 450), (225, 225)),  # taken and given are not set off against each other
        (lambda _: 0, (0, 0)),
    ],
)
def test_energy_is_the_area_below_the_power(power_w, expected):
    assert energy_wh(every(4, power_w), ISP, 60) == expected
    assert energy_wh(every(10, power_w), ISP, 60) == expected


@pytest.mark.parametrize(
    "samples",
    [
        [],
        every(10, lambda _: 1_000, first=START + 1),
        every(10, lambda _: 1_000, last=START + 890),
        [s for s in every(10, lambda _: 1_000) if not START + 300 < s[0] < START + 370],
        every(900, lambda _: 1_000, first=START, last=START + 900),
    ],
    ids=["nothing", "begins late", "ends early", "pause", "ends only"],
)
def test_energy_is_missing_when_the_power_was_not_seen_throughout(samples):
    assert energy_wh(samples, ISP, 60) is None


@given(st.lists(st.integers(-10_000, 10_000), min_size=17, max_size=17))
def test_import_less_export_is_the_net_energy(powers_w):
    samples = [(START - 60 + 61 * n, float(w)) for n, w in enumerate(powers_w)]
    import_wh, export_wh = energy_wh(samples, ISP, 61)

    def at(moment):
        n, rest = divmod(moment - START + 60, 61)
        return powers_w[n] + (powers_w[min(n + 1, 16)] - powers_w[n]) * rest / 61

    corners = [START, *(t for t, _ in samples if START < t < START + 900), START + 900]
    net = math.fsum((at(a) + at(b)) / 2 * (b - a) for a, b in pairwise(corners)) / 3_600
    assert abs(import_wh - export_wh - net) <= 1


@pytest.fixture
def point(meter_ids):
    return MeteringPoint(meter_ids[0], 20_000, 20_000)


@pytest.fixture
def site(store, signer, clock, point):
    """What a process has; it may be made again."""

    def make():
        live = LiveChannel(store, clock)
        pipeline = MeteringPipeline(store, [point], signer, clock, live=live)
        return live, pipeline, PowerIntegration(store, [PowerMeter(point, "battery", 60)], clock)

    return make


def observed(first, last, power_w):
    return [Observation("battery", Quantity.ACTIVE_POWER, 0, power_w, at, at) for at in range(first, last + 1, 10)]


def test_readings_are_signed_flagged_and_there_once_when_the_process_is_killed(site, store, clock, day, point):
    start = day.first_isp * 900
    clock.advance_to(isp_start(day.first_isp + 1))
    live, pipeline, _ = site()
    pipeline.ingest(observed(start - 10, start + 400, 1_000.0), limited=False)
    live.save()
    live, pipeline, power = site()  # killed and back within the longest pause
    clock.advance_to(isp_start(day.first_isp + 1) + timedelta(seconds=61))
    assert power.energies() == []
    pipeline.ingest(observed(start + 450, start + 1_000, 1_000.0), limited=False)
    live.save()
    report = pipeline.ingest(power.energies(), source="power")
    assert [(row.isp, row.import_wh, row.export_wh) for row in report.accepted] == [(day.first_isp, 250, 0)]
    assert power.energies() == []
    with store.read() as connection:
        (row,) = readings_of_meter(connection, point.meter_id, day.first_isp, day.end_isp)
    assert Quality(row.quality) is Quality.INTEGRATED
    assert Quality(row.quality).reasons == ["integrated from values of the power"]


def test_an_isp_that_was_missing_comes_when_the_device_brings_its_values_later(site, clock, day):
    start = day.first_isp * 900
    live, pipeline, power = site()
    clock.advance_to(isp_start(day.first_isp + 8))
    assert power.energies() == []
    pipeline.ingest(observed(start - 10, start + 910, -400.0), limited=False)
    live.save()
    (energy,) = power.energies()
    assert (energy.isp, energy.import_wh, energy.export_wh) == (day.first_isp, 0, 100)
    (row,) = pipeline.ingest([energy]).accepted
    assert Quality(row.quality) == Quality.INTEGRATED | Quality.LATE


def test_nothing_is_added_up_outside_the_service_of_the_meter(store, clock, day, point, site):
    start = day.first_isp * 900
    live, pipeline, _ = site()
    out = MeteringPoint(point.meter_id, 20_000, 20_000, first_isp=day.first_isp + 1)
    clock.advance_to(isp_start(day.first_isp + 2))
    pipeline.ingest(observed(start - 10, start + 910, 1.0), limited=False)
    live.save()
    assert PowerIntegration(store, [PowerMeter(out, "battery", 60)], clock).energies() == []
