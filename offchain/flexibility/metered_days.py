"""Metered days of an anchored batch with their proofs: what settlement brings to the chain."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from offchain.chain.leaves import meter_day_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.domain.errors import DomainError
from offchain.store import Store
from offchain.store.batches import MeterDayRow, get_batch, meter_days_of


class ProvenDay(NamedTuple):
    """A meter-day with the proof that it is in its batch: what settlement brings to the chain."""

    day: MeterDayRow
    proof: list[bytes]

    def as_evidence(self) -> dict[str, Any]:
        """Fields ``day`` and ``proof`` of what the settlement contracts take as evidence."""
        day = self.day
        return {
            "day": {
                "meterId": day.meter_id,
                "firstIsp": day.first_isp,
                "ispCount": day.isp_count,
                "values": day.values,
                "signature": day.signature,
            },
            "proof": self.proof,
        }


def day_leaf(day: MeterDayRow) -> bytes:
    """Leaf of a meter-day in the tree of its batch."""
    return meter_day_leaf(day.meter_id, day.first_isp, day.isp_count, values_hash(day.values))


def day_tree(days: Iterable[MeterDayRow]) -> MerkleTree:
    """Tree over the meter-days of a batch, in the order given."""
    return MerkleTree(map(day_leaf, days))


def proven_days(store: Store, batch_id: int) -> dict[bytes, ProvenDay]:
    """Meter-days of a batch with their proofs, by meter id.

    Raises
    ------
    DomainError
        The stored values do not lead to the root of the batch.
    """
    with store.read() as connection:
        batch, days = get_batch(connection, batch_id), meter_days_of(connection, batch_id)
    tree = day_tree(days)
    if tree.root != batch.root:
        raise DomainError(f"batch {batch_id}: stored meter-days do not lead to its root", hint="restore the store")
    return {d.meter_id: ProvenDay(d, proof) for d, proof in zip(days, tree.proofs(), strict=True)}
