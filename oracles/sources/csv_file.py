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
import csv
import logging
import tomllib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple, TextIO, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from offchain.domain.curves import MISSING
from offchain.domain.errors import AdapterError, PermanentError
from offchain.domain.isp import ISPS_PER_HOUR, SECONDS_PER_ISP, MarketDay
from oracles.clock import Clock
from oracles.sources.config import MeterId, Zone
from oracles.sources.port import IntervalEnergy
from oracles.sources.units import WH

log = logging.getLogger(__name__)

SHIPPED = Path(str(files("oracles.sources"))) / "mappings"

# Unit -> factor and divisor to Wh per quarter hour.
_ENERGY_WH = {unit: (factor, 1) for unit, factor in WH.items()} | {
    unit.removesuffix("h"): (factor, ISPS_PER_HOUR) for unit, factor in WH.items()
}
_MAX_DIGITS = 30
_LOGGED_LINES = 20


class BadLine(NamedTuple):
    """A line that does not count, and why."""

    line: int
    reason: str


class LineError(ValueError):
    """What is wrong with one line."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CsvLayout(_Model):
    """How lines become columns and numbers."""

    delimiter: str = Field(default=";", min_length=1, max_length=1)
    encoding: str = "utf-8-sig"
    decimal: Literal[".", ","] = "."
    skip_lines: int = Field(default=0, ge=0)
    columns: tuple[str, ...] | None = None
    zone: Zone = "UTC"

    @model_validator(mode="after")
    def _known_encoding(self) -> "CsvLayout":
        try:
            "".encode(self.encoding)
        except LookupError as exc:
            raise ValueError(f"no encoding {self.encoding!r}") from exc
        if self.decimal == self.delimiter:
            raise ValueError("decimal and delimiter cannot be the same")
        return self

    def lines(self, file: TextIO, name: str, needed: list[str]) -> Iterator[tuple[int, list[str] | None]]:
        """Number and values of ``needed`` columns of every line that is not empty.

        The values are ``None`` where the line is shorter than its header. Every line stands for itself: a quotation
        mark that is never closed spoils one line, not the rest of the file.

        Parameters
        ----------
        name : str
            Of the file, for errors.
        """
        numbered = enumerate(file, start=1)
        for _ in range(self.skip_lines):
            next(numbered, None)
        header = list(self.columns or ())
        positions = self._positions(header, needed, name) if header else []
        for number, line in numbered:
            cells = [cell.strip() for cell in self._cells(line)]
            if not any(cells):
                continue
            if not header:
                header = cells
                positions = self._positions(header, needed, name)
                continue
            enough = len(cells) > max(positions)
            yield number, [cells[position] for position in positions] if enough else None
        if not header:
            raise PermanentError(f"{name}: empty file", hint="the first line must name the columns")

    @contextmanager
    def opened(self, path: Path) -> Iterator[TextIO]:
        """The file as text; what cannot be decoded becomes a character that no number has."""
        try:
            with path.open(encoding=self.encoding, errors="replace", newline="") as file:
                yield file
        except OSError as exc:
            raise PermanentError(f"{path}: {exc.strerror}", hint="check the path and its permissions") from exc

    def _cells(self, line: str) -> list[str]:
        try:
            return next(csv.reader([line], delimiter=self.delimiter), [])
        except csv.Error:
            return ["?"]

    @staticmethod
    def _positions(header: list[str], needed: list[str], name: str) -> list[int]:
        if missing := [column for column in needed if column not in header]:
            raise PermanentError(
                f"{name}: no column {missing[0]!r}", hint=f"there are: {', '.join(header)}; correct the mapping"
            )
        return [header.index(column) for column in needed]

    def number(self, text: str, name: str) -> Decimal:
        """A decimal number; :class:`LineError` when it is none."""
        if not text:
            raise LineError(f"{name} is empty")
        return exact_number(text.replace(",", ".") if self.decimal == "," else text, name)


def exact_number(raw: str | int | Decimal, name: str) -> Decimal:
    """A decimal number of any reasonable size; :class:`LineError` when it is none."""
    try:
        value = Decimal(raw)
    except InvalidOperation as exc:
        raise LineError(f"{name} {_short(raw)} is not a number") from exc
    # 1e999999999 is a short text, and takes all memory as an exact number.
    if not value.is_finite() or abs(value.adjusted()) > _MAX_DIGITS:
        raise LineError(f"{name} {_short(raw)} is not a number")
    return value


def _short(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 40 else f"{text[:40]}..."


@lru_cache(maxsize=4096)
def _parsed(text: str, pattern: str) -> datetime:
    """The same times come for every meter of a file."""
    return datetime.strptime(text, pattern)


class TimeColumns(_Model):
    """Where the time of a line stands and how it is written."""

    column: str
    format: str = "iso8601"
    time_column: str | None = None
    time_format: str = "%H:%M"
    label: Literal["start", "end"] = "start"
    in_order: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "TimeColumns":
        if self.in_order and self.time_column is not None:
            raise ValueError("in_order is for files without a time of day: leave time_column out")
        return self

    @cached_property
    def names(self) -> list[str]:
        """Columns that :meth:`local` needs."""
        return [self.column] if self.time_column is None else [self.column, self.time_column]

    def day(self, cells: list[str]) -> date:
        """Date of a line in order."""
        return self.local(cells).date()

    def local(self, cells: list[str]) -> datetime:
        """Time of a line: aware when it says its offset, else local; 24:00 is the end of its day."""
        text = " ".join(cells)
        late = timedelta(0)
        try:
            match self.format:
                case "unix" | "unix_ms":
                    return datetime.fromtimestamp(int(text) / (1_000 if self.format == "unix_ms" else 1), UTC)
                case "iso8601":
                    return datetime.fromisoformat(text)
            if self.time_column is not None and cells[1].startswith("24:00"):
                cells, late = [cells[0], cells[1].replace("24", "00", 1)], timedelta(days=1)
            pattern = self.format if self.time_column is None else f"{self.format} {self.time_format}"
            return _parsed(" ".join(cells), pattern) + late
        except (ValueError, OverflowError, OSError) as exc:
            raise LineError(f"time {text!r} is not written as {self.format}") from exc


def instants(moment: datetime, zone: ZoneInfo) -> list[int]:
    """UTC seconds of a time: one when it says its offset; of a local time two when clocks go back over it, and none
    when they skip it."""
    if moment.tzinfo is not None:
        return [int(moment.timestamp())]
    found = []
    for fold in (0, 1):
        seconds = int(moment.replace(tzinfo=zone, fold=fold).timestamp())
        if datetime.fromtimestamp(seconds, zone).replace(tzinfo=None) == moment and seconds not in found:
            found.append(seconds)
    return found


class EnergyColumn(_Model):
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


Mapped = TypeVar("Mapped", bound=BaseModel)


def load_mapping(source: str, model: type[Mapped]) -> Mapped:
    """Read a mapping: a TOML file, or one that comes with this package by its name (``"terni"``)."""
    path = Path(source) if source.endswith(".toml") else SHIPPED / f"{source}.toml"
    try:
        return model.model_validate(tomllib.loads(path.read_text("utf-8"), parse_float=Decimal))
    except OSError as exc:
        shipped = ", ".join(sorted(entry.stem for entry in SHIPPED.glob("*.toml")))
        raise PermanentError(
            f"mapping {path}: {exc.strerror}", hint=f"give the path of a .toml file, or one of {shipped}"
        ) from exc
    except tomllib.TOMLDecodeError as exc:
        raise PermanentError(f"mapping {path}: {exc}", hint="the file must be TOML") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        entry = ".".join(str(part) for part in first["loc"]) or "mapping"
        raise PermanentError(f"mapping {path}: {entry}: {first['msg']}", hint="correct this entry") from exc


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


def log_bad_lines(path: Path, bad: list[BadLine]) -> None:
    """Name the lines that do not count; of many the first ones and their number."""
    for line, reason in bad[:_LOGGED_LINES]:
        log.warning("%s line %d: %s", path, line, reason)
    if len(bad) > _LOGGED_LINES:
        log.warning("%s: %d more bad lines", path, len(bad) - _LOGGED_LINES)


class CsvSource:
    """Files with energy per quarter hour (implements ``EventSource``).

    Each file is reported as of its time of modification, so that reading it again after a restart says the same.

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
        while True:
            for path in self._files():
                try:
                    stat = path.stat()
                    if seen.get(path) == (stat.st_mtime_ns, stat.st_size):
                        continue
                    content = await asyncio.to_thread(self._content, path)
                    seen[path] = stat.st_mtime_ns, stat.st_size
                except OSError as exc:
                    log.warning("%s: %s", path, exc.strerror)
                    continue
                except AdapterError as error:
                    if self.watch_every_s is None:
                        raise
                    log.error("%s", error)
                    seen[path] = stat.st_mtime_ns, stat.st_size
                    continue
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
        try:
            reported_at = int(path.stat().st_mtime)
        except OSError as exc:
            raise PermanentError(f"{path}: {exc.strerror}", hint="check the path") from exc
        return read_energy_csv(path, self.mapping, self.meters, reported_at)


class CsvSourceConfig(BaseModel, extra="forbid", frozen=True):
    """Energy per quarter hour out of a file or the files of a folder.

    ``mapping`` is the path of a .toml file or the name of a shipped one; ``meters`` gives the meter id of every name
    in the file, or of the one meter of a file that names none.
    """

    path: Path
    mapping: str
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
