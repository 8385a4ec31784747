"""SunSpec devices over Modbus: the chain of information models is found, not configured.

A SunSpec device keeps the marker "SunS" at holding register 40000, 0 or 50000, and after it one model after the
other: id, length, points. What of which model is used here stands in ``sunspec_models.toml``; from it and the addresses
that were found comes an ordinary register map, which also checks with every read that the model is still where it was.
"""

import logging
import tomllib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from offchain.domain.errors import AdapterError, PermanentError
from oracles.clock import Clock
from oracles.sources.config import MeterId
from oracles.sources.modbus import Framing, ModbusEndpoint, ModbusMeterSource, ModbusTelemetrySource, polled
from oracles.sources.port import MeterReading, Observation, Quantity
from oracles.sources.register_map import MAX_WORDS_PER_READ, Register, RegisterMap, register_map_of

log = logging.getLogger(__name__)

BASE_ADDRESSES = (40_000, 0, 50_000)
"""Where a chain may start, in the order in which they are tried."""

MARKER = [0x5375, 0x6E53]
"""The words of "SunS"."""

END_MODEL = 0xFFFF
MAX_MODELS = 100

# SunSpec type -> type of a register and the value that means "not implemented". Accumulators that are not implemented
# are zero, and a counter that stays zero says the same.
_TYPES: dict[str, tuple[str, int | None]] = {
    "int16": ("int16", -0x8000),
    "uint16": ("uint16", 0xFFFF),
    "enum16": ("uint16", 0xFFFF),
    "int32": ("int32", -0x8000_0000),
    "uint32": ("uint32", 0xFFFF_FFFF),
    "bitfield32": ("uint32", 0xFFFF_FFFF),
    "acc32": ("uint32", None),
    "uint64": ("uint64", 0xFFFF_FFFF_FFFF_FFFF),
    "acc64": ("uint64", None),
    "float32": ("float32", None),
    "string": ("string", None),
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Model):
    """One point of a model and what it is here: telemetry, a counter, a fault word, or text."""

    name: str
    at: int = Field(ge=0)
    type: Literal[tuple(_TYPES)]
    words: int | None = None
    sf: int | None = Field(default=None, ge=0)
    sign: Literal[1, -1] = 1
    quantity: Quantity | None = None
    phase: int = 0
    codes: dict[int, str] | None = None
    counts: Literal["import_wh", "export_wh"] | None = None
    fault: int | None = None

    def register(self, address: int) -> dict[str, Any]:
        """Entry of a register map, for a model whose first point is at ``address``."""
        kind, absent = _TYPES[self.type]
        entry: dict[str, Any] = {"address": address + self.at, "type": kind}
        if self.words is not None:
            entry["words"] = self.words
        if absent is not None:
            entry["absent"] = absent
        if self.sf is not None:
            entry["scale_register"] = address + self.sf
        return entry

    @property
    def end(self) -> int:
        """First offset after the point and its scale factor."""
        words = self.words or Register(address=0, type=_TYPES[self.type][0]).length
        return max(self.at + words, 0 if self.sf is None else self.sf + 1)


class ModelDefinition(_Model):
    """What is used of the models ``ids``; ``length`` is that of the specification, devices state their own."""

    ids: tuple[int, ...]
    length: int = Field(ge=1)
    kind: Literal["common", "inverter", "storage", "meter"]
    points: tuple[Point, ...]

    @property
    def counts(self) -> bool:
        """Whether it counts energy."""
        return any(point.counts for point in self.points)


def _load_definitions() -> dict[int, ModelDefinition]:
    data = tomllib.loads((files("oracles.sources") / "sunspec_models.toml").read_text("utf-8"))
    models = [ModelDefinition.model_validate(entry) for entry in data["model"]]
    return {model_id: model for model in models for model_id in model.ids}


