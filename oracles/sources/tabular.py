"""Tables and mappings: how lines become columns, numbers and times, and what is wrong with those that do not."""

import csv
import logging
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple, TextIO, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from offchain.domain.errors import PermanentError
from oracles.sources.config import Zone

log = logging.getLogger(__name__)

SHIPPED = Path(str(files("oracles.sources"))) / "mappings"
_MAX_DIGITS = 30
_LOGGED_LINES = 20


class BadLine(NamedTuple):
    """A line that does not count, and why."""

    line: int
    reason: str


class LineError(ValueError):
    """What is wrong with one line."""


class MappingModel(BaseModel):
    """Part of a mapping."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CsvLayout(MappingModel):
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


class TimeColumns(MappingModel):
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


def log_bad_lines(path: Path, bad: list[BadLine]) -> None:
    """Name the lines that do not count; of many the first ones and their number."""
    for line, reason in bad[:_LOGGED_LINES]:
        log.warning("%s line %d: %s", path, line, reason)
    if len(bad) > _LOGGED_LINES:
        log.warning("%s: %d more bad lines", path, len(bad) - _LOGGED_LINES)
