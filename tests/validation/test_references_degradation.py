"""Degradation rates against RdTools on the same data; its numbers were recorded by ``references/rdtools_rates.py``.

Two differences are meant: RdTools takes the nearest earlier day within eight days as partner, ours the nearest day
within a week; RdTools divides by the median of the first year, ours by the performance at its beginning. With every day
there, both leave less than 0.05 percentage points. With outages the pairs differ; then the tolerance is 0.6 points, and
the rate of RdTools must lie in our interval.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from offchain.degradation.performance import daily_performance
from offchain.degradation.plant import expected_wh
from offchain.degradation.year_on_year import degradation_rate
from tests.validation.aging_plants import PLANT, Case, case_index, complete_index, fingerprint, metered_plant

RDTOOLS = json.loads((Path(__file__).parent / "references" / "rdtools_rates.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("recorded", RDTOOLS["complete"], ids=lambda r: f"{r['rate']}")
def test_rate_equals_rdtools_when_no_day_is_missing(recorded):
    performance = complete_index(recorded["rate"])
    assert fingerprint(performance.index) == recorded["inputs_sha256"]
    found = degradation_rate(performance)
    assert found.rate_per_year == pytest.approx(recorded["rate_per_year"], abs=0.0005)


@pytest.mark.parametrize("recorded", RDTOOLS["daily"], ids=lambda r: "{rate}_{years}_{seed}".format(**r["case"]))
def test_rate_is_near_that_of_rdtools_when_days_are_missing(recorded):
    performance = case_index(Case(**recorded["case"]))
    assert fingerprint(performance.index) == recorded["inputs_sha256"]
    found = degradation_rate(performance, confidence=RDTOOLS["confidence"])
    assert found.rate_per_year == pytest.approx(recorded["rate_per_year"], abs=0.006)
    assert found.low < recorded["rate_per_year"] < found.high


def test_intervals_are_wider_than_those_of_rdtools_when_weather_lasts():
    """RdTools draws days one by one; days next to each other share weather and soiling, which ours keeps together."""
    for recorded in RDTOOLS["daily"]:
        found = degradation_rate(case_index(Case(**recorded["case"])))
        assert found.high - found.low > recorded["high"] - recorded["low"]


def test_rate_of_a_metered_plant_is_that_of_rdtools_when_both_filter_by_themselves():
    recorded = RDTOOLS["whole_chain"]
    generation, first, weather = metered_plant(-0.01, 4, seed=3)
    assert fingerprint(np.nan_to_num(generation)) == recorded["inputs_sha256"]
    expected = expected_wh(PLANT, first, generation.size, weather)
    found = degradation_rate(daily_performance(generation, expected, first, inverter_w=PLANT.inverter_w))
    assert found.rate_per_year == pytest.approx(recorded["rate_per_year"], abs=0.002)
    assert found.low < recorded["rate_per_year"] < found.high
