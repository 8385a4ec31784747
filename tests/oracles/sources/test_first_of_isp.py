"""The read of a boundary is the first one after it, dated by whoever can be believed."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles.sources.first_of_isp import FirstOfIsp, read_moment
from oracles.sources.port import MeterReading

METERS = [sha256(b"%d" % number).digest() for number in range(3)]


@given(st.lists(st.tuples(st.sampled_from(METERS), st.integers(0, 5_000)), max_size=60))
def test_admits_one_read_per_meter_and_isp_when_time_goes_on(reads):
    first = FirstOfIsp()
    reads = sorted(reads, key=lambda read: read[1])
    admitted = [(m, at) for m, at in reads if first.admits(MeterReading(m, at, None, 0, 0))]
    expected = {}
    for meter, at in reads:
        expected.setdefault((meter, at // 900), at)
    assert {(m, at // 900): at for m, at in admitted} == expected
    assert len(admitted) == len(expected)


@pytest.mark.parametrize(
    ("measured_at", "expected"),
    [(1_000, 1_000), (940, 1_000), (939, 939), (0, 0), (1_030, 1_000), (9_000, 1_000)],
    ids=["now", "a minute old", "kept by its sender", "long kept", "ahead", "far ahead"],
)
def test_read_moment_believes_the_device_only_when_its_message_was_kept(measured_at, expected):
    assert read_moment(measured_at, 1_000) == expected
