"""Time for everything that waits: the machine's, or simulated time that a driver advances."""

import asyncio
from datetime import UTC, datetime
from typing import Protocol

from offchain.domain.errors import DomainError


class Clock(Protocol):
    """What time it is and how to wait for it."""

    def now(self) -> datetime:
        """Current time in UTC."""
        ...

    async def sleep_until(self, moment: datetime) -> None:
        """Return once ``now() >= moment``."""
        ...


class SystemClock:
    """Time of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, moment: datetime) -> None:
        while (seconds := (moment - self.now()).total_seconds()) > 0:
            await asyncio.sleep(seconds)


class SimulatedClock:
    """Time that stands still until :meth:`advance_to` moves it."""

    def __init__(self, start: datetime):
        if start.tzinfo is None:
            raise DomainError(f"time without zone: {start.isoformat()}", hint="add a UTC offset, for example +00:00")
        self._now = start.astimezone(UTC)
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    async def sleep_until(self, moment: datetime) -> None:
        if moment > self._now:
            future = asyncio.get_running_loop().create_future()
            self._sleepers.append((moment, future))
            await future

    def advance_to(self, moment: datetime) -> None:
        """Move time forward and wake everybody who waits for a moment up to then."""
        if moment < self._now:
            raise DomainError(f"simulated time cannot go back from {self._now.isoformat()} to {moment.isoformat()}")
        self._now = moment.astimezone(UTC)
        due = [future for wanted, future in self._sleepers if wanted <= moment and not future.done()]
        self._sleepers = [(wanted, future) for wanted, future in self._sleepers if wanted > moment]
        for future in due:
            future.set_result(None)


def unix(clock: Clock) -> int:
    """Current time in whole UTC seconds."""
    return int(clock.now().timestamp())
