"""Connections and the assets behind them."""

from dataclasses import dataclass
from enum import StrEnum


class AssetKind(StrEnum):
    """What stands behind a connection."""

    HOUSEHOLD = "household"
    BUSINESS = "business"
    PV = "pv"
    PV_BATTERY = "pv_battery"
    """Photovoltaic system with a battery behind one inverter; the profile is the net injection of both."""
    BATTERY = "battery"
    HEAT_PUMP = "heat_pump"
    EV = "ev"


FLEXIBLE_KINDS = frozenset({AssetKind.PV_BATTERY, AssetKind.BATTERY, AssetKind.HEAT_PUMP, AssetKind.EV})
"""Kinds that can be ordered in the market. PV alone can only be curtailed, which is direct control."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One device or load.

    Attributes
    ----------
    id : str
        Name in the data set, or ``<connection>/<kind>`` when a scenario added it.
    kind : AssetKind
    connection : int
        Position of its connection in ``Scenario.connections``.
    profile : str
        Name of its profile; empty for a device that does nothing unless ordered.
    p_w, q_var : float
        Active and reactive power at profile value 1, positive for consumption.
    shift_isps : int
        Quarter hours by which the profile is delayed (round the year), so that copies of one profile differ.
    max_import_w, max_export_w : int
        Highest net consumption and highest net injection of the device, both non-negative.
    up_energy_wh, down_energy_wh : int
        Most it can shift in one day in each direction: what its storage, its car or the comfort of the house
        allows.
    plugged_minutes : tuple of int
        Local minutes of the day from and until which an EV can take more than its profile; may span midnight.
    """

    id: str
    kind: AssetKind
    connection: int
    profile: str
    p_w: float
    q_var: float = 0.0
    shift_isps: int = 0
    max_import_w: int = 0
    max_export_w: int = 0
    up_energy_wh: int = 0
    down_energy_wh: int = 0
    plugged_minutes: tuple[int, int] = (0, 1440)

    @property
    def flexible(self) -> bool:
        return self.kind in FLEXIBLE_KINDS


@dataclass(frozen=True, slots=True)
class Connection:
    """One grid connection: a consumer of the data set and everything at the same bus.

    ``id`` is stable over runs and seeds. A prosumer has at least one asset beside its household or business
    load.
    """

    id: str
    bus: int
    kind: AssetKind
    assets: tuple[int, ...]

    @property
    def is_prosumer(self) -> bool:
        return len(self.assets) > 1
