"""Topics, snapshots and formatted numbers of the Smart Meter Extension."""

import json
from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oracles.simulators.smx_meters import SmxState, formatted
from oracles.sources.port import MeterReading, Observation, Quantity
from oracles.sources.smx import SmxDecoder, SmxMeter, number

METER = sha256(b"smx").digest()
NOW = 1_559_943_900


def decoder(meter_id=METER, dated_by="arrival"):
    return SmxDecoder(SmxMeter(prefix="BBB6038/SMX", device_id="feeder", meter_id=meter_id, dated_by=dated_by))


def send(smx, code, text, *, received_at=NOW):
    return smx.decode(f"BBB6038/SMX/LD01/{code}-255/-2", text.encode(), received_at)


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("004.280k", "", "4280"),
        ("988.267", "W", "988.267"),
        ("-001.500k", "", "-1500"),
        ("002573.4636", "kWh", "2573463.6"),
        ("12 kWh", "", "12000"),
        ("250m", "", "0.25"),
        ("1.2M", "", "1200000"),
    ],
)
def test_number_returns_base_unit_when_prefix_is_given(text, unit, expected):
    assert number(text, unit) == Decimal(expected)


@pytest.mark.parametrize("text", ["n/a", "", "12x", "0x10", "1e5", "nan", "1.2.3", "١٢"])
def test_number_raises_when_text_is_no_number(text):
    with pytest.raises(ValueError):
        number(text)


def test_number_raises_when_prefix_and_unit_may_mean_two_things():
    with pytest.raises(ValueError, match="two things"):
        number("7.3k", "kWh")


@given(st.floats(-900e6, 900e6))
def test_number_reads_back_when_device_formatted_it(value):
    assert float(number(formatted(value))) == pytest.approx(value, rel=6e-4, abs=6e-4)


@pytest.mark.parametrize(
    ("code", "quantity", "phase"),
    [
        ("1-1-32-7-0", Quantity.VOLTAGE, 1),
        ("1-1-71-7-0", Quantity.CURRENT, 3),
        ("1-1-16-7-0", Quantity.ACTIVE_POWER, 0),
        ("1-1-56-7-0", Quantity.ACTIVE_POWER, 2),
        ("1-1-3-7-0", Quantity.REACTIVE_POWER, 0),
        ("1-1-43-7-0", Quantity.REACTIVE_POWER, 2),
        ("1-1-14-7-0", Quantity.FREQUENCY, 0),
    ],
)
def test_decode_gives_quantity_and_phase_when_obis_code_is_known(code, quantity, phase):
    assert send(decoder(), code, "050.049") == [Observation("feeder", quantity, phase, 50.049, NOW, NOW)]


def test_decode_gives_varh_when_register_is_reactive():
    assert send(decoder(), "1-1-5-8-0", "029885.0854") == [
        Observation("feeder", Quantity.REACTIVE_ENERGY_Q1, 0, 29_885_085.4, NOW, NOW)
    ]


def test_decode_gives_one_reading_when_both_registers_came():
    smx = decoder()
    assert send(smx, "1-1-2-8-0", "002573.4636") == []
    assert send(smx, "1-1-1-8-0", "007302.4362", received_at=NOW + 1) == [
        MeterReading(METER, NOW + 1, None, 7_302_436, 2_573_463, False, 10**9)
    ]
    assert send(smx, "1-1-1-8-0", "007302.5000", received_at=NOW + 2) == [], "the next reading needs both again"


def test_decode_gives_no_reading_when_registers_are_of_different_rounds():
    smx = decoder()
    send(smx, "1-1-2-8-0", "002573.4636")
    assert send(smx, "1-1-1-8-0", "007302.4362", received_at=NOW + 6) == []


def test_decode_dates_by_clock_object_when_broker_had_kept_the_values():
    smx = decoder(dated_by="meter")
    send(smx, "0-0-1-0-0", "2019-06-07 21:44:38")
    send(smx, "1-1-2-8-0", "002573.4636")
    at = 1_559_943_878
    assert send(smx, "1-1-1-8-0", "007302.4362", received_at=at + 7200) == [
        MeterReading(METER, at, at, 7_302_436, 2_573_463, False, 10**9)
    ]
    assert send(smx, "1-1-14-7-0", "050.000", received_at=at + 7200)[0].observed_at == at


