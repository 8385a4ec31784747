"""Energy per ISP of meters without registers: their power integrated, where it was seen without a longer pause.

Between two values the power is taken for a straight line, over which what is taken and what is given are summed apart.
Everything comes from the observations on disk, so that a process that was killed goes on where it stopped; what it
missed is bridged, or the ISP is missing, by the same rule as any pause of the device. Such a reading says by its
quality where it comes from.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import SECONDS_PER_HOUR
from offchain.store import Store
from offchain.store.observations import observations_of
from offchain.store.readings import readings_at
from oracles.clock import Clock, unix
from oracles.normalise import MeteringPoint
from oracles.sources.port import IntervalEnergy, Quantity

PATIENCE_ISPS = 24
"""How long an ISP is waited for: a device may bring later what it measured while it was away."""


class PowerMeter(NamedTuple):
    """A meter whose energy is the power of a device, and the longest pause between two values of it [s]."""

    point: MeteringPoint
    device_id: str
    longest_pause_s: int


class PowerIntegration:
    """Readings of a site's meters without registers."""

    def __init__(self, store: Store, meters: Iterable[PowerMeter], clock: Clock):
        self.meters = list(meters)
        self._store = store
        self._clock = clock

    def energies(self) -> list[IntervalEnergy]:
        """Energy of all ISPs that are over, have no reading yet, and whose power was seen throughout."""
        now = unix(self._clock)
        found = []
        for meter in self.meters:
            # The value after the end belongs to the ISP too, and may come as late as the pause allows.
            end_isp = (now - meter.longest_pause_s) // SECONDS_PER_ISP
            isps = [isp for isp in range(end_isp - PATIENCE_ISPS, end_isp) if meter.point.in_service(isp)]
            with self._store.read() as connection:
                held = readings_at(connection, [(isp, meter.point.meter_id) for isp in isps])
                for isp in isps:
                    if (isp, meter.point.meter_id) in held:
                        continue
                    first = isp * SECONDS_PER_ISP - meter.longest_pause_s
                    end = (isp + 1) * SECONDS_PER_ISP + meter.longest_pause_s + 1
                    rows = observations_of(connection, meter.device_id, Quantity.ACTIVE_POWER, 0, first, end)
                    samples = [(row.observed_at, row.value) for row in rows]
                    if (energy := energy_wh(samples, isp, meter.longest_pause_s)) is not None:
                        found.append(IntervalEnergy(meter.point.meter_id, isp, *energy, now, integrated=True))
        return found


def energy_wh(samples: Sequence[tuple[int, float]], isp: int, longest_pause_s: int) -> tuple[int, int] | None:
    """Import and export of an ISP [Wh], rounded to the nearest; ``None`` when the power was not seen throughout.

    Parameters
    ----------
    samples : sequence of (int, float)
        Time [UTC s] and power [W], positive when taken from the grid; by time, reaching beyond both ends.
    """
    start, end = isp * SECONDS_PER_ISP, (isp + 1) * SECONDS_PER_ISP
    import_ws = export_ws = 0.0
    seen_until = start
    for (before, before_w), (after, after_w) in pairwise(samples):
        if after <= start or before >= end:
            continue
        if after - before > longest_pause_s or before > seen_until:
            return None
        slope = (after_w - before_w) / (after - before)
        left, right = max(before, start), min(after, end)
        left_w, right_w = before_w + slope * (left - before), before_w + slope * (right - before)
        for area_ws in _areas(left_w, right_w, right - left):
            import_ws += max(area_ws, 0.0)
            export_ws += max(-area_ws, 0.0)
        seen_until = right
    if seen_until < end:
        return None
    return round(import_ws / SECONDS_PER_HOUR), round(export_ws / SECONDS_PER_HOUR)


def _areas(left_w: float, right_w: float, seconds: float) -> tuple[float, ...]:
    """Energy below a straight line [Ws], apart on both sides of where it crosses zero."""
    if left_w * right_w >= 0:
        return ((left_w + right_w) / 2 * seconds,)
    until_zero_s = seconds * left_w / (left_w - right_w)
    return left_w * until_zero_s / 2, right_w * (seconds - until_zero_s) / 2
