"""Scenarios of the pilot: a SimBench grid, its connections with their assets, a day worth looking at.

==========  =====================  ==========  ==========================================================
name        grid                   day         what happens
==========  =====================  ==========  ==========================================================
``noon``    1-LV-rural1--2-sw      2016-05-20  PV feeds back through a 160 kVA transformer, 209% at 13:00;
                                               DOWN from batteries (added where PV has none), EVs and
                                               heat pumps (data set)
``evening`` 1-LV-rural3--2-sw      2016-03-16  every home has an EV, nearly every one a heat pump; the
                                               400 kVA transformer is overloaded from 19:15; UP
``quiet``   1-LV-semiurb5--2-sw    2016-05-17  the data set as it is: no congestion
==========  =====================  ==========  ==========================================================

Net consumption is integer Wh per ISP, import minus export, negative when the connection injects. The net of a
connection is the sum of its assets, each rounded once, so that the parts add up exactly.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.isp import ISPS_PER_HOUR, MarketDay, isp_start
from offchain.domain.units import Direction
from offchain.grid.assets import Asset, AssetKind, Connection
from offchain.grid.simbench_data import (
    EV_PREFIXES,
    HEAT_PUMP_PREFIXES,
    YEAR_FIRST_ISP,
    YEAR_ISPS,
    GridData,
    load_grid_data,
)
from offchain.grid.uptake import battery_limits, ev_limits, evening_uptake, heat_pump_limits, noon_batteries

ZONE = "Europe/Berlin"
HOME_PROFILE_PREFIX = "H0"
EVENING_PEAK = 1.15
"""Apparent power at which the evening uptake ends, as a share of the transformer's rating."""


@dataclass(frozen=True, slots=True)
class _Definition:
    code: str
    day: date
    direction: Direction
    plugged_minutes: tuple[int, int]
    battery_charge: float


_DEFINITIONS = {
    # farms and workshops: vehicles stand at the site by day, batteries are empty in the morning
    "noon": _Definition("1-LV-rural1--2-sw", date(2016, 5, 20), Direction.DOWN, (8 * 60, 18 * 60), 0.1),
    "evening": _Definition("1-LV-rural3--2-sw", date(2016, 3, 16), Direction.UP, (17 * 60, 7 * 60), 0.5),
    "quiet": _Definition("1-LV-semiurb5--2-sw", date(2016, 5, 17), Direction.UP, (17 * 60, 7 * 60), 0.5),
}
SCENARIOS = tuple(_DEFINITIONS)