def test_decode_keeps_both_times_when_clock_of_meter_is_a_little_off():
    smx = decoder(dated_by="meter")
    send(smx, "0-0-1-0-0", "2019-06-07 21:44:38")
    send(smx, "1-1-2-8-0", "002573.4636")
    reading = send(smx, "1-1-1-8-0", "007302.4362", received_at=1_559_943_878 + 40)[0]
    assert (reading.read_at, reading.meter_clock) == (1_559_943_918, 1_559_943_878)


def test_decode_refuses_when_nothing_dates_a_value():
    smx = decoder(dated_by="meter")
    assert send(smx, "1-1-14-7-0", "050.000") == []
    assert smx.refused == {"undated": 1}


def test_decode_does_not_date_twice_when_clock_object_stopped():
    smx = decoder()
    send(smx, "0-0-1-0-0", "2019-06-07 21:44:38")
    assert send(smx, "1-1-14-7-0", "050.000")[0].observed_at == 1_559_943_878
    assert send(smx, "1-1-14-7-0", "050.000")[0].observed_at == NOW


def test_forget_keeps_registers_of_two_connections_apart():
    smx = decoder()
    send(smx, "0-0-1-0-0", "2019-06-07 21:44:38")
    send(smx, "1-1-2-8-0", "002573.4636")
    smx.forget()
    assert send(smx, "1-1-1-8-0", "007302.4362") == []
    assert send(smx, "1-1-14-7-0", "050.000")[0].observed_at == NOW


def test_decode_gives_no_reading_when_device_is_no_meter():
    smx = decoder(meter_id=None)
    assert send(smx, "1-1-2-8-0", "1.0") + send(smx, "1-1-1-8-0", "1.0") == []


def test_decode_gives_all_values_when_snapshot_comes():
    state = SmxState(import_wh=7_302_436.2, export_wh=2_573_463.6, active_w=(382.259, 129.896, 476.111))
    body = {
        name: {"unit": unit, "value": formatted(value, energy=unit.endswith("h"))}
        for name, (unit, value) in state.named().items()
    }
    body |= {
        ".REQUEST_TIME": "2019-06-07 23:44:39",
        ".SERVER_TIME": "2019-06-07 21:44:38",
        "THDI L4": {"unit": "%", "value": "n/a"},
        "Apparent Power 3-Phase": {"unit": "VA", "value": "004.280k"},
    }
    smx = decoder()
    values = smx.decode("BBB6038/SMX/", json.dumps(body).encode(), NOW + 3600)
    readings = [value for value in values if isinstance(value, MeterReading)]
    assert readings == [MeterReading(METER, 1_559_943_878, 1_559_943_878, 7_302_436, 2_573_463, False, 10**9)]
    observed = {(v.quantity, v.phase): v.value for v in values if isinstance(v, Observation)}
    assert observed[Quantity.ACTIVE_POWER, 0] == 988.266
    assert len(observed) == 19 and {v.observed_at for v in values if isinstance(v, Observation)} == {1_559_943_878}
    assert smx.refused == {}


def test_decode_gives_the_registers_when_a_sensor_of_the_snapshot_is_broken():
    body = {
        ".SERVER_TIME": "2019-06-07 21:44:38",
        "Rms Voltage L1-N": {"unit": "V", "value": "---.---"},
        "Received Active Energy": {"unit": "kWh", "value": "007302.4362"},
        "Delivered Active Energy": {"unit": "kWh", "value": "002573.4636"},
    }
    smx = decoder()
    (reading,) = smx.decode("BBB6038/SMX", json.dumps(body).encode(), NOW + 3600)
    assert (reading.import_register_wh, reading.export_register_wh) == (7_302_436, 2_573_463)
    assert smx.refused == {"malformed": 1}


@given(st.binary(max_size=40), st.sampled_from(["", "/", "/LD01/1-1-1-8-0-255/-2", "/x/y/-2", "/LD01/1-1/-2"]))
def test_decode_never_raises_when_payload_is_anything(payload, rest):
    smx = decoder()
    assert smx.decode("BBB6038/SMX" + rest, payload, NOW) == [] or smx.refused == {}


@pytest.mark.parametrize("prefix", ["", "a/#", "a/+/b", "a/"])
def test_config_is_refused_when_prefix_is_no_topic(prefix):
    with pytest.raises(ValidationError):
        SmxMeter(prefix=prefix, device_id="x")
