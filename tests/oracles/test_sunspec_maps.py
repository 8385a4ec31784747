"""Register maps of SunSpec models, without a device: any value and scale factor comes back, any words do no harm."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import AdapterError
from oracles.simulators.sunspec_device import SimulatedModel
from oracles.sources.register_map import MAX_COUNTER_WH, Readout, load_register_map
from oracles.sources.sunspec import DEFINITIONS, FoundModel, Identity, meter_map, telemetry_map

IDENTITY = Identity("Maker", "Model", "1", "SN")
METERS = [model_id for model_id, model in DEFINITIONS.items() if model.kind == "meter"]
WITH_TELEMETRY = [model_id for model_id, model in DEFINITIONS.items() if any(p.quantity for p in model.points)]


def found(model_id, length=None):
    return FoundModel(model_id, 2, length or DEFINITIONS[model_id].length, IDENTITY)


def readout_of(words, blocks):
    return Readout(blocks, [words[b.address : b.address + b.count] for b in blocks], "here")


@given(st.sampled_from([201, 203]), st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1), st.integers(-10, 8))
def test_meter_map_returns_counters_at_any_scale(model_id, import_raw, export_raw, exponent):
    step = Fraction(10) ** exponent
    model = SimulatedModel(
        model_id,
        {"TotWhImp": import_raw * step, "TotWhExp": export_raw * step, "Evt": 0},
        {"TotWhImp": exponent, "TotWhExp": exponent},
    )
    register_map = meter_map(found(model_id))
    readout = readout_of(model.words(), register_map.energy_blocks())
    assert readout.energy(register_map.import_wh, "import")[0] == math.floor(import_raw * step)
    wh, modulus_wh = readout.energy(register_map.export_wh, "export")
    assert (wh, modulus_wh) == (math.floor(export_raw * step), math.floor(2**32 * step))
    assert wh < modulus_wh or exponent < 0


@given(st.integers(-32_767, 32_767), st.integers(-4, 4))
def test_telemetry_map_returns_power_at_any_scale(raw, exponent):
    model = SimulatedModel(103, {"W": Fraction(raw) * Fraction(10) ** exponent}, {"W": exponent})
    register_map = telemetry_map([found(103)])
    readout = readout_of(model.words(), register_map.telemetry_blocks())
    (power,) = (r for r in register_map.telemetry if r.quantity == "active_power_w")
    assert readout.telemetry(power) == pytest.approx(-raw * 10.0**exponent)


@given(st.data())
def test_any_words_give_a_value_or_an_error_of_ours(data):
    register_map = data.draw(
        st.sampled_from(
            [load_register_map(name) for name in ("abb_b23", "eastron_sdm630", "reference_meter")]
            + [meter_map(found(model_id)) for model_id in (*METERS, 103, 701)]
            + [telemetry_map([found(model_id)]) for model_id in WITH_TELEMETRY]
        )
    )
    word = st.one_of(
        st.integers(0, 0xFFFF), st.sampled_from([0, 1, 7, 10, 0x7F80, 0x7FC0, 0x7FFF, 0x8000, 0xFFF6, 0xFFFF])
    )
    for blocks in (register_map.energy_blocks(), register_map.telemetry_blocks()):
        words = [data.draw(st.lists(word, min_size=b.count, max_size=b.count)) for b in blocks]
        readout = Readout(blocks, words, "here")
        if blocks == register_map.energy_blocks():
            for counter in register_map.counters:
                try:
                    energy_wh, modulus_wh = readout.energy(counter, "counter")
                except AdapterError:
                    continue
                assert 0 <= energy_wh <= MAX_COUNTER_WH
                assert modulus_wh is None or modulus_wh >= 0
        if blocks == register_map.telemetry_blocks():
            for register in register_map.telemetry:
                try:
                    value = readout.telemetry(register)
                except AdapterError:
                    continue
                assert value is None or math.isfinite(value)


@pytest.mark.parametrize("model_id", sorted(DEFINITIONS))
@pytest.mark.parametrize("missing", [1, 10, 40])
def test_points_stay_inside_a_shorter_edition_of_a_model(model_id, missing):
    length = max(DEFINITIONS[model_id].length - missing, 1)
    assert all(point.end <= length for point in found(model_id, length).points)


@pytest.mark.parametrize("model_id", [*METERS, 103, 701])
def test_meter_map_reads_counters_and_what_they_stand_on_with_one_request(model_id):
    register_map = meter_map(found(model_id))
    block = register_map.energy_blocks()[0]
    exponents = [counter.exponent_register for counter in register_map.counters if counter.exponent_register]
    for register in (*register_map.expect, *register_map.counters, *exponents):
        assert block.address <= register.address and register.end <= block.address + block.count
