"""Roots of metering batches and commitments rebuilt from what the store holds."""

from collections.abc import Sequence

from eth_hash.auto import keccak

from offchain.chain.leaves import baseline_leaf, meter_day_leaf
from offchain.chain.merkle import MerkleTree
from offchain.domain.curves import pack_readings
from offchain.domain.errors import DomainError
from offchain.store.batches import MeterDayRow
from offchain.store.curves import CurveRow
from offchain.store.readings import ReadingRow

READING_LEAF = keccak(b"gridpact.reading.leaf.v1")


def day_root(days: Sequence[MeterDayRow]) -> bytes | None:
    """Root over the meter-days of a batch; ``None`` when no tree can be made of them."""
    return _root([(meter_day_leaf, day.meter_id, day.first_isp, day.isp_count, day.values) for day in days])


def curve_root(curves: Sequence[CurveRow]) -> bytes | None:
    """Root over the curves of a commitment."""
    return _root(
        [(baseline_leaf, curve.subject_id, curve.first_isp, curve.isp_count, curve.values) for curve in curves]
    )


def reading_root(rows: Sequence[ReadingRow]) -> bytes | None:
    """Root over the readings of an intraday batch.

    A leaf is ``abi.encode(READING_LEAF, meterId, isp, importWh, exportWh)``, hashed twice.
    """
    leaves = []
    for row in rows:
        words = (row.isp.to_bytes(32), row.import_wh.to_bytes(32), row.export_wh.to_bytes(32))
        leaves.append(keccak(keccak(b"".join((READING_LEAF, row.meter_id, *words)))))
    return MerkleTree(leaves).root if leaves else None


def day_data_hash(days: Sequence[MeterDayRow]) -> bytes:
    """Hash of the data behind a day batch: meter id, packed values and signature of each, by meter id."""
    ordered = sorted(days, key=lambda day: day.meter_id)
    return keccak(b"".join(day.meter_id + day.values + day.signature for day in ordered))


def reading_data_hash(rows: Sequence[ReadingRow]) -> bytes:
    """Hash of the data behind an intraday batch: meter id, energy and signature of each, by meter id."""
    ordered = sorted(rows, key=lambda row: row.meter_id)
    return keccak(
        b"".join(row.meter_id + pack_readings([(row.import_wh, row.export_wh)]) + row.signature for row in ordered)
    )


def curve_data_hash(curves: Sequence[CurveRow]) -> bytes:
    """Hash of the data behind a commitment: subject and packed values of each, by subject."""
    ordered = sorted(curves, key=lambda curve: curve.subject_id)
    return keccak(b"".join(curve.subject_id + curve.values for curve in ordered))


def _root(parts: Sequence[tuple]) -> bytes | None:
    try:
        return MerkleTree(
            [
                leaf(subject, first_isp, isp_count, keccak(values))
                for leaf, subject, first_isp, isp_count, values in parts
            ]
        ).root
    except DomainError:
        return None
