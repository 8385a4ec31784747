"""Appliances that switch a large, steady power: found and separated in a quarter-hour load.

What a meter shows of such an appliance is a plateau: quarter hours at its rated power on top of the rest, with
partly used ones at both ends. Three steps:

1. :func:`steady_powers` counts the heights of plateaus; a power that comes back many times is an appliance.
2. :func:`running` decides per quarter hour which of the found appliances run, all together and over the whole
   history: the cheapest path through their on/off states (Viterbi), where a rest below the base load is
   hardly possible, a large rest costs, and so does every switching. This is a factorial hidden Markov model
   with the powers known [1]_.
3. :func:`appliance_power` adds the partly used quarter hours at the ends, and pulses too short for a plateau.

References
----------
.. [1] J. Z. Kolter, T. Jaakkola, "Approximate Inference in Additive Factorial HMMs with Application to Energy
   Disaggregation", AISTATS 2012, PMLR 22:1472-1482.
"""

import numpy as np
from scipy.ndimage import percentile_filter, uniform_filter1d

from offchain.profiling.days import QUARTER_HOURS

SMALLEST_W = 1_200.0
"""Below this the power of one appliance drowns in the rest of a household."""
FLATNESS = 0.06
PLATEAUS_A_YEAR = 20
"""Plateaus that show an appliance of up to 3 kW; one of more power needs fewer, down to ``LEAST_PLATEAUS``."""
LEAST_PLATEAUS = 8
MOST_APPLIANCES = 4
POWER_WINDOW = 0.06
"""Heights within this share of each other are one power."""
APART = 0.08
REST_SCALE_W = 200.0
BELOW_BASE_COST = 4.0
MARGIN = QUARTER_HOURS // 2
SWITCHING_COST = 2.0
CHARGER_PULSE = 0.25
OTHER_PULSE = 0.4
"""Share of the power that a pulse without plateau must have."""
LEAST_PULSE_W = 2_500.0
ABOVE_OTHERS = 1.1


def base_load(load_w: np.ndarray) -> np.ndarray:
    """What runs all day: the tenth percentile of the day around each quarter hour, smoothed [W]."""
    window = min(QUARTER_HOURS + 1, load_w.size)
    low = uniform_filter1d(percentile_filter(load_w, 10, window, mode="nearest"), window, mode="nearest")
    return np.minimum(low, load_w)


def steady_powers(load_w: np.ndarray) -> list[float]:
    """Powers that come back as plateaus, those that move most energy first [W].

    Parameters
    ----------
    load_w : ndarray of float, shape (n_isps,)
        Load without generation [W], no gaps.

    Returns
    -------
    list of float
        At most four; two powers are at least 8% apart.
    """
    heights = np.sort(np.concatenate([_rises(load_w), _rises(load_w[::-1])]))
    years = load_w.size / (366 * QUARTER_HOURS)
    found: list[tuple[float, float]] = []
    while heights.size:
        last = np.searchsorted(heights, heights * (1 + POWER_WINDOW), side="right")
        counts = last - np.arange(heights.size)
        needed = np.maximum(PLATEAUS_A_YEAR * years * np.minimum(1.0, 3_000 / heights), LEAST_PLATEAUS)
        best = int((counts / needed).argmax())
        if counts[best] < needed[best]:
            break
        power = float(np.median(heights[best : last[best]]))
        found.append((power * counts[best], power))
        heights = heights[np.abs(np.log(heights / power)) > APART]
    return [power for _, power in sorted(found, reverse=True)[:MOST_APPLIANCES]]


def _rises(load_w: np.ndarray) -> np.ndarray:
    """Heights of plateaus of two quarter hours or more over what was before them [W]."""
    before, edge, on, still_on = load_w[:-3], load_w[1:-2], load_w[2:-1], load_w[3:]
    level = (on + still_on) / 2
    height = level - np.minimum(before, edge)
    flat = np.abs(on - still_on) < FLATNESS * np.maximum(on, still_on)
    return height[flat & (edge < 0.95 * on) & (height > SMALLEST_W) & (height > level / 2)]


