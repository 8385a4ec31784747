"""One site, one TOML file: chain, store, keys, meters, devices, intervals.

Secrets never stand in the file: a password is read from a file or an environment variable, keys are encrypted. Relative
paths are relative to the file. Every problem is told in one line with file, line, field and what is expected.
"""

import re
import tomllib
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from offchain.domain.errors import DomainError, PermanentError
from offchain.domain.isp import SECONDS_PER_ISP, isp_of
from offchain.store.database import file_of
from oracles.normalise import MeteringPoint
from oracles.sources.config import MeterId, Secret
from oracles.sources.csv_file import CsvSourceConfig
from oracles.sources.evse_rest import EvseRestConfig
from oracles.sources.exogenous import ExternalSourceConfig
from oracles.sources.modbus import ModbusDeviceConfig
from oracles.sources.mqtt import MqttConfig
from oracles.sources.ngsi import NgsiConfig
from oracles.sources.ocpp_central import OcppConfig
from oracles.sources.replay import ReplayConfig
from oracles.sources.sunspec import SunSpecDeviceConfig

LEAST_POWER_RETENTION_S = 3_600
"""So long at least values of the power are kept that energy is added up from."""


_HTTP = re.compile(r"https?://[^\s/]+.*")


class ConfigError(DomainError):
    """A site file that cannot be used; ``problems`` has one line for each fault."""

    def __init__(self, problems: list[str]):
        more = f" (and {len(problems) - 1} more, `gridpact oracle check` lists them)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = problems


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _anchored(value: Any, info: ValidationInfo) -> Any:
    """Relative paths are relative to the folder of the site file."""
    folder = (info.context or {}).get("folder")
    return folder / value if isinstance(value, Path) and folder is not None and not value.is_absolute() else value


class KeyFile(_Model):
    """An encrypted key file (Web3 secret storage, version 3) and where its password is."""

    keystore: Path
    password: Secret

    _anchor = field_validator("keystore")(_anchored)

    @field_validator("password")
    @classmethod
    def _anchor_password(cls, value: Secret, info: ValidationInfo) -> Secret:
        return value if value.file is None else Secret(file=_anchored(value.file, info))


class SignerConfig(_Model):
    """A signer elsewhere (API of Web3Signer) and the public key that it signs with, 64 bytes in hex."""

    url: str = Field(pattern=r"^https?://\S+$")
    public_key: str = Field(pattern=r"^(0x)?(04)?[0-9a-fA-F]{128}$")


class OperatorConfig(_Model):
    """The meter operator's account: an encrypted key file, or a signer elsewhere."""

    key: KeyFile | None = None
    signer: SignerConfig | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "OperatorConfig":
        if (self.key is None) == (self.signer is None):
            raise ValueError("give either a key or a signer")
        return self


class ChainConfig(_Model):
    """Where the contracts are and how to reach them; an endpoint with an access key is named as a secret."""

    endpoints: tuple[str | Secret, ...] = Field(min_length=1)
    chain_id: int = Field(ge=1)
    deployment: Path
    confirmations: int = Field(default=3, ge=0, le=1_000)
    timeout_s: float = Field(default=10, gt=0, le=120)

    _anchor = field_validator("deployment")(_anchored)

    @field_validator("endpoints")
    @classmethod
    def _are_http(cls, value: tuple[str | Secret, ...]) -> tuple[str | Secret, ...]:
        for url in value:
            if isinstance(url, Secret):
                continue
            if not _HTTP.fullmatch(url):
                raise ValueError(f"{url!r} is not an http(s) address")
            if "@" in url.split("/")[2]:
                raise ValueError('an endpoint with a password; write { file = "..." } or { env = "..." } instead of it')
        return value

    def urls(self) -> list[str]:
        """Addresses of the nodes, secrets read."""
        urls = [entry.read() if isinstance(entry, Secret) else entry for entry in self.endpoints]
        for number, url in enumerate(urls, start=1):
            if not _HTTP.fullmatch(url):
                raise PermanentError(f"chain.endpoints.{number}: what is in the secret is not an http(s) address")
        return urls


