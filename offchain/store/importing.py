"""Import of readings from CSV and Parquet into series per ISP, with a report of every change."""

from pathlib import Path

import numpy as np
import pandas as pd

from offchain.domain.errors import DomainError, PermanentError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.store.cleaning import CleaningReport, clean
from offchain.store.series import SeriesBlock

TIME = "event_start"
# suffix of the column -> factor to Wh per interval, where powers are means over the interval of so many hours
_UNITS = {"_kwh": (1_000.0, False), "_wh": (1.0, False), "_kw": (1_000.0, True), "_w": (1.0, True)}


def read_series(path: Path, *, negative: bool = True) -> tuple[SeriesBlock, CleaningReport]:
    """Read a CSV or Parquet file of readings.

    The file is long (columns ``event_start``, ``series`` and one value column) or wide (``event_start`` and one value
    column per series). ``event_start`` is the start of the interval with its UTC offset; the unit is the ending of
    the value column: ``_wh``, ``_kwh``, ``_w``, ``_kw`` (powers are means of the interval). Intervals shorter than an
    ISP are summed up, longer ones spread evenly, and both are reported.

    Raises
    ------
    DomainError
        No such column, no unit, times without a zone.
    PermanentError
        The file cannot be read.
    """
    frame = _read(Path(path))
    if TIME not in frame:
        raise DomainError(f"{path}: no column {TIME}", hint=f"it has {', '.join(map(str, frame.columns[:8]))}")
    seconds = _seconds(frame[TIME], path)
    report = CleaningReport()
    if "series" in frame:
        rest = [c for c in frame.columns if c not in (TIME, "series")]
        columns = [c for c in rest if c == "value" or _unit(c)] if len(rest) > 1 else rest
        if len(columns) != 1:
            raise DomainError(f"{path}: {len(columns)} value columns {columns}", hint="keep one, for example net_wh")
        factor, power = _unit_of(columns[0], path)
        parts = {
            str(name): (seconds[rows.index], _numbers(rows[columns[0]], path), factor, power)
            for name, rows in frame.groupby("series", sort=True)
        }
    else:
        parts = {}
        for column in frame.columns.drop(TIME):
            factor, power = _unit_of(column, path)
            parts[str(column).rsplit("_", 1)[0]] = (seconds, _numbers(frame[column], path), factor, power)
    if not parts:
        raise DomainError(f"{path}: no readings")
    series = {name: _per_isp(name, *part, report, path) for name, part in parts.items()}
    first = min(isp for isp, _ in series.values())
    end = max(isp + values.size for isp, values in series.values())
    table = np.full((end - first, len(series)), np.nan)
    for column, (isp, values) in enumerate(series.values()):
        table[isp - first : isp - first + values.size, column] = values
    cleaned, report = clean(tuple(series), table, report, negative=negative)
    return SeriesBlock(tuple(series), first, cleaned), report


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise PermanentError(f"{path}: no such file")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path).reset_index(drop=True)
        return pd.read_csv(path)
    except (ValueError, OSError, ImportError) as exc:
        raise PermanentError(f"{path}: {' '.join(str(exc).split())}", hint="a CSV or Parquet file is expected") from exc


def _seconds(times: pd.Series, path: Path) -> np.ndarray:
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        parsed = times.dt.tz_convert("UTC")
    elif pd.api.types.is_datetime64_any_dtype(times):
        raise DomainError(f"{path}: {TIME} has no time zone", hint="write 2016-01-31T00:00:00+01:00")
    else:
        text = times.astype(str)
        naive = ~text.str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", regex=True)
        if naive.any():
            row = int(naive.to_numpy().argmax())
            raise DomainError(
                f"{path}: {TIME} of row {row + 1} has no time zone: {text.iloc[row]}",
                hint="write 2016-01-31T00:00:00+01:00",
            )
        try:
            parsed = pd.to_datetime(text, utc=True, format="ISO8601")
        except ValueError as exc:
            raise DomainError(f"{path}: {TIME}: {exc}", hint="times in ISO 8601 are expected") from exc
    return (parsed.dt.tz_localize(None).to_numpy().astype("datetime64[s]")).astype(np.int64)


def _unit(column: str) -> tuple[float, bool] | None:
    return next((unit for ending, unit in _UNITS.items() if str(column).endswith(ending)), None)


def _unit_of(column: str, path: Path) -> tuple[float, bool]:
    unit = _unit(column)
    if unit is None:
        raise DomainError(f"{path}: column {column!r} has no unit", hint="end its name in _wh, _kwh, _w or _kw")
    return unit


def _numbers(column: pd.Series, path: Path) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    words = numbers.isna() & column.notna()
    if words.any():
        row = int(words.to_numpy().argmax())
        raise DomainError(f"{path}: {column.iloc[row]!r} in column {column.name} is not a number")
    return numbers.to_numpy(dtype=float)


def _per_isp(name, seconds, values, factor, power, report: CleaningReport, path) -> tuple[int, np.ndarray]:
    """Energy per ISP [Wh] of one series, from its first to its last ISP."""
    order = np.argsort(seconds, kind="stable")
    seconds, values = seconds[order], values[order]
    last = np.concatenate([seconds[1:] != seconds[:-1], [True]])
    report.count(name, "twice, the later row taken", (~last).sum())
    seconds, values = seconds[last], values[last]
    steps = np.diff(seconds)
    step = int(np.bincount(steps // 60).argmax()) * 60 if steps.size else SECONDS_PER_ISP
    if step <= 0 or (SECONDS_PER_ISP % step and step % SECONDS_PER_ISP):
        raise DomainError(f"{path}: {name}: intervals of {step} s fit no quarter hours")
    off = seconds % min(step, SECONDS_PER_ISP) != 0
    report.count(name, "not at the start of an interval, left out", off.sum())
    seconds, values = seconds[~off], values[~off]
    if not seconds.size:
        raise DomainError(f"{path}: {name}: no reading at the start of an interval")
    energy = values * factor * (step / 3_600 if power else 1.0)
    if step > SECONDS_PER_ISP:
        parts = step // SECONDS_PER_ISP
        report.count(name, f"of {step // 60} minutes, spread evenly over quarter hours", np.isfinite(energy).sum())
        seconds = (seconds[:, None] + SECONDS_PER_ISP * np.arange(parts)).ravel()
        energy = np.repeat(energy / parts, parts)
    isps = seconds // SECONDS_PER_ISP
    first, count = int(isps[0]), int(isps[-1] - isps[0]) + 1
    total, number = np.zeros(count), np.zeros(count)
    np.add.at(total, isps - first, energy)
    np.add.at(number, isps - first, 1)
    wanted = max(SECONDS_PER_ISP // step, 1)
    if wanted > 1:
        report.count(name, f"of {step // 60} minutes, summed up to quarter hours", energy.size)
        partial = (number > 0) & (number < wanted)
        report.count(name, "in a quarter hour that is not complete, now missing", number[partial].sum())
    return first, np.where(number == wanted, total, np.nan)
