"""Energy per quarter hour out of CSV files; how a file is laid out stands in a mapping (TOML, ``mappings/``).

.. code-block:: toml

    delimiter = ";"
    encoding = "utf-8-sig"
    decimal = ","
    skip_lines = 0              # before the line with the names of the columns
    columns = ["id", "when"]    # instead of such a line, when the file has none
    zone = "Europe/Rome"
    meter = "id"                # column with the name of the meter; without it the file is of one meter

    [time]
    column = "when"
    format = "%d-%m-%Y %H:%M"   # or "iso8601", "unix", "unix_ms"; %z or an offset settles the hour that comes twice
    time_column = "hour"        # when date and time of day are in two columns; its format is time_format
    label = "start"             # or "end" of the quarter hour
    in_order = false            # true: dates only, the lines of a day are its quarter hours in order

    [import_wh]
    column = "taken"
    unit = "kWh"                # Wh, kWh, MWh, or the mean power W, kW, MW

A line that is wrong is named with its number and the reason; the others count. Nothing is guessed: a local time that
does not exist, or that comes twice in the night but once in the file, is wrong, and so is every line of a day in order
that has not the right number of them.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, model_validator

from offchain.domain.curves import MISSING
from offchain.domain.errors import AdapterError, PermanentError
from offchain.domain.isp import ISPS_PER_HOUR, SECONDS_PER_ISP, MarketDay
from oracles.clock import Clock
from oracles.sources.config import DataName, MeterId, SitePath
from oracles.sources.port import IntervalEnergy
from oracles.sources.tabular import (
    BadLine,
    CsvLayout,
    LineError,
    MappingModel,
    TimeColumns,
    instants,
    load_mapping,
    log_bad_lines,
)
from oracles.sources.units import WH

log = logging.getLogger(__name__)

# Unit -> factor and divisor to Wh per quarter hour.
_ENERGY_WH = {unit: (factor, 1) for unit, factor in WH.items()} | {
    unit.removesuffix("h"): (factor, ISPS_PER_HOUR) for unit, factor in WH.items()
}


class EnergyColumn(MappingModel):
    """A column of energy per quarter hour, or of the mean power in it."""

    column: str
    unit: Literal[tuple(_ENERGY_WH)]

    def energy_wh(self, text: str, layout: CsvLayout) -> int:
        """Energy [Wh], rounded to the nearest."""
        factor, divisor = _ENERGY_WH[self.unit]
        energy_wh = round(layout.number(text, self.column) * factor / divisor)
        if not 0 <= energy_wh < MISSING:
            raise LineError(f"{self.column} {text!r} is {'negative' if energy_wh < 0 else 'too much'}")
        return energy_wh


class EnergyCsvMapping(CsvLayout):
    """Layout of a file with energy per quarter hour."""

    meter: str | None = None
    time: TimeColumns
    import_wh: EnergyColumn | None = None
    export_wh: EnergyColumn | None = None

    @model_validator(mode="after")
    def _has_energy(self) -> "EnergyCsvMapping":
        if self.import_wh is None and self.export_wh is None:
            raise ValueError("neither import_wh nor export_wh")
        return self


class _Line(NamedTuple):
    number: int
    meter_id: bytes
    energy: tuple[int, int] | None


class CsvContent(NamedTuple):
    """What a file said: energy by ISP and meter in their order, and the lines that do not count."""

    values: list[IntervalEnergy]
    bad: list[BadLine]


def read_energy_csv(path: Path, mapping: EnergyCsvMapping, meters: Mapping[str, bytes], reported_at: int) -> CsvContent:
    """Read a whole file.

    Parameters
    ----------
    meters : mapping
        Meter id by the name in the file; of a file without such a column the only meter, whatever its name.
    reported_at : int
        When the file was received [UTC s].

    Raises
    ------
    PermanentError
        The file cannot be read, or lacks a column.
    """
    columns = [column for column in (mapping.import_wh, mapping.export_wh) if column is not None]
    needed = [*([mapping.meter] if mapping.meter else []), *mapping.time.names, *(c.column for c in columns)]
    first_time = 1 if mapping.meter else 0
    first_energy = first_time + len(mapping.time.names)
    bad: list[BadLine] = []
    grouped: dict[tuple[bytes, datetime | date], list[_Line]] = defaultdict(list)
    with mapping.opened(path) as file:
        for number, cells in mapping.lines(file, str(path), needed):
            try:
                if cells is None:
                    raise LineError("too few columns")
                meter_id = _meter(cells[0], meters) if mapping.meter else next(iter(meters.values()))
                times = cells[first_time:first_energy]
                key = mapping.time.day(times) if mapping.time.in_order else mapping.time.local(times)
                try:
                    energy = _energy(mapping, cells[first_energy:])
                except LineError as error:
                    energy = None  # the line still has its place among those of its day
                    bad.append(BadLine(number, str(error)))
                grouped[meter_id, key].append(_Line(number, meter_id, energy))
            except LineError as error:
                bad.append(BadLine(number, str(error)))

    placed: dict[tuple[int, bytes], _Line] = {}
    for (_, key), lines in grouped.items():
        try:
            isps = _isps(mapping, key, len(lines))
        except LineError as error:
            bad += [BadLine(line.number, str(error)) for line in lines]
            continue
        for position, line in enumerate(lines):
            isp = isps[min(position, len(isps) - 1)]
            if (before := placed.setdefault((isp, line.meter_id), line)) is not line:
                bad.append(BadLine(line.number, f"the same quarter hour as line {before.number}"))
    values = [
        IntervalEnergy(meter_id, isp, *line.energy, reported_at)
        for (isp, meter_id), line in sorted(placed.items())
        if line.energy is not None
    ]
    return CsvContent(values, sorted(set(bad)))


def _meter(name: str, meters: Mapping[str, bytes]) -> bytes:
    if name not in meters:
        raise LineError(f"unknown meter {name!r}")
    return meters[name]


def _energy(mapping: EnergyCsvMapping, cells: list[str]) -> tuple[int, int]:
    remaining = iter(cells)
    import_wh, export_wh = (
        0 if column is None else column.energy_wh(next(remaining), mapping)
        for column in (mapping.import_wh, mapping.export_wh)
    )
    return import_wh, export_wh


def _isps(mapping: EnergyCsvMapping, key: datetime | date, count: int) -> list[int]:
    """ISPs of ``count`` lines with the same time, or with the same date when they are in order."""
    if mapping.time.in_order:
        day = MarketDay.of(key, mapping.zone)
        if count != day.isp_count:
            raise LineError(f"{count} lines for {key}, which has {day.isp_count} quarter hours")
        return list(day.isps)
    moments = instants(key, ZoneInfo(mapping.zone))
    if not moments:
        raise LineError(f"{key} does not exist in {mapping.zone}: clocks went forward")
    if len(moments) > 1 and count == 1:
        raise LineError(f"{key} comes twice in {mapping.zone}, and once in the file")
    starts = [moment - (SECONDS_PER_ISP if mapping.time.label == "end" else 0) for moment in moments]
    if any(start % SECONDS_PER_ISP for start in starts):
        raise LineError(f"{key} is not the {mapping.time.label} of a quarter hour")
    return [start // SECONDS_PER_ISP for start in starts]


def files_in(path: Path, pattern: str) -> list[Path]:
    """A file, or the files of a folder by name."""
    return sorted(path.glob(pattern)) if path.is_dir() else [path]


class CsvSource:
    """Files with energy per quarter hour (implements ``EventSource``).

    Each file is reported as of its time of modification, so that reading it again after a restart says the same. In
    a folder a file that is malformed is named in the log and passed over.

    Parameters
    ----------
    path : Path
        A file, or a folder whose files are read in the order of their names.
    watch_every_s : float or None
        How often to look for new and changed files [s]; ``None`` reads what is there and ends.
    """

    def __init__(
        self,
        path: Path,
        mapping: EnergyCsvMapping,
        meters: Mapping[str, bytes],
        clock: Clock,
        *,
        pattern: str = "*.csv",
        watch_every_s: float | None = None,
    ):
        self.path = path
        self.mapping = mapping
        self.meters = meters
        self.clock = clock
        self.pattern = pattern
        self.watch_every_s = watch_every_s

    async def probe(self) -> str:
        """Read the first file and say how much of it counts."""
        paths = self._files()
        if not paths:
            return f"no file {self.pattern} in {self.path} yet"
        content = await asyncio.to_thread(self._content, paths[0])
        said = f"{paths[0].name}: {len(content.values)} quarter hours"
        if content.bad:
            said += f", {len(content.bad)} bad lines, the first is {content.bad[0].line}: {content.bad[0].reason}"
        return said

    async def values(self) -> AsyncIterator[IntervalEnergy]:
        seen: dict[Path, tuple[int, int]] = {}
        complaints: dict[Path, str] = {}
        while True:
            for path in self._files():
                try:
                    stamp = _stamp(path)
                    if seen.get(path) == stamp:
                        continue
                    content = await asyncio.to_thread(self._content, path)
                except AdapterError as error:
                    if self.watch_every_s is None and not self.path.is_dir():
                        raise
                    if complaints.get(path) != str(error):
                        log.error("%s", error)
                    complaints[path] = str(error)
                    continue
                seen[path] = stamp
                complaints.pop(path, None)
                log_bad_lines(path, content.bad)
                for value in content.values:
                    yield value
            if self.watch_every_s is None:
                return
            await self.clock.sleep_until(self.clock.now() + timedelta(seconds=self.watch_every_s))

    def taken(self, count: int) -> None:
        """Nothing to acknowledge: files stay where they are, and every consumer gets them from the first on."""

    def _files(self) -> list[Path]:
        return files_in(self.path, self.pattern)

    def _content(self, path: Path) -> CsvContent:
        modified_ns, _ = _stamp(path)
        return read_energy_csv(path, self.mapping, self.meters, modified_ns // 10**9)


def _stamp(path: Path) -> tuple[int, int]:
    """When a file was modified [ns], and its size: what tells that it has changed."""
    try:
        stat = path.stat()
    except OSError as exc:
        raise PermanentError(f"{path}: {exc.strerror}", hint="check the path") from exc
    return stat.st_mtime_ns, stat.st_size


class CsvSourceConfig(BaseModel, extra="forbid", frozen=True):
    """Energy per quarter hour out of a file or the files of a folder.

    ``mapping`` is the path of a .toml file or the name of a shipped one; ``meters`` gives the meter id of every name
    in the file, or of the one meter of a file that names none.
    """

    path: SitePath
    mapping: DataName
    meters: dict[str, MeterId] = Field(min_length=1)
    pattern: str = "*.csv"
    watch_every_s: float | None = Field(default=None, ge=1)

    def load(self) -> EnergyCsvMapping:
        """The mapping, checked against ``meters``."""
        mapping = load_mapping(self.mapping, EnergyCsvMapping)
        if mapping.meter is None and len(self.meters) > 1:
            raise PermanentError(
                f"mapping {self.mapping}: no column for the meter, but {len(self.meters)} meters",
                hint="name the column with meter = ..., or give one meter",
            )
        return mapping

    def source(self, clock: Clock) -> CsvSource:
        """The source."""
        return CsvSource(
            self.path,
            self.load(),
            self.meters,
            clock,
            pattern=self.pattern,
            watch_every_s=self.watch_every_s,
        )
