"""What a baseline method is, and which ones there are."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Generic, Protocol, TypeVar

import numpy as np

from offchain.baseline.adjustment import Adjusted, Adjustment
from offchain.baseline.comparable_day import ComparableDay
from offchain.baseline.history import History
from offchain.baseline.least_squares import LeastSquares, LeastSquaresSameDay
from offchain.baseline.similar_days import SimilarDayMethod
from offchain.baseline.x_of_y import Choice, LinearlyWeighted, XOfY
from offchain.domain.errors import DomainError, FlexError
from offchain.domain.isp import MarketDay

Key = TypeVar("Key")


class BaselineMethod(Protocol):
    """A named, versioned rule from history to baseline; a change of results is a new version.

    Agreements refer to a method by ``"name@version"``, see :func:`method_id`.
    """

    name: str
    version: int

    def baseline(self, history: History, day: MarketDay, event: range | None = None) -> np.ndarray:
        """Expected net consumption per ISP of ``day``, import minus export, int64 [Wh], shape (isp_count,).

        Uses days before ``day`` only, and of ``day`` itself, by methods that adjust to it, readings before the
        first ISP of ``event``. Raises :class:`InsufficientHistoryError`.

        Parameters
        ----------
        event : range of int, optional
            ISPs of the event; methods with same-day adjustment need it.
        """
        ...


_HIGH_5_OF_10 = XOfY("high_5_of_10", 1, x=5, y=10, choice=Choice.HIGHEST)
_MID_4_OF_6 = XOfY("mid_4_of_6", 1, x=4, y=6)
_AVERAGE_10_OF_10 = XOfY("average_10_of_10", 1, x=10, y=10)

_METHODS: tuple[SimilarDayMethod, ...] = (
    _MID_4_OF_6,
    _AVERAGE_10_OF_10,
    _HIGH_5_OF_10,
    XOfY("high_4_of_5", 1, x=4, y=5, choice=Choice.HIGHEST),
    XOfY("mid_8_of_10", 1, x=8, y=10),
    LinearlyWeighted("weighted_10", 1, days=10),
    LeastSquares("least_squares", 1),
    Adjusted("mid_4_of_6_additive", 1, _MID_4_OF_6, Adjustment.ADDITIVE, cap_bps=10_000),
    Adjusted("average_10_of_10_additive", 1, _AVERAGE_10_OF_10, Adjustment.ADDITIVE, cap_bps=10_000),
    Adjusted("high_5_of_10_additive", 1, _HIGH_5_OF_10, Adjustment.ADDITIVE, cap_bps=10_000),
    Adjusted("average_10_of_10_ratio", 1, _AVERAGE_10_OF_10, Adjustment.RATIO, cap_bps=2_000),
    Adjusted("high_5_of_10_ratio", 1, _HIGH_5_OF_10, Adjustment.RATIO, cap_bps=2_000),
    ComparableDay("comparable_day_3", 1, nearest=3),
    ComparableDay("comparable_day_5", 1, nearest=5),
    LeastSquaresSameDay("least_squares_same_day", 1),
)


def method_id(method: BaselineMethod) -> str:
    """The identifier that agreements and commitments carry."""
    return f"{method.name}@{method.version}"


_REFERENCE_EVENT = slice(68, 76)

BASELINE_METHODS: dict[str, SimilarDayMethod] = {method_id(m): m for m in _METHODS}


def baseline_method(identifier: str) -> SimilarDayMethod:
    """Method by ``"name@version"``."""
    if identifier not in BASELINE_METHODS:
        known = ", ".join(BASELINE_METHODS)
        raise DomainError(f"unknown baseline method {identifier!r}", hint=f"one of {known}")
    return BASELINE_METHODS[identifier]


def method_hash(method: SimilarDayMethod) -> str:
    """SHA-256 of what a method is and of what it yields, hexadecimal.

    Hashed are class, name, version and parameters as JSON, and the method's baseline of a fixed day after forty
    fixed days of three connections, as big endian ``int64``. Two machines with the same hash compute alike; a
    change of results without a new version changes the hash.
    """
    described = json.dumps(_described(method), sort_keys=True, separators=(",", ":")).encode()
    days = _reference_days()
    today = days[0, : _REFERENCE_EVENT.start] if method.same_day else None
    yielded = method.expected(days[1 : 1 + method.most_days], today, _REFERENCE_EVENT).astype(">i8").tobytes()
    return hashlib.sha256(described + b"\n" + yielded).hexdigest()


def _described(method: SimilarDayMethod) -> dict[str, object]:
    described: dict[str, object] = {"rule": type(method).__name__, **asdict(method)}
    if isinstance(method, Adjusted):
        described["unadjusted"] = _described(method.unadjusted)
    return described


@cache
def _reference_days() -> np.ndarray:
    """Values of a linear congruential generator, -500 to 2,499 Wh, shape (41, 96, 3)."""
    state, values = 1, []
    for _ in range(41 * 96 * 3):
        state = (1_103_515_245 * state + 12_345) % 2**31
        values.append((state >> 8) % 3_000 - 500)
    return np.array(values, dtype=np.int64).reshape(41, 96, 3)


def baselines(
    method: SimilarDayMethod, first_isp: int, net_wh: np.ndarray, day: MarketDay, event: range | None = None
) -> np.ndarray:
    """Baselines of several connections at once.

    Parameters
    ----------
    first_isp : int
        ISP of the first row of ``net_wh``.
    net_wh : ndarray of int, shape (n_isps, n_connections)
        Complete history, import minus export [Wh].

    Returns
    -------
    ndarray of int64, shape (day.isp_count, n_connections)

    Raises
    ------
    InsufficientHistoryError
        Of the first connection that has no baseline; :func:`baselines_of` goes on with the others.
    """
    result = baselines_of(method, {n: History(first_isp, column) for n, column in enumerate(net_wh.T)}, day, event)
    for refusal in result.refused.values():
        raise refusal
    curves = [result.net_wh[n] for n in range(net_wh.shape[1])]
    return np.stack(curves, axis=1) if curves else np.empty((day.isp_count, 0), dtype=np.int64)


@dataclass(frozen=True)
class Baselines(Generic[Key]):
    """Baselines [Wh] by connection, and for those without one the reason."""

    net_wh: Mapping[Key, np.ndarray]
    refused: Mapping[Key, FlexError]


def baselines_of(
    method: SimilarDayMethod,
    histories: Mapping[Key, History],
    day: MarketDay,
    event: range | None = None,
    *,
    together: int = 256,
) -> Baselines[Key]:
    """Baselines of many connections; one whose data cannot be used does not stop the others.

    Connections with as many similar days are computed together, at most ``together`` at a time.
    """
    refused: dict[Key, FlexError] = {}
    groups: dict[int, list[tuple[Key, np.ndarray, np.ndarray | None]]] = {}
    positions = None
    net_wh: dict[Key, np.ndarray] = {}

    def finish(group: list[tuple[Key, np.ndarray, np.ndarray | None]]) -> None:
        past = np.stack([past for _, past, _ in group], axis=-1)
        today = np.stack([today for *_, today in group], axis=-1) if method.same_day else None
        curves = method.expected(past, today, positions)
        net_wh.update({key: curves[:, n] for n, (key, *_) in enumerate(group)})
        group.clear()

    for key, history in histories.items():
        try:
            past, today, positions = method.inputs(history, day, event)
        except FlexError as refusal:
            refused[key] = refusal
            continue
        group = groups.setdefault(len(past), [])
        group.append((key, past, today))
        if len(group) == together:
            finish(group)
    for group in groups.values():
        if group:
            finish(group)
    return Baselines(net_wh, refused)
