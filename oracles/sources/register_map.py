"""Register maps as data: where a type of device keeps what, and how to read it out of Modbus words.

A map is one TOML file (``maps/``). Energy registers become certified readings, telemetry becomes observations:

.. code-block:: toml

    table = "holding"       # or "input"; for all entries that do not say otherwise
    word_order = "big"      # or "little": least significant word first; likewise
    max_gap = 16            # unused words that may be read between two values to save a request

    [import_wh]             # OBIS 1.8.0; [export_wh] is 2.8.0, missing when the meter does not count it
    address = 0x5000
    type = "uint64"         # int16, uint16, int32, uint32, int64, uint64, float32, float64, string
    scale = 0.01            # of one step, in the unit; exact, also as "-1e-3"
    unit = "kWh"
    wraps_at = 1000000000   # steps; without it the range of the type

    [[telemetry]]
    quantity = "active_power_w"
    phase = 0
    address = 0x5B14
    type = "int32"
    scale = 0.01
    scale_register = 0x5B16 # address of an int16 n: the value is multiplied by 10^n (SunSpec scale factor)
    absent = -2147483648    # raw value that means "not available"
"""

import math
import struct
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from offchain.domain.errors import PermanentError, TransientError
from oracles.sources.port import DeviceStatus, Quantity
from oracles.sources.units import WH, unit_factor

MAX_WORDS_PER_READ = 125
"""Limit of the protocol for one request."""

MAX_COUNTER_WH = 2**63 - 1
"""Largest counter that the store holds; no meter gets there."""

MAX_EXPONENT = 10
"""Largest SunSpec scale factor, and smallest with a minus sign."""

_FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
_STRUCTS = {name: struct.Struct(f">{code}") for name, code in _FORMATS.items()}
_ABSENT_EXPONENT = -0x8000

Table = Literal["input", "holding"]


def _exact(value: object) -> object:
    """Decimal numbers of a file as they were written, not as the nearest float."""
    return Decimal(repr(value)) if isinstance(value, float) else value


Scale = Annotated[Decimal, BeforeValidator(_exact)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Register(_Model):
    """One value: table, address of its first word, type, and length in words when it is text."""

    table: Table = "input"
    address: int = Field(ge=0, le=65_535)
    type: Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "string"]
    words: int | None = Field(default=None, ge=1, le=MAX_WORDS_PER_READ)
    word_order: Literal["big", "little"] = "big"
    absent: int | None = None

    @model_validator(mode="after")
    def _length_fits_type(self) -> "Register":
        if (self.type == "string") != (self.words is not None):
            raise ValueError("words must be given for text and only for text")
        return self

    @cached_property
    def length(self) -> int:
        """Number of 16-bit words."""
        return self.words or _STRUCTS[self.type].size // 2

    @cached_property
    def end(self) -> int:
        """First address after the value."""
        return self.address + self.length

    @property
    def is_integer(self) -> bool:
        return self.type.startswith(("int", "uint"))

    def raw(self, words: Sequence[int], first_address: int = 0) -> int | float | str | None:
        """Value out of ``words``, the first of which is at ``first_address``; ``None`` when there is none."""
        taken = words[self.address - first_address : self.end - first_address]
        if self.word_order == "little":
            taken = taken[::-1]
        data = struct.pack(f">{len(taken)}H", *taken)
        if self.type == "string":
            return data.split(b"\0", 1)[0].decode("ascii", "replace").strip()
        (value,) = _STRUCTS[self.type].unpack(data)
        return None if value == self.absent or not math.isfinite(value) else value

    def encode(self, value: int | float | str) -> list[int]:
        """Words of a raw value: what a device puts into its registers."""
        if self.type == "string":
            data = str(value).encode("ascii").ljust(2 * self.length, b"\0")
        else:
            data = _STRUCTS[self.type].pack(value)
        words = list(struct.unpack(f">{self.length}H", data))
        return words[::-1] if self.word_order == "little" else words


