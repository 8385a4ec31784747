"""Devices that a scenario adds to the data set: seeded, documented, from the data set's own profiles."""

import numpy as np

from offchain.domain.isp import MarketDay
from offchain.grid.assets import Asset, AssetKind
from offchain.grid.simbench_data import EV_PREFIXES, HEAT_PUMP_PREFIXES, YEAR_FIRST_ISP, GridData

HOME_CHARGERS = {"HLS_A_3.7": 3_700, "HLS_B_3.7": 3_700, "HLS_A_11.0": 11_000, "HLS_B_11.0": 11_000}
"""Home charging profiles and their rated power [W]; charging at work (``APLS``) is left out."""
HEAT_PUMP_POWERS_W = (4_000, 4_900)
"""The two larger heat pumps of the data set [W]."""
HEAT_PUMP_Q_PER_P = 0.4
"""Reactive to active power of the data set's heat pumps: cos phi 0.93."""
WEEK_ISPS = 672
BATTERY_POWER_PER_PV = 0.5
BATTERY_HOURS = 3
"""Added batteries: 0.5 W of power for each W of PV, three hours deep: enough for a sunny midday."""


def ev_limits(rng: np.random.Generator, rated_w: int) -> dict[str, int]:
    """Limits of an EV: it may postpone what it would charge, or take 20 to 40 kWh more a day."""
    return {
        "max_import_w": rated_w,
        "up_energy_wh": 40_000,
        "down_energy_wh": int(rng.integers(20, 41)) * 1_000,
    }


def heat_pump_limits(rated_w: int) -> dict[str, int]:
    """Power and daily energy limits of a heat pump: the house bridges two and a half hours at rated power."""
    return {"max_import_w": rated_w, "up_energy_wh": rated_w * 5 // 2, "down_energy_wh": rated_w * 5 // 2}


def battery_limits(power_w: int, capacity_wh: int, charge: float) -> dict[str, int]:
    """Power and energy limits of a battery that starts the day with ``charge`` (0 to 1) of its capacity."""
    up_energy_wh = int(capacity_wh * charge)
    return {
        "max_import_w": power_w,
        "max_export_w": power_w,
        "up_energy_wh": up_energy_wh,
        "down_energy_wh": capacity_wh - up_energy_wh,
    }


def evening_uptake(
    data: GridData,
    homes: list[int],
    connection_ids: list[str],
    present: list[Asset],
    *,
    day: MarketDay,
    peak_va: float,
    plugged_minutes: tuple[int, int],
    rng: np.random.Generator,
) -> list[Asset]:
    """EVs and heat pumps for homes until the grid's apparent power reaches a peak.

    In random order every home without one gets an EV, then every home without one a heat pump, until the sum
    of all connections reaches ``peak_va`` in some quarter hour of ``day``. Each EV repeats one home charging
    profile, delayed by a random number of whole weeks (so that working days stay working days) and up to one
    hour; each heat pump one heat pump profile of the grid's climate, delayed by up to one hour, so that it
    stays with the weather.

    Parameters
    ----------
    homes : list of int
        Connections that may get devices.
    present : list of Asset
        All assets of the data set.
    day : MarketDay
        Day on which the peak is looked for.
    peak_va : float
        Apparent power at which the uptake ends [VA].

    Returns
    -------
    list of Asset
        The added assets; fewer than one EV and one heat pump per home when the peak was reached before.
    """
    rows = np.arange(day.first_isp, day.end_isp) - YEAR_FIRST_ISP
    p_w, q_var = np.zeros(rows.size), np.zeros(rows.size)

    def take(asset: Asset) -> None:
        column = data.profile_index(asset.profile)
        shifted = (rows - asset.shift_isps) % data.profile_p.shape[0]
        p_w[:] += data.profile_p[shifted, column] * asset.p_w
        q_var[:] += data.profile_q[shifted, column] * asset.q_var

    for asset in present:
        take(asset)
    climates = sorted(str(p) for p in set(data.unit_profile) if p.startswith(HEAT_PUMP_PREFIXES))
    chargers = sorted(HOME_CHARGERS)
    assert all(name.startswith(EV_PREFIXES) for name in chargers)
    owners = {kind: {a.connection for a in present if a.kind is kind} for kind in (AssetKind.EV, AssetKind.HEAT_PUMP)}
    order = rng.permutation(homes)
    added: list[Asset] = []
    for kind in (AssetKind.EV, AssetKind.HEAT_PUMP):
        for connection in (int(c) for c in order if c not in owners[kind]):
            if np.hypot(p_w, q_var).max() >= peak_va:
                return added
            asset_id = f"{connection_ids[connection]}/{kind}"
            if kind is AssetKind.EV:
                profile = chargers[rng.integers(len(chargers))]
                rated_w = HOME_CHARGERS[profile]
                asset = Asset(
                    asset_id,
                    kind,
                    connection,
                    profile,
                    p_w=rated_w,
                    shift_isps=int(rng.integers(52)) * WEEK_ISPS + int(rng.integers(-4, 5)),
                    plugged_minutes=plugged_minutes,
                    **ev_limits(rng, rated_w),
                )
            else:
                rated_w = int(rng.choice(HEAT_PUMP_POWERS_W))
                asset = Asset(
                    asset_id,
                    kind,
                    connection,
                    climates[rng.integers(len(climates))],
                    p_w=rated_w,
                    q_var=rated_w * HEAT_PUMP_Q_PER_P,
                    shift_isps=int(rng.integers(-4, 5)),
                    **heat_pump_limits(rated_w),
                )
            take(asset)
            added.append(asset)
    return added


def noon_batteries(connection_ids: list[str], present: list[Asset], *, charge: float) -> list[Asset]:
    """A battery where there is PV and none yet; idle unless ordered, so that the base case stays."""
    pv_w: dict[int, float] = {}
    for asset in present:
        if asset.kind is AssetKind.PV:
            pv_w[asset.connection] = pv_w.get(asset.connection, 0) - asset.p_w
    has_battery = {a.connection for a in present if a.kind is AssetKind.PV_BATTERY}
    added = []
    for connection, peak_w in sorted(pv_w.items()):
        if connection not in has_battery:
            power_w = int(peak_w * BATTERY_POWER_PER_PV)
            limits = battery_limits(power_w, power_w * BATTERY_HOURS, charge)
            asset_id = f"{connection_ids[connection]}/{AssetKind.BATTERY}"
            added.append(Asset(asset_id, AssetKind.BATTERY, connection, "", p_w=0.0, **limits))
    return added
