"""A member of an aggregator's portfolio, as far as offers and orders need to know it."""

from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.isp import ISPS_PER_HOUR, SECONDS_PER_ISP
from offchain.domain.units import Direction


@dataclass(frozen=True, slots=True)
class Member:
    """What a prosumer agreed to and can be expected to do on one market day.

    Attributes
    ----------
    id : str
    max_up_w, max_down_w : int
        Largest ordered power by agreement [W].
    reward_utoken_per_kwh : int
        Agreed reward.
    available : ndarray of bool, shape (n_isps,)
        Positions of the day in which it may be ordered.
    possible_wh : ndarray of int, shape (n_isps,)
        What its flexible assets can be expected to move in the direction asked for, non-negative [Wh].
    energy_limit_wh : int, optional
        Most it can move over the day [Wh].
    blocked : ndarray of bool, shape (n_isps,), optional
        Positions already ordered or otherwise taken.
    activations_left : int
        Orders it may still get this week; one order is one activation.
    first_position : int
        First position that its notice still allows, see :func:`first_position_after_notice`.
    """

    id: str
    max_up_w: int
    max_down_w: int
    reward_utoken_per_kwh: int
    available: np.ndarray
    possible_wh: np.ndarray
    energy_limit_wh: int | None = None
    blocked: np.ndarray | None = None
    activations_left: int = 1
    first_position: int = 0

    def capacity_wh(self, direction: Direction) -> np.ndarray:
        """Most that may be ordered per ISP by agreement, availability, notice and capability [Wh]."""
        max_w = self.max_up_w if direction is Direction.UP else self.max_down_w
        free = self.available if self.blocked is None else self.available & ~self.blocked
        free = free & (np.arange(free.size) >= self.first_position) & (self.activations_left > 0)
        return np.where(free, np.minimum(self.possible_wh, max_w // ISPS_PER_HOUR), 0)


def capacities_wh(members: list[Member], direction: Direction, isp_count: int) -> np.ndarray:
    """Capacity of several members, shape (n_members, isp_count), integer Wh."""
    for member in members:
        if member.available.shape != (isp_count,) or member.possible_wh.shape != (isp_count,):
            raise DomainError(
                f"member {member.id}: {member.available.size} positions of availability and "
                f"{member.possible_wh.size} of capability for a day of {isp_count} ISPs"
            )
    rows = [member.capacity_wh(direction) for member in members]
    return np.array(rows, dtype=np.int64).reshape(len(members), isp_count)


def energy_limits_wh(members: list[Member], capacity_wh: np.ndarray) -> np.ndarray:
    """Energy limit of several members; all of the capacity where there is none [Wh]."""
    return np.array(
        [
            capacity.sum() if member.energy_limit_wh is None else member.energy_limit_wh
            for member, capacity in zip(members, capacity_wh, strict=True)
        ],
        dtype=np.int64,
    )


def positions_of_bitmap(bitmap: int, isp_count: int) -> np.ndarray:
    """Bit p of an agreement's bitmap as element p, shape (isp_count,) bool."""
    return np.array([bitmap >> position & 1 for position in range(isp_count)], dtype=bool)


def first_position_after_notice(first_isp: int, order_time_s: int, notice_s: int) -> int:
    """First position whose ISP starts ``notice_s`` or more after ``order_time_s`` (UTC seconds)."""
    earliest_isp = -(-(order_time_s + notice_s) // SECONDS_PER_ISP)
    return max(earliest_isp - first_isp, 0)
