"""PV that can be curtailed, and generators that can be started."""

from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.units import Direction
from offchain.potential.checks import energy_of, like, whole_cost, whole_wh
from offchain.potential.envelope import Envelope


def _unlimited(
    direction: Direction, power_wh: np.ndarray, cost: np.ndarray, least_wh: np.ndarray | None = None
) -> Envelope:
    """Limits of power only."""
    return Envelope(
        direction=direction,
        power_wh=power_wh,
        room=np.full(power_wh.size, np.inf),
        stored_per_wh=np.zeros(power_wh.size),
        recovery=np.zeros(power_wh.size),
        retention=1.0,
        cost_utoken_per_kwh=whole_cost(cost),
        comfort_utoken_per_kwh=np.zeros(power_wh.size, dtype=np.int64),
        **({} if least_wh is None else {"least_wh": least_wh}),
    )


@dataclass(frozen=True)
class PvSystem:
    """PV that can inject less than the sun allows, never more.

    Attributes
    ----------
    expected_wh : ndarray of int, shape (n_isps,)
        Production that is reached with the certainty wanted, such as the P10 of a forecast [Wh], non-negative.
    value_utoken_per_kwh : ndarray or float
        What a kWh that is not produced would have brought.
    """

    expected_wh: np.ndarray
    value_utoken_per_kwh: np.ndarray | float = 0.0

    def envelope(self, direction: Direction) -> Envelope:
        """Limits in one direction: nothing UP, all of the production DOWN."""
        expected = whole_wh(self.expected_wh, "expected production")
        if (expected < 0).any():
            raise DomainError(f"expected production is negative at position {int(np.flatnonzero(expected < 0)[0])}")
        value = like(self.value_utoken_per_kwh, expected, "value")
        return _unlimited(direction, expected if direction is Direction.DOWN else np.zeros_like(expected), value)


@dataclass(frozen=True)
class Generator:
    """A generator with a plan, power limits, a ramp and, where it has one, a tank.

    Its output follows orders from one ISP to the next by at most ``ramp_w``. Any order within the margins keeps to
    that, whatever is ordered before and after it, because every margin leaves room for the steepest neighbour.

    Attributes
    ----------
    output_wh : ndarray of int, shape (n_isps,)
        Planned production [Wh], zero or between least and highest power.
    least_w, highest_w : float
        Power limits when it runs.
    ramp_w : float, optional
        Most by which the mean power of an ISP may differ from that of the one before.
    fuel_wh : float, optional
        Electricity that the fuel beyond the plan is enough for [Wh].
    fuel_utoken_per_kwh : ndarray or float
    """

    output_wh: np.ndarray
    least_w: float
    highest_w: float
    ramp_w: float | None = None
    fuel_wh: float | None = None
    fuel_utoken_per_kwh: np.ndarray | float = 0.0

    def envelope(self, direction: Direction) -> Envelope:
        """Limits in one direction: UP produces more or starts, DOWN produces less, not below the least power."""
        output = whole_wh(self.output_wh, "planned output")
        least, highest = -(-int(self.least_w) // 4), energy_of(self.highest_w)
        outside = (output != 0) & ((output < least) | (output > highest))
        if outside.any() or least > highest:
            where = int(np.flatnonzero(outside)[0]) if outside.any() else 0
            raise DomainError(f"planned output is neither zero nor within {least}..{highest} Wh at position {where}")
        up = direction is Direction.UP
        runs = output > 0
        power = highest - output if up else np.where(runs, output - least, 0)
        if self.ramp_w is not None:
            ramp = energy_of(self.ramp_w)
            before, after = np.r_[output[0], output[:-1]], np.r_[output[1:], output[-1]]
            if (np.abs(output - before) > ramp).any():
                where = int(np.flatnonzero(np.abs(output - before) > ramp)[0])
                raise DomainError(f"planned output changes by more than {ramp} Wh at position {where}")
            steepest = (
                np.maximum(output - before, output - after) if up else np.maximum(before - output, after - output)
            )
            power = np.minimum(power, np.maximum(ramp - steepest, 0))
        least_order = np.where(runs | (not up), 0, least)
        fuel = like(self.fuel_utoken_per_kwh, output, "fuel cost")
        envelope = _unlimited(direction, power, fuel if up else -fuel, least_order)
        if up and self.fuel_wh is not None:
            limited = {"room": np.full(output.size, float(self.fuel_wh)), "stored_per_wh": np.ones(output.size)}
            envelope = Envelope(**{name: getattr(envelope, name) for name in envelope.__dataclass_fields__} | limited)
        return envelope
