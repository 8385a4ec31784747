"""import_readings: new, the same again, corrected, flagged, estimated; what was known when; one store for both."""

import numpy as np
import pytest

from offchain.store import open_store
from offchain.store.from_oracle import OracleImport, import_readings
from offchain.store.readings import EstimateRow, ReadingRow, correct_readings, insert_readings, save_estimates
from offchain.store.series import measured_span, read_measurements, series_ids

METER = b"m" * 32
SERIES = METER.hex()
FIRST = 1_880_000
SIGNATURE = b"s" * 65


def reading(n, import_wh, export_wh=0, quality=0, late_s=60, meter=METER):
    """Reading of the n-th ISP, known a minute after its end."""
    isp = FIRST + n
    return ReadingRow(meter, isp, import_wh, export_wh, quality, SIGNATURE, (isp + 1) * 900 + late_s, "modbus")


@pytest.fixture
def oracle(tmp_path):
    with open_store(tmp_path / "site.db") as store:
        with store.write() as connection:
            insert_readings(connection, [reading(n, 100 + n, n, quality=8 * (n == 2)) for n in range(200) if n != 5])
        yield store


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "gridpact.db") as opened:
        yield opened


def values(store, quantity, count=200, **known):
    with store.read() as connection:
        return read_measurements(connection, [SERIES], quantity, FIRST, count, **known).values[:, 0]


def test_readings_become_measurements_with_their_quality_when_imported(oracle, store):
    done = import_readings(oracle, store)
    assert done == OracleImport(meters=1, new=199, flagged=1)
    net = values(store, "net_wh")
    assert np.isnan(net[5]) and np.nansum(net) == 199 * 100
    assert values(store, "import_wh")[7] == 107 and values(store, "export_wh")[7] == 7
    assert values(store, "quality")[:4].tolist() == [0, 0, 8, 0]
    with store.read() as connection:
        assert series_ids(connection, "net_wh") == [SERIES]
        assert measured_span(connection, "net_wh") == range(FIRST, FIRST + 200)


def test_nothing_changes_when_imported_twice(oracle, store):
    import_readings(oracle, store)
    before = values(store, "net_wh")
    assert import_readings(oracle, store) == OracleImport(meters=1, unchanged=199, flagged=1)
    assert np.array_equal(values(store, "net_wh"), before, equal_nan=True)


def test_no_reading_is_known_before_the_oracle_knew_it(oracle, store):
    import_readings(oracle, store)
    for count in (8, 61, 150):
        moment = (FIRST + count) * 900 + 60
        known = ~np.isnan(values(store, "net_wh", known_at=moment))
        assert not known[count:].any()
        # at most an hour later than the oracle; ISP 5 was never read
        assert np.flatnonzero(~known[: count - 5]).tolist() == ([5] if count > 10 else [])


def test_late_reading_is_taken_over_when_imported_again(oracle, store):
    import_readings(oracle, store)
    with oracle.write() as connection:
        insert_readings(connection, [reading(5, 77, quality=8, late_s=90_000)])
    assert import_readings(oracle, store) == OracleImport(meters=1, new=1, unchanged=199, flagged=2)
    assert values(store, "net_wh")[5] == 77
    assert np.isnan(values(store, "net_wh", known_at=(FIRST + 6) * 900 + 89_999)[5])


@pytest.mark.parametrize("imported_before", [True, False])
def test_correction_is_a_later_belief_when_the_oracle_corrected(oracle, store, imported_before):
    if imported_before:
        import_readings(oracle, store)
    old, new = reading(9, 109, 9), reading(9, 500, quality=16, late_s=50_000)
    with oracle.write() as connection:
        correct_readings(connection, [(old, new)], superseded_at=new.belief_time)
    done = import_readings(oracle, store)
    assert done.corrected == 1
    assert values(store, "net_wh")[9] == 500 and values(store, "quality")[9] == 16
    assert values(store, "net_wh", known_at=new.belief_time - 1)[9] == 100
    again = import_readings(oracle, store)
    assert (again.new, again.corrected) == (0, 0) and values(store, "net_wh")[9] == 500


def test_estimates_stand_beside_the_readings_when_there_are_gaps(oracle, store):
    with oracle.write() as connection:
        save_estimates(connection, [EstimateRow(METER, FIRST + 5, 90, 10, "registers spread evenly", 10**9)])
    assert import_readings(oracle, store).estimated == 1
    assert values(store, "estimated_net_wh")[5] == 80
    assert np.isnan(values(store, "net_wh")[5])


def test_import_into_itself_works_when_oracle_and_analytics_share_a_store(oracle):
    assert import_readings(oracle, oracle).new == 199
    assert values(oracle, "import_wh")[0] == 100


def test_import_does_nothing_when_there_are_no_readings(store, tmp_path):
    with open_store(tmp_path / "empty.db") as empty:
        assert import_readings(empty, store) == OracleImport()
