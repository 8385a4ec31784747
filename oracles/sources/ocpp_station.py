"""One charge point, whatever version of OCPP it speaks: its configuration, its values, its state.

A charge point is told that its message arrived when the values in it are on disk; until then it keeps the message
and sends it again, also after a restart of either side.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

from ocpp.exceptions import InternalError, NotImplementedError, NotSupportedError, OCPPError
from pydantic import BaseModel, Field, model_validator
from websockets.exceptions import ConnectionClosed

from offchain.domain.errors import DomainError, PermanentError, TransientError
from offchain.domain.isp import SECONDS_PER_ISP
from oracles.clock import Clock, unix
from oracles.sources.charging import Steered
from oracles.sources.config import MeterId, Secret
from oracles.sources.delivery import Delivery, Value
from oracles.sources.first_of_isp import FirstOfIsp, read_moment
from oracles.sources.ocpp_sessions import ChargeSessions
from oracles.sources.port import DeviceStatus, IntervalEnergy, MeterReading, Observation, Quantity

# The library logs every message, with the tags of people in it.
logging.getLogger("ocpp").setLevel(logging.CRITICAL)

log = logging.getLogger(__name__)

STORE_S = 20.0
"""How long a message may wait for its values to be stored before the charge point is asked to send it again [s]."""

REMOTE_TAG = "gridpact"
"""Id tag of transactions that are started from here."""

_REGISTERS = {"Energy.Active.Import.Register": 0, "Energy.Active.Export.Register": 1}
_INTERVALS = {"Energy.Active.Import.Interval": 0, "Energy.Active.Export.Interval": 1}
_QUANTITIES: dict[str, tuple[Quantity, int]] = {
    "Power.Active.Import": (Quantity.ACTIVE_POWER, 1),
    "Power.Active.Export": (Quantity.ACTIVE_POWER, -1),
    "Power.Reactive.Import": (Quantity.REACTIVE_POWER, 1),
    "Power.Reactive.Export": (Quantity.REACTIVE_POWER, -1),
    "Current.Import": (Quantity.CURRENT, 1),
    "Current.Export": (Quantity.CURRENT, -1),
    "Voltage": (Quantity.VOLTAGE, 1),
    "Frequency": (Quantity.FREQUENCY, 1),
    "SoC": (Quantity.STATE_OF_CHARGE, 1),
    "Temperature": (Quantity.TEMPERATURE, 1),
}
_PHASES: dict[str | None, int] = {None: 0, "L1": 1, "L2": 2, "L3": 3, "L1-N": 1, "L2-N": 2, "L3-N": 3}


class ChargePointConfig(BaseModel, extra="forbid", frozen=True):
    """One charge point.

    Attributes
    ----------
    id : str
        Its identity, the last part of the address that it connects to.
    device_id : str
        Its name at the site; connector 1 is the device ``<device_id>/1``.
    password : Secret
        Of its basic authentication; its user name is its identity.
    meters : mapping
        Meter ids by connector (1.6) or EVSE (2.0.1); 0 is the main meter.
    steered : mapping
        Connectors that follow orders; each needs its meter.
    limit_unit : str
        ``W`` or ``A``: in which it takes charging limits.
    phases, voltage_v : int, float
        How W become A, per phase [V].
    max_periods : int
        Periods that its charging schedules may have.
    bidirectional : bool
        Whether it gives energy back, so that export is asked for too.
    """

    id: str = Field(min_length=1, max_length=48, pattern=r"^[A-Za-z0-9*\-_=:+|@.]+$")
    device_id: str = Field(min_length=1)
    password: Secret
    meters: dict[int, MeterId] = Field(default_factory=dict)
    steered: dict[int, Steered] = Field(default_factory=dict)
    limit_unit: Literal["W", "A"] = "W"
    phases: Literal[1, 2, 3] = 3
    voltage_v: float = Field(default=230.0, gt=0)
    max_periods: int = Field(default=96, ge=1)
    bidirectional: bool = False

    @model_validator(mode="after")
    def _metered(self) -> "ChargePointConfig":
        if unmetered := sorted(self.steered.keys() - self.meters.keys()):
            raise ValueError(f"connector {unmetered[0]} is steered but has no meter")
        return self


PROFILES_PER_CONNECTOR = 2
"""Of today and of tomorrow, one at a stack level each."""


class ChargingLimits(NamedTuple):
    """A charging schedule: from ``start_at`` [UTC s] on, limits by offset [s], for ``duration_s``."""

    start_at: int
    duration_s: int
    unit: Literal["W", "A"]
    periods: Sequence[tuple[int, float]]

    @property
    def end_at(self) -> int:
        return self.start_at + self.duration_s

    @property
    def stack_level(self) -> int:
        """Even and odd days: a new profile replaces the one at its level, and today's has to outlast tomorrow's."""
        return (self.start_at + self.duration_s // 2) // 86_400 % PROFILES_PER_CONNECTOR


def profile_id(connector: int, stack_level: int) -> int:
    """Number of the charging profile of a connector at a level, from 1 on."""
    return PROFILES_PER_CONNECTOR * connector + stack_level + 1


class Station:
    """What is known of one charge point.

    Attributes
    ----------
    refused : Counter
        Sampled values that could not be used, by reason.
    """

    def __init__(
        self,
        config: ChargePointConfig,
        sessions: ChargeSessions,
        delivery: Delivery,
        clock: Clock,
        *,
        authorised: frozenset[str],
        heartbeat_s: int,
        sample_s: int,
    ):
        self.config = config
        self.sessions = sessions
        self.clock = clock
        self.heartbeat_s = heartbeat_s
        self.sample_s = sample_s
        self.refused: Counter[str] = Counter()
        self._delivery = delivery
        self._authorised = authorised | {REMOTE_TAG}
        self._broken_meters: set[int] = set()
        self._first = FirstOfIsp()
        self.where = f"charge point {config.id}"

    @property
    def now(self) -> str:
        """Current time as OCPP writes it."""
        return stamp(unix(self.clock))

    @property
    def aligned_measurands(self) -> str:
        """What it reports at every ISP boundary."""
        export = ",Energy.Active.Export.Register" if self.config.bidirectional else ""
        return f"Energy.Active.Import.Register{export}"

    @property
    def sampled_measurands(self) -> str:
        """What it reports during a transaction."""
        export = ",Power.Active.Export" if self.config.bidirectional else ""
        return f"Power.Active.Import{export},Current.Import,Voltage,SoC"

    def authorises(self, id_tag: str) -> bool:
        """Whether this tag may charge."""
        return id_tag in self._authorised

    def device(self, connector: int) -> str:
        """Name of a connector at the site."""
        return f"{self.config.device_id}/{connector}" if connector else self.config.device_id

    async def stored(self, values: Sequence[Value]) -> None:
        """Return when the values, and all before them, are on disk; else the charge point is told to send them again.

        That holds without values too: a message that comes again brings nothing new and still must wait for its first
        coming.
        """
        if self._delivery.full:
            raise InternalError("values are not stored fast enough, send again")
        done = asyncio.get_running_loop().create_future()
        self._delivery.put(values, lambda: None if done.done() else done.set_result(None))
        try:
            await asyncio.wait_for(done, STORE_S)
        except TimeoutError as exc:
            raise InternalError("not stored in time, send again") from exc

    def deliver(self, values: Sequence[Value]) -> None:
        """Values that nobody would send again."""
        self._delivery.put(values)

    def status(self, connector: int, status: DeviceStatus, at: int, *, broken_meter: bool = False) -> Observation:
        """State of a connector."""
        (self._broken_meters.add if broken_meter else self._broken_meters.discard)(connector)
        return Observation(self.device(connector), Quantity.STATUS, 0, float(status), at, unix(self.clock))

    def session_energy(self, connector: int, energy_wh: int, at: int) -> Observation:
        """Energy of a transaction that ended."""
        device = self.device(connector)
        return Observation(device, Quantity.SESSION_ENERGY, 0, float(energy_wh), at, unix(self.clock))

    def values_of(self, connector: int, meter_values: Sequence[Mapping[str, Any]]) -> list[Value]:
        """Values of OCPP meter values with keys in snake case, of 1.6 or 2.0.1."""
        found: list[Value] = []
        for meter_value in meter_values:
            try:
                found += self._values_at(connector, seconds(meter_value["timestamp"]), meter_value["sampled_value"])
            except (ValueError, KeyError, TypeError, InvalidOperation):
                self.refused["malformed"] += 1
        return found

    def _values_at(self, connector: int, at: int, sampled: Sequence[Mapping[str, Any]]) -> list[Value]:
        now = unix(self.clock)
        device, meter_id = self.device(connector), self.config.meters.get(connector)
        registers: dict[int, int] = {}
        intervals: dict[int, int] = {}
        found: list[Value] = []
        for sample in sampled:
            measurand = sample.get("measurand", "Energy.Active.Import.Register")
            phase = _PHASES.get(sample.get("phase"))
            if phase is None or sample.get("format") == "SignedData":
                self.refused["other phases or signed data"] += 1
            elif measurand in _QUANTITIES:
                quantity, sign = _QUANTITIES[measurand]
                value = float(sign * _base(sample))
                found.append(Observation(device, quantity, phase, value, at, now))
            elif phase == 0 and measurand in _REGISTERS:
                registers[_REGISTERS[measurand]] = int(_base(sample))
            elif phase == 0 and measurand in _INTERVALS and sample.get("context") == "Sample.Clock":
                intervals[_INTERVALS[measurand]] = int(_base(sample))
            else:
                self.refused[f"measurand {measurand}"] += 1
        if meter_id is None:
            return found
        if 0 in registers:
            broken = connector in self._broken_meters
            reading = MeterReading(meter_id, read_moment(at, now), at, registers[0], registers.get(1, 0), broken)
            if self._first.admits(reading):
                found.append(reading)
        elif intervals and at % SECONDS_PER_ISP == 0:
            isp = at // SECONDS_PER_ISP - 1
            found.append(IntervalEnergy(meter_id, isp, intervals.get(0, 0), intervals.get(1, 0), now))
        return found

    def register_wh(self, meter_values: Sequence[Mapping[str, Any]]) -> int | None:
        """Last import register in meter values [Wh], whichever connector they belong to."""
        for meter_value in reversed(meter_values):
            for sample in meter_value["sampled_value"]:
                if _REGISTERS.get(sample.get("measurand", "Energy.Active.Import.Register")) == 0 and not sample.get(
                    "phase"
                ):
                    return int(_base(sample))
        return None

    def limits(self, first_isp: int, limits_w: Sequence[int]) -> ChargingLimits:
        """Schedule of limits per ISP [W] in the unit that the charge point takes; A are rounded down."""
        if not limits_w or min(limits_w) < 0:
            raise DomainError(f"{self.where}: charging limits are one or more values of 0 W and above")
        periods: list[tuple[int, float]] = []
        for position, limit_w in enumerate(limits_w):
            limit = float(limit_w)
            if self.config.limit_unit == "A":
                limit = int(limit_w / (self.config.voltage_v * self.config.phases) * 10) / 10
            if not periods or periods[-1][1] != limit:
                periods.append((position * SECONDS_PER_ISP, limit))
        if len(periods) > self.config.max_periods:
            raise DomainError(
                f"{self.where}: {len(periods)} periods, it takes {self.config.max_periods}",
                hint="send fewer ISPs at once",
            )
        return ChargingLimits(
            first_isp * SECONDS_PER_ISP, len(limits_w) * SECONDS_PER_ISP, self.config.limit_unit, periods
        )

    async def ask(self, link: Any, request: Any, *, accepted: Sequence[str] = ("Accepted",)) -> Any:
        """Send a command and return the answer when it is one of the accepted."""
        what = type(request).__name__
        try:
            response = await answer_of(link, request)
        except TimeoutError as exc:
            raise TransientError(f"{self.where}: no answer to {what}") from exc
        except (ConnectionClosed, ConnectionError) as exc:
            raise TransientError(f"{self.where}: connection lost during {what}") from exc
        except (NotImplementedError, NotSupportedError) as exc:
            raise PermanentError(f"{self.where}: does not know {what}") from exc
        except OCPPError as exc:
            raise PermanentError(f"{self.where}: {what} failed: {exc.description}") from exc
        status = getattr(response, "status", "Accepted")
        if status not in accepted:
            raise PermanentError(f"{self.where}: {what} refused: {status}")
        return response


async def answer_of(link: Any, request: Any) -> Any:
    """Answer to a request; raises ``ConnectionError`` as soon as the connection is gone, which the library does not."""
    calling = asyncio.ensure_future(link.call(request, suppress=False))
    closing = asyncio.ensure_future(link._connection.wait_closed())
    try:
        await asyncio.wait({calling, closing}, return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            raise ConnectionError("connection closed")
        return calling.result()
    finally:
        calling.cancel()
        closing.cancel()
        await asyncio.gather(calling, closing, return_exceptions=True)


def seconds(text: str) -> int:
    """UTC seconds of an OCPP time; one without offset is UTC."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def stamp(at: int) -> str:
    """OCPP time of UTC seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _base(sample: Mapping[str, Any]) -> Decimal:
    """Value in the unit without prefix: 1.6 names it ``kWh``, 2.0.1 may add a power of ten."""
    unit = sample.get("unit", "")
    multiplier = 0
    if "unit_of_measure" in sample:
        unit = sample["unit_of_measure"].get("unit", "")
        multiplier = sample["unit_of_measure"].get("multiplier", 0)
    value = Decimal(str(sample["value"])).scaleb(multiplier)
    if not value.is_finite():
        raise ValueError(f"not a number: {sample['value']!r}")
    if unit == "Fahrenheit":
        return (value - 32) * 5 / 9
    return value * 1000 if unit.startswith("k") else value
