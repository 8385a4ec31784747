"""Photovoltaic generation behind a meter that sees only the net."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.profiling.days import local_days

LEAST_DAYS = 14
BLOCK_DAYS = 28
"""Within so many days the load at one time of day varies around one mean."""
ROUNDS = 4
TUNING = 1.5
SURE = 4.0
"""Standard errors from zero at which a plant is there."""
LEAST_W = 300.0


@dataclass(frozen=True)
class SolarEstimate:
    """Generation behind a meter.

    Attributes
    ----------
    rated_w : float
        Rated power of the plant [W], 0 where none was found.
    standard_error_w : float
        Of ``rated_w``, from the spread of its estimates by blocks of four weeks [W]; NaN for one block.
    shares : ndarray of float, shape (n_references,)
        Share of each reference in the plant: its orientation.
    generation_wh : ndarray of float, shape (n_isps,)
        Generation per ISP [Wh], non-negative, at least the export; NaN where the meter has no reading.
    """

    rated_w: float
    standard_error_w: float
    shares: np.ndarray
    generation_wh: np.ndarray


def exported_only(net_wh: np.ndarray) -> SolarEstimate:
    """Without a reference the export is all that is known of generation: a lower bound."""
    return SolarEstimate(0.0, float("nan"), np.zeros(0), np.maximum(-net_wh, 0.0))


def solar_behind_meter(net_wh: np.ndarray, first_isp: int, reference_wh_per_w: np.ndarray, zone: str) -> SolarEstimate:
    """Size and generation of a plant from the net and from plants nearby.

    Net consumption falls when the sun comes out. Within four weeks and at one time of day, the net less its
    mean is regressed on the references less theirs: habits and the course of the sun cancel, clouds remain.
    Least squares with non-negative sizes, outliers weighted down (Huber).

    Parameters
    ----------
    net_wh : ndarray of float, shape (n_isps,)
        Import minus export [Wh], NaN where missing.
    reference_wh_per_w : ndarray of float, shape (n_isps, n_references)
        Generation of one watt rated [Wh/W]: metered plants in the same weather, or yields computed from
        irradiance for several orientations. Non-negative, no gaps.

    Notes
    -----
    Biased where load follows clouds (lighting up, cooling down), where a battery stores the generation, and for
    shading that no reference has. A clear-sky curve as reference has no clouds and does not work.

    Raises
    ------
    DomainError
        References of another length, negative or missing.
    InsufficientHistoryError
        Fewer than two weeks.
    """
    reference = np.asarray(reference_wh_per_w, dtype=float)
    if reference.ndim != 2 or reference.shape[0] != net_wh.size:
        raise DomainError(f"reference has shape {reference.shape}, expected ({net_wh.size}, n_references) [Wh/W]")
    if not (reference >= 0).all():
        raise DomainError("reference generation is missing or negative", hint="fill its gaps, generation is positive")
    _, index = local_days(first_isp, net_wh.size, zone)
    whole = ((index >= 0) & (index < net_wh.size)).all(axis=1)
    index = index[whole]
    if len(index) < LEAST_DAYS:
        raise InsufficientHistoryError(available=len(index), required=LEAST_DAYS, what="whole days beside a reference")
    sizes, weights = [], []
    blocks = np.array_split(index, max(1, len(index) // BLOCK_DAYS))
    cells = [_deviations(net_wh[b], reference[b]) for b in blocks]
    size = _robust_sizes(np.concatenate([y for y, _ in cells]), np.concatenate([x for _, x in cells]))
    for y, x in cells:
        strength = float((x**2).sum())
        if strength > 0:
            sizes.append(_robust_sizes(y, x).sum())
            weights.append(strength)
    error = float(np.sqrt(np.cov(sizes, aweights=weights) / len(sizes))) if len(sizes) > 1 else float("nan")
    rated = float(size.sum())
    exported = np.maximum(-net_wh, 0.0)
    if rated < LEAST_W or rated < SURE * error:
        return SolarEstimate(0.0, error, np.zeros(size.size), exported)
    return SolarEstimate(rated, error, size / rated, np.maximum(reference @ size, exported))


def _deviations(net_wh: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one block less their mean at each time of day; nights and gaps left out."""
    known = ~np.isnan(net_wh)
    count = np.maximum(known.sum(axis=0), 1)
    y = np.where(known, net_wh, 0.0)
    y = np.where(known, y - y.sum(axis=0) / count, 0.0)
    x = np.where(known[..., None], reference, 0.0)
    x = np.where(known[..., None], x - x.sum(axis=0) / count[:, None], 0.0)
    used = known & (reference.sum(axis=2) > 0)
    return y[used], x[used]


def _robust_sizes(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Non-negative sizes ``s`` with ``y = -x s`` [W]."""
    weight = np.ones(y.size)
    size = np.zeros(x.shape[1])
    for _ in range(ROUNDS):
        root = np.sqrt(weight)
        gram = (x * weight[:, None]).T @ x
        # nnls of the normal equations: a few references instead of a year of rows
        try:
            factor = np.linalg.cholesky(gram + 1e-12 * np.trace(gram) * np.eye(gram.shape[0]))
        except np.linalg.LinAlgError:
            return size
        target = np.linalg.solve(factor, -(x * root[:, None]).T @ (y * root))
        size, _ = nnls(factor.T, target)
        rest = y + x @ size
        scale = 1.4826 * np.median(np.abs(rest)) + 1e-9
        weight = np.minimum(1.0, TUNING * scale / np.maximum(np.abs(rest), 1e-9))
    return size
