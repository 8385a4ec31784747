"""Layout of documents with weather and prices, CSV or JSON, as data (TOML, ``mappings/``).

.. code-block:: toml

    format = "json"
    records = "data"                # path to a list of records, "" for the document itself; or
    columns = "hourly"              # path to an object of lists of the same length
    zone = "UTC"                    # of times without an offset
    duration_s = 3600               # of every event
    time = { path = "start", format = "unix_ms" }       # or "unix", "iso8601", a strptime format
    belief_time = { path = "issued" }                   # without it: last modification, else time of receipt

    [[values]]
    path = "price"
    quantity = "price_utoken_per_kwh"
    unit = "EUR/MWh"
    covers = "after"                # the time starts the event; "before" ends it; "moment" is all of it

A CSV mapping has ``format = "csv"``, ``delimiter`` and so on as in ``csv_file``, and ``column`` in place of ``path``.
"""

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import Field, RootModel, model_validator

from offchain.domain.errors import TransientError
from oracles.sources.config import Zone
from oracles.sources.port import ExternalValue, Quantity
from oracles.sources.tabular import (
    BadLine,
    CsvLayout,
    LineError,
    MappingModel,
    TimeColumns,
    exact_number,
    instants,
    log_bad_lines,
)
from oracles.sources.units import unit_factor


class _Value(MappingModel):
    quantity: Quantity
    unit: str | None = None
    covers: Literal["after", "before", "moment"] = "after"

    @model_validator(mode="after")
    def _unit_fits(self) -> "_Value":
        unit_factor(self.quantity, self.unit)
        return self

    def event(self, time: int, duration_s: int) -> tuple[int, int]:
        """Start and end of the event of ``time`` [UTC s]."""
        match self.covers:
            case "after":
                return time, time + duration_s
            case "before":
                return time - duration_s, time
        return time, time

    def converted(self, number: Fraction) -> float | int:
        """Value in the unit of the quantity; prices are integers."""
        value = number * unit_factor(self.quantity, self.unit)
        return round(value) if self.quantity is Quantity.PRICE else float(value)


class CsvValue(_Value):
    """A column of values."""

    column: str


class JsonValue(_Value):
    """Values at a path."""

    path: str


class JsonTime(MappingModel):
    """Times at a path."""

    path: str
    format: str = "iso8601"


class Parsed(NamedTuple):
    """Values without series and source, and the lines or records that do not count."""

    values: list[tuple[_Value, int, Fraction, int | None]]
    bad: list[BadLine]


class CsvMapping(CsvLayout):
    """Layout of a CSV file with external values."""

    format: Literal["csv"]
    time: TimeColumns
    belief_time: TimeColumns | None = None
    duration_s: int = Field(ge=0)
    values: tuple[CsvValue, ...] = Field(min_length=1)

    def parse(self, data: bytes, name: str) -> Parsed:
        """Values of a document; empty cells are no values."""
        beliefs = [] if self.belief_time is None else self.belief_time.names
        needed = [*self.time.names, *beliefs, *(value.column for value in self.values)]
        first_belief, first_value = len(self.time.names), len(self.time.names) + len(beliefs)
        rows, bad = [], []
        file = io.StringIO(data.decode(self.encoding, errors="replace"), newline="")
        for number, cells in self.lines(file, name, needed):
            try:
                if cells is None:
                    raise LineError("too few columns")
                belief = None
                if self.belief_time is not None:
                    belief = self.belief_time.local(cells[first_belief:first_value])
                texts = zip(self.values, cells[first_value:], strict=True)
                numbers = [(value, Fraction(self.number(text, value.column))) for value, text in texts if text]
                rows.append((number, self.time.local(cells[:first_belief]), belief, numbers))
            except LineError as error:
                bad.append(BadLine(number, str(error)))
        return _placed(rows, bad, self.zone)


