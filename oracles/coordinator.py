"""One coordinator polls the meters behind one endpoint; a meter that fails leaves the others alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from offchain.domain.errors import FlexError
from oracles.rounds import in_rounds
from oracles.sources.port import MeterReading, MeterSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll brought; every meter is in ``readings`` or in ``failures``."""

    readings: list[MeterReading]
    failures: dict[bytes, FlexError]


class EndpointCoordinator:
    """Polls meters together.

    A meter that failed in the last poll gets one attempt, after all others, until it answers again: a dead
    meter costs one time-out a poll, and none of the living is read later because of it.
    """

    def __init__(
        self, sources: Sequence[MeterSource], *, concurrency: int = 4, attempts: int = 3, delay_s: float = 0.1
    ):
        self._jobs = {source.meter_id: source.read for source in sources}
        self._concurrency = concurrency
        self._attempts = attempts
        self._delay_s = delay_s
        self._down: set[bytes] = set()
        self.paused: set[bytes] = set()

    async def poll(self) -> Poll:
        """Read every meter once, but those in ``paused``."""
        readings, failures = await in_rounds(
            {meter_id: job for meter_id, job in self._jobs.items() if meter_id not in self.paused},
            concurrency=self._concurrency,
            attempts=self._attempts,
            delay_s=self._delay_s,
            once=self._down,
        )
        for meter_id in failures.keys() - self._down:
            log.warning("meter %s lost: %s", meter_id.hex(), failures[meter_id])
        for meter_id in self._down - failures.keys():
            log.info("meter %s answers again", meter_id.hex())
        self._down = set(failures)
        return Poll(list(readings.values()), failures)
