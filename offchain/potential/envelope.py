"""What an asset can deliver in one direction, as limits that a simulation of the asset keeps to.

Moving energy takes from, or adds to, something that is limited: charge, warmth, hours of a generator. ``x`` is how far
that store is off its plan. In every ISP ``x`` keeps the share ``retention`` of what it was, grows by
``stored_per_wh`` times the energy ordered, and shrinks by up to ``recovery`` where nothing is ordered. It must never
exceed ``room``. Because all of this is known for the whole horizon, the furthest that ``x`` may be off when no order
follows (``allowed``) comes from one pass backwards, and everything else follows from it.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.units import Direction

_SLACK = 1e-6
"""Tolerance of comparisons between floats [Wh stored]."""


class Flexible(Protocol):
    """Anything whose energy can be moved in one direction."""

    direction: Direction
    cost_utoken_per_kwh: np.ndarray
    comfort_utoken_per_kwh: np.ndarray

    @property
    def margin_wh(self) -> np.ndarray:
        """Most that can be moved in each ISP if nothing else is ordered, int64 [Wh], non-negative."""
        ...

    @property
    def sustained_table_wh(self) -> np.ndarray:
        """:meth:`sustained_wh` by start and by ISPs less one, shape (n_isps, n_isps), zero beyond the horizon."""
        ...

    def sustained_wh(self, start: int, isps: int) -> int:
        """Most that can be moved in each of ``isps`` ISPs from position ``start`` on [Wh]."""
        ...

    def deliverable(self, ordered_wh: np.ndarray) -> bool:
        """Whether an order can be delivered in full, shape (n_isps,) [Wh]."""
        ...


@dataclass(frozen=True)
class Envelope:
    """Limits of one asset in one direction over a horizon of ``n_isps``.

    Attributes
    ----------
    direction : Direction
    power_wh : ndarray of int64, shape (n_isps,)
        Most that power allows in each ISP [Wh], non-negative.
    room : ndarray of float, shape (n_isps,)
        Most that the store may be off its plan at the end of each ISP [Wh stored]; infinite where there is no limit.
    stored_per_wh : ndarray of float, shape (n_isps,)
        What one Wh at the meter moves in the store, at most.
    recovery : ndarray of float, shape (n_isps,)
        What the asset can make up for in an ISP without an order [Wh stored].
    retention : float
        Share of ``x`` that is left after one ISP: 1 for a battery, less for warmth.
    least_wh : ndarray of int64, shape (n_isps,)
        Smallest order other than none: what a generator gives at its lowest power.
    cost_utoken_per_kwh, comfort_utoken_per_kwh : ndarray of int64, shape (n_isps,)
        What moving a kWh costs the owner in money, negative where it saves some, and what the loss of comfort is
        worth to them.
    """

    direction: Direction
    power_wh: np.ndarray
    room: np.ndarray
    stored_per_wh: np.ndarray
    recovery: np.ndarray
    retention: float
    cost_utoken_per_kwh: np.ndarray
    comfort_utoken_per_kwh: np.ndarray
    least_wh: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if not self.least_wh.size:
            object.__setattr__(self, "least_wh", np.zeros_like(self.power_wh))
        if (self.power_wh < 0).any() or (self.room < 0).any() or (self.recovery < 0).any():
            raise DomainError("limits of flexibility must not be negative")

    @cached_property
    def allowed(self) -> np.ndarray:
        """Most that the store may be off its plan at the end of each ISP if nothing more is ordered [Wh stored]."""
        allowed, later = np.empty(self.room.size), np.inf
        for n in range(self.room.size - 1, -1, -1):
            allowed[n] = min(self.room[n], later)
            later = (allowed[n] + self.recovery[n]) / self.retention
        return allowed

    @cached_property
    def margin_wh(self) -> np.ndarray:
        """See :class:`Flexible`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            stored = np.where(self.stored_per_wh > 0, self.allowed / self.stored_per_wh, np.inf)
        margin = np.minimum(self.power_wh, np.where(np.isfinite(stored), stored, self.power_wh)).astype(np.int64)
        return np.where(margin < self.least_wh, 0, margin)

    @cached_property
    def longest_isps(self) -> np.ndarray:
        """For how many ISPs in a row, from each on, its margins can be moved in full."""
        off = self._off(self.margin_wh * self.stored_per_wh)
        possible = ((self.margin_wh > 0) & (off <= self.room + _SLACK)) | _before_start(len(off))
        ends = np.logical_and.accumulate(possible, axis=1) & (off <= self.allowed + _SLACK) & ~_before_start(len(off))
        last = len(off) - 1 - ends[:, ::-1].argmax(axis=1)
        return np.where(ends.any(axis=1), last - np.arange(len(off)) + 1, 0)

    @cached_property
    def sustained_table_wh(self) -> np.ndarray:
        """:meth:`sustained_wh` by start and by ISPs less one, int64, zero beyond the horizon."""
        off_per_wh, before = self._off(self.stored_per_wh), _before_start(self.power_wh.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            within, at_end = (
                np.where(off_per_wh > 0, limit / off_per_wh, np.inf) for limit in (self.room, self.allowed)
            )
        most = np.minimum.accumulate(np.where(before, np.inf, np.minimum(within, self.power_wh)), axis=1)
        least = np.maximum.accumulate(np.where(before, 0, self.least_wh), axis=1)
        most = np.where(before, 0, np.minimum(most, at_end))
        return _by_length(np.where(most >= least, most, 0).astype(np.int64))

    def _off(self, stored: np.ndarray) -> np.ndarray:
        """How far the store is off its plan at the end of each ISP if ``stored`` goes in from a start on.

        Shape (n_isps, n_isps), by start and ISP; zero before the start.
        """
        course, off = np.zeros((stored.size, stored.size)), np.zeros(stored.size)
        for n in range(stored.size):
            off *= self.retention
            off[: n + 1] += stored[n]
            course[:, n] = off
        return course

    def sustained_wh(self, start: int, isps: int) -> int:
        """See :class:`Flexible`."""
        return _block(self.sustained_table_wh, start, isps)

    def energy_limit_wh(self, window: range) -> int:
        """Any order within the margins and these positions, with no more energy in all, can be delivered [Wh]."""
        usable = [n for n in window if self.margin_wh[n]]
        if not usable:
            return 0
        limit = float(self.allowed[usable].min()) / max(float(self.stored_per_wh[usable].max()), _SLACK)
        return int(min(limit, int(self.margin_wh[usable].sum())))

    def deliverable(self, ordered_wh: np.ndarray) -> bool:
        """See :class:`Flexible`."""
        ordered = _checked(ordered_wh, self.power_wh.size)
        if (ordered > self.power_wh).any() or ((ordered > 0) & (ordered < self.least_wh)).any():
            return False
        off = 0.0
        for n, energy_wh in enumerate(ordered):
            off *= self.retention
            off = off + energy_wh * self.stored_per_wh[n] if energy_wh else max(off - self.recovery[n], 0.0)
            if off > self.room[n] + _SLACK:
                return False
        return True


@dataclass(frozen=True)
class Alternatives:
    """An asset that can only choose among whole courses, such as another start of the same run.

    Attributes
    ----------
    direction : Direction
    moved_wh : ndarray of int64, shape (n_alternatives, n_isps)
        What each course moves against the plan, in ``direction`` positive [Wh].
    """

    direction: Direction
    moved_wh: np.ndarray
    cost_utoken_per_kwh: np.ndarray
    comfort_utoken_per_kwh: np.ndarray

    @cached_property
    def margin_wh(self) -> np.ndarray:
        """See :class:`Flexible`."""
        return np.maximum(self.moved_wh, 0).max(axis=0, initial=0)

    @cached_property
    def longest_isps(self) -> np.ndarray:
        """For how many ISPs in a row, from each on, its margins can be moved in full, by one course."""
        full = (self.moved_wh >= self.margin_wh) & (self.margin_wh > 0)
        run = np.zeros((len(full), self.margin_wh.size + 1), dtype=np.int64)
        for n in range(self.margin_wh.size - 1, -1, -1):
            run[:, n] = np.where(full[:, n], run[:, n + 1] + 1, 0)
        return run[:, :-1].max(axis=0, initial=0)

    @cached_property
    def sustained_table_wh(self) -> np.ndarray:
        """:meth:`sustained_wh` by start and by ISPs less one, int64, zero beyond the horizon."""
        before, n = _before_start(self.margin_wh.size), self.margin_wh.size
        table = np.zeros((n, n), dtype=np.int64)
        for course in self.moved_wh:
            lowest = np.minimum.accumulate(np.where(before, np.iinfo(np.int64).max, course), axis=1)
            table = np.maximum(table, np.where(before, 0, lowest))
        return _by_length(table)

    def sustained_wh(self, start: int, isps: int) -> int:
        """See :class:`Flexible`."""
        return _block(self.sustained_table_wh, start, isps)

    def deliverable(self, ordered_wh: np.ndarray) -> bool:
        """Whether one course moves at least what is ordered; it cannot move less than all of it."""
        ordered = _checked(ordered_wh, self.margin_wh.size)
        return not ordered.any() or bool(((self.moved_wh >= ordered) | (ordered == 0)).all(axis=1).any())


def _before_start(isps: int) -> np.ndarray:
    """True where an ISP lies before a start, by start and ISP."""
    return np.tri(isps, k=-1, dtype=bool)


def _by_length(by_end: np.ndarray) -> np.ndarray:
    """From values by start and last ISP to values by start and number of ISPs less one; zero beyond the horizon."""
    isps = np.arange(len(by_end))
    last = isps[:, None] + isps
    return np.where(last < len(by_end), np.take_along_axis(by_end, np.minimum(last, len(by_end) - 1), axis=1), 0)


def _block(table_wh: np.ndarray, start: int, isps: int) -> int:
    if start < 0 or isps < 1 or start + isps > len(table_wh):
        raise DomainError(f"{isps} ISPs from position {start} are not within a horizon of {len(table_wh)}")
    return int(table_wh[start, isps - 1])


def _checked(ordered_wh: np.ndarray, isps: int) -> np.ndarray:
    ordered = np.asarray(ordered_wh)
    if ordered.shape != (isps,) or not np.issubdtype(ordered.dtype, np.integer) or (ordered < 0).any():
        raise DomainError(f"an order must be {isps} non-negative integers [Wh], got {ordered.dtype} {ordered.shape}")
    return ordered
