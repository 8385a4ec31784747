"""Stored series once more, at any speed: out of a CSV file or out of the readings of a store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationInfo, model_validator

from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP, isp_of
from offchain.store import open_store
from offchain.store.database import Store, file_of
from offchain.store.readings import readings_of_isp
from oracles.clock import Clock
from oracles.sources.config import MeterId, anchored
from oracles.sources.csv_file import CsvSourceConfig, EnergyCsvMapping, files_in, read_energy_csv
from oracles.sources.delivery import Value
from oracles.sources.port import IntervalEnergy, MeterReading
from oracles.sources.tabular import log_bad_lines

_READ_AHEAD = 500


def known_at(value: Value) -> int:
    """When a value could be known at the earliest [UTC s]: energy at the end of its ISP."""
    if isinstance(value, IntervalEnergy):
        return (value.isp + 1) * SECONDS_PER_ISP
    return value.read_at if isinstance(value, MeterReading) else value.observed_at


def stored_intervals(
    store: Store, first_isp: int, end_isp: int, meter_ids: Collection[bytes] | None = None
) -> Iterator[IntervalEnergy]:
    """Readings of a store in ``[first_isp, end_isp)`` by ISP and meter; of all meters without ``meter_ids``."""
    for isp in range(first_isp, end_isp):
        with store.read() as connection:
            rows = readings_of_isp(connection, isp)
        for row in rows:
            if meter_ids is None or row.meter_id in meter_ids:
                yield IntervalEnergy(row.meter_id, isp, row.import_wh, row.export_wh, row.belief_time)


class ReplaySource:
    """Values in the order and the rhythm in which they once came (implements ``EventSource``).

    The first comes at once, and each other ``1 / speed`` of the time after it that once lay between them. Their own
    times stay what they were.

    Parameters
    ----------
    begin : callable
        Gives each consumer the values from the first on, in the order of :func:`known_at`; they are read as they are
        replayed. What is late comes at once.
    speed : float or None
        How many times as fast as it was; ``None`` does not wait at all.
    """

    def __init__(self, begin: Callable[[], Iterable[Value]], clock: Clock, *, speed: float | None = 1.0):
        if speed is not None and speed <= 0:
            raise DomainError(f"replay at speed {speed:g}", hint="1 is as it was, 900 makes a quarter hour a second")
        self._begin = begin
        self.clock = clock
        self.speed = speed

    async def probe(self) -> str:
        return "replay, " + ("without waiting" if self.speed is None else f"{self.speed:g} times as fast")

    async def values(self) -> AsyncIterator[Value]:
        start, origin, values = self.clock.now(), None, iter(self._begin())
        while some := await asyncio.to_thread(lambda: list(islice(values, _READ_AHEAD))):
            for value in some:
                if self.speed is not None:
                    origin = known_at(value) if origin is None else origin
                    await self.clock.sleep_until(start + timedelta(seconds=(known_at(value) - origin) / self.speed))
                yield value

    def taken(self, count: int) -> None:
        """Nothing to acknowledge: what was stored stays stored."""


def _anchored_store(store: str, info: ValidationInfo) -> str:
    file = file_of(store)
    return store if file is None else str(anchored(file, info))


class ReplayConfig(BaseModel, extra="forbid", frozen=True):
    """Replay of CSV files (``csv``) or of the readings of a store (``store`` with ``start`` and ``end``).

    The files of a folder are replayed one after the other in the order of their names, which is to be that of time.
    """

    csv: CsvSourceConfig | None = None
    store: Annotated[str, AfterValidator(_anchored_store)] | None = None
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    meters: tuple[MeterId, ...] = ()
    speed: float | None = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _one_origin(self) -> "ReplayConfig":
        if (self.csv is None) == (self.store is None):
            raise ValueError("give either csv or store")
        if self.store is not None and (self.start is None or self.end is None or self.start >= self.end):
            raise ValueError("a store is replayed from start to end: give both, the earlier first")
        return self

    def source(self, clock: Clock) -> ReplaySource:
        """The source; files and the store are read as they are replayed."""
        if self.csv is not None:
            return ReplaySource(partial(self._filed, self.csv, self.csv.load()), clock, speed=self.speed)
        return ReplaySource(self._stored, clock, speed=self.speed)

    @staticmethod
    def _filed(config: CsvSourceConfig, mapping: EnergyCsvMapping) -> Iterator[IntervalEnergy]:
        for path in files_in(config.path, config.pattern):
            content = read_energy_csv(path, mapping, config.meters, reported_at=0)
            log_bad_lines(path, content.bad)
            for value in content.values:
                yield value._replace(reported_at=known_at(value))

    def _stored(self) -> Iterator[IntervalEnergy]:
        with open_store(self.store, create=False) as store:
            yield from stored_intervals(store, isp_of(self.start), isp_of(self.end), set(self.meters) or None)
