"""encode and decode: structs, arrays, overloads, unknown selectors; errors as text"""

import pytest
from eth_abi import encode
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from offchain.chain.abi import Codec
from offchain.domain.errors import DomainError


def _parameter(name, kind, **more):
    return {"name": name, "type": kind, **more}


QUOTE = _parameter(
    "quote",
    "tuple[]",
    components=[_parameter("price", "int72"), _parameter("point", "bytes32"), _parameter("parts", "uint64[]")],
)
ABI = [
    {"type": "constructor", "inputs": [_parameter("authority_", "address"), _parameter("fee", "uint16")]},
    {"type": "function", "name": "echo", "inputs": [QUOTE], "outputs": [QUOTE]},
    {"type": "function", "name": "get", "inputs": [], "outputs": [_parameter("", "address")]},
    {"type": "function", "name": "get", "inputs": [_parameter("i", "uint8")], "outputs": []},
    {"type": "function", "name": "both", "inputs": [_parameter("i", "uint8")], "outputs": []},
    {"type": "function", "name": "both", "inputs": [_parameter("i", "bytes1")], "outputs": []},
    {"type": "error", "name": "TooLarge", "inputs": [_parameter("size", "uint256"), _parameter("", "bytes")]},
]
CODEC = Codec({"Probe": ABI})
quotes = st.lists(
    st.fixed_dictionaries(
        {
            "price": st.integers(-(2**71), 2**71 - 1),
            "point": st.binary(min_size=32, max_size=32),
            "parts": st.lists(st.integers(0, 2**64 - 1), max_size=3),
        }
    ),
    max_size=3,
)


@given(quotes)
def test_decode_is_the_inverse_of_encode(value):
    data = CODEC.encode_call("Probe", "echo", [value])
    assert data[:4] == keccak(text="echo((int72,bytes32,uint64[])[])")[:4]
    assert CODEC.decode_result("Probe", "echo", data[4:]) == value
    assert CODEC.decode_call("Probe", data) == ("echo", {"quote": value})


def test_function_is_chosen_by_the_number_of_arguments():
    assert CODEC.encode_call("Probe", "get", []) != CODEC.encode_call("Probe", "get", [1])[:4]


def test_function_raises_when_overloads_cannot_be_told_apart():
    with pytest.raises(DomainError, match="both is overloaded") as caught:
        CODEC.encode_call("Probe", "both", [1])
    assert "both(uint8)" in caught.value.hint
    assert len(CODEC.encode_call("Probe", "both(uint8)", [1])) == 36


def test_encode_constructor_raises_when_arguments_are_missing():
    with pytest.raises(DomainError, match=r"takes 2 arguments \(authority_, fee\), 1 given"):
        CODEC.encode_constructor("Probe", [1])


def test_decode_result_raises_when_the_answer_is_not_a_result():
    with pytest.raises(DomainError, match=r"Probe.get returned 0 bytes"):
        CODEC.decode_result("Probe", "get", b"", 0)


def test_decode_error_names_arguments():
    data = keccak(text="TooLarge(uint256,bytes)")[:4] + encode(["uint256", "bytes"], [7, b"\x01\x02"])
    error = CODEC.decode_error("Other", "f", data)
    assert str(error) == "Other.f reverted: TooLarge(size=7, arg1=0x0102)"


@pytest.mark.parametrize(
    ("data", "shown"),
    [(b"", "NoReason()"), (b"\x01\x02\x03\x04", "UnknownError(data=0x01020304)")],
)
def test_decode_error_tells_what_it_can_when_the_error_is_unknown(data, shown):
    assert str(CODEC.decode_error("Probe", "get", data)) == f"Probe.get reverted: {shown}"
