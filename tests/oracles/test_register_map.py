"""Register maps: values out of words and back; a wrong file is one line that names the entry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import PermanentError, TransientError
from oracles.sources.port import DeviceStatus, Quantity
from oracles.sources.register_map import (
    REFERENCE_MAP,
    Block,
    EnergyRegister,
    Readout,
    Register,
    SetpointRegisters,
    TelemetryRegister,
    load_register_map,
    plan_blocks,
)
from oracles.sources.units import UNITS, unit_factor

VALID = """
table = "holding"
serial = {address = 0, type = "string", words = 4}
import_wh = {address = 10, type = "uint64"}
export_wh = {address = 14, type = "uint64"}
"""


NUMBERS = ["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


def test_register_raw_is_big_endian_unless_said_otherwise():
    register = Register(address=12, type="uint32")
    assert register.raw([9, 9, 0x0001, 0x0002, 9], 10) == 0x00010002
    assert Register(address=0, type="uint64").raw([0, 1, 0, 2]) == (1 << 32) + 2
    assert Register(address=0, type="int32", word_order="little").raw([0xFFFE, 0xFFFF]) == -2
    assert Register(address=1, type="int16").raw([0, 0x8000]) == -0x8000
    assert Register(address=0, type="float32").raw([0x4366, 0xC000]) == 230.75


@given(st.sampled_from(NUMBERS), st.sampled_from(["big", "little"]), st.integers(0, 2**64 - 1))
def test_register_encode_is_inverse_of_raw(kind, order, value):
    register = Register(address=3, type=kind, word_order=order)
    value %= 1 << 16 * register.length
    if kind.startswith("int"):
        value -= 1 << 16 * register.length - 1
    if kind.startswith("float"):
        value = float(value % 2**24)
    assert register.raw(register.encode(value), 3) == value


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (Register(address=0, type="int16", absent=-0x8000), [0x8000]),
        (Register(address=0, type="float32"), [0x7FC0, 0]),
        (Register(address=0, type="float32"), [0x7F80, 0]),
    ],
)
def test_register_raw_is_none_when_device_has_no_value(register, words):
    assert register.raw(words) is None


def test_energy_is_exact_whatever_the_scale():
    counter = EnergyRegister(address=0, type="uint32", scale=0.01, unit="kWh")
    assert [counter.energy_wh(raw) for raw in (0, 1, 2**32 - 1)] == [0, 10, 42_949_672_950]
    assert counter.modulus_wh() == 10 * 2**32
    tenths = EnergyRegister(address=0, type="int32", scale="0.1", wraps_at=10**6)
    assert (tenths.energy_wh(99), tenths.modulus_wh()) == (9, 10**5)
    assert EnergyRegister(address=0, type="int32").modulus_wh() == 2**31
    assert EnergyRegister(address=0, type="float32", unit="MWh").modulus_wh() is None
    assert EnergyRegister(address=0, type="uint16").energy_wh(7, exponent=2) == 700


def test_telemetry_has_the_unit_of_its_quantity():
    register = TelemetryRegister(
        address=0, type="int16", quantity="active_power_w", unit="kW", scale=-0.1, scale_register=9
    )
    readout = Readout([Block("input", 0, 10)], [[25, *[0] * 8, 0xFFFF]], "here")
    assert readout.telemetry(register) == pytest.approx(-250)
    absent = Readout([Block("input", 0, 10)], [[25, *[0] * 8, 0x8000]], "here")
    assert absent.telemetry(register) is None


def test_telemetry_status_is_translated():
    register = TelemetryRegister(address=0, type="uint16", quantity="status", codes={1: "faulted"})
    assert Readout([Block("input", 0, 1)], [[1]], "").telemetry(register) == DeviceStatus.FAULTED
    assert Readout([Block("input", 0, 1)], [[2]], "").telemetry(register) is None


@given(
    st.lists(
        st.builds(
            Register,
            table=st.sampled_from(["input", "holding"]),
            address=st.integers(0, 600),
            type=st.sampled_from(["uint16", "uint32", "float64"]),
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 125),
)
def test_plan_blocks_covers_every_register_within_the_limits(registers, max_gap):
    blocks = plan_blocks(registers, max_gap)
    for block in blocks:
        assert 1 <= block.count <= 125
        inside = sorted(
            (r.address, r.end)
            for r in registers
            if r.table == block.table and block.address <= r.address and r.end <= block.address + block.count
        )
        reached = block.address
        for first, end in inside:
            assert first - reached <= max_gap
            reached = max(reached, end)
        assert reached == block.address + block.count
    for register in registers:
        assert any(
            b.table == register.table and b.address <= register.address and register.end <= b.address + b.count
            for b in blocks
        )


def test_plan_blocks_reads_neighbours_together():
    registers = [Register(address=a, type="uint32") for a in (0, 2, 20, 123, 125)]
    assert plan_blocks(registers, 16) == [Block("input", 0, 22), Block("input", 123, 4)]
    assert plan_blocks(registers, 101) == [Block("input", 0, 125), Block("input", 125, 2)]
    assert len(plan_blocks(registers, 0)) == 3


def test_register_text_drops_padding():
    register = Register(address=0, type="string", words=4)
    assert register.raw(register.encode("GP01")) == "GP01"


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=48))
def test_setpoint_decode_is_inverse_of_encode(first_isp, powers_w):
    assert SetpointRegisters.decode(SetpointRegisters.encode(first_isp, powers_w)) == (first_isp, powers_w)


@pytest.mark.parametrize("words", [[], [0, 1], [0, 1, 1], [0, 1, 1, 0], [0, 1, 0, 0, 0]])
def test_setpoint_decode_raises_when_length_is_wrong(words):
    with pytest.raises(ValueError, match="schedule"):
        SetpointRegisters.decode(words)


def test_reference_map_reads_everything_at_once():
    assert REFERENCE_MAP.energy_blocks() == [Block("input", 8, 8)]
    assert REFERENCE_MAP.modulus_wh == 2**32


def test_load_register_map_reads_file(tmp_path):
    path = tmp_path / "meter.toml"
    path.write_text(VALID)
    map_ = load_register_map(path)
    assert (map_.modulus_wh, map_.energy_blocks(), map_.setpoint) == (2**64, [Block("holding", 10, 8)], None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("table = ", "Invalid value"),
        (VALID.replace("holding", "coil"), "table"),
        (VALID.replace("address = 10,", ""), "import_wh.address"),
        (VALID.replace("address = 10,", "address = 70000,"), "import_wh.address"),
        (VALID.replace(", words = 4", ""), "words must be given"),
        (VALID.replace("uint64", "uint32", 1), "must wrap at the same energy"),
        (VALID.replace('"uint64"}', '"uint64", scale = 0}', 1), "import_wh: Value error, scale must not be zero"),
        (VALID.replace('"uint64"}', '"uint64", scale = -1}', 1), "negative scale"),
        (VALID.replace('"uint64"}', '"float32", wraps_at = 9}', 1), "wraps_at is for integers"),
        (VALID.replace('"uint64"}', '"string", words = 2}', 1), "must be a number"),
        (VALID.replace('"uint64"}', '"uint64", scale_register = 9}', 1), "same scale_register"),
        (VALID + 'meter_clock = {address = 1, type = "float32"}', "meter_clock must be an integer"),
        (
            VALID + '[[telemetry]]\nquantity = "voltage_v"\naddress = 1\ntype = "int16"\nunit = "W"',
            "unit 'W' of voltage_v",
        ),
        (VALID + '[[telemetry]]\nquantity = "status"\naddress = 1\ntype = "int16"', "codes are needed for status"),
        (
            VALID + '[[telemetry]]\nquantity = "status"\naddress = 1\ntype = "int16"\ncodes = {1 = "odd"}',
            "status 'odd' is not one of unavailable",
        ),
        ('table = "input"', "neither import_wh nor export_wh nor telemetry"),
        (VALID + "colour = 1", "colour"),
    ],
)
def test_load_register_map_names_entry_when_wrong(tmp_path, text, message):
    path = tmp_path / "meter.toml"
    path.write_text(text)
    with pytest.raises(PermanentError, match=message) as caught:
        load_register_map(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_register_map_raises_when_file_is_missing(tmp_path):
    with pytest.raises(PermanentError, match="No such file"):
        load_register_map(tmp_path / "none.toml")
    with pytest.raises(PermanentError, match=r"one of abb_b23, eastron_sdm630, reference_meter"):
        load_register_map("unheard_of")


def test_load_register_map_entries_inherit_table_and_word_order(tmp_path):
    path = tmp_path / "meter.toml"
    path.write_text(
        'word_order = "little"' + VALID + '[[telemetry]]\nquantity = "voltage_v"\naddress = 1\ntype = "int16"'
    )
    map_ = load_register_map(path)
    assert {(r.table, r.word_order) for r in (map_.import_wh, map_.serial, map_.telemetry[0])} == {
        ("holding", "little")
    }


def test_units_are_known_for_every_quantity():
    assert set(UNITS) == set(Quantity)
    assert unit_factor(Quantity.PRICE, "EUR/MWh") == 1_000
    assert unit_factor(Quantity.WIND_SPEED, "km/h") * 18 == 5
    assert all(factor > 0 and next(iter(units.values())) == 1 for units in UNITS.values() for factor in units.values())


def test_energy_raises_when_counter_is_more_than_any_meter_counts():
    for kind, raw in (("uint64", 2**64 - 1), ("float64", 1e300)):
        counter = EnergyRegister(address=0, type=kind, unit="MWh")
        readout = Readout([Block("input", 0, 4)], [counter.encode(raw)], "here")
        with pytest.raises(TransientError, match="here: counter at 0 is"):
            readout.energy(counter, "counter")
