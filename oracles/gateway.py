"""A site: all endpoints read together at every ISP boundary, in real or simulated time."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from offchain.domain.errors import FlexError, TransientError
from offchain.domain.isp import isp_of, isp_start
from oracles.clock import Clock
from oracles.coordinator import EndpointCoordinator
from oracles.pipeline import IngestReport, MeteringPipeline
from oracles.sources.port import MeterReading

LARGEST_BACKLOG = 1_000_000
"""Reads that wait in memory while the store is away: a day of ten thousand meters."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BoundaryReport:
    """What one boundary brought: the accepted and the rejected, and meters that could not be read."""

    ingest: IngestReport
    failures: dict[bytes, FlexError]


class SiteGateway:
    """Polls coordinators at ISP boundaries and feeds the pipeline.

    Parameters
    ----------
    on_boundary : callable, optional
        Told after each boundary what was accepted and which meters could not be read.
    """

    def __init__(
        self,
        coordinators: Sequence[EndpointCoordinator],
        pipeline: MeteringPipeline,
        clock: Clock,
        *,
        on_boundary: Callable[[IngestReport, Mapping[bytes, FlexError]], None] | None = None,
    ):
        self._on_boundary = on_boundary
        self._coordinators = coordinators
        self._pipeline = pipeline
        self._clock = clock
        self._backlog: list[MeterReading] = []

    async def read_boundary(self) -> BoundaryReport:
        """Read all meters now and store what follows from it.

        When the store raises ``TransientError`` the reads are kept and stored with the next ones.
        """
        polls = await asyncio.gather(*(coordinator.poll() for coordinator in self._coordinators))
        self._backlog += [reading for poll in polls for reading in poll.readings]
        failures = {meter_id: error for poll in polls for meter_id, error in poll.failures.items()}
        ingest = await self.flush()
        if self._on_boundary is not None:
            await asyncio.to_thread(self._on_boundary, ingest, failures)
        return BoundaryReport(ingest, failures)

    async def flush(self) -> IngestReport:
        """Store the reads that wait."""
        backlog, self._backlog = self._backlog, []
        try:
            return await asyncio.to_thread(self._pipeline.ingest, backlog, limited=False)
        except TransientError:
            self._backlog = (backlog + self._backlog)[-LARGEST_BACKLOG:]
            raise

    async def run(self, first_boundary: int | None = None, *, boundaries: int | None = None) -> None:
        """Read at every boundary from ``first_boundary`` (else the next) on, so many times or for ever."""
        boundary = isp_of(self._clock.now()) + 1 if first_boundary is None else first_boundary
        while boundaries is None or boundaries > 0:
            await self._clock.sleep_until(isp_start(boundary))
            try:
                await self.read_boundary()
            except TransientError as error:
                log.error("%s; %d reads kept in memory", error, len(self._backlog))
            # A clock that was corrected forward has skipped boundaries: they cannot be read any more.
            boundary = max(boundary, isp_of(self._clock.now())) + 1
            boundaries = None if boundaries is None else boundaries - 1