class ScaledRegister(Register):
    """A number with the value of one step, and the register of a power of ten on top of it if the device has one."""

    scale: Scale = Decimal(1)
    scale_register: int | None = Field(default=None, ge=0, le=65_535)

    @model_validator(mode="after")
    def _is_number(self) -> "ScaledRegister":
        if self.type == "string":
            raise ValueError("must be a number")
        if not self.scale.is_finite() or self.scale == 0:
            raise ValueError("scale must not be zero")
        return self

    @cached_property
    def exponent_register(self) -> Register | None:
        """Where the power of ten is."""
        if self.scale_register is None:
            return None
        return Register(table=self.table, address=self.scale_register, type="int16", absent=_ABSENT_EXPONENT)


class EnergyRegister(ScaledRegister):
    """A counter of active energy."""

    unit: Literal["Wh", "kWh", "MWh"] = "Wh"
    wraps_at: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _counts_up(self) -> "EnergyRegister":
        if self.scale < 0:
            raise ValueError("a counter cannot have a negative scale")
        if self.wraps_at is not None and not self.is_integer:
            raise ValueError("wraps_at is for integers: a floating-point counter does not wrap")
        return self

    def energy_wh(self, raw: int | float, exponent: int = 0) -> int:
        """Energy of a raw value [Wh], rounded down."""
        numerator, denominator = _step_wh(self.scale, self.unit, exponent)
        if isinstance(raw, int):
            return raw * numerator // denominator
        return math.floor(Fraction(raw) * numerator / denominator)

    def modulus_wh(self, exponent: int = 0) -> int | None:
        """Where the counter starts again from zero [Wh]; ``None`` for floating point, which never does."""
        if not self.is_integer:
            return None
        numerator, denominator = _step_wh(self.scale, self.unit, exponent)
        bits = 16 * self.length - self.type.startswith("int")
        return (self.wraps_at or 1 << bits) * numerator // denominator

    def raw_of(self, energy_wh: int, exponent: int = 0) -> int | float:
        """Raw value that a device shows for energy [Wh]."""
        numerator, denominator = _step_wh(self.scale, self.unit, exponent)
        return energy_wh * denominator // numerator if self.is_integer else energy_wh * denominator / numerator


@lru_cache(maxsize=1_024)
def _step_wh(scale: Decimal, unit: str, exponent: int) -> tuple[int, int]:
    """Energy of one step [Wh] as a fraction; remembered, because every read of a counter asks several times."""
    return (Fraction(scale) * WH[unit] * Fraction(10) ** exponent).as_integer_ratio()


class TelemetryRegister(ScaledRegister):
    """A value that becomes an observation; ``codes`` translate the words of a status into :class:`DeviceStatus`."""

    quantity: Quantity
    phase: int = Field(default=0, ge=0, le=3)
    unit: str | None = None
    codes: dict[int, str] | None = None

    @model_validator(mode="after")
    def _unit_and_codes_fit(self) -> "TelemetryRegister":
        unit_factor(self.quantity, self.unit)
        if (self.codes is not None) != (self.quantity is Quantity.STATUS):
            raise ValueError("codes are needed for status and only for status")
        if unknown := [name for name in (self.codes or {}).values() if name.upper() not in DeviceStatus.__members__]:
            raise ValueError(f"status {unknown[0]!r} is not one of {', '.join(s.name.lower() for s in DeviceStatus)}")
        return self

    @cached_property
    def factor(self) -> Fraction:
        """Value of one step in the unit of the quantity."""
        return Fraction(self.scale) * unit_factor(self.quantity, self.unit)


class ExpectedRegister(Register):
    """A register that says which device this is: another value means that the map does not fit."""

    value: int


class SetpointRegisters(_Model):
    """Holding registers that take a schedule: first ISP, number of ISPs, one int32 [W] per ISP."""

    address: int = Field(ge=0, le=65_535)
    max_isps: int = Field(ge=1, le=60)

    @staticmethod
    def encode(first_isp: int, powers_w: Sequence[int]) -> list[int]:
        """Words of a schedule; each power is the change of net consumption, positive means more."""
        words = [first_isp >> 16, first_isp & 0xFFFF, len(powers_w)]
        for power_w in powers_w:
            words += [power_w >> 16 & 0xFFFF, power_w & 0xFFFF]
        return words

    @staticmethod
    def decode(words: Sequence[int]) -> tuple[int, list[int]]:
        """First ISP and powers [W] of a schedule; ``ValueError`` when its length is wrong."""
        if len(words) < 3 or len(words) != 3 + 2 * words[2]:
            raise ValueError(f"schedule of {len(words)} words")
        pairs = zip(words[3::2], words[4::2], strict=True)
        powers_w = [int.from_bytes((h << 16 | low).to_bytes(4), signed=True) for h, low in pairs]
        return words[0] << 16 | words[1], powers_w


