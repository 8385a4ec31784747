"""Near-real-time channel: values of 4 s and 10 s, readable at once, never waiting for the chain.

The latest value and a short window of each quantity are in memory. Everything accepted goes to the store now and
then, where it is kept for hours, not years: observations steer and inform, they are never settled.
"""

import math
import threading
from collections import Counter, deque
from collections.abc import Iterable

from offchain.domain.errors import FlexError
from offchain.store import Store
from offchain.store.observations import ObservationRow, forget_observations, insert_observations, observations_of
from oracles.clock import Clock, unix
from oracles.limits import RateLimit
from oracles.normalise import Rejection
from oracles.sources.port import Observation, Quantity

Key = tuple[str, Quantity, int]

WINDOW = 900
"""Values per quantity kept in memory: an hour at 4 s."""
UNSAVED = 200_000
"""Values that may wait for the store; when it is away for longer the oldest are dropped and counted."""
FUTURE_TOLERANCE_S = 60

# What no device can mean, whatever its unit prefix: lowest, highest.
_POSSIBLE = {
    Quantity.VOLTAGE: (0, 500_000),
    Quantity.PHASE_ANGLE: (-360, 360),
    Quantity.FREQUENCY: (0, 100),
    Quantity.STATE_OF_CHARGE: (0, 100),
    Quantity.TEMPERATURE: (-90, 1_000),
    Quantity.IRRADIANCE: (0, 2_000),
    Quantity.WIND_SPEED: (0, 120),
    Quantity.ACTIVE_POWER: (-1e9, 1e9),
    Quantity.REACTIVE_POWER: (-1e9, 1e9),
    Quantity.CURRENT: (-1e6, 1e6),
}


class LiveChannel:
    """Latest telemetry of a site.

    Parameters
    ----------
    retention_s : int
        How long values stay in the store [s].
    limit : RateLimit or None
        Per device and quantity.
    """

    def __init__(self, store: Store, clock: Clock, *, retention_s: int = 86_400, limit: RateLimit | None = None):
        self._store = store
        self._clock = clock
        self._retention_s = retention_s
        self._limit = limit
        self._windows: dict[Key, deque[Observation]] = {}
        self._unsaved: deque[Observation] = deque(maxlen=UNSAVED)
        self._lock = threading.Lock()
        self.rejected: Counter[Rejection] = Counter()
        self.accepted = 0

    def take(self, observations: Iterable[Observation]) -> int:
        """Accept values; returns how many. Rejected ones are counted by reason."""
        accepted = 0
        now = unix(self._clock)
        for value in observations:
            if (rejection := self._objection(value, now)) is not None:
                self.rejected[rejection] += 1
                continue
            self._windows.setdefault(_key(value), deque(maxlen=WINDOW)).append(value)
            with self._lock:
                self._unsaved.append(value)
            accepted += 1
        self.accepted += accepted
        return accepted

    def _objection(self, value: Observation, now: int) -> Rejection | None:
        if self._limit is not None and not self._limit.allows(_key(value), now):
            return Rejection.FLOOD
        low, high = _POSSIBLE.get(value.quantity, (-math.inf, math.inf))
        if not (math.isfinite(value.value) and low <= value.value <= high):
            return Rejection.IMPLAUSIBLE
        if value.observed_at > now + FUTURE_TOLERANCE_S:
            return Rejection.FUTURE
        window = self._windows.get(_key(value))
        if window and value.observed_at <= window[-1].observed_at:
            return Rejection.DUPLICATE if value.observed_at == window[-1].observed_at else Rejection.OUT_OF_ORDER
        return None

    def latest(self, device_id: str | None = None) -> list[Observation]:
        """Latest value of every quantity, of one device or of all."""
        return [window[-1] for key, window in self._windows.items() if device_id in (None, key[0])]

    def window(self, device_id: str, quantity: Quantity, phase: int = 0) -> list[Observation]:
        """The last values in memory, oldest first."""
        return list(self._windows.get((device_id, quantity, phase), ()))

    def history(self, device_id: str, quantity: Quantity, phase: int, first: int, end: int) -> list[ObservationRow]:
        """Stored values observed in ``[first, end)`` [UTC s]."""
        with self._store.read() as connection:
            return observations_of(connection, device_id, quantity, phase, first, end)

    def save(self) -> int:
        """Write what is new to the store and drop what is too old; returns how many were written."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, deque(maxlen=UNSAVED)
        rows = [
            ObservationRow(v.device_id, v.quantity, v.phase, v.observed_at, v.value, v.received_at) for v in unsaved
        ]
        try:
            with self._store.write() as connection:
                insert_observations(connection, rows)
                forget_observations(connection, received_before=unix(self._clock) - self._retention_s)
        except FlexError:
            with self._lock:
                unsaved.extend(self._unsaved)
                self._unsaved = unsaved
            raise
        return len(rows)


def _key(value: Observation) -> Key:
    return value.device_id, value.quantity, value.phase
