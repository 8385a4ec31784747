"""What all assets ask of their input."""

from collections.abc import Sequence

import numpy as np

from offchain.domain.errors import DomainError

ISP_HOURS = 0.25


def whole_wh(values: np.ndarray | Sequence[int], what: str) -> np.ndarray:
    """One row of integers as int64 [Wh]."""
    array = np.asarray(values)
    if array.ndim != 1 or not array.size or not np.issubdtype(array.dtype, np.integer):
        raise DomainError(f"{what} must be one row of integers [Wh per ISP], got {array.dtype} {array.shape}")
    return array.astype(np.int64)


def like(values: np.ndarray | Sequence[float] | float, plan_wh: np.ndarray, what: str) -> np.ndarray:
    """Finite floats for every ISP of a plan; one value stands for all."""
    array = np.asarray(values, dtype=float)
    if array.ndim == 0:
        array = np.full(plan_wh.shape, float(array))
    if array.shape != plan_wh.shape:
        raise DomainError(f"{what} has {array.size} values, the plan {plan_wh.size}")
    if not np.isfinite(array).all():
        raise DomainError(f"{what} is not a number at position {int(np.flatnonzero(~np.isfinite(array))[0])}")
    return array


def positive(**quantities: float) -> None:
    """Refuse quantities that are not above zero."""
    for name, value in quantities.items():
        if not value > 0:
            raise DomainError(f"{name} must be above zero, got {value}")


def energy_of(power_w: float) -> int:
    """Energy of an ISP at constant power, rounded down [Wh]."""
    return int(power_w * ISP_HOURS)


def whole_cost(cost: np.ndarray) -> np.ndarray:
    """Costs per kWh, rounded up: who pays rounds up [uToken]."""
    return np.ceil(cost - 1e-6).astype(np.int64)
