"""Heat pumps in houses and water heaters: warmth that leaks away."""

from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.units import WH_PER_KWH, Direction
from offchain.potential.checks import ISP_HOURS, energy_of, like, positive, whole_cost, whole_wh
from offchain.potential.envelope import Envelope

WATER_WH_PER_LITRE_KELVIN = 1.163
"""Heat capacity of a litre of water."""


@dataclass(frozen=True)
class ThermalStore:
    """A heat store of one temperature, heated by electricity, losing warmth to its surroundings.

    Per ISP ``T' = T + (factor * electricity - loss * (T - outside) * 0.25 h - drawn) / capacity``. The deviation of
    the temperature from the planned one follows the same equation without outside and draws, which is why limits for
    any order are known in advance. The plan goes on after an order: nothing is made up for, warmth comes back as
    losses are smaller.

    Attributes
    ----------
    capacity_wh_per_k : float
        Heat capacity.
    loss_w_per_k : float
        Heat loss by kelvin of difference.
    power_w : float
        Highest electrical power.
    factor : ndarray or float
        Heat by electricity: coefficient of performance of a heat pump, 1 of an immersion heater.
    first_c, lowest_c, highest_c : float
        Temperature at the beginning, and the limits of comfort or safety [degrees Celsius].
    outside_c : ndarray or float
        Temperature of the surroundings.
    plan_wh : ndarray of int, shape (n_isps,)
        Planned electricity, for example the baseline of the device [Wh].
    drawn_wh : ndarray or float
        Heat taken out in each ISP, such as hot water; negative for gains from the sun [Wh].
    comfort_utoken_per_kelvin_hour : float
        What one kelvin of deviation over one hour is worth to the people who live there.
    """

    capacity_wh_per_k: float
    loss_w_per_k: float
    power_w: float
    first_c: float
    lowest_c: float
    highest_c: float
    outside_c: np.ndarray | float
    plan_wh: np.ndarray
    factor: np.ndarray | float = 1.0
    drawn_wh: np.ndarray | float = 0.0
    price_utoken_per_kwh: np.ndarray | float = 0.0
    comfort_utoken_per_kelvin_hour: float = 0.0

    @property
    def retention(self) -> float:
        """Share of a deviation that is left after one ISP."""
        retention = 1 - self.loss_w_per_k * ISP_HOURS / self.capacity_wh_per_k
        if not 0 < retention <= 1:
            raise DomainError(
                f"a store of {self.capacity_wh_per_k} Wh/K losing {self.loss_w_per_k} W/K is cold in a quarter hour",
                hint="check the units: Wh/K and W/K",
            )
        return retention

    def temperatures_c(self) -> np.ndarray:
        """Temperature at the end of every ISP if the plan is followed, shape (n_isps,)."""
        plan = whole_wh(self.plan_wh, "plan of the heat store")
        heat = like(self.factor, plan, "factor") * plan - like(self.drawn_wh, plan, "drawn heat")
        outside = like(self.outside_c, plan, "outside temperature")
        keep, temperature, course = self.retention, self.first_c, np.empty(plan.size)
        for n in range(plan.size):
            temperature = outside[n] + keep * (temperature - outside[n]) + heat[n] / self.capacity_wh_per_k
            course[n] = temperature
        return course

    def envelope(self, direction: Direction) -> Envelope:
        """Limits in one direction; none where the plan itself is outside of the comfort band."""
        positive(capacity_wh_per_k=self.capacity_wh_per_k, loss_w_per_k=self.loss_w_per_k)
        plan = whole_wh(self.plan_wh, "plan of the heat store")
        most = energy_of(self.power_w)
        if (plan < 0).any() or (plan > most).any():
            where = int(np.flatnonzero((plan < 0) | (plan > most))[0])
            raise DomainError(f"plan of the heat store is outside 0..{most} Wh at position {where}")
        course, up = self.temperatures_c(), direction is Direction.UP
        factor, price = like(self.factor, plan, "factor"), like(self.price_utoken_per_kwh, plan, "price")
        kelvin_hours_per_kwh = factor * WH_PER_KWH / self.loss_w_per_k
        return Envelope(
            direction=direction,
            power_wh=plan if up else most - plan,
            room=np.maximum(course - self.lowest_c if up else self.highest_c - course, 0.0) * self.capacity_wh_per_k,
            stored_per_wh=factor,
            recovery=np.zeros(plan.size),
            retention=self.retention,
            cost_utoken_per_kwh=whole_cost(-price if up else price),
            comfort_utoken_per_kwh=whole_cost(kelvin_hours_per_kwh * self.comfort_utoken_per_kelvin_hour),
        )


def water_heater(*, litres: float, **parameters) -> ThermalStore:
    """A hot water tank as a heat store of one temperature; other parameters as of :class:`ThermalStore`."""
    positive(litres=litres)
    return ThermalStore(capacity_wh_per_k=litres * WATER_WH_PER_LITRE_KELVIN, **parameters)
