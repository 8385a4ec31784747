"""Register maps: values out of words and back; a wrong file is one line that names the entry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import PermanentError
from oracles.sources.register_map import (
    REFERENCE_MAP,
    Register,
    SetpointRegisters,
    load_register_map,
)

VALID = """
table = "holding"
serial = {address = 0, type = "string", words = 4}
import_wh = {address = 10, type = "uint64"}
export_wh = {address = 14, type = "uint64"}
"""


def test_register_integer_is_big_endian():
    register = Register(address=12, type="uint32")
    assert register.integer([9, 9, 0x0001, 0x0002, 9], 10) == 0x00010002
    assert Register(address=0, type="uint64").integer([0, 1, 0, 2]) == (1 << 32) + 2


@given(st.sampled_from(["uint16", "uint32", "uint64"]), st.integers(0, 2**64 - 1))
def test_register_encode_is_inverse_of_integer(kind, value):
    register = Register(address=3, type=kind)
    value %= 1 << 16 * register.length
    assert register.integer(register.encode(value), 3) == value


def test_register_text_drops_padding():
    register = Register(address=0, type="string", words=4)
    assert register.text(register.encode("GP01")) == "GP01"


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=48))
def test_setpoint_decode_is_inverse_of_encode(first_isp, powers_w):
    assert SetpointRegisters.decode(SetpointRegisters.encode(first_isp, powers_w)) == (first_isp, powers_w)


@pytest.mark.parametrize("words", [[], [0, 1], [0, 1, 1], [0, 1, 1, 0], [0, 1, 0, 0, 0]])
def test_setpoint_decode_raises_when_length_is_wrong(words):
    with pytest.raises(ValueError, match="schedule"):
        SetpointRegisters.decode(words)


def test_reference_map_reads_everything_at_once():
    assert REFERENCE_MAP.block == (8, 8)
    assert REFERENCE_MAP.register_bits == 32


def test_load_register_map_reads_file(tmp_path):
    path = tmp_path / "meter.toml"
    path.write_text(VALID)
    map_ = load_register_map(path)
    assert (map_.register_bits, map_.block, map_.setpoint) == (64, (10, 8), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("table = ", "Invalid value"),
        (VALID.replace("holding", "coil"), "table"),
        (VALID.replace("address = 10,", ""), "import_wh.address"),
        (VALID.replace("address = 10,", "address = 70000,"), "import_wh.address"),
        (VALID.replace(", words = 4", ""), "words must be given"),
        (VALID.replace("uint64", "uint32", 1), "both be uint32 or both be uint64"),
        (VALID.replace("address = 14", "address = 500"), "too far apart"),
        (VALID.replace('type = "string", words = 4', 'type = "uint32"'), "serial must be text"),
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