class Block(NamedTuple):
    """One request: ``count`` words of ``table`` from ``address`` on."""

    table: Table
    address: int
    count: int


def plan_blocks(registers: Iterable[Register], max_gap: int) -> list[Block]:
    """Few requests that read all registers.

    No request is longer than the protocol allows, none reads more than ``max_gap`` unused words in a row, and
    no value is spread over two: its words come from the same moment.
    """
    blocks: list[Block] = []
    for register in sorted(registers, key=lambda r: (r.table, r.address, r.end)):
        if blocks:
            table, first, count = blocks[-1]
            total = max(first + count, register.end) - first
            if table == register.table and register.address <= first + count + max_gap and total <= MAX_WORDS_PER_READ:
                blocks[-1] = Block(table, first, total)
                continue
        blocks.append(Block(register.table, register.address, register.length))
    return blocks


class Readout:
    """Words that were read, by block, and the values in them; ``where`` names the device in errors."""

    def __init__(self, blocks: Sequence[Block], words: Sequence[Sequence[int]], where: str):
        self._parts = list(zip(blocks, words, strict=True))
        self._where = where

    def raw(self, register: Register) -> int | float | str | None:
        """Raw value of a register that one of the blocks covers."""
        for block, words in self._parts:
            if (
                block.table == register.table
                and block.address <= register.address
                and (register.end <= block.address + block.count)
            ):
                return register.raw(words, block.address)
        raise KeyError(register)

    def exponent(self, register: ScaledRegister) -> int | None:
        """Power of ten of a value, 0 when it has none of its own, ``None`` when the device says that there is none."""
        if (exponent_register := register.exponent_register) is None:
            return 0
        exponent = self.raw(exponent_register)
        if exponent is not None and abs(exponent) > MAX_EXPONENT:
            raise TransientError(
                f"{self._where}: scale factor {exponent} at {exponent_register.address}",
                hint=f"-{MAX_EXPONENT}..{MAX_EXPONENT} is possible; check the register map",
            )
        return exponent

    def energy(self, register: EnergyRegister, name: str) -> tuple[int, int | None]:
        """Counter and modulus [Wh]; :class:`TransientError` when the device has no value now."""
        raw, exponent = self.raw(register), self.exponent(register)
        if raw is None or exponent is None or raw < 0:
            raise TransientError(
                f"{self._where}: {name} at {register.address} has no value", hint="is the meter starting up?"
            )
        energy_wh = register.energy_wh(raw, exponent)
        if energy_wh > MAX_COUNTER_WH:
            raise TransientError(
                f"{self._where}: {name} at {register.address} is {energy_wh:.2e} Wh", hint="check the register map"
            )
        return energy_wh, register.modulus_wh(exponent)

    def telemetry(self, register: TelemetryRegister) -> float | None:
        """Value in the unit of the quantity; ``None`` when the device has none now."""
        raw, exponent = self.raw(register), self.exponent(register)
        if raw is None or exponent is None:
            return None
        if register.codes is not None:
            name = register.codes.get(int(raw))
            return None if name is None else float(DeviceStatus[name.upper()])
        # One division of integers: 2315 at a scale of 0.1 is 231.5, not the product with the nearest float of 0.1.
        numerator, denominator = register.factor.as_integer_ratio()
        numerator, denominator = numerator * 10 ** max(exponent, 0), denominator * 10 ** max(-exponent, 0)
        value = raw * numerator / denominator
        return value if math.isfinite(value) else None

    def check(self, expected: Iterable[ExpectedRegister]) -> None:
        """:class:`PermanentError` when another device answers than the map is for."""
        for register in expected:
            if (found := self.raw(register)) != register.value:
                raise PermanentError(
                    f"{self._where}: {found} instead of {register.value} at {register.address}",
                    hint="another device or firmware answers; check the register map",
                )


_ENTRIES = ("serial", "import_wh", "export_wh", "meter_clock", "status")


