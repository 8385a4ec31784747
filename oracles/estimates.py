"""What was probably used while nobody read: flagged estimates, kept beside the readings and never signed.

Between two reads the registers tell the energy of a gap to the Wh, only not how it fell on the ISPs. It is spread
evenly, so that the estimates of a gap add up to what the registers say. Settlement never sees them: the ISPs of a gap
are missing there, and the terms of an agreement say what that means.
"""

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.store.readings import EstimateRow, RegisterState
from oracles.normalise import MeteringPoint, limit_wh

SPREAD = "registers spread evenly"
LONGEST_GAP_ISPS = 700
"""A week; beyond it an even spread says nothing."""


def fill_gap(point: MeteringPoint, before: RegisterState, after: RegisterState, *, now: int) -> list[EstimateRow]:
    """Estimates of the ISPs between two reads of the registers; empty when the registers do not tell.

    Parameters
    ----------
    before, after : RegisterState
        Last boundary before the gap and first one after it.
    """
    count = after.boundary - before.boundary
    import_wh = after.import_register_wh - before.import_register_wh
    export_wh = after.export_register_wh - before.export_register_wh
    if not 1 < count <= LONGEST_GAP_ISPS or import_wh < 0 or export_wh < 0:
        return []
    span_s = count * SECONDS_PER_ISP
    if import_wh > limit_wh(point.max_import_w, span_s) or export_wh > limit_wh(point.max_export_w, span_s):
        return []
    return [
        EstimateRow(point.meter_id, before.boundary + i, imported_wh, exported_wh, SPREAD, now)
        for i, (imported_wh, exported_wh) in enumerate(
            zip(_spread(import_wh, count), _spread(export_wh, count), strict=True)
        )
    ]


def _spread(total_wh: int, count: int) -> list[int]:
    """Whole numbers as equal as can be, with the given sum."""
    return [total_wh * (i + 1) // count - total_wh * i // count for i in range(count)]
