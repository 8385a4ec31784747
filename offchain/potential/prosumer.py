"""Potential of a prosumer: its assets together, behind one connection."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from offchain.domain.errors import DomainError, FlexError
from offchain.domain.units import Direction
from offchain.potential.checks import energy_of, whole_wh
from offchain.potential.envelope import Envelope, Flexible


class Asset(Protocol):
    """A battery, a vehicle, a heat store, an appliance, PV, a generator."""

    def envelope(self, direction: Direction) -> Flexible:
        """What it can move, raises :class:`DomainError` where its data cannot be."""
        ...


@dataclass(frozen=True)
class Prosumer:
    """Assets behind one connection.

    Attributes
    ----------
    baseline_wh : ndarray of int, shape (n_isps,)
        Net consumption of the whole connection that is expected without an order, import positive [Wh].
    assets : mapping of str to Asset
        Their plans are part of the baseline.
    import_limit_w, export_limit_w : int, optional
        What the connection can carry.
    """

    id: str
    baseline_wh: np.ndarray
    assets: Mapping[str, Asset]
    import_limit_w: int | None = None
    export_limit_w: int | None = None


@dataclass(frozen=True)
class Potential:
    """What a prosumer can move in one direction.

    Attributes
    ----------
    headroom_wh : ndarray of int64, shape (n_isps,)
        What the connection carries beside the baseline [Wh], non-negative.
    assets : mapping
        Limits by asset, of those that can move anything.
    refused : mapping
        Assets whose data cannot be used, with the reason.
    """

    direction: Direction
    headroom_wh: np.ndarray
    assets: Mapping[str, Flexible]
    refused: Mapping[str, FlexError] = field(default_factory=dict)

    @property
    def margin_wh(self) -> np.ndarray:
        """Most that can be moved in each ISP if nothing else is ordered, int64 [Wh]."""
        total = sum((asset.margin_wh for asset in self.assets.values()), np.zeros_like(self.headroom_wh))
        return np.minimum(total, self.headroom_wh)

    @property
    def cost_utoken_per_kwh(self) -> np.ndarray:
        """Mean cost of the margins per ISP in money, by energy, rounded up [uToken per kWh]."""
        return self._mean("cost_utoken_per_kwh")

    @property
    def comfort_utoken_per_kwh(self) -> np.ndarray:
        """Mean worth of the comfort lost with the margins per ISP, by energy, rounded up [uToken per kWh]."""
        return self._mean("comfort_utoken_per_kwh")

    def _mean(self, cost: str) -> np.ndarray:
        weight = sum((a.margin_wh for a in self.assets.values()), np.zeros_like(self.headroom_wh))
        total = sum((a.margin_wh * getattr(a, cost) for a in self.assets.values()), np.zeros_like(self.headroom_wh))
        return -(-total // np.maximum(weight, 1))

    @cached_property
    def sustained_table_wh(self) -> np.ndarray:
        """:meth:`sustained_wh` by start and by ISPs less one, int64, zero beyond the horizon."""
        n = self.headroom_wh.size
        table = sum((a.sustained_table_wh for a in self.assets.values()), np.zeros((n, n), dtype=np.int64))
        for start in range(n):
            within = table[start, : n - start]
            np.minimum(within, np.minimum.accumulate(self.headroom_wh[start:]), out=within)
        return table

    @cached_property
    def longest_isps(self) -> np.ndarray:
        """For how many ISPs in a row, from each on, the smallest of its margins in them can be moved throughout."""
        margin = self.margin_wh
        longest = np.zeros(margin.size, dtype=np.int64)
        for start in np.flatnonzero(margin):
            lowest = np.minimum.accumulate(margin[start:])
            holds = (lowest > 0) & (self.sustained_table_wh[start, : lowest.size] >= lowest)
            longest[start] = np.logical_and.accumulate(holds).sum()
        return longest

    def sustained_wh(self, start: int, isps: int) -> int:
        """Most that can be moved in each of ``isps`` ISPs from position ``start`` on [Wh]."""
        if start < 0 or isps < 1 or start + isps > self.headroom_wh.size:
            raise DomainError(f"{isps} ISPs from position {start} are not within a horizon of {self.headroom_wh.size}")
        return int(self.sustained_table_wh[start, isps - 1])

    def split(self, start: int, isps: int, energy_wh: int) -> dict[str, int]:
        """Shares of the assets in an order of ``energy_wh`` in each ISP of a block, cheapest first [Wh per ISP].

        Each share can be delivered throughout the block by its asset. An appliance that can only move all of a run
        moves at least its share.

        Raises
        ------
        DomainError
            More than :meth:`sustained_wh`, or what is left is less than the least power of every asset that could
            take it.
        """
        possible = self.sustained_wh(start, isps)
        if not 0 <= energy_wh <= possible:
            raise DomainError(
                f"{energy_wh} Wh cannot be moved for {isps} ISPs from position {start}: {possible} Wh can"
            )
        window, left, shares = slice(start, start + isps), energy_wh, dict.fromkeys(self.assets, 0)
        for name in sorted(self.assets, key=lambda n: (int(_cost(self.assets[n])[window].sum()), n)):
            asset = self.assets[name]
            share = min(left, asset.sustained_wh(start, isps))
            least = int(asset.least_wh[window].max()) if isinstance(asset, Envelope) else 0
            if 0 < share < least:
                share = self._make_room(shares, least - share, least, asset.sustained_wh(start, isps), window)
                left += share and least - min(left, least)
            shares[name] = share
            left -= share
        if left:
            raise DomainError(
                f"{left} of {energy_wh} Wh are less than the least power of the asset that could move them"
            )
        return {name: share for name, share in shares.items() if share}

    def _make_room(self, shares: dict[str, int], short: int, least: int, most: int, window: slice) -> int:
        """Takes ``short`` back from cheaper assets so that one of least power ``least`` can run; its share."""
        if least > most:
            return 0
        given = {}
        for name, share in shares.items():
            asset = self.assets[name]
            floor = int(asset.least_wh[window].max()) if isinstance(asset, Envelope) else share
            given[name] = min(short, max(share - floor, 0))
            short -= given[name]
        if short:
            return 0
        for name, energy_wh in given.items():
            shares[name] -= energy_wh
        return least


def _cost(asset: Flexible) -> np.ndarray:
    return asset.cost_utoken_per_kwh + asset.comfort_utoken_per_kwh


def potential(prosumer: Prosumer, direction: Direction) -> Potential:
    """Margins of a prosumer; an asset whose data cannot be used is named and left out.

    Raises
    ------
    DomainError
        The baseline is not one row of integers, or the connection cannot even carry it.
    """
    baseline = whole_wh(prosumer.baseline_wh, f"baseline of {prosumer.id}")
    up = direction is Direction.UP
    limit_w = prosumer.export_limit_w if up else prosumer.import_limit_w
    if limit_w is None:
        headroom = np.full(baseline.size, np.iinfo(np.int64).max // 4)
    else:
        headroom = np.maximum(energy_of(limit_w) + (baseline if up else -baseline), 0)
    assets, refused = {}, {}
    for name, asset in prosumer.assets.items():
        try:
            envelope = asset.envelope(direction)
            if envelope.margin_wh.size != baseline.size:
                raise DomainError(f"{name} covers {envelope.margin_wh.size} ISPs, the baseline {baseline.size}")
        except FlexError as refusal:
            refused[name] = refusal
            continue
        if envelope.margin_wh.any():
            assets[name] = envelope
    return Potential(direction, headroom, assets, refused)


def potentials(
    prosumers: Iterable[Prosumer], direction: Direction
) -> tuple[dict[str, Potential], dict[str, FlexError]]:
    """Margins of many prosumers; one whose data cannot be used does not stop the others."""
    found: dict[str, Potential] = {}
    refused: dict[str, FlexError] = {}
    for prosumer in prosumers:
        try:
            found[prosumer.id] = potential(prosumer, direction)
        except FlexError as refusal:
            refused[prosumer.id] = refusal
    return found, refused