def running(load_w: np.ndarray, base_w: np.ndarray, powers_w: list[float]) -> np.ndarray:
    """Which appliances run in which quarter hour.

    Returns
    -------
    ndarray of bool, shape (n_isps, n_appliances)
    """
    count, isps = len(powers_w), load_w.size
    states = np.arange(1 << count)
    on = (states[:, None] >> np.arange(count)) & 1 == 1
    rest = (load_w - base_w)[:, None] - on @ np.asarray(powers_w, dtype=float)
    cost = np.where(
        rest > 0, 1.5 * np.log1p(np.maximum(rest, 0) / REST_SCALE_W), BELOW_BASE_COST * -rest / REST_SCALE_W
    )
    # Days side by side, each with half a day around it: there the cheapest paths have long run together, and what
    # is kept is that of the whole history.
    days = -(-isps // QUARTER_HOURS)
    around = np.arange(-MARGIN, QUARTER_HOURS + MARGIN)
    windows = np.clip(np.arange(days)[:, None] * QUARTER_HOURS + around, 0, isps - 1)
    path = _cheapest(cost[windows], count)[:, MARGIN : MARGIN + QUARTER_HOURS]
    return on[path.ravel()[:isps]]


def _cheapest(cost: np.ndarray, count: int) -> np.ndarray:
    """Cheapest path of states through each window.

    Parameters
    ----------
    cost : ndarray of float, shape (n_windows, length, n_states)

    Returns
    -------
    ndarray of int, shape (n_windows, length)
    """
    windows, length, size = cost.shape
    states = np.arange(size)
    came_from = np.empty(cost.shape, dtype=np.int8)
    total = cost[:, 0].copy()
    for t in range(1, length):
        source = np.broadcast_to(states, total.shape)
        for appliance in range(count):
            flipped = states ^ (1 << appliance)
            switched = total[:, flipped] + SWITCHING_COST
            better = switched < total
            total = np.where(better, switched, total)
            source = np.where(better, source[:, flipped], source)
        came_from[:, t] = source
        total = total + cost[:, t]
    path = np.empty((windows, length), dtype=np.int64)
    path[:, -1] = total.argmin(axis=1)
    every = np.arange(windows)
    for t in range(length - 1, 0, -1):
        path[:, t - 1] = came_from[every, t, path[:, t]]
    return path


def runs(on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last quarter hour of each run."""
    edges = np.diff(np.concatenate([[0], on.astype(np.int8), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def appliance_power(
    load_w: np.ndarray, base_w: np.ndarray, powers_w: list[float], on: np.ndarray, tops_up: list[bool]
) -> np.ndarray:
    """Mean power of each appliance per quarter hour, partly used ones included [W].

    Parameters
    ----------
    tops_up : list of bool, one per appliance
        True of a charger, which may also run for less than a plateau on a day without one.

    Returns
    -------
    ndarray of float, shape (n_isps, n_appliances)
        Non-negative; the sum never exceeds the load above its base.
    """
    room = np.maximum(load_w - base_w, 0.0)
    used = np.zeros(on.shape)
    for i in np.argsort(powers_w)[::-1]:
        used[:, i] = np.where(on[:, i], np.minimum(powers_w[i], room), 0.0)
        room -= used[:, i]
    for i, power in enumerate(powers_w):
        first, end = runs(on[:, i])
        for edge, beyond in ((first - 1, first - 2), (end, end + 1)):
            inside = (edge >= 0) & (edge < load_w.size)
            _move(room, used[:, i], power, edge[inside], np.clip(beyond[inside], 0, load_w.size - 1), 0.0)
    # Then pulses, which have no plateau to tell by. Chargers come first, with what no other appliance that runs at
    # the time of year explains; each of the others gets those within half a day of its runs.
    at = np.arange(load_w.size)
    others = [i for i in range(len(powers_w)) if not tops_up[i]]
    explained = np.max([np.where(_near(on[:, i]), powers_w[i], 0.0) for i in others] or [np.zeros(at.size)], axis=0)
    for i in sorted(range(len(powers_w)), key=lambda i: (not tops_up[i], -powers_w[i])):
        if tops_up[i]:
            least = np.maximum(max(LEAST_PULSE_W, CHARGER_PULSE * powers_w[i]), ABOVE_OTHERS * explained)
        else:
            least = np.where(_near(on[:, i]), OTHER_PULSE * powers_w[i], np.inf)
        before, after = np.maximum(at - 1, 0), np.minimum(at + 1, at[-1])
        _move(room, used[:, i], powers_w[i], at, np.where(room[before] < room[after], before, after), least)
    return used


def _move(
    room: np.ndarray, used: np.ndarray, power: float, at: np.ndarray, beside: np.ndarray, least: float | np.ndarray
) -> None:
    """What stands out over a neighbour goes from the rest to the appliance."""
    step = room[at] - room[beside]
    moved = np.where(step > least, np.clip(step, 0.0, power - used[at]), 0.0)
    used[at] += moved
    room[at] -= moved


def _near(on: np.ndarray) -> np.ndarray:
    """Quarter hours within half a day of a run."""
    return uniform_filter1d(on.astype(float), min(QUARTER_HOURS + 1, on.size), mode="constant") > 1e-9
