"""Forecasts of many prosumers: groups cut into parts, every part trained and forecast by itself.

Parts have a fixed size, so that results do not depend on how many processes there are. Whatever has ``submit`` like
:mod:`concurrent.futures` runs them: a process pool, or the client of a Dask cluster.
"""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from offchain.domain.errors import DomainError, TransientError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.forecasting.experts import Settings
from offchain.forecasting.forecast import Forecast
from offchain.forecasting.forecaster import Model, predict, train
from offchain.forecasting.horizons import Horizon
from offchain.forecasting.panel import Panel
from offchain.forecasting.weather import Weather

if TYPE_CHECKING:
    from dask.distributed import Client

PART = 500
"""Series of one part at most."""
CLUSTER_TIMEOUT_S = 10


class Pending(Protocol):
    """A result that is on its way."""

    def result(self) -> Any: ...


class Executor(Protocol):
    """Runs functions somewhere; ``concurrent.futures.Executor`` and ``dask.distributed.Client`` are such."""

    def submit(self, function: Callable, /, *args: Any) -> Pending: ...


class _Done:
    def __init__(self, value: Any):
        self.value = value

    def result(self) -> Any:
        return self.value


class InProcess:
    """Runs everything at once, here."""

    def submit(self, function: Callable, /, *args: Any) -> Pending:
        return _Done(function(*args))


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Processes of this machine; started afresh, because forked ones may inherit locks of threads."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def dask_cluster(address: str) -> "Client":
    """Client of a Dask cluster whose scheduler listens at ``address``, for example ``tcp://10.0.0.5:8786``.

    Its workers need this program in the same version. Leaving the ``with`` block of the client disconnects; the
    cluster stays.

    Raises
    ------
    DomainError
        The Dask packages are not installed.
    TransientError
        No scheduler answers at the address.
    """
    try:
        from dask.distributed import Client
    except ImportError as exc:
        raise DomainError("Dask is not installed", hint="pip install 'gridpact[dask]'") from exc
    try:
        return Client(address, timeout=CLUSTER_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as exc:
        raise TransientError(f"no Dask scheduler at {address}: {exc}", hint="start it: dask scheduler") from exc


@dataclass(frozen=True)
class ManyForecasts:
    """Forecasts of all parts, the models behind them, and the series that have none."""

    forecasts: list[Forecast]
    models: list[Model]
    problems: dict[str, str]

    def to_frame(self) -> pd.DataFrame:
        """One row per series and step."""
        if not self.forecasts:
            raise DomainError("no series could be forecast", hint=next(iter(self.problems.values()), "no readings"))
        return pd.concat([f.to_frame() for f in self.forecasts], ignore_index=True)


def forecast_many(
    panel: Panel,
    of: Horizon,
    issued_at: int,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    targets: Mapping[str, str] | None = None,
    weather: Weather | None = None,
    settings: Settings | None = None,
    executor: Executor | None = None,
    part: int = PART,
    progress: Callable[[str, int, int], None] | None = None,
) -> ManyForecasts:
    """Train on what was known at ``issued_at`` and forecast, for every group.

    Parameters
    ----------
    issued_at : int
        [UTC s]
    groups, targets : mapping, optional
        Ids and target per group, see :func:`offchain.forecasting.backtest.backtest`.
    part : int
        Series of one part at most; part of the identity of the results.

    Returns
    -------
    ManyForecasts
        A part that fails gives problems, and never stops the others.
    """
    executor = executor or InProcess()
    settings = settings or Settings()
    position = {name: column for column, name in enumerate(panel.ids)}
    pending = []
    for name, members in (groups or {"all": panel.ids}).items():
        absent = [m for m in members if m not in position]
        if absent:
            raise DomainError(f"group {name}: {absent[0]!r} is not in the data")
        target = (targets or {}).get(name, "net_consumption")
        for start in range(0, len(members), part):
            chosen = panel.select([position[m] for m in members[start : start + part]])
            pending.append(executor.submit(_forecast_part, chosen, of, issued_at, target, weather, settings))
    forecasts, models, problems = [], [], {}
    for done, result in enumerate(pending, start=1):
        forecast, model, missing = result.result()
        problems |= missing
        if forecast is not None:
            forecasts.append(forecast)
            models.append(model)
        if progress:
            progress(f"{of.name} forecasts", done, len(pending))
    return ManyForecasts(forecasts, models, problems)


def _forecast_part(panel: Panel, of: Horizon, issued_at: int, target: str, weather, settings: Settings):
    try:
        model = train(known_at(panel, of, issued_at, settings), of, target=target, weather=weather, settings=settings)
        forecast = predict(model, panel, issued_at, weather=weather)
    except DomainError as exc:
        return None, None, dict.fromkeys(panel.ids, str(exc))
    return forecast, model, forecast.problems


def known_at(panel: Panel, of: Horizon, issued_at: int, settings: Settings) -> Panel:
    """Readings that were known at a moment, in whole steps."""
    isp = issued_at // SECONDS_PER_ISP - settings.delay_isps
    return panel.until(min(isp // of.step_isps * of.step_isps, panel.end_isp))
