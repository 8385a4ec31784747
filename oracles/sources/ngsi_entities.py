"""From entities of a context broker (NGSI v2 or NGSI-LD, normalised form) to values, by a mapping in TOML.

::

    [[entity]]
    id = "urn:ngsi-ld:SmartMeter:17"
    type = "SmartMeter"
    device_id = "meter-17"
    meter_id = "..."                      # for registers and interval

    [[entity.attribute]]                  # telemetry
    name = "P"
    quantity = "active_power_w"
    phase = 0
    unit = "kW"                           # else its unitCode says it, else the unit of the quantity

    [entity.registers]                    # cumulative registers
    import = "activeEnergyImport"
    export = "activeEnergyExport"
    unit = "kWh"

    [entity.interval]                     # or energy per quarter hour
    import = "absorbed"
    export = "injected"
    unit = "kWh"
    stamped = "end"                       # whether the time of a value is the start or the end of its quarter hour

A value is dated by ``observedAt`` (NGSI-LD), by the metadata ``TimeInstant`` (NGSI v2, eDREAM D2.5, Annex V), else by
an attribute ``TimeInstant`` or ``dateObserved`` of the entity. Energy without a time is refused.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from offchain.domain.errors import PermanentError
from offchain.domain.isp import SECONDS_PER_ISP
from oracles.sources.config import MeterId
from oracles.sources.delivery import Value
from oracles.sources.first_of_isp import FirstOfIsp
from oracles.sources.port import DeviceStatus, IntervalEnergy, MeterReading, Observation, Quantity
from oracles.sources.telemetry import status_of
from oracles.sources.units import WH, unit_factor

_TIMES = ("timeinstant", "dateobserved", "timestamp", "observedat")

# UN/CEFACT Recommendation 20, as unitCode of the FIWARE data models.
_UNIT_CODES = {
    "WTT": "W",
    "KWT": "kW",
    "MAW": "MW",
    "D44": "var",
    "KVR": "kvar",
    "WHR": "Wh",
    "KWH": "kWh",
    "MWH": "MWh",
    "VLT": "V",
    "KVT": "kV",
    "AMP": "A",
    "HTZ": "Hz",
    "DD": "°",
    "P1": "%",
    "CEL": "°C",
    "MTS": "m/s",
    "D54": "W/m2",
    "KMT": "km",
    "MIN": "min",
}


class AttributeMap(BaseModel, extra="forbid", frozen=True):
    """An attribute that becomes an observation."""

    name: str = Field(min_length=1)
    quantity: Quantity
    phase: int = Field(default=0, ge=0, le=3)
    unit: str | None = None

    @model_validator(mode="after")
    def _known_unit(self) -> "AttributeMap":
        unit_factor(self.quantity, self.unit)
        return self


class EnergyMap(BaseModel, extra="forbid", frozen=True):
    """Attributes with import and export; a missing export is none."""

    import_: str = Field(alias="import", min_length=1)
    export: str | None = None
    unit: Literal["Wh", "kWh", "MWh"] | None = None


class IntervalMap(EnergyMap):
    """Energy per quarter hour, stamped with its start or its end."""

    stamped: Literal["start", "end"]


class EntityMap(BaseModel, extra="forbid", frozen=True):
    """One entity."""

    id: str = Field(min_length=1)
    type: str = Field(min_length=1)
    device_id: str = Field(min_length=1)
    meter_id: MeterId | None = None
    attribute: tuple[AttributeMap, ...] = ()
    registers: EnergyMap | None = None
    interval: IntervalMap | None = None

    @model_validator(mode="after")
    def _useful(self) -> "EntityMap":
        energy = self.registers is not None or self.interval is not None
        if not self.attribute and not energy:
            raise ValueError(f"entity {self.id} maps nothing: add attribute, registers or interval")
        if energy and self.meter_id is None:
            raise ValueError(f"entity {self.id} has energy but no meter_id")
        if self.registers is not None and self.interval is not None:
            raise ValueError(f"entity {self.id} has both registers and interval: settle by one of them")
        return self

    @property
    def attributes(self) -> frozenset[str]:
        """Names of all attributes that are read."""
        energy = [part for part in (self.registers, self.interval) if part is not None]
        names = {attribute.name for attribute in self.attribute}
        return frozenset(names | {name for part in energy for name in (part.import_, part.export) if name})


class EntityMapping(BaseModel, extra="forbid", frozen=True):
    """All entities of a file."""

    entity: tuple[EntityMap, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _once(self) -> "EntityMapping":
        if twice := [name for name, count in Counter(entry.id for entry in self.entity).items() if count > 1]:
            raise ValueError(f"entity {twice[0]} is given twice")
        return self


def load_mapping(path: Path) -> EntityMapping:
    """Read a mapping; ``PermanentError`` names what is wrong with it."""
    try:
        return EntityMapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise PermanentError(f"mapping {path} cannot be read: {exc.strerror}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise PermanentError(f"mapping {path}: {exc}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PermanentError(f"mapping {path}: {where}: {first['msg']}") from exc


class EntityTranslator:
    """Entities to values.

    Attributes
    ----------
    refused : Counter
        Attributes that brought nothing, by reason.
    """

    def __init__(self, mapping: EntityMapping):
        self.entities = {entry.id: entry for entry in mapping.entity}
        self.refused: Counter[str] = Counter()
        self._first = FirstOfIsp()

    def values(self, entity: Mapping[str, Any], received_at: int) -> list[Value]:
        """Values of one entity that arrived at ``received_at`` [UTC s]; what cannot be read is counted."""
        entry = self.entities.get(entity.get("id", ""))
        if entry is None:
            self.refused["unknown entity"] += 1
            return []
        found: list[Value] = []
        for attribute in entry.attribute:
            try:
                if (part := _part(entity, attribute.name)) is None:
                    continue
                value = _number(part, attribute)
                at = _time(part, entity)
            except (ValueError, TypeError, AttributeError):
                self.refused[f"malformed {attribute.name}"] += 1
                continue
            observed_at = received_at if at is None else at
            found.append(
                Observation(entry.device_id, attribute.quantity, attribute.phase, value, observed_at, received_at)
            )
        if entry.meter_id is not None:
            found += self._energy(entry, entry.meter_id, entity, received_at)
        return found

    def _energy(self, entry: EntityMap, meter_id: bytes, entity: Mapping[str, Any], received_at: int) -> list[Value]:
        names = entry.registers or entry.interval
        if names is None or (imported := _part(entity, names.import_)) is None:
            return []
        exported = None if names.export is None else _part(entity, names.export)
        if names.export is not None and exported is None:
            self.refused["export without import or import without export"] += 1
            return []
        try:
            import_wh = _wh(imported, names.unit)
            export_wh = 0 if exported is None else _wh(exported, names.unit)
            at = _time(imported, entity)
            same_time = exported is None or _time(exported, entity) == at
        except (ValueError, TypeError, AttributeError):
            self.refused["malformed energy"] += 1
            return []
        if at is None or not same_time:
            self.refused["undated energy" if at is None else "import and export of different times"] += 1
            return []
        if entry.registers is not None:
            # A context broker adds delays of its own: only the device says when it was.
            reading = MeterReading(meter_id, min(at, received_at), at, import_wh, export_wh)
            return [reading] if self._first.admits(reading) else []
        if at % SECONDS_PER_ISP:
            self.refused["interval off the quarter hour"] += 1
            return []
        isp = at // SECONDS_PER_ISP - (entry.interval is not None and entry.interval.stamped == "end")
        return [IntervalEnergy(meter_id, isp, import_wh, export_wh, received_at)]


def _part(entity: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """An attribute with its metadata; of several instances (NGSI-LD) the one without datasetId."""
    part = entity.get(name)
    if isinstance(part, list):
        part = next((entry for entry in part if "datasetId" not in entry), None)
    return part if part is None or isinstance(part, Mapping) else {"value": part}


def _meta(part: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """A property of an attribute: beside its value (NGSI-LD) or in its metadata (v2)."""
    for place in (part, part.get("metadata", {})):
        for name, value in place.items():
            if name.lower() in names and name != "value":
                return value.get("value") if isinstance(value, Mapping) else value
    return None


def _time(part: Mapping[str, Any], entity: Mapping[str, Any]) -> int | None:
    text = _meta(part, _TIMES)
    if text is None:
        text = next((_part(entity, name)["value"] for name in entity if name.lower() in _TIMES), None)  # type: ignore[index]
    if isinstance(text, Mapping):  # NGSI-LD: {"@type": "DateTime", "@value": ...}
        text = text["@value"]
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)  # NGSI: times without zone are UTC
    return int(moment.timestamp())


def _exact(part: Mapping[str, Any]) -> Fraction:
    value = part["value"] if "value" in part else part.get("object")
    if isinstance(value, bool) or value is None:
        raise ValueError("no number")
    return Fraction(str(value).strip())


def _unit(part: Mapping[str, Any], configured: str | None) -> str | None:
    return configured or _UNIT_CODES.get(str(_meta(part, ("unitcode",))))


def _number(part: Mapping[str, Any], attribute: AttributeMap) -> float:
    value = part.get("value")
    if attribute.quantity == Quantity.STATUS and isinstance(value, str):
        return float(DeviceStatus(status_of(value)))
    return float(_exact(part) * unit_factor(attribute.quantity, _unit(part, attribute.unit)))


def _wh(part: Mapping[str, Any], configured: str | None) -> int:
    unit = _unit(part, configured) or "Wh"
    if unit not in WH:
        raise ValueError(f"{unit} is no unit of energy")
    value = int(_exact(part) * WH[unit])
    if value < 0:
        raise ValueError("negative energy")
    return value
