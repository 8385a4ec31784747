"""Portfolios as JSON: prosumers, their assets and plans.

.. code-block:: json

    {"day": "2016-12-14", "zone": "Europe/Berlin", "prosumers": [
      {"id": "home 1", "import_limit_w": 20000, "export_limit_w": 10000, "baseline_wh": "home 1", "assets": {
        "car": {"kind": "ev", "capacity_wh": 50000, "stored_wh": 20000, "required_wh": 40000, "charge_w": 11000,
                "arrival": "17:30", "departure": "24:00", "plan_wh": "at once"},
        "roof": {"kind": "pv", "expected_wh": "home 1 PV P10"}}}]}

A value per ISP is a number for all of them, a list for the whole day, or the name of a column of a table of series
(start, and one column per series) that is given beside the portfolio. Times of day are local.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from datetime import datetime as moment
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from offchain.domain.errors import DomainError, FlexError, PermanentError
from offchain.domain.isp import MarketDay, isp_of
from offchain.potential.appliance import ShiftableAppliance
from offchain.potential.checks import energy_of
from offchain.potential.generation import Generator, PvSystem
from offchain.potential.prosumer import Asset, Prosumer
from offchain.potential.storage import Battery, ElectricVehicle
from offchain.potential.thermal import ThermalStore, water_heater

Series = float | list[float] | str
TimeOfDay = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):(00|15|30|45)$|^24:00$")]
PLAN_AT_ONCE = "at once"


@dataclass(frozen=True)
class Day:
    """A market day, and how names of columns become values."""

    market_day: MarketDay
    zone: str
    column: Callable[[str], np.ndarray]

    def values(self, series: Series) -> np.ndarray:
        """Floats for every ISP of the day."""
        isps = self.market_day.isp_count
        if isinstance(series, str):
            return self.column(series)
        array = np.full(isps, series, dtype=float) if isinstance(series, int | float) else np.array(series, dtype=float)
        if array.shape != (isps,):
            raise DomainError(f"{array.size} values for {self.market_day.day}, which has {isps} ISPs")
        return array

    def whole(self, series: Series) -> np.ndarray:
        """Whole Wh for every ISP, halves up; missing values are refused."""
        values = self.values(series)
        if not np.isfinite(values).all():
            raise DomainError(f"no value at position {int(np.flatnonzero(~np.isfinite(values))[0])}")
        return np.floor(values + 0.5).astype(np.int64)

    def position(self, local: str) -> int:
        """Position of a local time of day; of a time that comes twice the first."""
        if local == "24:00":
            return self.market_day.isp_count
        at = moment.combine(self.market_day.day, moment.strptime(local, "%H:%M").time(), ZoneInfo(self.zone))
        return isp_of(at) - self.market_day.first_isp


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BatteryModel(_Model):
    kind: Literal["battery"]
    capacity_wh: float
    stored_wh: float
    charge_w: float
    discharge_w: float
    least_wh: float = 0
    charging: float = Field(0.95, gt=0, le=1)
    discharging: float = Field(0.95, gt=0, le=1)
    plan_wh: Series = 0
    price_utoken_per_kwh: Series = 0
    wear_utoken_per_kwh: float = 0

    def asset(self, day: Day) -> Asset:
        fields = self.model_dump(exclude={"kind", "plan_wh", "price_utoken_per_kwh"})
        price = day.values(self.price_utoken_per_kwh)
        return Battery(plan_wh=day.whole(self.plan_wh), price_utoken_per_kwh=price, **fields)


class VehicleModel(_Model):
    kind: Literal["ev"]
    capacity_wh: float
    stored_wh: float
    required_wh: float
    charge_w: float
    arrival: TimeOfDay
    departure: TimeOfDay
    discharge_w: float = 0
    reserve_wh: float = 0
    charging: float = Field(0.92, gt=0, le=1)
    discharging: float = Field(0.92, gt=0, le=1)
    plan_wh: Series = PLAN_AT_ONCE
    price_utoken_per_kwh: Series = 0
    wear_utoken_per_kwh: float = 0

    def asset(self, day: Day) -> Asset:
        arrival, departure = day.position(self.arrival), day.position(self.departure)
        replaced = {"kind", "plan_wh", "price_utoken_per_kwh", "arrival", "departure"}
        return ElectricVehicle(
            plan_wh=self._at_once(day, arrival) if self.plan_wh == PLAN_AT_ONCE else day.whole(self.plan_wh),
            price_utoken_per_kwh=day.values(self.price_utoken_per_kwh),
            arrival=arrival,
            departure=departure,
            **self.model_dump(exclude=replaced),
        )

    def _at_once(self, day: Day, arrival: int) -> np.ndarray:
        """Charging at full power from arrival until the required charge is reached."""
        plan, missing = np.zeros(day.market_day.isp_count, dtype=np.int64), self.required_wh - self.stored_wh
        for n in range(arrival, day.position(self.departure)):
            plan[n] = min(energy_of(self.charge_w), max(int(np.ceil(missing / self.charging)), 0))
            missing -= plan[n] * self.charging
        return plan


class _ThermalModel(_Model):
    loss_w_per_k: float
    power_w: float
    first_c: float
    lowest_c: float
    highest_c: float
    outside_c: Series
    plan_wh: Series
    price_utoken_per_kwh: Series = 0
    comfort_utoken_per_kelvin_hour: float = 0

    def _fields(self, day: Day) -> dict:
        return {
            "loss_w_per_k": self.loss_w_per_k,
            "power_w": self.power_w,
            "first_c": self.first_c,
            "lowest_c": self.lowest_c,
            "highest_c": self.highest_c,
            "outside_c": day.values(self.outside_c),
            "plan_wh": day.whole(self.plan_wh),
            "price_utoken_per_kwh": day.values(self.price_utoken_per_kwh),
            "comfort_utoken_per_kelvin_hour": self.comfort_utoken_per_kelvin_hour,
        }


class HeatPumpModel(_ThermalModel):
    kind: Literal["heat_pump"]
    capacity_wh_per_k: float
    factor: Series = 3.0
    gains_wh: Series = 0

    def asset(self, day: Day) -> Asset:
        return ThermalStore(
            capacity_wh_per_k=self.capacity_wh_per_k,
            factor=day.values(self.factor),
            drawn_wh=-day.values(self.gains_wh),
            **self._fields(day),
        )


class WaterHeaterModel(_ThermalModel):
    kind: Literal["water_heater"]
    litres: float
    drawn_wh: Series = 0
    factor: Series = 1.0

    def asset(self, day: Day) -> Asset:
        drawn, factor = day.values(self.drawn_wh), day.values(self.factor)
        return water_heater(litres=self.litres, drawn_wh=drawn, factor=factor, **self._fields(day))


class ApplianceModel(_Model):
    kind: Literal["appliance"]
    run_wh: list[int]
    planned_start: TimeOfDay
    earliest_start: TimeOfDay
    latest_end: TimeOfDay
    price_utoken_per_kwh: Series = 0
    comfort_utoken_per_kwh: float = 0

    def asset(self, day: Day) -> Asset:
        return ShiftableAppliance(
            run_wh=np.array(self.run_wh, dtype=np.int64),
            planned_start=day.position(self.planned_start),
            earliest_start=day.position(self.earliest_start),
            latest_end=day.position(self.latest_end),
            isps=day.market_day.isp_count,
            price_utoken_per_kwh=day.values(self.price_utoken_per_kwh),
            comfort_utoken_per_kwh=self.comfort_utoken_per_kwh,
        )


class PvModel(_Model):
    kind: Literal["pv"]
    expected_wh: Series
    value_utoken_per_kwh: Series = 0

    def asset(self, day: Day) -> Asset:
        return PvSystem(day.whole(self.expected_wh), day.values(self.value_utoken_per_kwh))


class GeneratorModel(_Model):
    kind: Literal["generator"]
    least_w: float
    highest_w: float
    output_wh: Series = 0
    ramp_w: float | None = None
    fuel_wh: float | None = None
    fuel_utoken_per_kwh: Series = 0

    def asset(self, day: Day) -> Asset:
        fields = self.model_dump(include={"least_w", "highest_w", "ramp_w", "fuel_wh"})
        fuel = day.values(self.fuel_utoken_per_kwh)
        return Generator(output_wh=day.whole(self.output_wh), fuel_utoken_per_kwh=fuel, **fields)


AssetModel = Annotated[
    BatteryModel | VehicleModel | HeatPumpModel | WaterHeaterModel | ApplianceModel | PvModel | GeneratorModel,
    Field(discriminator="kind"),
]


class ProsumerModel(_Model):
    id: str = Field(min_length=1)
    baseline_wh: Series | None = None
    import_limit_w: int | None = Field(None, ge=0)
    export_limit_w: int | None = Field(None, ge=0)
    assets: dict[str, AssetModel]


class PortfolioModel(_Model):
    """What a portfolio file holds."""

    day: date
    zone: str = "Europe/Berlin"
    prosumers: list[ProsumerModel]


def read_portfolio(path: Path | str) -> PortfolioModel:
    """A portfolio file.

    Raises
    ------
    PermanentError
        Missing or unreadable.
    DomainError
        Not what a portfolio is; names the first fault and where it is.
    """
    try:
        portfolio = PortfolioModel.model_validate_json(Path(path).read_bytes())
    except OSError as exc:
        raise PermanentError(f"{path} cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DomainError(f"{path}: {where}: {first['msg']}", hint="see offchain/potential/README.md") from exc
    ids = [prosumer.id for prosumer in portfolio.prosumers]
    if len(set(ids)) != len(ids):
        raise DomainError(f"{path}: prosumer {next(i for i in ids if ids.count(i) > 1)!r} comes twice")
    return portfolio


def prosumers_of(
    portfolio: PortfolioModel,
    column: Callable[[str], np.ndarray],
    baseline: Callable[[str], np.ndarray | None] = lambda _: None,
) -> tuple[list[Prosumer], dict[str, FlexError]]:
    """Prosumers of a portfolio; those whose values cannot be used are named and left out.

    Parameters
    ----------
    column : callable
        Values of a named series, float, shape (isp_count,); raises :class:`DomainError` for one that there is not.
    baseline : callable
        Baseline by prosumer for those that bring none [Wh]; zero where it has none either.
    """
    day = Day(MarketDay.of(portfolio.day, portfolio.zone), portfolio.zone, column)
    found, refused = [], {}
    for model in portfolio.prosumers:
        try:
            own = baseline(model.id) if model.baseline_wh is None else day.whole(model.baseline_wh)
            net_wh = np.zeros(day.market_day.isp_count, dtype=np.int64) if own is None else own
            assets = {name: asset.asset(day) for name, asset in model.assets.items()}
        except FlexError as refusal:
            refused[model.id] = refusal
            continue
        found.append(Prosumer(model.id, net_wh, assets, model.import_limit_w, model.export_limit_w))
    return found, refused
