"""Time for everything that waits: of the machine, the same but steady, or simulated time that a driver advances."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from offchain.domain.errors import DomainError

log = logging.getLogger(__name__)


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


class SteadyClock:
    """Time of the machine that goes on evenly when somebody sets it wrong.

    It follows the machine's clock through small corrections. A larger step, forward or back, is not believed: time then
    goes on by the counter that never jumps, until :meth:`confirm` is told a time from elsewhere (the chain) that agrees
    with the machine. Readings of an ISP that has not been would be signed otherwise, and could never be taken back.

    Parameters
    ----------
    largest_step_s : float
        Step of the machine's clock that passes for a correction [s].
    wall, steady : callable
        Machine's time [UTC s]; seconds since some moment, that go on while the machine sleeps.
    """

    def __init__(
        self,
        *,
        largest_step_s: float = 30,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ):
        self._largest_step_s = largest_step_s
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self._jumped = False

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._seconds(), UTC)

    def _seconds(self) -> float:
        steady, wall = self._steady(), self._wall()
        step_s = wall - steady - self._offset
        if abs(step_s) <= self._largest_step_s:
            self._offset += step_s
            if self._jumped:
                log.info("clock of the machine agrees again")
            self._jumped = False
        elif not self._jumped:
            self._jumped = True
            log.error("clock of the machine jumped by %.0f s; going on without it", step_s)
        return steady + self._offset

    @property
    def jumped(self) -> bool:
        """Whether the machine's clock is not believed at the moment."""
        self._seconds()
        return self._jumped

    def confirm(self, elsewhere: float, *, tolerance_s: float = 120) -> None:
        """Believe the machine's clock again when it agrees with a time from elsewhere [UTC s]."""
        wall = self._wall()
        if self.jumped and abs(wall - elsewhere) <= tolerance_s:
            log.warning("clock of the machine is confirmed; time goes on from there")
            self._offset = wall - self._steady()
            self._jumped = False

    async def sleep_until(self, moment: datetime) -> None:
        while (seconds := (moment - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(seconds, 10))


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