class MeterConfig(_Model):
    """A metering point: its meter, when it is in service, and what the connection can take and give.

    The gateway signs for a meter, unless it brings a ``key`` or a ``signer`` of its own. ``signs_itself`` says that
    its readings arrive signed; the signer is then the device's, and signs its days. A meter without registers is the
    ``power_of`` a device, whose values may be ``power_pause_s`` apart.
    """

    meter_id: MeterId
    max_import_w: int = Field(gt=0, le=10**9)
    max_export_w: int = Field(ge=0, le=10**9)
    in_service_from: datetime | None = None
    in_service_until: datetime | None = None
    signs_itself: bool = False
    power_of: str | None = None
    power_pause_s: int = Field(default=60, ge=1, le=SECONDS_PER_ISP)
    key: KeyFile | None = None
    signer: SignerConfig | None = None

    @model_validator(mode="after")
    def _period(self) -> "MeterConfig":
        for name in ("in_service_from", "in_service_until"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} without time zone, for example 2026-01-31T00:00:00+01:00")
            if moment is not None and moment.timestamp() % SECONDS_PER_ISP:
                raise ValueError(f"{name} is not on a quarter hour")
        if None not in (self.in_service_from, self.in_service_until) and self.in_service_until <= self.in_service_from:
            raise ValueError("in_service_until is not after in_service_from")
        if self.key is not None and self.signer is not None:
            raise ValueError("give either a key or a signer")
        if self.signs_itself and self.signer is None:
            raise ValueError("a device that signs itself needs its signer, for its days")
        if self.signs_itself and self.power_of is not None:
            raise ValueError("a meter that is the power of a device cannot sign itself")
        return self

    def point(self, device_key: str | None = None) -> MeteringPoint:
        """As the pipeline wants it; ``device_key`` is the address of a device that signs itself."""
        return MeteringPoint(
            self.meter_id,
            self.max_import_w,
            self.max_export_w,
            first_isp=0 if self.in_service_from is None else isp_of(self.in_service_from),
            end_isp=None if self.in_service_until is None else isp_of(self.in_service_until),
            device_key=device_key,
        )


class ModbusDevice(ModbusDeviceConfig):
    kind: Literal["modbus"]


class SunSpecDevice(SunSpecDeviceConfig):
    kind: Literal["sunspec"]


class MqttDevice(MqttConfig):
    kind: Literal["mqtt"]


class EvseRestDevice(EvseRestConfig):
    kind: Literal["evse"]


class OcppDevice(OcppConfig):
    kind: Literal["ocpp"]


class NgsiDevice(NgsiConfig):
    kind: Literal["ngsi"]


class CsvDevice(CsvSourceConfig):
    kind: Literal["csv"]


class ReplayDevice(ReplayConfig):
    kind: Literal["replay"]


class ExternalDevice(ExternalSourceConfig):
    """Weather or prices."""

    kind: Literal["external"]


PolledDevice = ModbusDevice | SunSpecDevice
EventDevice = MqttDevice | EvseRestDevice | OcppDevice | NgsiDevice | CsvDevice | ReplayDevice | ExternalDevice


DeviceConfig = Annotated[PolledDevice | EventDevice, Field(discriminator="kind")]
KINDS = ("modbus", "sunspec", "mqtt", "evse", "ocpp", "ngsi", "csv", "replay", "external")


class BatchingConfig(_Model):
    """When periods are closed. Late values of a closed day are a correction for ``correction_days`` days."""

    intraday: bool = False
    isp_grace_s: int = Field(default=60, ge=0, le=900)
    day_grace_s: int = Field(default=900, ge=0, le=86_400)
    correction_days: int = Field(default=7, ge=1, le=366)
    every_s: float = Field(default=15, gt=0, le=900)


