"""The one way in which baselines become whole Wh."""

import numpy as np


def rounded_mean_wh(total_wh: np.ndarray, count: int) -> np.ndarray:
    """``total_wh / count`` to the nearest integer, halves toward plus infinity; integer arithmetic throughout
    [Wh].

    An auditor in any language gets the same: ``floor((2 * total + count) / (2 * count))``.
    """
    return (2 * total_wh + count) // (2 * count)
