"""Orders against signed readings in near real time, and standby for what is missing (LL-UC08 of D2.5)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from eth_account.signers.local import LocalAccount

from offchain.chain.client import Receipt
from offchain.chain.contracts import Suite
from offchain.chain.errors import ContractRevertedError
from offchain.domain.curves import unpack_baseline
from offchain.domain.units import BPS, Direction, delivered_wh
from offchain.flexibility.commitments import CommittedCurves
from offchain.flexibility.orders import ProsumerOrder
from offchain.store.readings import ReadingRow

EXHAUSTED = ("NoStandbyLeft", "NothingLeftToReassign", "ReadingTooOld")
"""Reverts that end a reassignment as planned."""


def candidates(
    agreement_ids: Iterable[int], meter_of: Mapping[int, bytes], baselines: CommittedCurves
) -> list[dict[str, Any]]:
    """``IFlexReassignment.Candidate`` of agreements in merit order, without those whose baseline was not committed."""
    return [
        {
            "agreementId": agreement_id,
            "baselineWh": baselines.packed[meter_of[agreement_id]],
            "baselineProof": baselines.proofs[meter_of[agreement_id]],
        }
        for agreement_id in agreement_ids
        if meter_of[agreement_id] in baselines.packed
    ]


def shortfall_wh(order: ProsumerOrder, baseline: bytes, reading: ReadingRow) -> int:
    """Energy missing beyond the tolerance in the ISP of a reading [Wh]; zero when nothing was due there."""
    position = reading.isp - order.terms["dayFirstIsp"]
    if not 0 <= position < order.terms["ispCount"]:
        return 0
    quantity = order.quantities_wh()[position]
    due = quantity - order.taken_wh()[position]
    delivered = delivered_wh(
        Direction(order.terms["direction"]),
        unpack_baseline(baseline)[position],
        reading.import_wh - reading.export_wh,
    )
    band = quantity * order.terms["toleranceBps"] // BPS
    return max(due - max(delivered, 0) - band, 0)


def reassign(
    suite: Suite,
    sender: LocalAccount,
    order: Callable[[], ProsumerOrder],
    reading: ReadingRow,
    baseline: bytes,
    standby: Sequence[Mapping[str, Any]],
    record: Callable[[Receipt], None],
) -> int:
    """Hand what a failing order misses to standby until nothing is missing or nobody is left.

    Anyone may send; the contract decides who is next.

    Parameters
    ----------
    order : callable
        The failing order as it is now; asked anew after every step.
    baseline : bytes
        Packed baseline of the failing order.
    standby : sequence of dict
        The flex order's list as ``StandbyListed`` showed it.
    record : callable
        Takes each receipt up, so that ``order`` is current.

    Returns
    -------
    int
        How many took over.
    """
    taken_over = 0
    while standby:
        failing = order()
        evidence = {
            "prosumerOrderId": failing.id,
            "quantitiesWh": failing.quantities,
            "baselineWh": baseline,
            "takenWh": failing.taken,
            "reading": {
                "meterId": reading.meter_id,
                "isp": reading.isp,
                "importWh": reading.import_wh,
                "exportWh": reading.export_wh,
                "signature": reading.signature,
            },
            "standby": standby,
        }
        try:
            receipt = suite.send(sender, "FlexReassignment", "reassign", (failing.terms, evidence))
        except ContractRevertedError as error:
            if error.name in EXHAUSTED:
                break
            raise
        record(receipt)
        taken_over += 1
    return taken_over