class PublishingConfig(_Model):
    """How often the chain is looked at, and after how long a waiting transaction is sent at a higher fee."""

    every_s: float = Field(default=5, gt=0, le=900)
    bump_after_s: float = Field(default=60, gt=0, le=86_400)


class LiveConfig(_Model):
    """Near-real-time channel."""

    save_every_s: float = Field(default=5, gt=0, le=600)
    retention_s: int = Field(default=86_400, ge=600)


class LimitConfig(_Model):
    """How many values a meter or device may send in a minute; registers that are polled are not limited."""

    values_per_minute: int = Field(default=60, ge=1)
    burst: int = Field(default=1_000, ge=1)


class OperationConfig(_Model):
    """Where health, metrics and data are served, and how much is logged."""

    host: str = "127.0.0.1"
    port: int = Field(default=8787, ge=0, le=65_535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


CHAIN_ID_FIELD = "chain.chain_id of the site file"
"""What is wrong when the deployment file is of another chain."""


class SiteConfig(_Model):
    """A whole site."""

    name: str = Field(min_length=1, max_length=64)
    time_zone: str
    store: str
    chain: ChainConfig
    operator: OperatorConfig
    gateway: KeyFile | None = None
    meter: tuple[MeterConfig, ...] = Field(min_length=1)
    device: tuple[DeviceConfig, ...] = ()
    batching: BatchingConfig = BatchingConfig()
    publishing: PublishingConfig = PublishingConfig()
    live: LiveConfig = LiveConfig()
    limits: LimitConfig = LimitConfig()
    operation: OperationConfig = OperationConfig()

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"no time zone {value!r}, for example Europe/Rome")
        return value

    @field_validator("store")
    @classmethod
    def _anchor_store(cls, value: str, info: ValidationInfo) -> str:
        file = file_of(value)
        return value if file is None else str(_anchored(file, info))

    @model_validator(mode="after")
    def _fits_together(self) -> "SiteConfig":
        ids = [meter.meter_id for meter in self.meter]
        for number, meter_id in enumerate(ids, start=1):
            if (first := ids.index(meter_id) + 1) < number:
                raise ValueError(f"meter.{number}.meter_id: {meter_id.hex()} is listed twice, first as meter.{first}")
        polled: dict[bytes, int] = {}
        for number, device in enumerate(self.device, start=1):
            for meter_id in meters_of(device) - set(ids):
                raise ValueError(f"device.{number}: names meter {meter_id.hex()}, which no [[meter]] describes")
            if not isinstance(device, PolledDevice) or device.meter_id is None:
                continue
            if (first := polled.setdefault(device.meter_id, number)) < number:
                raise ValueError(f"device.{number}.meter_id: the meter is read by device.{first} already")
        for number, meter in enumerate(self.meter, start=1):
            if meter.power_of is not None and (reader := polled.get(meter.meter_id)) is not None:
                raise ValueError(f"meter.{number}.power_of: registers of the meter are read by device.{reader}")
            if meter.power_of is not None and self.live.retention_s < LEAST_POWER_RETENTION_S:
                raise ValueError(
                    f"meter.{number}.power_of: needs live.retention_s of {LEAST_POWER_RETENTION_S} or more"
                )
            if self.gateway is None and meter.signer is None and meter.key is None:
                raise ValueError(f"meter.{number}: no [gateway] signs for it, and it has no key or signer of its own")
        return self

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


@cache
def _field_names() -> frozenset[str]:
    """Names of all fields that a site file can have."""
    schema = SiteConfig.model_json_schema()
    parts = (schema, *schema["$defs"].values())
    return frozenset(name for part in parts for name in part.get("properties", ()))


def meters_of(device: BaseModel) -> set[bytes]:
    """Meters that a device names, however deep in its entry."""
    found: set[bytes] = set()
    for name, value in device:
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, BaseModel):
                found |= meters_of(entry)
            elif name == "meter_id" and entry is not None:
                found.add(entry)
            elif name == "meters":
                found |= set(entry.values())
    return found


