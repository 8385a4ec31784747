"""Forecast runs that anybody with the data can make again: digests of inputs, method and outputs.

A run is what was asked for (horizon, target, moment, settings, parts) with the digests of what went in and what
came out. Its own digest is what is committed on chain; a second machine with the same readings gets the same one.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from offchain.domain.errors import DomainError
from offchain.forecasting.experts import Settings
from offchain.forecasting.forecast import Forecast
from offchain.forecasting.forecaster import method_of
from offchain.forecasting.horizons import HORIZONS, Horizon
from offchain.forecasting.panel import Panel
from offchain.forecasting.parallel import Executor, ManyForecasts, forecast_many, known_at
from offchain.forecasting.weather import Weather


@dataclass(frozen=True)
class Run:
    """What a forecast run was made of, and what came out; all digests are SHA-256 in hex.

    Attributes
    ----------
    inputs : str
        Digest of the readings that were known at issue time.
    outputs : str
        Digest over the forecasts of all parts in whole Wh.
    weather : str
        Digest of the weather that was known at issue time; empty without any.
    """

    method: str
    horizon: str
    target: str
    issued_at: int
    settings: dict
    part: int
    inputs: str
    outputs: str
    weather: str = ""

    def digest(self) -> bytes:
        """What is committed, 32 bytes."""
        return hashlib.sha256(self.to_json().encode()).digest()

    @property
    def method_id(self) -> str:
        """The method that a commitment of this run names, ``"ensemble@2#<40 hex digits of the digest>"``.

        The chain keeps its hash, so that a commitment binds inputs, settings and outputs beside the curves.
        """
        return f"{self.method}#{self.digest().hex()[:40]}"

    def to_json(self) -> str:
        """Canonical text: sorted keys, no blanks, no weather where there was none."""
        fields = {name: value for name, value in asdict(self).items() if name != "weather" or value}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Run":
        """Inverse of :meth:`to_json`."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as exc:
            raise DomainError(f"not the record of a forecast run: {exc}") from exc


def input_digest(panel: Panel, of: Horizon, issued_at: int, settings: Settings) -> str:
    """Digest of the readings that a forecast issued at a moment may use."""
    return known_at(panel, of, issued_at, settings).digest().hex()


def output_digest(forecasts: Sequence[Forecast]) -> str:
    """Digest over forecasts in whole Wh, in the order of the parts."""
    return hashlib.sha256(b"".join(forecast.digest() for forecast in forecasts)).hexdigest()


def run_forecast(
    panel: Panel,
    of: Horizon,
    issued_at: int,
    *,
    target: str,
    settings: Settings | None = None,
    part: int,
    weather: Weather | None = None,
    executor: Executor | None = None,
    progress=None,
) -> tuple[Run, ManyForecasts]:
    """Train, forecast, and keep what is needed to do it again."""
    settings = settings or Settings()
    result = forecast_many(
        panel,
        of,
        issued_at,
        targets={"all": target},
        weather=weather,
        settings=settings,
        executor=executor,
        part=part,
        progress=progress,
    )
    run = Run(
        method_of(of),
        of.name,
        target,
        issued_at,
        asdict(settings),
        part,
        input_digest(panel, of, issued_at, settings),
        output_digest(result.forecasts),
        "" if weather is None else weather.digest(issued_at),
    )
    return run, result


def verify_run(
    run: Run, panel: Panel, *, weather: Weather | None = None, executor: Executor | None = None, progress=None
) -> list[str]:
    """Make a run again and say what differs; an empty list when nothing does.

    The inputs are compared first: with other readings there is no sense in forecasting again.
    """
    if run.horizon not in HORIZONS:
        return [f"horizon {run.horizon!r} is unknown"]
    of = HORIZONS[run.horizon]
    if run.method != method_of(of):
        return [f"method {run.method} is not {method_of(of)}, the one of this program"]
    settings = Settings(**run.settings)
    inputs = input_digest(panel, of, run.issued_at, settings)
    if inputs != run.inputs:
        return [f"inputs: the readings at hand have digest {inputs}, the run used {run.inputs}"]
    known = "" if weather is None else weather.digest(run.issued_at)
    if known != run.weather:
        return [f"weather: the one at hand has digest {known or 'none'}, the run used {run.weather or 'none'}"]
    again, _ = run_forecast(
        panel,
        of,
        run.issued_at,
        target=run.target,
        settings=settings,
        part=run.part,
        weather=weather,
        executor=executor,
        progress=progress,
    )
    if again.outputs != run.outputs:
        return [f"outputs: made again they have digest {again.outputs}, the run says {run.outputs}"]
    return []
