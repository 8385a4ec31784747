"""SimBench grids as plain arrays: topology, units at the buses, quarter-hour profiles of 2016.

SimBench is read from the installed package (no network); that takes about three seconds a grid, mostly for
the profiles, and another three to import pandapower. With ``cache_dir`` the arrays are kept in one ``.npz``
per grid, after which neither package is imported any more.

Profiles have 35,136 rows, one per quarter hour from 2016-01-01 00:00 to 2016-12-31 23:45 in German local
time. The data follow the change of clocks (27 March has 92 rows, 30 October has 100), so that row ``r`` is
exactly ISP ``YEAR_FIRST_ISP + r``.

Data: SimBench, ODbL 1.0, https://simbench.de; S. Meinecke et al., "SimBench - a benchmark dataset of electric
power systems", Energies 13(12), 3290, 2020.
"""

import json
import os
import tempfile
import warnings
from dataclasses import dataclass, fields
from datetime import date
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from offchain.domain.errors import DomainError, PermanentError
from offchain.domain.isp import MarketDay

YEAR_FIRST_ISP = MarketDay.of(date(2016, 1, 1)).first_isp
"""ISP of profile row 0."""
YEAR_ISPS = 35_136
"""Rows of every profile: 366 days of 96 quarter hours on average."""

HEAT_PUMP_PREFIXES = ("Air_", "Soil_")
EV_PREFIXES = ("HLS_", "APLS_")

_CACHE_FORMAT = 2


@dataclass(frozen=True)
class GridData:
    """One SimBench low-voltage grid; arrays of one length per prefix (``bus_``, ``line_``, ``trafo_``,
    ``unit_``).

    A unit is a load, a static generator or a storage of the data set. Its power at profile value ``x`` is
    ``unit_p_w * x``, its reactive power ``unit_q_var * y``, both positive for consumption. SimBench storages
    are photovoltaic systems with a battery: the profile is the net injection of both.
    """

    code: np.ndarray
    bus_name: np.ndarray
    bus_vn_kv: np.ndarray
    bus_lon: np.ndarray
    bus_lat: np.ndarray
    source_bus: np.ndarray
    source_vm_pu: np.ndarray
    line_name: np.ndarray
    line_from: np.ndarray
    line_to: np.ndarray
    line_from_closed: np.ndarray
    line_to_closed: np.ndarray
    line_r_ohm: np.ndarray
    line_x_ohm: np.ndarray
    line_c_farad: np.ndarray
    line_limit_a: np.ndarray
    trafo_name: np.ndarray
    trafo_hv: np.ndarray
    trafo_lv: np.ndarray
    trafo_sn_va: np.ndarray
    trafo_vn_hv_kv: np.ndarray
    trafo_vn_lv_kv: np.ndarray
    trafo_uk_pu: np.ndarray
    trafo_pk_w: np.ndarray
    trafo_i0_pu: np.ndarray
    trafo_p0_w: np.ndarray
    trafo_clock: np.ndarray
    trafo_tap_pos: np.ndarray
    trafo_tap_neutral: np.ndarray
    trafo_tap_step_percent: np.ndarray
    unit_name: np.ndarray
    unit_type: np.ndarray
    unit_bus: np.ndarray
    unit_profile: np.ndarray
    unit_p_w: np.ndarray
    unit_q_var: np.ndarray
    unit_energy_wh: np.ndarray
    profile_name: np.ndarray
    profile_p: np.ndarray
    profile_q: np.ndarray

    @property
    def buses(self) -> int:
        return self.bus_name.size

    def profile_index(self, name: str) -> int:
        """Column of a profile in ``profile_p`` and ``profile_q``."""
        found = np.flatnonzero(self.profile_name == name)
        if not found.size:
            raise DomainError(f"grid {self.code}: no profile named {name}")
        return int(found[0])


