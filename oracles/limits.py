"""How many values a device may send: a flood from one costs the others nothing."""

from collections.abc import Hashable


class RateLimit:
    """Token bucket per device.

    Parameters
    ----------
    per_minute : int
        Values that a device may send in the long run.
    burst : int
        Values that it may send at once, after it was quiet.
    """

    def __init__(self, per_minute: int, burst: int):
        self._per_second = per_minute / 60
        self._burst = burst
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def allows(self, key: Hashable, at: float) -> bool:
        """Whether one more value of ``key`` is accepted at ``at`` [s, any clock that does not go back]."""
        left, since = self._buckets.get(key, (self._burst, at))
        left = min(self._burst, left + max(at - since, 0) * self._per_second)
        allowed = left >= 1
        self._buckets[key] = left - allowed, max(at, since)
        return allowed