DEFINITIONS = _load_definitions()
"""What is used of a model, by its id."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a common model (1) says; a device may hold several, each for the models that follow it."""

    manufacturer: str
    model: str
    version: str
    serial: str


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model in the chain: its first point is at ``address``, and the common model before it said ``identity``."""

    model_id: int
    address: int
    length: int
    identity: Identity

    @property
    def definition(self) -> ModelDefinition | None:
        """What is used of it, if anything."""
        return DEFINITIONS.get(self.model_id)

    @property
    def points(self) -> list[Point]:
        """Points that this device has: an older edition of a model may be shorter."""
        return [] if self.definition is None else [p for p in self.definition.points if p.end <= self.length]

    def __str__(self) -> str:
        return f"{self.model_id} ({self.identity.serial})"


async def discover(endpoint: ModbusEndpoint, unit_id: int) -> list[FoundModel]:
    """Walk the chain of models of a device.

    Raises
    ------
    PermanentError
        No SunSpec device, or a chain that does not end.
    """
    address = await _find_base(endpoint, unit_id) + len(MARKER)
    models: list[FoundModel] = []
    identity = Identity("", "", "", "")
    while len(models) < MAX_MODELS:
        model_id, length = await endpoint.read(unit_id, "holding", address, 2)
        if model_id == END_MODEL:
            return models
        address += 2
        if address + length > 0xFFFF:
            break
        if model_id == 1:
            identity = await _identity(endpoint, unit_id, address, length)
        models.append(FoundModel(model_id, address, length, identity))
        address += length
    raise PermanentError(
        f"{endpoint.where(unit_id)}: the chain of SunSpec models does not end ({len(models)} models)",
        hint="the device may have been restarting; try again, then ask its maker",
    )


async def _find_base(endpoint: ModbusEndpoint, unit_id: int) -> int:
    for base in BASE_ADDRESSES:
        try:
            if await endpoint.read(unit_id, "holding", base, len(MARKER)) == MARKER:
                return base
        except PermanentError as error:
            log.debug("no SunSpec marker at %d: %s", base, error)
    raise PermanentError(
        f"{endpoint.where(unit_id)}: no SunSpec device",
        hint="enable SunSpec in the device, check the unit id, or describe it by a register map (kind = modbus)",
    )


async def _identity(endpoint: ModbusEndpoint, unit_id: int, address: int, length: int) -> Identity:
    words = await endpoint.read(unit_id, "holding", address, min(length, MAX_WORDS_PER_READ))
    text = {
        point.name: Register(address=point.at, type="string", words=point.words).raw(words)
        for point in DEFINITIONS[1].points
        if point.end <= len(words)
    }
    return Identity(*(text.get(name, "") for name in ("Mn", "Md", "Vr", "SN")))


def meter_map(model: FoundModel) -> RegisterMap:
    """Register map of the counters of a model."""
    data: dict[str, Any] = {}
    for point in model.points:
        if point.counts is not None:
            data[point.counts] = point.register(model.address)
        elif point.fault is not None:
            data |= {"status": point.register(model.address), "fault_mask": point.fault}
    return _map([model], data)


def telemetry_map(models: Iterable[FoundModel], *, exporting_positive: bool = False) -> RegisterMap:
    """Register map of the telemetry of several models of one device; of two that say the same the first counts.

    Parameters
    ----------
    exporting_positive : bool
        Whether the meter models of this device show power to the grid as positive.
    """
    telemetry: dict[tuple[Quantity, int], dict[str, Any]] = {}
    used = []
    for model in models:
        used.append(model)
        for point in model.points:
            if point.quantity is None or (point.quantity, point.phase) in telemetry:
                continue
            entry = point.register(model.address) | {"quantity": point.quantity, "phase": point.phase}
            if point.codes is not None:
                entry["codes"] = point.codes
            turned = exporting_positive and model.definition.kind == "meter" and "power" in point.quantity
            entry["scale"] = -point.sign if turned else point.sign
            telemetry[point.quantity, point.phase] = entry
    return _map(used, {"telemetry": list(telemetry.values())})


def _map(models: list[FoundModel], data: dict[str, Any]) -> RegisterMap:
    headers = [
        {"address": model.address - 2 + offset, "type": "uint16", "value": value}
        for model in models
        for offset, value in enumerate((model.model_id, model.length))
    ]
    # All addresses inside a model exist, so gaps can be read.
    full = {"table": "holding", "max_gap": MAX_WORDS_PER_READ, "expect": headers} | data
    return register_map_of(full, f"of SunSpec models {', '.join(map(str, models))}")


class SunSpecMeterSource:
    """The counters of a SunSpec device (implements ``MeterSource``).

    The chain is walked at the first read, and again after a failure, because firmware may move models.

    Parameters
    ----------
    serial : str or None
        Serial number of the meter, needed when there are several behind one unit.
    model_id : int or None
        Model whose counters are read; ``None`` takes the meter model, or what else counts energy when there is none.
    """

    def __init__(
        self,
        endpoint: ModbusEndpoint,
        unit_id: int,
        meter_id: bytes,
        clock: Clock,
        *,
        serial: str | None = None,
        model_id: int | None = None,
    ):
        self.endpoint = endpoint
        self.unit_id = unit_id
        self.meter_id = meter_id
        self.clock = clock
        self.serial = serial
        self.model_id = model_id
        self._found: tuple[FoundModel, ModbusMeterSource] | None = None

    async def probe(self) -> str:
        await self.read()
        return self._found[0].identity.serial

    async def read(self) -> MeterReading:
        try:
            if self._found is None:
                model = self._chosen(await discover(self.endpoint, self.unit_id))
                source = ModbusMeterSource(self.endpoint, self.unit_id, self.meter_id, meter_map(model), self.clock)
                self._found = model, source
            return await self._found[1].read()
        except AdapterError:
            self._found = None
            raise

    def _chosen(self, models: list[FoundModel]) -> FoundModel:
        counting = [model for model in models if model.definition is not None and model.definition.counts]
        fitting = [
            model
            for model in counting
            if self.serial in (None, model.identity.serial) and self.model_id in (None, model.model_id)
        ]
        meters = [model for model in fitting if model.definition.kind == "meter"] or fitting
        if len(meters) == 1:
            return meters[0]
        raise PermanentError(
            f"{self.endpoint.where(self.unit_id)}: {len(meters)} SunSpec meters fit",
            hint=f"choose by serial and model of: {', '.join(map(str, counting)) or 'no model counts energy'}",
        )


class SunSpecTelemetrySource:
    """Telemetry of a SunSpec device every few seconds (implements ``EventSource``).

    Parameters
    ----------
    model_ids : tuple of int
        Models that are read; empty takes inverter and storage models, or the meter models when there are none.
    serial : str or None
        Which of several meters behind the unit.
    """

    def __init__(
        self,
        endpoint: ModbusEndpoint,
        unit_id: int,
        device_id: str,
        clock: Clock,
        *,
        every_s: float,
        serial: str | None = None,
        model_ids: tuple[int, ...] = (),
        exporting_positive: bool = False,
    ):
        self.endpoint = endpoint
        self.unit_id = unit_id
        self.device_id = device_id
        self.clock = clock
        self.every_s = every_s
        self.serial = serial
        self.model_ids = model_ids
        self.exporting_positive = exporting_positive
        self._source: ModbusTelemetrySource | None = None

    async def probe(self) -> str:
        return f"{len(await self.read())} values"

    async def read(self) -> list[Observation]:
        """What the device says now."""
        try:
            if self._source is None:
                models = self._chosen(await discover(self.endpoint, self.unit_id))
                register_map = telemetry_map(models, exporting_positive=self.exporting_positive)
                self._source = ModbusTelemetrySource(
                    self.endpoint, self.unit_id, self.device_id, register_map, self.clock, every_s=self.every_s
                )
            return await self._source.read()
        except AdapterError:
            self._source = None
            raise

    def _chosen(self, models: list[FoundModel]) -> list[FoundModel]:
        mine = [
            model
            for model in models
            if any(point.quantity for point in model.points)
            and (self.serial in (None, model.identity.serial) or model.definition.kind != "meter")
        ]
        if self.model_ids:
            chosen = [model for model in mine if model.model_id in self.model_ids]
        else:
            chosen = [model for model in mine if model.definition.kind != "meter"] or mine
        if not chosen:
            raise PermanentError(
                f"{self.endpoint.where(self.unit_id)}: no SunSpec model with telemetry fits",
                hint=f"there are: {', '.join(map(str, models)) or 'none'}",
            )
        return chosen

    async def values(self) -> AsyncIterator[Observation]:
        async for observation in polled(self.read, self.clock, self.every_s, f"telemetry of {self.device_id}"):
            yield observation

    def taken(self, count: int) -> None:
        """Nothing to acknowledge: telemetry is not kept by the device."""


class SunSpecDeviceConfig(BaseModel, extra="forbid", frozen=True):
    """A SunSpec device behind Modbus TCP or RTU over TCP.

    ``meter_id`` makes the counters of its meter certified readings; ``telemetry_every_s`` reads its telemetry under
    the name ``device_id``. At least one of the two is needed.
    """

    host: str = Field(min_length=1)
    port: int = Field(default=502, ge=1, le=65_535)
    framing: Framing = "tcp"
    unit_id: int = Field(default=1, ge=0, le=255)
    serial: str | None = None
    meter_id: MeterId | None = None
    meter_model: int | None = None
    device_id: str | None = Field(default=None, min_length=1)
    telemetry_every_s: float | None = Field(default=None, ge=0.5, le=900)
    telemetry_models: tuple[int, ...] = ()
    positive_power: Literal["import", "export"] = "import"
    timeout_s: float = Field(default=1.0, gt=0, le=60)

    @model_validator(mode="after")
    def _has_a_purpose(self) -> "SunSpecDeviceConfig":
        if self.meter_id is None and self.telemetry_every_s is None:
            raise ValueError(
                "give meter_id for readings, or device_id and telemetry_every_s for telemetry, or all three"
            )
        if (self.device_id is None) != (self.telemetry_every_s is None):
            raise ValueError("device_id and telemetry_every_s go together")
        for model_id in (*self.telemetry_models, *(() if self.meter_model is None else (self.meter_model,))):
            if model_id not in DEFINITIONS:
                raise ValueError(f"model {model_id} is not one of {', '.join(map(str, sorted(DEFINITIONS)))}")
        return self

    @property
    def endpoint_key(self) -> tuple[str, int, Framing]:
        """Devices with the same key share one endpoint."""
        return self.host, self.port, self.framing

    def endpoint(self) -> ModbusEndpoint:
        """The endpoint, to be entered (``async with``) before its sources read; many devices allow one connection."""
        return ModbusEndpoint(self.host, self.port, connections=1, timeout_s=self.timeout_s, framing=self.framing)

    def meter_source(self, endpoint: ModbusEndpoint, clock: Clock) -> SunSpecMeterSource | None:
        """The meter, if it is one."""
        if self.meter_id is None:
            return None
        return SunSpecMeterSource(
            endpoint, self.unit_id, self.meter_id, clock, serial=self.serial, model_id=self.meter_model
        )

    def telemetry_source(self, endpoint: ModbusEndpoint, clock: Clock) -> SunSpecTelemetrySource | None:
        """The telemetry, if it is read."""
        if self.telemetry_every_s is None:
            return None
        return SunSpecTelemetrySource(
            endpoint,
            self.unit_id,
            self.device_id,
            clock,
            every_s=self.telemetry_every_s,
            serial=self.serial,
            model_ids=self.telemetry_models,
            exporting_positive=self.positive_power == "export",
        )