@dataclass(frozen=True)
class Scenario:
    """A grid with its connections and their behaviour over the SimBench year.

    Attributes
    ----------
    name, code : str
        Name of the scenario and SimBench code of its grid.
    seed : int
        Seed of everything that was drawn.
    day : MarketDay
        The day the scenario is about.
    direction : Direction
        Direction in which flexibility helps on that day.
    grid : GridData
        Topology, electrical data and profiles.
    connections : tuple of Connection
    assets : tuple of Asset
    """

    name: str
    code: str
    seed: int
    day: MarketDay
    direction: Direction
    grid: GridData
    connections: tuple[Connection, ...]
    assets: tuple[Asset, ...]

    @property
    def congestion_point(self) -> str:
        """Name of the transformer, the element all connections hang on."""
        return str(self.grid.trafo_name[0])

    @property
    def prosumers(self) -> tuple[int, ...]:
        """Positions of the connections that are prosumers."""
        return tuple(i for i, c in enumerate(self.connections) if c.is_prosumer)

    @cached_property
    def connection_bus(self) -> np.ndarray:
        """Bus of each connection."""
        return np.array([c.bus for c in self.connections])

    def asset_wh(self, isps: Iterable[int] | MarketDay) -> np.ndarray:
        """Net consumption of every asset, shape (n_isps, n_assets), integer Wh."""
        return np.rint(self._asset_power(isps, self.grid.profile_p, "p_w") / ISPS_PER_HOUR).astype(np.int64)

    def net_wh(self, isps: Iterable[int] | MarketDay) -> np.ndarray:
        """Net consumption of every connection, shape (n_isps, n_connections), integer Wh."""
        return self.by_connection(self.asset_wh(isps))

    def reactive_var(self, isps: Iterable[int] | MarketDay) -> np.ndarray:
        """Reactive power of every connection, shape (n_isps, n_connections), consumption positive [var]."""
        return self.by_connection(self._asset_power(isps, self.grid.profile_q, "q_var"))

    def flexible_wh(self, day: MarketDay, direction: Direction, *, asset_wh: np.ndarray | None = None) -> np.ndarray:
        """Most that each asset can change its net consumption in ``direction``, power limits alone.

        Energy over the day is limited besides, by ``Asset.up_energy_wh`` and ``Asset.down_energy_wh``.

        Parameters
        ----------
        asset_wh : ndarray, shape (isp_count, n_assets), optional
            Expected net consumption per asset [Wh]; the profile of the day when absent.

        Returns
        -------
        ndarray, shape (isp_count, n_assets)
            Non-negative integer Wh; zero for what is not flexible. Batteries move between their power limits
            by at most their rated power, heat pumps and EVs between off and rated power, EVs upwards only
            while plugged in.
        """
        expected = self.asset_wh(day) if asset_wh is None else asset_wh
        flexible = np.array([a.flexible for a in self.assets])
        highest = np.array([a.max_import_w // ISPS_PER_HOUR for a in self.assets])
        if direction is Direction.UP:
            lowest = np.array([-(a.max_export_w // ISPS_PER_HOUR) for a in self.assets])
            possible = expected - lowest
        else:
            minutes = _local_minutes(day)
            plugged = np.column_stack([_within(minutes, a.plugged_minutes) for a in self.assets])
            possible = np.where(plugged, highest - expected, 0)
        return np.where(flexible, np.minimum(possible, highest), 0).clip(min=0)

    def by_connection(self, per_asset: np.ndarray) -> np.ndarray:
        """Sum of the assets of each connection, shape (n_isps, n_assets) to (n_isps, n_connections)."""
        summed = np.zeros((len(self.connections), per_asset.shape[0]), dtype=per_asset.dtype)
        np.add.at(summed, [a.connection for a in self.assets], per_asset.T)
        return summed.T

    def _asset_power(self, isps: Iterable[int] | MarketDay, table: np.ndarray, scale: str) -> np.ndarray:
        isps = isps.isps if isinstance(isps, MarketDay) else isps
        rows = np.asarray(isps, dtype=np.int64) - YEAR_FIRST_ISP
        if rows.size and (rows.min() < 0 or rows.max() >= YEAR_ISPS):
            raise DomainError(
                f"scenario {self.name}: ISP outside {YEAR_FIRST_ISP}..{YEAR_FIRST_ISP + YEAR_ISPS - 1}",
                hint="choose days of 2016",
            )
        power = np.zeros((rows.size, len(self.assets)))
        for i, (asset, column) in enumerate(zip(self.assets, self._columns, strict=True)):
            if column is not None:
                power[:, i] = table[(rows - asset.shift_isps) % YEAR_ISPS, column] * getattr(asset, scale)
        return power

    @cached_property
    def _columns(self) -> list[int | None]:
        index = {str(name): i for i, name in enumerate(self.grid.profile_name)}
        return [index[a.profile] if a.profile else None for a in self.assets]


def load_scenario(
    name: str = "evening",
    *,
    seed: int = 1,
    day: date | None = None,
    cache_dir: Path | str | None = None,
) -> Scenario:
    """Load a scenario of the pilot.

    Parameters
    ----------
    name : str
        One of ``SCENARIOS``.
    seed : int
        Decides which homes get which devices in ``evening``, and the limits of all EVs.
    day : date, optional
        Another day of 2016 to look at; the devices stay the same.
    cache_dir : path, optional
        Folder for the compact copy of the grid, see :func:`load_grid_data`.
    """
    if name not in _DEFINITIONS:
        raise DomainError(f"unknown scenario {name!r}", hint=f"one of {', '.join(SCENARIOS)}")
    definition = _DEFINITIONS[name]
    data = load_grid_data(definition.code, cache_dir=cache_dir)
    rng = np.random.default_rng(seed)
    ids, buses, kinds = _connections(data)
    assets = _delivered_assets(data, ids, buses, definition, rng)
    if name == "noon":
        assets += noon_batteries(ids, assets, charge=definition.battery_charge)
    if name == "evening":
        assets += evening_uptake(
            data,
            [i for i, kind in enumerate(kinds) if kind is AssetKind.HOUSEHOLD],
            ids,
            assets,
            day=MarketDay.of(definition.day, ZONE),
            peak_va=EVENING_PEAK * float(data.trafo_sn_va.sum()),
            plugged_minutes=definition.plugged_minutes,
            rng=rng,
        )
    behind = [tuple(k for k, a in enumerate(assets) if a.connection == i) for i in range(len(ids))]
    return Scenario(
        name=name,
        code=definition.code,
        seed=seed,
        day=MarketDay.of(day or definition.day, ZONE),
        direction=definition.direction,
        grid=data,
        connections=tuple(Connection(*fields) for fields in zip(ids, buses, kinds, behind, strict=True)),
        assets=tuple(assets),
    )


def _device_kind(unit_type: str, profile: str) -> AssetKind | None:
    """Kind of a unit of the data set behind somebody's connection; None for the consumer itself."""
    if unit_type == "sgen":
        return AssetKind.PV
    if unit_type == "storage":
        return AssetKind.PV_BATTERY
    if profile.startswith(HEAT_PUMP_PREFIXES):
        return AssetKind.HEAT_PUMP
    return AssetKind.EV if profile.startswith(EV_PREFIXES) else None


def _connections(data: GridData) -> tuple[list[str], list[int], list[AssetKind]]:
    """Ids, buses and kinds of the connections: one per consumer, in the order of the data set."""
    ids, buses, kinds = [], [], []
    for name, unit_type, bus, profile in zip(
        data.unit_name, data.unit_type, data.unit_bus, data.unit_profile, strict=True
    ):
        if _device_kind(unit_type, profile) is None:
            ids.append(str(name).replace(" ", "-"))
            buses.append(int(bus))
            home = profile.startswith(HOME_PROFILE_PREFIX)
            kinds.append(AssetKind.HOUSEHOLD if home else AssetKind.BUSINESS)
    return ids, buses, kinds


def _delivered_assets(
    data: GridData, ids: list[str], buses: list[int], definition: _Definition, rng: np.random.Generator
) -> list[Asset]:
    """The data set's units as assets of the connection at their bus (SimBench has one consumer a bus)."""
    at_bus = {bus: i for i, bus in enumerate(buses)}
    assets = []
    for k in range(data.unit_name.size):
        profile, p_w = str(data.unit_profile[k]), float(data.unit_p_w[k])
        bus, rated_w = int(data.unit_bus[k]), round(abs(p_w))
        if bus not in at_bus:
            raise DomainError(f"grid {data.code}: {data.unit_name[k]} stands at a bus without a consumer")
        kind = _device_kind(str(data.unit_type[k]), profile)
        limits: dict = {}
        if kind is None:
            kind = AssetKind.HOUSEHOLD if profile.startswith(HOME_PROFILE_PREFIX) else AssetKind.BUSINESS
            limits = {"max_import_w": rated_w}
        elif kind is AssetKind.PV:
            limits = {"max_export_w": rated_w}
        elif kind is AssetKind.PV_BATTERY:
            # SimBench gives its storages p_mw < 0 and profiles <= 0 to be multiplied by the rating
            limits = battery_limits(rated_w, round(float(data.unit_energy_wh[k])), definition.battery_charge)
        elif kind is AssetKind.HEAT_PUMP:
            limits = heat_pump_limits(rated_w)
        elif kind is AssetKind.EV:
            limits = ev_limits(rng, rated_w) | {"plugged_minutes": definition.plugged_minutes}
        assets.append(
            Asset(
                str(data.unit_name[k]).replace(" ", "-"),
                kind,
                at_bus[bus],
                profile,
                p_w=p_w,
                q_var=float(data.unit_q_var[k]),
                **limits,
            )
        )
    return assets


def _local_minutes(day: MarketDay) -> np.ndarray:
    zone = ZoneInfo(ZONE)
    local = [isp_start(isp).astimezone(zone) for isp in day.isps]
    return np.array([t.hour * 60 + t.minute for t in local])


def _within(minutes: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    start, end = window
    return (minutes >= start) & (minutes < end) if start < end else (minutes >= start) | (minutes < end)