def load_grid_data(code: str, *, cache_dir: Path | str | None = None) -> GridData:
    """Load a SimBench low-voltage grid.

    Parameters
    ----------
    code : str
        SimBench code of a low-voltage grid, for example ``"1-LV-rural3--2-sw"``.
    cache_dir : path, optional
        Folder for the compact copy; written when absent, ignored when of another version or unreadable.

    Raises
    ------
    DomainError
        Not a low-voltage code that SimBench knows.
    """
    if cache_dir is None:
        return _read_simbench(code)
    path = Path(cache_dir) / f"{code}.v{_CACHE_FORMAT}-{version('simbench')}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return GridData(**{f.name: arrays[f.name] for f in fields(GridData)})
    except (OSError, EOFError, KeyError, ValueError, BadZipFile):
        data = _read_simbench(code)
        _write_cache(data, path)
        return data


def _write_cache(data: GridData, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "wb") as stream:
        np.savez(stream, **{f.name: getattr(data, f.name) for f in fields(GridData)})
    os.replace(temporary, path)


@lru_cache(maxsize=4)
def simbench_net(code: str):
    """The grid as a pandapower network, with its profiles under ``net.profiles``; treat it as read-only."""
    if "-LV-" not in code:
        raise DomainError(f"{code} is not a low-voltage grid", hint="for example 1-LV-rural3--2-sw")
    try:
        import simbench
    except ImportError as exc:
        raise PermanentError("the package simbench is not installed", hint="install the extra 'grid'") from exc
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return simbench.get_simbench_net(code)
        except (ValueError, KeyError, NameError) as exc:
            raise DomainError(f"SimBench has no grid {code}", hint="for example 1-LV-rural3--2-sw") from exc


def _read_simbench(code: str) -> GridData:
    net = simbench_net(code)
    if (net.switch.et == "b").any():
        raise DomainError(f"grid {code} has bus-bus switches, which the power flow model does not cover")
    position = {bus: i for i, bus in enumerate(net.bus.index)}
    geo = [json.loads(point)["coordinates"] for point in net.bus.geo]
    line, trafo, source = net.line, net.trafo, net.ext_grid
    names, p, q = _profiles(net, code)
    units = [(net.load, "load", 1, "q_mvar"), (net.sgen, "sgen", -1, None), (net.storage, "storage", 1, None)]
    uk, ukr = trafo.vk_percent.to_numpy() / 100, trafo.vkr_percent.to_numpy() / 100
    sn_va = trafo.sn_mva.to_numpy() * 1e6
    return GridData(
        code=np.array(code),
        bus_name=net.bus.name.to_numpy(str),
        bus_vn_kv=net.bus.vn_kv.to_numpy(float),
        bus_lon=np.array([g[0] for g in geo]),
        bus_lat=np.array([g[1] for g in geo]),
        source_bus=source.bus.map(position).to_numpy(),
        source_vm_pu=source.vm_pu.to_numpy(float),
        line_name=line.name.to_numpy(str),
        line_from=line.from_bus.map(position).to_numpy(),
        line_to=line.to_bus.map(position).to_numpy(),
        line_from_closed=_closed(net, line.from_bus),
        line_to_closed=_closed(net, line.to_bus),
        line_r_ohm=(line.r_ohm_per_km * line.length_km / line.parallel).to_numpy(float),
        line_x_ohm=(line.x_ohm_per_km * line.length_km / line.parallel).to_numpy(float),
        line_c_farad=(line.c_nf_per_km * 1e-9 * line.length_km * line.parallel).to_numpy(float),
        line_limit_a=(line.max_i_ka * 1e3 * line.parallel * line.df).to_numpy(float),
        trafo_name=trafo.name.to_numpy(str),
        trafo_hv=trafo.hv_bus.map(position).to_numpy(),
        trafo_lv=trafo.lv_bus.map(position).to_numpy(),
        trafo_sn_va=sn_va * trafo.parallel.to_numpy(),
        trafo_vn_hv_kv=trafo.vn_hv_kv.to_numpy(float),
        trafo_vn_lv_kv=trafo.vn_lv_kv.to_numpy(float),
        trafo_uk_pu=uk,
        trafo_pk_w=ukr * sn_va,
        trafo_i0_pu=trafo.i0_percent.to_numpy() / 100,
        trafo_p0_w=trafo.pfe_kw.to_numpy() * 1e3,
        trafo_clock=(trafo.shift_degree.to_numpy() / 30).round().astype(int) % 12,
        trafo_tap_pos=_tap_positions(trafo),
        trafo_tap_neutral=trafo.tap_neutral.to_numpy(int),
        trafo_tap_step_percent=trafo.tap_step_percent.to_numpy(float),
        unit_name=np.concatenate([t.name.to_numpy(str) for t, *_ in units]),
        unit_type=np.concatenate([np.full(len(t), kind) for t, kind, *_ in units]),
        unit_bus=np.concatenate([t.bus.map(position).to_numpy(int) for t, *_ in units]),
        unit_profile=np.concatenate([t.profile.to_numpy(str) for t, *_ in units]),
        unit_p_w=np.concatenate([sign * t.p_mw.to_numpy(float) * 1e6 for t, _, sign, _ in units]),
        unit_q_var=np.concatenate([t[q].to_numpy(float) * 1e6 if q else np.zeros(len(t)) for t, *_, q in units]),
        unit_energy_wh=np.concatenate(
            [np.zeros(len(net.load) + len(net.sgen)), net.storage.max_e_mwh.to_numpy(float) * 1e6]
        ),
        profile_name=names,
        profile_p=p,
        profile_q=q,
    )


