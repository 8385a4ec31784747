"""Values on their way from an event source to its consumer, and what to do once they are on disk."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from offchain.domain.errors import DomainError
from oracles.sources.port import IntervalEnergy, MeterReading, Observation

Value = MeterReading | IntervalEnergy | Observation


def _nothing() -> None:
    pass


class Delivery:
    """First in, first out; each message is acknowledged when the last of its values was taken.

    Parameters
    ----------
    limit : int
        Messages that may wait or be untaken before :attr:`full` asks the sender to pause.
    """

    def __init__(self, limit: int = 10_000):
        self.limit = limit
        self._waiting: deque[Value] = deque()
        self._untaken: deque[tuple[int, Callable[[], None]]] = deque()
        self._delivered = 0
        self._taken = 0
        self._error: Exception | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def full(self) -> bool:
        """Whether the consumer is so far behind that nothing more should be read."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Return as soon as the consumer has caught up."""
        await self._room.wait()

    def put(self, values: Sequence[Value], acknowledge: Callable[[], None] = _nothing) -> None:
        """Queue the values of one message; ``acknowledge`` is called at once when there are none to wait for."""
        if not values and not self._untaken:
            acknowledge()
            return
        self._waiting.extend(values)
        self._untaken.append((len(values), acknowledge))
        if len(self._untaken) >= self.limit:
            self._room.clear()
        self._wake.set()

    def fail(self, error: Exception) -> None:
        """End the values with an error, after those that wait."""
        self._error = error
        self._wake.set()

    async def values(self) -> AsyncIterator[Value]:
        """Values in their order.

        Begins empty: what an earlier consumer was given and did not take comes again from who sent it.
        """
        self._waiting.clear()
        self._untaken.clear()
        self._delivered = self._taken = 0
        self._room.set()
        while True:
            while self._waiting:
                self._delivered += 1
                yield self._waiting.popleft()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            self._wake.clear()
            await self._wake.wait()

    def taken(self, count: int) -> None:
        """See ``EventSource.taken``."""
        if not 0 <= count <= self._delivered:
            raise DomainError(f"{count} values taken, {self._delivered} were delivered")
        self._delivered -= count
        self._taken += count
        while self._untaken and self._untaken[0][0] <= self._taken:
            size, acknowledge = self._untaken.popleft()
            self._taken -= size
            acknowledge()
        if len(self._untaken) <= self.limit // 2:
            self._room.set()
