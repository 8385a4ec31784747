"""Leaves: double hash of the tagged encoding; equality with the contracts is tested beside those."""

import pytest
from eth_abi import encode
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from offchain.chain.leaves import baseline_leaf, meter_day_leaf, values_hash
from offchain.domain.curves import pack_baseline, pack_readings
from offchain.domain.errors import DomainError

word = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(
    ("leaf", "tag"),
    [(meter_day_leaf, b"gridpact.meterday.leaf.v1"), (baseline_leaf, b"gridpact.baseline.leaf.v1")],
)
@given(meter_id=word, first_isp=st.integers(0, 2**32 - 1), isp_count=st.integers(0, 2**16 - 1), curve=word)
def test_leaf_equals_the_abi_encoding_of_the_specification(leaf, tag, meter_id, first_isp, isp_count, curve):
    types = ["bytes32", "bytes32", "uint32", "uint16", "bytes32"]
    encoded = encode(types, [keccak(tag), meter_id, first_isp, isp_count, curve])
    assert leaf(meter_id, first_isp, isp_count, curve) == keccak(keccak(encoded))


def test_leaf_differs_when_the_kind_differs():
    same = (bytes(32), 1, 96, bytes(32))
    assert meter_day_leaf(*same) != baseline_leaf(*same)


def test_values_hash_differs_when_one_wh_differs():
    assert values_hash(pack_readings([(1, 0)] * 96)) != values_hash(pack_readings([(1, 0)] * 95 + [(2, 0)]))
    assert values_hash(pack_baseline([-1] * 96)) != values_hash(pack_baseline([1] * 96))


@pytest.mark.parametrize("leaf", [meter_day_leaf, baseline_leaf])
@pytest.mark.parametrize(
    "arguments",
    [
        (bytes(31), 1, 96, bytes(32)),
        (bytes(32), 1, 96, bytes(33)),
        (bytes(32), -1, 96, bytes(32)),
        (bytes(32), 2**32, 96, bytes(32)),
        (bytes(32), 1, -1, bytes(32)),
        (bytes(32), 1, 2**16, bytes(32)),
    ],
)
def test_leaf_fails_when_an_argument_does_not_fit_its_type(leaf, arguments):
    with pytest.raises(DomainError):
        leaf(*arguments)
