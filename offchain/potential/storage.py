"""Batteries, and electric vehicles that leave."""

from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.units import Direction
from offchain.potential.checks import energy_of, like, positive, whole_cost, whole_wh
from offchain.potential.envelope import Envelope


def _stored(plan_wh: np.ndarray, first_wh: float, charging: float, discharging: float) -> np.ndarray:
    """Charge at the end of every ISP if the plan is followed [Wh]."""
    change = np.where(plan_wh > 0, plan_wh * charging, plan_wh / discharging)
    return first_wh + np.cumsum(change)


def _per_wh(
    direction: Direction, plan_wh: np.ndarray, power_wh: np.ndarray, charging: float, discharging: float
) -> np.ndarray:
    """Most that one Wh at the meter moves in the store.

    A Wh not charged is ``charging``, one discharged ``1 / discharging``, which is more. Where an order may cross from
    one to the other the larger applies to all of it.
    """
    lowest = plan_wh - power_wh if direction is Direction.UP else plan_wh
    return np.where(lowest < 0, 1 / discharging, charging)


@dataclass(frozen=True)
class Battery:
    """A battery that follows a plan; what is moved stays moved, the plan goes on after it.

    Attributes
    ----------
    capacity_wh, least_wh : float
        Most and least charge.
    stored_wh : float
        Charge at the beginning.
    charge_w, discharge_w : float
        Highest power at the meter.
    charging, discharging : float
        Efficiencies, above 0 and at most 1.
    plan_wh : ndarray of int, shape (n_isps,)
        Planned net consumption of the battery [Wh], charging positive.
    price_utoken_per_kwh : ndarray or float
        What a kWh from the grid costs in each ISP.
    wear_utoken_per_kwh : float
        Ageing by one kWh of throughput.
    """

    capacity_wh: float
    stored_wh: float
    charge_w: float
    discharge_w: float
    plan_wh: np.ndarray
    least_wh: float = 0.0
    charging: float = 0.95
    discharging: float = 0.95
    price_utoken_per_kwh: np.ndarray | float = 0.0
    wear_utoken_per_kwh: float = 0.0

    def envelope(self, direction: Direction) -> Envelope:
        """Limits in one direction.

        Raises
        ------
        DomainError
            The plan itself leaves the battery's limits; named with its position.
        """
        plan = whole_wh(self.plan_wh, "plan of the battery")
        positive(capacity_wh=self.capacity_wh, charging=self.charging, discharging=self.discharging)
        stored = _stored(plan, self.stored_wh, self.charging, self.discharging)
        charge, discharge = energy_of(self.charge_w), energy_of(self.discharge_w)
        tolerance = 1e-6 * self.capacity_wh
        outside = (stored < self.least_wh - tolerance) | (stored > self.capacity_wh + tolerance)
        outside |= (plan > charge) | (plan < -discharge)
        if outside.any():
            raise DomainError(
                f"plan of the battery leaves its limits at position {int(np.flatnonzero(outside)[0])}",
                hint="plan within capacity and power, or correct the charge at the beginning",
            )
        up = direction is Direction.UP
        power = discharge + plan if up else charge - plan
        price = like(self.price_utoken_per_kwh, plan, "price")
        round_trip = self.charging * self.discharging
        # What is moved is bought back, or used, at the mean price of the horizon.
        cost = price.mean() / round_trip - price if up else price - price.mean() * round_trip
        return Envelope(
            direction=direction,
            power_wh=power,
            room=np.maximum(stored - self.least_wh if up else self.capacity_wh - stored, 0.0),
            stored_per_wh=_per_wh(direction, plan, power, self.charging, self.discharging),
            recovery=np.zeros(plan.size),
            retention=1.0,
            cost_utoken_per_kwh=whole_cost(cost + self.wear_utoken_per_kwh),
            comfort_utoken_per_kwh=np.zeros(plan.size, dtype=np.int64),
        )


@dataclass(frozen=True)
class ElectricVehicle:
    """A vehicle at its charger from ``arrival`` until ``departure`` (positions, first included, last excluded).

    Moving UP postpones charging, or discharges where ``discharge_w`` allows it; what was postponed is charged
    afterwards, until departure, with the power that the plan leaves. Moving DOWN charges earlier; planned charging
    that no longer fits is left out.

    Attributes
    ----------
    stored_wh, required_wh : float
        Charge at arrival, and at departure at least.
    reserve_wh : float
        Charge that discharging leaves.
    plan_wh : ndarray of int, shape (n_isps,)
        Planned net consumption of the charger [Wh]; zero while the vehicle is away.
    """

    capacity_wh: float
    stored_wh: float
    required_wh: float
    charge_w: float
    plan_wh: np.ndarray
    arrival: int
    departure: int
    discharge_w: float = 0.0
    reserve_wh: float = 0.0
    charging: float = 0.92
    discharging: float = 0.92
    price_utoken_per_kwh: np.ndarray | float = 0.0
    wear_utoken_per_kwh: float = 0.0

    def envelope(self, direction: Direction) -> Envelope:
        """Limits in one direction.

        Raises
        ------
        DomainError
            The plan charges while the vehicle is away, beyond its power or capacity, or less than is required.
        """
        plan = whole_wh(self.plan_wh, "plan of the vehicle")
        positive(capacity_wh=self.capacity_wh, charging=self.charging, discharging=self.discharging)
        if not 0 <= self.arrival < self.departure <= plan.size:
            raise DomainError(f"vehicle: from {self.arrival} until {self.departure} is not within {plan.size} ISPs")
        here = np.zeros(plan.size, dtype=bool)
        here[self.arrival : self.departure] = True
        stored = _stored(np.where(here, plan, 0), self.stored_wh, self.charging, self.discharging)
        charge, discharge = energy_of(self.charge_w), energy_of(self.discharge_w)
        tolerance = 1e-6 * self.capacity_wh
        outside = (~here & (plan != 0)) | (plan > charge) | (plan < -discharge)
        outside |= here & ((stored > self.capacity_wh + tolerance) | (stored < 0))
        outside[self.departure - 1] |= stored[self.departure - 1] < self.required_wh - tolerance
        if outside.any():
            raise DomainError(
                f"plan of the vehicle leaves its limits at position {int(np.flatnonzero(outside)[0])}",
                hint="plan within power and capacity, and reach the required charge until departure",
            )
        up = direction is Direction.UP
        power = np.where(here, discharge + plan if up else charge - plan, 0)
        room = np.full(plan.size, np.inf)
        room[here] = np.maximum(stored[here] - self.reserve_wh if up else self.capacity_wh - stored[here], 0.0)
        if up and not self.discharge_w:
            room[here] = np.inf  # what is not charged now takes nothing out
        if up:
            last = self.departure - 1
            room[last] = min(room[last], max(stored[last] - self.required_wh, 0.0))
        recovery = np.where(here, charge - plan if up else np.maximum(plan, 0), 0) * self.charging
        price = like(self.price_utoken_per_kwh, plan, "price")
        mean = price[here].mean()
        wear = self.wear_utoken_per_kwh if not up or self.discharge_w else 0.0
        return Envelope(
            direction=direction,
            power_wh=power,
            room=room,
            stored_per_wh=_per_wh(direction, plan, power, self.charging, self.discharging),
            recovery=recovery,
            retention=1.0,
            cost_utoken_per_kwh=whole_cost((mean - price if up else price - mean) + wear),
            comfort_utoken_per_kwh=np.zeros(plan.size, dtype=np.int64),
        )