def _tap_positions(trafo) -> np.ndarray:
    """Tap positions as pandapower uses them: the neutral one where the data set names no type of tap changer.

    SimBench gives positions (+1 in rural1, -1 in rural3, 2.5% each) without a type; pandapower 3 then ignores
    them, and the published loadings, 209% in rural1 among them, are without. With them rural1 would reach
    214%.
    """
    return np.where(trafo.tap_changer_type.isna(), trafo.tap_neutral, trafo.tap_pos).astype(int)


def _closed(net, buses) -> np.ndarray:
    """True for each line whose switch at the given end is closed; a line without a switch is connected."""
    opened = net.switch[(net.switch.et == "l") & ~net.switch.closed]
    open_ends = set(zip(opened.element, opened.bus, strict=True))
    return np.array([(line, bus) not in open_ends for line, bus in buses.items()])


def _profiles(net, code: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names, active and reactive profiles: those the grid uses, and all of heat pumps and EV chargers."""
    import pandas as pd
    from simbench import sb_dir

    scenario = code.split("-")[-2]
    table = Path(sb_dir) / "networks" / f"1-complete_data-mixed-all-{scenario}-sw" / "LoadProfile.csv"
    used = set(net.load.profile)
    wanted = HEAT_PUMP_PREFIXES + EV_PREFIXES
    loads = pd.read_csv(
        table,
        sep=";",
        usecols=lambda c: c.endswith(("_pload", "_qload")) and (c[:-6] in used or c.startswith(wanted)),
    )
    names = [c.removesuffix("_pload") for c in loads.columns if c.endswith("_pload")]
    columns_p, columns_q = [loads[f"{n}_pload"] for n in names], [loads[f"{n}_qload"] for n in names]
    for extra in (net.profiles["renewables"], net.profiles["storage"]):
        for name in extra.columns.drop("time"):
            names.append(name)
            columns_p.append(extra[name])
            columns_q.append(pd.Series(np.zeros(YEAR_ISPS)))
    p, q = (np.column_stack([c.to_numpy(float) for c in columns]) for columns in (columns_p, columns_q))
    if p.shape[0] != YEAR_ISPS:
        raise DomainError(f"grid {code}: profiles have {p.shape[0]} rows, expected {YEAR_ISPS}")
    return np.array(names), p, q
