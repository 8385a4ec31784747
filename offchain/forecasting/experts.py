"""The models of the ensemble: simple references, a linear model per series, and boosted trees over all series.

All of them work on energies in units of the scale of their series.
"""

from dataclasses import dataclass, field

import numpy as np

from offchain.forecasting.features import Features
from offchain.forecasting.horizons import Horizon

EXPERTS = ("weekly_naive", "persistence", "climatology", "median", "linear", "boosted")
LEAST_ROWS = 100
"""Fewer than these are not worth a tree."""
LEVELS = (0.5, 0.1, 0.9)
"""Quantiles that trees are trained for, the median first."""


@dataclass(frozen=True)
class Settings:
    """What decides a trained model beside its data; part of its identity."""

    seed: int = 1
    linear_rows: int = 1_200_000
    boosted_rows: int = 160_000
    spread_rows: int = 60_000
    trees: int = 300
    spread_trees: int = 100
    leaves: int = 31
    short_leaves: int = 63
    """Of horizons shorter than a day, whose readings of the last minutes say more."""
    learning_rate: float = 0.06
    ridge: float = 1e-3
    calibration_days: int = 35
    delay_isps: int = 0
    """From the end of an ISP until its reading is known."""


@dataclass(frozen=True)
class Experts:
    """Trained models.

    Attributes
    ----------
    coefficients : ndarray, shape (n_series + 1, n_leads or 1, n_linear + 1)
        Linear model per series, with intercept last; the mean over all series comes after them.
    boosters : mapping of float to tuple of str
        LightGBM models of P10, P50 and P90 of what the linear model leaves, as text: one for all leads, or one each.
    importance : mapping of str to float
        Share of each feature in the gain of the median's trees.
    """

    feature_names: tuple[str, ...]
    linear: tuple[int, ...]
    coefficients: np.ndarray
    boosters: dict[float, tuple[str, ...]]
    importance: dict[str, float]
    _loaded: dict = field(default_factory=dict, compare=False, repr=False)

    def values(self, features: Features, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What every expert says.

        Parameters
        ----------
        rows : ndarray of int, shape (n_series,)
            Row of ``coefficients`` per series; the last one for series that the training did not have.

        Returns
        -------
        values : ndarray, shape (n_issues, n_leads, n_series, n_experts)
        widths : ndarray, shape (n_issues, n_leads, n_series, 2)
            How far P10 lies below and P90 above the median, non-negative.
        """
        linear = features.reference + _apply_linear(features, self.linear, self.coefficients[rows])
        series = np.where(rows < len(self.coefficients) - 1, rows, np.nan)
        table = _table(features, linear, series)
        median, low, high = (self._predict(level, table) for level in LEVELS)
        widths = np.stack([np.maximum(median - low, 0), np.maximum(high - median, 0)], axis=-1)
        parts = (features.naive, features.latest, features.reference, features.median, linear, linear + median)
        return np.stack(parts, axis=-1), widths

    def _predict(self, level: float, table: np.ndarray) -> np.ndarray:
        if level not in self.boosters:
            return np.zeros(table.shape[:-1])
        import lightgbm

        if level not in self._loaded:
            self._loaded[level] = [lightgbm.Booster(model_str=text) for text in self.boosters[level]]
        said = [
            trees.predict(part.reshape(-1, part.shape[-1]), num_threads=1).reshape(part.shape[:-1])
            for trees, part in zip(self._loaded[level], np.split(table, len(self._loaded[level]), axis=1), strict=True)
        ]
        return np.concatenate(said, axis=1)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_loaded": {}}


def train_experts(features: Features, target: np.ndarray, settings: Settings, of: Horizon) -> Experts:
    """Train the linear and the boosted models.

    Parameters
    ----------
    target : ndarray, shape (n_issues, n_leads, n_series)
        What was metered, in units of the scale; NaN where missing.
    of : Horizon
        Shorter ones than a day have coefficients of the linear model for every lead, and trees where it says so.
    """
    per_lead = not of.next_day
    coefficients = _fit_linear(features, target, settings.ridge, per_lead)
    linear = features.reference + _apply_linear(features, features.linear, coefficients[:-1])
    names = (*features.names, "linear", "series")
    _, leads, series = target.shape
    left = (target - linear).ravel()
    usable = np.flatnonzero(np.isfinite(left))
    lead = usable // series % leads
    parts = [usable[lead == k] for k in range(leads)] if of.trees_per_lead else [usable]
    if min(part.size for part in parts) < LEAST_ROWS:
        return Experts(names, features.linear, coefficients, {}, dict.fromkeys(names, 0.0))
    table = _table(features, linear, np.arange(series)).reshape(left.size, -1)
    leaves = settings.short_leaves if per_lead else settings.leaves
    grown = [_grow(table, left, part, names, settings, leaves) for part in parts]
    boosters = {level: tuple(trees[level].model_to_string() for trees in grown) for level in LEVELS}
    gain = sum(trees[LEVELS[0]].feature_importance("gain") for trees in grown)
    importance = dict(zip(names, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True))
    return Experts(names, features.linear, coefficients, boosters, importance)


def _grow(table, left, usable, names, settings: Settings, leaves: int) -> dict:
    """Trees of every level, trained on some of the usable rows; LightGBM boosters."""
    import lightgbm

    rng = np.random.default_rng(settings.seed)
    data = [
        lightgbm.Dataset(table[rows], left[rows], feature_name=list(names), params={"verbose": -1, "num_threads": 1})
        for rows in (_some(usable, most, rng) for most in (settings.boosted_rows, settings.spread_rows))
    ]
    common = {
        "objective": "quantile",
        "num_leaves": leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": int(np.clip(usable.size // 1_000, 5, 100)),
        "feature_fraction": 0.6,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "verbose": -1,
        # one thread: the same trees on every machine, and no two pools of threads that wait for each other
        "num_threads": 1,
        "deterministic": True,
        "force_col_wise": True,
        "seed": settings.seed,
    }
    plan = zip(
        LEVELS,
        (data[0], data[1], data[1]),
        (settings.trees, settings.spread_trees, settings.spread_trees),
        strict=True,
    )
    return {
        level: lightgbm.train(common | {"alpha": level}, rows, rounds, keep_training_booster=True)
        for level, rows, rounds in plan
    }


def _some(usable: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if usable.size <= most:
        return usable
    return np.sort(rng.choice(usable, most, replace=False))


def _design(features: Features, linear: tuple[int, ...]) -> np.ndarray:
    chosen = np.nan_to_num(features.values[..., list(linear)].astype(np.float64))
    return np.concatenate([chosen, np.ones((*chosen.shape[:-1], 1))], axis=-1)


def _fit_linear(features: Features, target: np.ndarray, ridge: float, per_lead: bool) -> np.ndarray:
    """Ridge regression of what the reference leaves, for every series by itself."""
    left = target - features.reference
    valid = np.isfinite(left)
    leads = target.shape[1] if per_lead else 1
    series, width = target.shape[2], len(features.linear) + 1
    coefficients = np.zeros((series + 1, leads, width))
    for column in range(series):  # one at a time, because the design of all would not fit in memory
        one = Features(
            features.names, features.values[:, :, column : column + 1], features.linear, *[features.reference] * 4
        )
        design = _design(one, features.linear)[:, :, 0]
        weight = valid[:, :, column].astype(float)
        value = np.where(valid[:, :, column], left[:, :, column], 0.0)
        axes = "ilf,ilg->lfg" if per_lead else "ilf,ilg->fg"
        gram = np.einsum(axes, design * weight[..., None], design, optimize=True)
        moment = np.einsum("ilf,il->lf" if per_lead else "ilf,il->f", design, value, optimize=True)
        gram, moment = gram.reshape(leads, width, width), moment.reshape(leads, width)
        count = weight.sum(axis=0) if per_lead else weight.sum(keepdims=True).reshape(1)
        penalty = ridge * np.maximum(count, 1)[:, None, None] * np.eye(width)
        coefficients[column] = np.linalg.solve(gram + penalty, moment[..., None])[..., 0]
    coefficients[-1] = coefficients[:-1].mean(axis=0)
    return coefficients


def _apply_linear(features: Features, linear: tuple[int, ...], coefficients: np.ndarray) -> np.ndarray:
    """Linear correction of the reference, shape (n_issues, n_leads, n_series); not beyond what was ever metered."""
    result = np.zeros(features.reference.shape)
    per_series = np.broadcast_to(
        coefficients.transpose(1, 0, 2), (features.reference.shape[1], *coefficients.transpose(1, 0, 2).shape[1:])
    )
    for position, feature in enumerate(linear):
        result += np.nan_to_num(features.values[..., feature]) * per_series[None, ..., position]
    return np.clip(result + per_series[None, ..., -1], -1.0, 1.0)


def _table(features: Features, linear: np.ndarray, series: np.ndarray) -> np.ndarray:
    """All features, the linear model's correction and the series, per issue, lead and series."""
    table = np.empty((*linear.shape, len(features.names) + 2), dtype=np.float32)
    table[..., :-2] = features.values
    table[..., -2] = linear - features.reference
    table[..., -1] = series
    return table