class JsonMapping(MappingModel):
    """Layout of a JSON document with external values."""

    format: Literal["json"]
    records: str | None = None
    columns: str | None = None
    zone: Zone = "UTC"
    time: JsonTime
    belief_time: JsonTime | None = None
    duration_s: int = Field(ge=0)
    values: tuple[JsonValue, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_shape(self) -> "JsonMapping":
        if (self.records is None) == (self.columns is None):
            raise ValueError("give either records or columns")
        return self

    def parse(self, data: bytes, name: str) -> Parsed:
        """Values of a document; ``null`` is no value, and what lacks the path of a value has none."""
        try:
            document = json.loads(data, parse_float=Decimal)
        except (ValueError, RecursionError) as exc:
            raise TransientError(f"{name}: not JSON ({exc})", hint="does the address give data or a web page?") from exc
        try:
            records = self._records(document)
        except LineError as error:
            raise TransientError(f"{name}: {error}", hint="check the mapping; there may be no data yet") from error
        rows, bad = [], []
        for number, record in enumerate(records, start=1):
            try:
                time = _moment(self.time, record)
                belief = None if self.belief_time is None else _moment(self.belief_time, record)
                found = ((value, _at(record, value.path, missing=None)) for value in self.values)
                numbers = [(value, _number(raw, value.path)) for value, raw in found if raw is not None]
                rows.append((number, time, belief, numbers))
            except LineError as error:
                bad.append(BadLine(number, str(error)))
        return _placed(rows, bad, self.zone)

    def _records(self, document: Any) -> Sequence[Any]:
        if self.records is not None:
            records = _at(document, self.records)
            if not isinstance(records, list):
                raise LineError(f"{self.records or 'the document'} is not a list")
            return records
        columns = _at(document, self.columns)
        times = [self.time.path, *([] if self.belief_time is None else [self.belief_time.path])]
        lists = {path: _at(columns, path) for path in times}
        asked = {value.path: _at(columns, value.path, missing=None) for value in self.values}
        lists |= {path: values for path, values in asked.items() if values is not None}
        if len(lists) == len(times):
            raise LineError(f"there is none of {', '.join(asked)}")
        lengths = {len(values) if isinstance(values, list) else None for values in lists.values()}
        if len(lengths) != 1 or None in lengths:
            raise LineError(f"{', '.join(lists)} are not lists of the same length")
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


_RAISE = object()


def _at(document: Any, path: str, missing: Any = _RAISE) -> Any:
    """What is at a path: names and list positions with dots between them; a name may contain dots itself."""
    if path == "":
        return document
    if isinstance(document, dict) and path in document:
        return document[path]
    found = document
    for part in path.split("."):
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif missing is _RAISE:
            raise LineError(f"there is no {path!r}")
        else:
            return missing
    return found


def _moment(time: JsonTime, record: Any) -> datetime:
    raw = _at(record, time.path)
    if isinstance(raw, bool) or not isinstance(raw, str | int | Decimal):
        raise LineError(f"{time.path} {raw!r} is not a time")
    return TimeColumns(column=time.path, format=time.format).local([str(raw)])


def _number(raw: Any, name: str) -> Fraction:
    if isinstance(raw, bool) or not isinstance(raw, str | int | Decimal):
        raise LineError(f"{name} is not a number")
    return Fraction(exact_number(raw, name))


def _placed(rows: list[tuple[int, datetime, datetime | None, list]], bad: list[BadLine], zone: str) -> Parsed:
    """Settle local times: one that comes twice in the night is the first and the second in the order of the rows."""
    tz = ZoneInfo(zone)
    rows_at: dict[datetime, list[int]] = defaultdict(list)
    for index, (_, time, _, _) in enumerate(rows):
        rows_at[time].append(index)
    values = []
    for index, (number, time, belief, numbers) in enumerate(rows):
        moments, same = instants(time, tz), rows_at[time]
        if not moments:
            bad.append(BadLine(number, f"{time} does not exist in {zone}: clocks went forward"))
        elif len(moments) != len(same) and len(moments) > 1:
            bad.append(BadLine(number, f"{time} comes twice in {zone}, and {len(same)} times in the document"))
        else:
            moment = moments[same.index(index)] if len(moments) > 1 else moments[0]
            known = None if belief is None else instants(belief, tz)
            if known == []:
                bad.append(BadLine(number, f"belief time {belief} does not exist in {zone}"))
                continue
            values += [(value, moment, amount, known and known[-1]) for value, amount in numbers]
    return Parsed(values, sorted(bad))


class ExternalMapping(RootModel[Annotated[CsvMapping | JsonMapping, Field(discriminator="format")]]):
    """A mapping of either format."""

    def values(self, data: bytes, name: str, series: str, source: str, belief_time: int) -> list[ExternalValue]:
        """Values of a document in the order of their events; the bad ones are logged.

        Parameters
        ----------
        belief_time : int
            Of values that do not say it themselves [UTC s].
        """
        parsed = self.root.parse(data, name)
        log_bad_lines(Path(name), parsed.bad)
        found = [
            ExternalValue(
                series,
                value.quantity,
                *value.event(time, self.root.duration_s),
                value.converted(amount),
                belief_time if belief is None else belief,
                source,
            )
            for value, time, amount, belief in parsed.values
        ]
        return sorted(found, key=lambda value: (value.event_start, value.quantity))
