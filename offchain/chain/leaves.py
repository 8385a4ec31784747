"""Leaves of the trees that the contracts check: metered days, baselines, outcomes of the energy market.

Twin of ``MeteringLedger.meterDayLeaf``, ``CommitmentRegistry.baselineLeaf`` and ``SettlementProposer.leafOf``. A leaf
is hashed twice, so that no inner node of a tree can pass for a leaf; the tag in front keeps one kind of leaf from
passing for another.
"""

from collections.abc import Sequence

from eth_hash.auto import keccak

from offchain.domain.errors import DomainError

METER_DAY_LEAF = keccak(b"gridpact.meterday.leaf.v1")
BASELINE_LEAF = keccak(b"gridpact.baseline.leaf.v1")
OUTCOME_LEAF = keccak(b"gridpact.outcome.leaf.v1")


def values_hash(packed: bytes) -> bytes:
    """Hash of a packed curve (see :mod:`offchain.domain.curves`), 32 bytes."""
    return keccak(packed)


def meter_day_leaf(meter_id: bytes, first_isp: int, isp_count: int, values_hash: bytes) -> bytes:
    """Leaf of one meter's market day.

    Parameters
    ----------
    meter_id : bytes
        Salted commitment to the meter's serial number, 32 bytes.
    first_isp, isp_count : int
        Market day: ISP of local midnight, number of ISPs.
    values_hash : bytes
        Hash of the packed readings, 32 bytes.
    """
    return _leaf(METER_DAY_LEAF, meter_id, first_isp, isp_count, values_hash)


def baseline_leaf(meter_id: bytes, first_isp: int, isp_count: int, values_hash: bytes) -> bytes:
    """Leaf of one meter's baseline for a market day; ``values_hash`` is of the packed baseline."""
    return _leaf(BASELINE_LEAF, meter_id, first_isp, isp_count, values_hash)


def outcome_leaf(
    session_id: int, connection_id: bytes, bundle: bytes, outcome: Sequence[int], injected_wh: Sequence[int]
) -> bytes:
    """Leaf of what became of one bundle.

    Parameters
    ----------
    outcome : sequence of int
        Fields of ``IMarketSettlement.Outcome`` in their order.
    injected_wh : sequence of int
        Delivered energy by product [Wh].
    """
    energies = b"".join(wh.to_bytes(32) for wh in injected_wh)
    words = (
        *(OUTCOME_LEAF, session_id.to_bytes(32), connection_id, keccak(bundle)),
        *(value.to_bytes(32) for value in outcome),
        keccak(energies),
    )
    return keccak(keccak(b"".join(words)))


def _leaf(tag: bytes, meter_id: bytes, first_isp: int, isp_count: int, values_hash: bytes) -> bytes:
    if len(meter_id) != 32 or len(values_hash) != 32:
        raise DomainError(
            f"leaf needs a meter id and a values hash of 32 bytes, got {len(meter_id)} and {len(values_hash)}"
        )
    if not (0 <= first_isp < 2**32 and 0 <= isp_count < 2**16):
        raise DomainError(f"leaf period outside uint32 and uint16: first ISP {first_isp}, {isp_count} ISPs")
    encoded = tag + meter_id + first_isp.to_bytes(32) + isp_count.to_bytes(32) + values_hash
    return keccak(keccak(encoded))
