"""Readings in, results out: CSV and Parquet files, and JSON for results.

Readings have one row per connection and quarter hour:

===========  =====================================================================
column       holds
===========  =====================================================================
prosumer     name of the connection; may be absent where the file has only one
start        start of the quarter hour, ISO 8601 with UTC offset
net_wh       import minus export [Wh]; or instead of it
import_wh    import [Wh], non-negative, and if there is any
export_wh    export [Wh], non-negative
===========  =====================================================================

A value that is empty is a missing reading, and so is a row that is not there.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from offchain.baseline.history import DEFAULT_ZONE, History
from offchain.domain.errors import DomainError, PermanentError
from offchain.domain.isp import SECONDS_PER_ISP, isp_start
from offchain.profiling.days import history_of

ONLY = "prosumer"
"""Name of the connection in a file without that column."""
NAMELESS = "(no name)"
MOST_ISPS = 50 * 366 * 96
WITH_ZONE = r"(?:Z|[+-]\d{2}:?\d{2})$"


def read_frame(path: Path | str) -> pd.DataFrame:
    """Rows of a CSV or Parquet file.

    Raises
    ------
    PermanentError
        Missing, unreadable, or of another kind.
    """
    source = Path(path)
    readers = {".csv": lambda p: pd.read_csv(p, dtype={"prosumer": str}), ".parquet": pd.read_parquet}
    if source.suffix not in readers:
        raise PermanentError(f"{source}: unknown kind of file", hint="one of .csv, .parquet")
    try:
        return readers[source.suffix](source)
    except FileNotFoundError as exc:
        raise PermanentError(f"{source} does not exist") from exc
    except ImportError as exc:
        raise PermanentError("the package pyarrow is not installed", hint="install the extra 'parquet'") from exc
    except (OSError, ValueError) as exc:
        raise PermanentError(f"{source} cannot be read: {' '.join(str(exc).split())}") from exc


def write_frame(frame: pd.DataFrame, path: Path | str) -> None:
    """Write rows as CSV, JSON or Parquet, as the name of the file ends; times in ISO 8601.

    Raises
    ------
    PermanentError
        Another kind of file, or one that cannot be written.
    """
    target = Path(path)
    writers = {
        ".csv": lambda p: frame.to_csv(p, index=False, date_format="%Y-%m-%dT%H:%M:%S%z"),
        ".json": lambda p: frame.to_json(p, orient="records", date_format="iso", indent=1),
        ".parquet": lambda p: frame.to_parquet(p, index=False),
    }
    if target.suffix not in writers:
        raise PermanentError(f"{target}: unknown kind of file", hint=f"one of {', '.join(writers)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        writers[target.suffix](temporary)
        temporary.replace(target)
    except ImportError as exc:
        raise PermanentError("the package pyarrow is not installed", hint="install the extra 'parquet'") from exc
    except OSError as exc:
        raise PermanentError(f"{target} cannot be written: {exc.strerror}") from exc


def read_readings(path: Path | str, *, zone: str = DEFAULT_ZONE) -> tuple[dict[str, History], dict[str, str]]:
    """Histories of the connections in a file.

    Returns
    -------
    histories : dict of str to History
    unusable : dict of str to str
        Connections whose rows cannot be read, and why; they do not stop the others.

    Raises
    ------
    DomainError
        Columns are missing, or nothing in the file can be used.
    """
    frame = read_frame(path)
    where = str(path)
    column(frame, "start", where)
    names = frame["prosumer"].fillna(NAMELESS).astype(str) if "prosumer" in frame else pd.Series(ONLY, frame.index)
    try:
        parsed = isps_of(frame["start"], where), _net(frame, where)
    except DomainError:
        parsed = None  # some row is bad: each connection is read on its own then, so that it spoils its own only
    histories, unusable = {}, {}
    for name, rows in names.groupby(names, sort=False).indices.items():
        part = frame.iloc[rows]
        try:
            if parsed is None:
                isps, values = isps_of(part["start"], where), _net(part, where)
            else:
                isps, values = parsed[0][rows], parsed[1][rows]
            histories[name] = _history(isps, values, zone)
        except DomainError as exc:
            unusable[name] = str(exc)
    if not histories:
        reason = next(iter(unusable.values()), "it has no rows")
        raise DomainError(f"{path}: no usable readings: {reason}")
    return histories, unusable


def read_series(path: Path | str, first_isp: int, isps: int, columns: Iterable[str] | None = None) -> np.ndarray:
    """Columns of numbers over a run of ISPs, shape (isps, n_columns); NaN where the file has none.

    Parameters
    ----------
    columns : iterable of str, optional
        All but ``start`` when absent.
    """
    source = Path(path)
    changed = source.stat().st_mtime_ns if source.exists() else 0
    at, numbers = _series(str(path), changed, None if columns is None else tuple(columns))
    inside = (at >= first_isp) & (at < first_isp + isps)
    made = np.full((isps, numbers.shape[1]), np.nan)
    made[at[inside] - first_isp] = numbers[inside]
    return made


@lru_cache(maxsize=4)  # the same weather serves many connections
def _series(path: str, changed: int, columns: tuple[str, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    frame = read_frame(path)
    at = isps_of(column(frame, "start", path), path)
    names = [c for c in frame.columns if c != "start"] if columns is None else columns
    if not names:
        raise DomainError(f"{path}: no column beside 'start'")
    return at, np.stack([_numbers(column(frame, name, path), path) for name in names], axis=1)


def column(frame: pd.DataFrame, name: str, where: str) -> pd.Series:
    """A column, or one line that says which there are."""
    if name not in frame:
        raise DomainError(f"{where}: no column {name!r}", hint=f"found {', '.join(map(str, frame.columns)) or 'none'}")
    return frame[name]


def isps_of(start: pd.Series, where: str) -> np.ndarray:
    """ISP of each start; naive times and other steps than quarter hours are refused."""
    if isinstance(start.dtype, pd.DatetimeTZDtype):
        times = start
    else:
        text = start.astype(str)
        naive = ~text.str.contains(WITH_ZONE)
        if naive.any():
            raise DomainError(f"{where}: time without zone: {text[naive].iloc[0]}", hint="add a UTC offset: +00:00")
        try:
            times = pd.to_datetime(text, format="ISO8601", utc=True)
        except ValueError as exc:
            raise DomainError(f"{where}: {' '.join(str(exc).split())}", hint="times are ISO 8601") from exc
    if times.isna().any():
        raise DomainError(f"{where}: row {int(times.isna().to_numpy().argmax()) + 1} has no start")
    seconds = times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[s]").astype(np.int64)
    odd = seconds % SECONDS_PER_ISP != 0
    if odd.any():
        raise DomainError(f"{where}: {times[odd].iloc[0]} is no start of a quarter hour")
    return seconds // SECONDS_PER_ISP


def _net(frame: pd.DataFrame, where: str) -> np.ndarray:
    if "net_wh" in frame:
        return _numbers(frame["net_wh"], where)
    if "import_wh" not in frame:
        raise DomainError(f"{where}: neither net_wh nor import_wh", hint=f"found {', '.join(map(str, frame.columns))}")
    imported = _numbers(frame["import_wh"], where)
    exported = _numbers(frame["export_wh"], where) if "export_wh" in frame else np.zeros(len(frame))
    if (imported < 0).any() or (exported < 0).any():
        raise DomainError(f"{where}: import_wh and export_wh must be non-negative", hint="a signed value is net_wh")
    return imported - exported


def _numbers(values: pd.Series, where: str) -> np.ndarray:
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = numbers.isna() & values.notna()
    if wrong.any():
        raise DomainError(f"{where}: {values[wrong].iloc[0]!r} in column {values.name!r} is no number")
    return numbers.to_numpy(dtype=float)


def _history(isps: np.ndarray, values: np.ndarray, zone: str) -> History:
    first, last = int(isps.min()), int(isps.max())
    if last - first >= MOST_ISPS:
        raise DomainError(f"readings from {isp_start(first).date()} to {isp_start(last).date()}: more than 50 years")
    order = np.argsort(isps, kind="stable")
    isps, values = isps[order], values[order]
    twice = (isps[1:] == isps[:-1]) & ~np.isclose(values[1:], values[:-1], equal_nan=True)
    if twice.any():
        at = isp_start(int(isps[1:][twice][0]))
        raise DomainError(f"two different readings at {at.isoformat()}", hint="keep the valid one")
    row = np.full(last - first + 1, np.nan)
    row[isps - first] = values
    return history_of(first, row, zone)
