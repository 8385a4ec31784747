"""A SunSpec device behind a real Modbus server: marker, chain of models, scale factors, values not implemented."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Self

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from offchain.domain.errors import DomainError
from oracles.simulators.modbus_meters import Fault
from oracles.sources.modbus import FRAMERS, Framing
from oracles.sources.register_map import Register
from oracles.sources.sunspec import BASE_ADDRESSES, DEFINITIONS, END_MODEL, MARKER, Point

_ABSENT_SCALE_FACTOR = 0x8000


@dataclass(slots=True)
class SimulatedModel:
    """One model of the chain.

    Attributes
    ----------
    values : dict
        Value by point name, in the unit of the specification (a generator's power is positive); what is missing is
        not implemented.
    scale_factors : dict
        Power of ten by the name of a point; 0 where it is missing. Points that share one must agree.
    length : int or None
        Words after the header; ``None`` as in the specification. Needed for models that are not known here.
    """

    model_id: int
    values: dict[str, float | str] = field(default_factory=dict)
    scale_factors: dict[str, int] = field(default_factory=dict)
    length: int | None = None

    def words(self) -> list[int]:
        """Header and points."""
        definition = DEFINITIONS.get(self.model_id)
        length = self.length if self.length is not None else definition.length if definition else None
        if length is None:
            raise DomainError(f"length of SunSpec model {self.model_id} is not known")
        words = [0] * length
        for point in () if definition is None else definition.points:
            if point.end <= length:
                self._put(words, point)
        return [self.model_id, length, *words]

    def _put(self, words: list[int], point: Point) -> None:
        register = Register.model_validate({k: v for k, v in point.register(0).items() if k != "scale_register"})
        value = self.values.get(point.name)
        exponent = self.scale_factors.get(point.name, 0)
        if value is None:
            raw = float("nan") if point.type == "float32" else (register.absent or 0)
            raw = "" if point.type == "string" else raw
        elif isinstance(value, str):
            raw = value
        else:
            raw = value if point.type == "float32" else round(Fraction(value) / Fraction(10) ** exponent)
        words[register.address : register.end] = register.encode(raw)
        if point.sf is not None:
            if value is not None:
                words[point.sf] = exponent & 0xFFFF
            elif words[point.sf] == 0:
                words[point.sf] = _ABSENT_SCALE_FACTOR


class SunSpecDeviceSimulator:
    """One SunSpec device on a free port; its models may be changed while it runs.

    Parameters
    ----------
    models : sequence of SimulatedModel
        The chain; a common model (1) first.
    """

    def __init__(
        self,
        models: Sequence[SimulatedModel],
        *,
        base: int = BASE_ADDRESSES[0],
        unit_id: int = 1,
        framing: Framing = "tcp",
        host: str = "127.0.0.1",
    ):
        self.models = list(models)
        self.base = base
        self.unit_id = unit_id
        self.host = host
        self.port = 0
        self.fault: Fault | None = None
        self.reads: list[tuple[int, int]] = []
        self._framing = framing
        self._server: ModbusTcpServer | None = None

    def words(self) -> list[int]:
        """The whole chain, from the marker to its end."""
        return [*MARKER, *(word for model in self.models for word in model.words()), END_MODEL, 0]

    async def __aenter__(self) -> Self:
        device = SimDevice(
            self.unit_id,
            [SimData(self.base, count=len(self.words()), values=0, datatype=DataType.REGISTERS)],
            action=self._serve,
        )
        self._server = ModbusTcpServer(
            device, framer=FRAMERS[self._framing], address=(self.host, 0), ignore_missing_devices=True
        )
        await self._server.serve_forever(background=True)
        self.port = self._server.transport.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._server.shutdown()

    async def _serve(
        self,
        _function: int,
        _start: int,
        address: int,
        count: int,
        registers: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if self.fault is Fault.SILENT:
            raise NoSuchIdException(str(self.unit_id))  # the server leaves such a request without an answer
        if self.fault is Fault.OFFLINE:
            return ExcCodes.GATEWAY_NO_RESPONSE
        if written is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        self.reads.append((address, count))
        current = self.words()
        # A change of the models may make the chain longer than what the server was started with: it is cut there.
        usable = min(len(current), len(registers))
        registers[:usable] = current[:usable]
        return None
