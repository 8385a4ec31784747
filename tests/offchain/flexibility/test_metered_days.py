"""proven_days: proofs lead to the root; a changed value is refused."""

import pytest
from sqlalchemy import update

from offchain.chain.leaves import meter_day_leaf, values_hash
from offchain.chain.merkle import verify
from offchain.domain.curves import pack_readings
from offchain.domain.errors import DomainError
from offchain.flexibility.metered_days import day_tree, proven_days
from offchain.store.batches import Batch, BatchKind, BatchStatus, MeterDayRow, insert_batch
from offchain.store.tables import meter_days
from tests.offchain.flexibility.conftest import DAY, meter


@pytest.fixture
def days():
    ids = sorted(meter(i) for i in range(5))
    return [
        MeterDayRow(m, DAY.first_isp, DAY.isp_count, 1, pack_readings([(i, 0)] * DAY.isp_count), b"s" * 65)
        for i, m in enumerate(ids)
    ]


@pytest.fixture
def batch_id(store, days):
    batch = Batch(
        *(0, BatchKind.DAY, "0x" + "22" * 20, DAY.first_isp, DAY.isp_count, 1, day_tree(days).root, 5, bytes(32)),
        *(BatchStatus.PENDING, None, 1),
    )
    with store.write() as connection:
        return insert_batch(connection, batch, days)


def test_proven_days_lead_to_the_root(store, days, batch_id):
    proven = proven_days(store, batch_id)
    assert [p.day for p in proven.values()] == days
    root = day_tree(days).root
    for meter_id, (day, proof) in proven.items():
        leaf = meter_day_leaf(meter_id, day.first_isp, day.isp_count, values_hash(day.values))
        assert verify(root, leaf, proof)


def test_proven_days_are_refused_when_a_stored_value_was_changed(store, days, batch_id):
    changed = bytes([days[2].values[0] ^ 1]) + days[2].values[1:]
    with store.write() as connection:
        connection.execute(
            update(meter_days).where(meter_days.c.meter_id == days[2].meter_id).values({"values": changed})
        )
    with pytest.raises(DomainError, match=f"batch {batch_id}: stored meter-days do not lead to its root"):
        proven_days(store, batch_id)
