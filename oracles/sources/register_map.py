"""Register maps as data: where a type of meter keeps what, and how to read it out of Modbus words."""

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from offchain.domain.errors import PermanentError

MAX_WORDS_PER_READ = 125
"""Limit of the protocol for one request."""

_WORDS = {"uint16": 1, "uint32": 2, "uint64": 4}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Register(_Model):
    """One value: address of its first word, type, and length in words when it is text."""

    address: int = Field(ge=0, le=65_535)
    type: Literal["uint16", "uint32", "uint64", "string"]
    words: int | None = Field(default=None, ge=1, le=MAX_WORDS_PER_READ)

    @model_validator(mode="after")
    def _length_fits_type(self) -> "Register":
        if (self.type == "string") != (self.words is not None):
            raise ValueError("words must be given for text and only for text")
        return self

    @property
    def length(self) -> int:
        """Number of 16-bit words."""
        return self.words or _WORDS[self.type]

    @property
    def end(self) -> int:
        """First address after the value."""
        return self.address + self.length

    def integer(self, words: Sequence[int], first_address: int = 0) -> int:
        """Value out of ``words``, the first of which is at ``first_address``."""
        value = 0
        for word in words[self.address - first_address : self.end - first_address]:
            value = value << 16 | word
        return value

    def text(self, words: Sequence[int], first_address: int = 0) -> str:
        """Text out of ``words``, without the padding."""
        length = self.length
        return self.integer(words, first_address).to_bytes(2 * length).rstrip(b"\0 ").decode("ascii", "replace")

    def encode(self, value: int | str) -> list[int]:
        """Words of a value: what a device puts into its registers."""
        data = (
            value.encode("ascii").ljust(2 * self.length, b"\0")
            if isinstance(value, str)
            else value.to_bytes(2 * self.length)
        )
        return [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]


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


class RegisterMap(_Model):
    """Where a type of meter keeps its values; clock, status and setpoints only where it has them."""

    table: Literal["input", "holding"]
    serial: Register
    import_wh: Register
    export_wh: Register
    meter_clock: Register | None = None
    status: Register | None = None
    fault_mask: int = Field(default=0, ge=0, le=0xFFFF)
    setpoint: SetpointRegisters | None = None

    @model_validator(mode="after")
    def _readable_at_once(self) -> "RegisterMap":
        if self.import_wh.type != self.export_wh.type or self.import_wh.type not in ("uint32", "uint64"):
            raise ValueError("import_wh and export_wh must both be uint32 or both be uint64")
        if self.serial.type != "string":
            raise ValueError("serial must be text")
        if self.block[1] > MAX_WORDS_PER_READ:
            raise ValueError("registers are too far apart to be read in one request")
        return self

    @property
    def register_bits(self) -> int:
        return 16 * self.import_wh.length

    @property
    def block(self) -> tuple[int, int]:
        """Address and length of the one request that reads counters, clock and status together."""
        wanted = [r for r in (self.import_wh, self.export_wh, self.meter_clock, self.status) if r is not None]
        first = min(register.address for register in wanted)
        return first, max(register.end for register in wanted) - first


def load_register_map(path: Path) -> RegisterMap:
    """Read a register map from TOML; :class:`PermanentError` names the file and the entry that is wrong."""
    try:
        return RegisterMap.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as exc:
        raise PermanentError(f"register map {path}: {exc.strerror}", hint="check the path") from exc
    except tomllib.TOMLDecodeError as exc:
        raise PermanentError(f"register map {path}: {exc}", hint="the file must be TOML") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        entry = ".".join(str(part) for part in first["loc"]) or "map"
        raise PermanentError(f"register map {path}: {entry}: {first['msg']}", hint="correct this entry") from exc


REFERENCE_MAP = load_register_map(Path(str(files("oracles.sources"))) / "maps" / "reference_meter.toml")
