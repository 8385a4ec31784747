"""Many series over one run of ISPs: what forecasts are made from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.isp import zone_of

DEFAULT_ZONE = "Europe/Berlin"
DEFAULT_COUNTRY = "DE"
MAX_WH = 2**31 - 1
"""Largest energy per ISP [Wh], as in packed curves."""


@dataclass(frozen=True)
class Site:
    """Where the series are, in degrees north and east; gives the height of the sun."""

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        if not (abs(self.latitude) <= 90 and abs(self.longitude) <= 180):
            raise DomainError(
                f"no place at {self.latitude}, {self.longitude}", hint="latitude, then longitude, in degrees"
            )


@dataclass(frozen=True)
class Panel:
    """Energy of many devices, prosumers or groups.

    Attributes
    ----------
    ids : tuple of str
        One per column, all different.
    first_isp : int
        ISP of the first row.
    values_wh : ndarray of float, shape (n_isps, n_series)
        Energy per ISP [Wh]; NaN where a reading is missing. The sign is that of the target: net consumption is
        import minus export, production and flexibility are non-negative.
    zone, country : str
        Time zone of the market day; country (``"DE"``) or country and state (``"DE-BY"``) of the public holidays.
    site : Site, optional
    """

    ids: tuple[str, ...]
    first_isp: int
    values_wh: np.ndarray
    zone: str = DEFAULT_ZONE
    country: str = DEFAULT_COUNTRY
    site: Site | None = None

    def __post_init__(self) -> None:
        if self.values_wh.ndim != 2 or self.values_wh.shape[1] != len(self.ids):
            raise DomainError(f"panel of {len(self.ids)} series has values of shape {self.values_wh.shape}")
        if not len(self.ids) or not len(self.values_wh):
            raise DomainError("panel without series or without ISPs", hint="check the selection of the data")
        zone_of(self.zone)
        if len(set(self.ids)) != len(self.ids):
            twice = next(i for i in self.ids if self.ids.count(i) > 1)
            raise DomainError(f"series {twice!r} comes twice", hint="one column per device, prosumer or group")
        if not np.issubdtype(self.values_wh.dtype, np.floating):
            object.__setattr__(self, "values_wh", self.values_wh.astype(float))

    @property
    def end_isp(self) -> int:
        """First ISP after the data."""
        return self.first_isp + len(self.values_wh)

    def until(self, isp: int) -> "Panel":
        """What lies before an ISP."""
        if isp <= self.first_isp:
            raise DomainError(f"no data before ISP {isp}", hint=f"the data begin at ISP {self.first_isp}")
        return replace(self, values_wh=self.values_wh[: isp - self.first_isp])

    def select(self, columns: Sequence[int]) -> "Panel":
        """Some of the series, by position."""
        return replace(self, ids=tuple(self.ids[c] for c in columns), values_wh=self.values_wh[:, list(columns)])

    def groups(self, members: Mapping[str, Sequence[str]]) -> "Panel":
        """Sums over members per group; an ISP that misses a member's reading is missing in the sum."""
        position = {name: c for c, name in enumerate(self.ids)}
        absent = [m for names in members.values() for m in names if m not in position]
        if absent:
            raise DomainError(f"group member {absent[0]!r} is not in the data")
        sums = [self.values_wh[:, [position[m] for m in names]].sum(axis=1) for names in members.values()]
        return replace(self, ids=tuple(members), values_wh=np.stack(sums, axis=1))

    def digest(self) -> bytes:
        """SHA-256 over everything that a forecast made of this panel depends on."""
        header = repr((self.ids, self.first_isp, self.zone, self.country, self.site, self.values_wh.shape))
        values = np.where(np.isnan(self.values_wh), np.nan, self.values_wh).astype("<f8")
        return hashlib.sha256(header.encode() + np.ascontiguousarray(values).tobytes()).digest()


def in_steps(panel: Panel, step_isps: int) -> tuple[int, np.ndarray]:
    """Energy per step instead of per ISP.

    Steps begin at whole multiples of ``step_isps``; ISPs that do not fill the first or last step are left out.

    Returns
    -------
    tuple of int and ndarray, shape (n_steps, n_series)
        Number of the first step, counted from 1970 UTC, and energy [Wh]; NaN where an ISP is missing.
    """
    first = -(-panel.first_isp // step_isps)
    skipped = first * step_isps - panel.first_isp
    count = (len(panel.values_wh) - skipped) // step_isps
    if count < 1:
        raise DomainError(f"{len(panel.values_wh)} ISPs do not fill a step of {step_isps}", hint="load more history")
    used = panel.values_wh[skipped : skipped + count * step_isps]
    return first, used.reshape(count, step_isps, -1).sum(axis=1)


def unusable(panel: Panel) -> dict[str, str]:
    """Series that no forecast can be made from, with the reason in one line."""
    reasons = {}
    for column, name in enumerate(panel.ids):
        values = panel.values_wh[:, column]
        if np.isinf(values).any():
            isp = panel.first_isp + int(np.flatnonzero(np.isinf(values))[0])
            reasons[name] = f"value at ISP {isp} is infinite"
        elif (np.abs(values[~np.isnan(values)]) > MAX_WH).any():
            isp = panel.first_isp + int(np.flatnonzero(np.abs(np.nan_to_num(values)) > MAX_WH)[0])
            reasons[name] = f"value at ISP {isp} is beyond what a curve can carry ({MAX_WH} Wh)"
    return reasons