class RegisterMap(_Model):
    """Where a type of device keeps its values; each entry only where it has it."""

    table: Table
    word_order: Literal["big", "little"] = "big"
    max_gap: int = Field(default=16, ge=0, le=MAX_WORDS_PER_READ)
    serial: Register | None = None
    import_wh: EnergyRegister | None = None
    export_wh: EnergyRegister | None = None
    meter_clock: Register | None = None
    status: Register | None = None
    fault_mask: int = Field(default=0, ge=0, le=0xFFFFFFFF)
    expect: tuple[ExpectedRegister, ...] = ()
    telemetry: tuple[TelemetryRegister, ...] = ()
    setpoint: SetpointRegisters | None = None

    @model_validator(mode="before")
    @classmethod
    def _entries_inherit(cls, data: Any) -> Any:
        """Table and word order of the map hold for all entries that do not say otherwise."""
        if not isinstance(data, dict):
            return data
        common = {key: data[key] for key in ("table", "word_order") if key in data}

        def inherited(entry: Any) -> Any:
            return {**common, **entry} if isinstance(entry, dict) else entry

        data = dict(data)
        for name in _ENTRIES:
            if name in data:
                data[name] = inherited(data[name])
        for name in ("expect", "telemetry"):
            if isinstance(data.get(name), list | tuple):
                data[name] = [inherited(entry) for entry in data[name]]
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "RegisterMap":
        if not self.counters and not self.telemetry:
            raise ValueError("neither import_wh nor export_wh nor telemetry")
        if self.import_wh is not None and self.export_wh is not None:
            if self.import_wh.modulus_wh() != self.export_wh.modulus_wh():
                raise ValueError("import_wh and export_wh must wrap at the same energy")
            if self.import_wh.scale_register != self.export_wh.scale_register:
                raise ValueError("import_wh and export_wh must have the same scale_register")
        for name in ("meter_clock", "status"):
            if (register := getattr(self, name)) is not None and not register.is_integer:
                raise ValueError(f"{name} must be an integer")
        return self

    @property
    def counters(self) -> list[EnergyRegister]:
        """The energy registers that there are."""
        return [register for register in (self.import_wh, self.export_wh) if register is not None]

    @property
    def modulus_wh(self) -> int | None:
        """Where the counters wrap while the power of ten is zero [Wh]."""
        return self.counters[0].modulus_wh()

    def energy_blocks(self) -> list[Block]:
        """Requests that read counters, clock and status together."""
        others = [register for register in (self.meter_clock, self.status) if register is not None]
        return self._blocks([*self.counters, *others])

    def telemetry_blocks(self) -> list[Block]:
        """Requests that read all telemetry together."""
        return self._blocks(self.telemetry)

    def _blocks(self, registers: Iterable[Register]) -> list[Block]:
        wanted = list(registers)
        exponents = (r.exponent_register for r in wanted if isinstance(r, ScaledRegister))
        return plan_blocks([*wanted, *self.expect, *(e for e in exponents if e is not None)], self.max_gap)


def register_map_of(data: Mapping[str, Any], name: str) -> RegisterMap:
    """Check what a file says; :class:`PermanentError` names it and the entry that is wrong."""
    try:
        return RegisterMap.model_validate(data)
    except ValidationError as exc:
        first = exc.errors()[0]
        entry = ".".join(str(part) for part in first["loc"]) or "map"
        raise PermanentError(f"register map {name}: {entry}: {first['msg']}", hint="correct this entry") from exc


def load_register_map(source: Path | str) -> RegisterMap:
    """Read a register map: a TOML file, or one that comes with this package by its name (``"reference_meter"``)."""
    path = SHIPPED / f"{source}.toml" if isinstance(source, str) and not source.endswith(".toml") else Path(source)
    try:
        return register_map_of(tomllib.loads(path.read_text("utf-8"), parse_float=Decimal), str(path))
    except OSError as exc:
        shipped = ", ".join(sorted(entry.stem for entry in SHIPPED.glob("*.toml")))
        raise PermanentError(
            f"register map {path}: {exc.strerror}", hint=f"give the path of a .toml file, or one of {shipped}"
        ) from exc
    except tomllib.TOMLDecodeError as exc:
        raise PermanentError(f"register map {path}: {exc}", hint="the file must be TOML") from exc


SHIPPED = Path(str(files("oracles.sources"))) / "maps"
REFERENCE_MAP = load_register_map("reference_meter")