def load_site(path: Path) -> SiteConfig:
    """Read a site file.

    Raises
    ------
    ConfigError
        One line for every fault: file, line, field, what is wrong.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigError([f"{path}: {reason}; check the path"]) from exc
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(exc))
        where = f"{path}:{found[1]}" if found else f"{path}"
        raise ConfigError([f"{where}: not TOML: {str(exc).split(' (at')[0]}"]) from exc
    try:
        return SiteConfig.model_validate(data, context={"folder": path.parent})
    except ValidationError as exc:
        raise ConfigError([_problem(path, text, error) for error in exc.errors(include_url=False)]) from exc


_SECRET = 'a secret never stands in this file; write { file = "..." }, { env = "..." } or { credential = "..." }'
_NAMED = re.compile(r"((?:meter|device)\.\d+(?:\.\w+)*): ")
"""Entry that a validator of the whole file names, with the numbers that people count."""


def _problem(path: Path, text: str, error: Any) -> str:
    location = [part for part in error["loc"] if not (isinstance(part, str) and part in KINDS)]
    words = error["msg"].removeprefix("Value error, ")
    if not location and (named := _NAMED.match(words)):
        location = [int(part) - 1 if part.isdigit() else part for part in named[1].split(".")]
        words = words.removeprefix(named[0])
    field = ".".join(str(part + 1) if isinstance(part, int) else part for part in location) or "file"
    words = _in_words(error, location) or f"{words[0].lower()}{words[1:]}"
    line = line_of(text, location)
    where = f"{path}:{line}" if line else f"{path}"
    return f"{where}: {field}: {words}"


def _in_words(error: Any, location: list[str | int]) -> str | None:
    """What is wrong and what to do, where the words of the library do not say it."""
    kind, last = error["type"], str(location[-1]) if location else ""
    if kind == "missing":
        table = {"meter": "[[meter]]", "chain": "[chain]", "operator": "[operator.key]"}.get(last, "")
        return (
            f"field required (add {table})" if table and len(location) == 1 else "field required (this field is needed)"
        )
    if kind == "extra_forbidden":
        names = SiteConfig.model_fields if len(location) == 1 else _field_names() - {last}
        near = get_close_matches(last, names, n=1)
        return f"no such field (did you mean {near[0]}?)" if near else "no such field (check its spelling)"
    if kind == "union_tag_not_found":
        return f"the kind of the device is missing (one of {', '.join(KINDS)})"
    if kind == "union_tag_invalid":
        given = error["ctx"]["tag"]
        near = get_close_matches(given, KINDS, n=1)
        return (
            f"no kind of device {given!r} ("
            + (f"did you mean {near[0]}?" if near else f"one of {', '.join(KINDS)}")
            + ")"
        )
    if kind in ("model_type", "model_attributes_type") and last in ("password", "token", "secret"):
        return _SECRET
    return None


def line_of(text: str, location: list[str | int]) -> int | None:
    """Line of a field of a TOML text, from 1: of the field itself, or of the table that it belongs to."""
    table: list[str | int] = []
    counts: dict[str, int] = {}
    best, best_depth = None, 0
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.\"-]+)\s*\]", line):
            names = [part.strip('"') for part in header[2].split(".")]
            if header[1] == "[[":
                counts[header[2]] = counts.get(header[2], -1) + 1
            table = []
            for depth, name in enumerate(names):
                table.append(name)
                dotted = ".".join(names[: depth + 1])
                if dotted in counts:
                    table.append(counts[dotted])
            here = table
        elif key := re.match(r"\s*([\w.\"-]+)\s*=", line):
            here = [*table, *(part.strip('"') for part in key[1].split("."))]
        else:
            continue
        if len(here) > best_depth and here == location[: len(here)]:
            best, best_depth = number, len(here)
        elif best is None and location and here[: len(location)] == location:
            best = number  # a table or field below it
    return best
