"""Modbus TCP and Modbus RTU over TCP: one endpoint (often a gateway with many units), one source per device."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ConnectionException, ModbusIOException, ParameterException
from pymodbus.pdu import ModbusPDU

from offchain.domain.errors import AdapterError, PermanentError, TransientError
from oracles.clock import Clock, unix
from oracles.sources.config import DataName, MeterId
from oracles.sources.port import MeterReading, Observation
from oracles.sources.register_map import Block, Readout, RegisterMap, Table, load_register_map

log = logging.getLogger(__name__)

# The library logs every attempt; whoever polls logs when a device breaks and when it recovers.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

_MAP_HINT = "check unit id and register map"

# What went wrong, as exception of the library or code from the device -> error class, words, hint.
_TRANSLATION: dict[type[Exception] | int, tuple[type[AdapterError], str, str]] = {
    ConnectionException: (TransientError, "no connection", "is the gateway reachable?"),
    ModbusIOException: (TransientError, "no answer", "is the device powered and its unit id right?"),
    OSError: (TransientError, "connection broken", "is the gateway reachable?"),
    ParameterException: (PermanentError, "impossible request", _MAP_HINT),
    ExcCodes.ILLEGAL_FUNCTION: (PermanentError, "function not supported", _MAP_HINT),
    ExcCodes.ILLEGAL_ADDRESS: (PermanentError, "no such register", _MAP_HINT),
    ExcCodes.ILLEGAL_VALUE: (PermanentError, "value refused", "check what the device accepts"),
    ExcCodes.DEVICE_FAILURE: (TransientError, "device failure", "look at the device"),
    ExcCodes.ACKNOWLEDGE: (TransientError, "still working", ""),
    ExcCodes.DEVICE_BUSY: (TransientError, "busy", ""),
    ExcCodes.MEMORY_PARITY_ERROR: (TransientError, "memory error", "look at the device"),
    ExcCodes.GATEWAY_PATH_UNAVIABLE: (TransientError, "gateway has no path to it", "check the gateway"),
    ExcCodes.GATEWAY_NO_RESPONSE: (TransientError, "device behind the gateway does not answer", ""),
}


Framing = Literal["tcp", "rtu"]
FRAMERS = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU}


class ModbusEndpoint:
    """A Modbus server and the few connections that are shared by everything behind it.

    Parameters
    ----------
    host, port : str, int
        Address of the server.
    connections : int
        Connections at most, and so requests at the same time; many gateways allow no more than four, a serial
        server that passes RTU frames on allows one.
    timeout_s : float
        How long a device may take to answer [s].
    framing : {"tcp", "rtu"}
        Modbus TCP, or the frames of a serial line (RTU) inside TCP.
    """

    def __init__(self, host: str, port: int, *, connections: int = 4, timeout_s: float = 1.0, framing: Framing = "tcp"):
        self.host = host
        self.port = port
        self.connections = connections
        self.timeout_s = timeout_s
        self.framing = framing
        self._free: asyncio.LifoQueue[AsyncModbusTcpClient] = asyncio.LifoQueue()
        self._clients: list[AsyncModbusTcpClient] = []

    async def __aenter__(self) -> Self:
        for _ in range(self.connections):
            client = AsyncModbusTcpClient(
                self.host,
                port=self.port,
                framer=FRAMERS[self.framing],
                timeout=self.timeout_s,
                retries=0,
                reconnect_delay=0,
            )
            self._clients.append(client)
            self._free.put_nowait(client)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()

    async def read(self, unit_id: int, table: Table, address: int, count: int) -> list[int]:
        """Read ``count`` words of one unit."""
        client = await self._free.get()
        try:
            function = client.read_input_registers if table == "input" else client.read_holding_registers
            response = await self._request(client, unit_id, function, address, count=count)
        finally:
            self._free.put_nowait(client)
        if len(response.registers) != count:
            raise TransientError(f"{self.where(unit_id)}: {len(response.registers)} words instead of {count}")
        return response.registers

    async def read_blocks(self, unit_id: int, blocks: Sequence[Block]) -> Readout:
        """Read several blocks of one unit, one after the other."""
        words = [await self.read(unit_id, *block) for block in blocks]
        return Readout(blocks, words, self.where(unit_id))

    async def write(self, unit_id: int, address: int, words: Sequence[int]) -> None:
        """Write holding registers of one unit in one request."""
        client = await self._free.get()
        try:
            await self._request(client, unit_id, client.write_registers, address, list(words))
        finally:
            self._free.put_nowait(client)

    async def _request(self, client: AsyncModbusTcpClient, unit_id: int, function, *args, **kwargs) -> ModbusPDU:
        try:
            if not client.connected and not await client.connect():
                raise ConnectionException(f"{self.host}:{self.port}")
            return self._checked(await function(*args, device_id=unit_id, **kwargs), unit_id)
        except tuple(kind for kind in _TRANSLATION if isinstance(kind, type)) as exc:
            self._forget_answer(client)
            raise self._translated(exc, unit_id) from exc
        except asyncio.CancelledError:
            self._forget_answer(client)
            raise

    def _forget_answer(self, client: AsyncModbusTcpClient) -> None:
        """RTU frames carry no number: an answer that comes late would pass for the answer to the next request."""
        if self.framing == "rtu":
            client.close()

    def _checked(self, response: ModbusPDU, unit_id: int) -> ModbusPDU:
        if not response.isError():
            return response
        unknown = (PermanentError, f"exception code {response.exception_code}", _MAP_HINT)
        error, words, hint = _TRANSLATION.get(response.exception_code, unknown)
        raise error(f"{self.where(unit_id)}: {words}", hint=hint)

    def _translated(self, exc: Exception, unit_id: int) -> AdapterError:
        error, words, hint = next(
            entry for kind, entry in _TRANSLATION.items() if isinstance(kind, type) and isinstance(exc, kind)
        )
        return error(f"{self.where(unit_id)}: {words}", hint=hint)

    def where(self, unit_id: int) -> str:
        """A unit as errors name it."""
        return f"modbus {self.host}:{self.port} unit {unit_id}"


class ModbusMeterSource:
    """One meter as a unit of a Modbus endpoint (implements ``MeterSource``).

    Parameters
    ----------
    serial : str or None
        Serial number that :meth:`probe` must find; ``None`` accepts any.
    """

    def __init__(
        self,
        endpoint: ModbusEndpoint,
        unit_id: int,
        meter_id: bytes,
        register_map: RegisterMap,
        clock: Clock,
        *,
        serial: str | None = None,
    ):
        if not register_map.counters:
            raise PermanentError(
                f"{endpoint.where(unit_id)}: counts no energy", hint="add [import_wh] or [export_wh] to its map"
            )
        self.endpoint = endpoint
        self.unit_id = unit_id
        self.meter_id = meter_id
        self.register_map = register_map
        self.clock = clock
        self.serial = serial
        self._blocks = register_map.energy_blocks()

    async def probe(self) -> str:
        """Read everything once; the serial number, or nothing when the device has none to be read."""
        register = self.register_map.serial
        found = ""
        if register is not None:
            readout = await self.endpoint.read_blocks(
                self.unit_id, [Block(register.table, register.address, register.length)]
            )
            found = str(readout.raw(register))
        if self.serial is not None and found != self.serial:
            raise PermanentError(
                f"{self.endpoint.where(self.unit_id)}: serial number {found!r} instead of {self.serial!r}",
                hint="another meter was installed; register it, or correct the unit id",
            )
        await self.read()
        return found

    async def read(self) -> MeterReading:
        map_ = self.register_map
        readout = await self.endpoint.read_blocks(self.unit_id, self._blocks)
        read_at = unix(self.clock)
        readout.check(map_.expect)
        import_wh, import_modulus_wh = (0, None) if map_.import_wh is None else readout.energy(map_.import_wh, "import")
        export_wh, export_modulus_wh = (0, None) if map_.export_wh is None else readout.energy(map_.export_wh, "export")
        status = None if map_.status is None else readout.raw(map_.status)
        return MeterReading(
            meter_id=self.meter_id,
            read_at=read_at,
            meter_clock=None if map_.meter_clock is None else readout.raw(map_.meter_clock),
            import_register_wh=import_wh,
            export_register_wh=export_wh,
            faulty=status is not None and bool(status & map_.fault_mask),
            modulus_wh=import_modulus_wh if map_.import_wh is not None else export_modulus_wh,
        )


class ModbusTelemetrySource:
    """Telemetry of one device every few seconds (implements ``EventSource``).

    A device that does not answer is asked again at its next poll for as long as it takes; its loss and its return are
    logged once each.
    """

    def __init__(
        self,
        endpoint: ModbusEndpoint,
        unit_id: int,
        device_id: str,
        register_map: RegisterMap,
        clock: Clock,
        *,
        every_s: float,
    ):
        if not register_map.telemetry:
            raise PermanentError(
                f"{endpoint.where(unit_id)}: has no telemetry",
                hint="add [[telemetry]] to its map, or leave telemetry_every_s out",
            )
        self.endpoint = endpoint
        self.unit_id = unit_id
        self.device_id = device_id
        self.register_map = register_map
        self.clock = clock
        self.every_s = every_s
        self._blocks = register_map.telemetry_blocks()

    async def probe(self) -> str:
        """Read once and say how much there is."""
        return f"{len(await self.read())} of {len(self.register_map.telemetry)} values"

    async def read(self) -> list[Observation]:
        """What the device says now; values that it does not have are left out."""
        readout = await self.endpoint.read_blocks(self.unit_id, self._blocks)
        now = unix(self.clock)
        readout.check(self.register_map.expect)
        values = [(register, readout.telemetry(register)) for register in self.register_map.telemetry]
        return [Observation(self.device_id, r.quantity, r.phase, v, now, now) for r, v in values if v is not None]

    async def values(self) -> AsyncIterator[Observation]:
        async for observation in polled(self.read, self.clock, self.every_s, f"telemetry of {self.device_id}"):
            yield observation

    def taken(self, count: int) -> None:
        """Nothing to acknowledge: telemetry is not kept by the device."""


async def polled(read, clock: Clock, every_s: float, what: str) -> AsyncIterator[Observation]:
    """Call ``read`` at every whole multiple of ``every_s`` and yield what it returns, whatever fails in between.

    Polls that are overdue are left out, not made up for.
    """
    lost = False
    while True:
        try:
            observations = await read()
        except AdapterError as error:
            if not lost:
                log.warning("%s lost: %s", what, error)
            lost = True
        else:
            if lost:
                log.info("%s is back", what)
            lost = False
            for observation in observations:
                yield observation
        seconds = clock.now().timestamp()
        await clock.sleep_until(datetime.fromtimestamp((seconds // every_s + 1) * every_s, UTC))


class ModbusDeviceConfig(BaseModel, extra="forbid", frozen=True):
    """A device behind Modbus TCP (``framing = "tcp"``) or RTU over TCP (``"rtu"``).

    ``meter_id`` makes its counters certified readings at every ISP boundary; ``telemetry_every_s`` reads its
    telemetry under the name ``device_id`` between the boundaries. At least one of the two is needed.
    """

    host: str = Field(min_length=1)
    port: int = Field(default=502, ge=1, le=65_535)
    framing: Framing = "tcp"
    unit_id: int = Field(default=1, ge=0, le=255)
    map: DataName = "reference_meter"
    meter_id: MeterId | None = None
    serial: str | None = None
    device_id: str | None = Field(default=None, min_length=1)
    telemetry_every_s: float | None = Field(default=None, ge=0.5, le=900)
    timeout_s: float = Field(default=1.0, gt=0, le=60)
    connections: int | None = Field(default=None, ge=1, le=16)

    @field_validator("map")
    @classmethod
    def _is_a_map(cls, value: str) -> str:
        try:
            load_register_map(value)
        except PermanentError as exc:
            raise ValueError(str(exc)) from exc
        return value

    @model_validator(mode="after")
    def _has_a_purpose(self) -> "ModbusDeviceConfig":
        if self.meter_id is None and self.telemetry_every_s is None:
            raise ValueError(
                "give meter_id for readings, or device_id and telemetry_every_s for telemetry, or all three"
            )
        if (self.device_id is None) != (self.telemetry_every_s is None):
            raise ValueError("device_id and telemetry_every_s go together")
        return self

    @property
    def endpoint_key(self) -> tuple[str, int, Framing]:
        """Devices with the same key share one endpoint."""
        return self.host, self.port, self.framing

    def endpoint(self) -> ModbusEndpoint:
        """The endpoint, to be entered (``async with``) before its sources read."""
        return ModbusEndpoint(
            self.host,
            self.port,
            connections=self.connections or (1 if self.framing == "rtu" else 4),
            timeout_s=self.timeout_s,
            framing=self.framing,
        )

    def meter_source(self, endpoint: ModbusEndpoint, clock: Clock) -> ModbusMeterSource | None:
        """The meter, if it is one."""
        if self.meter_id is None:
            return None
        register_map = load_register_map(self.map)
        return ModbusMeterSource(endpoint, self.unit_id, self.meter_id, register_map, clock, serial=self.serial)

    def telemetry_source(self, endpoint: ModbusEndpoint, clock: Clock) -> ModbusTelemetrySource | None:
        """The telemetry, if it is read."""
        if self.telemetry_every_s is None:
            return None
        register_map = load_register_map(self.map)
        return ModbusTelemetrySource(
            endpoint, self.unit_id, self.device_id, register_map, clock, every_s=self.telemetry_every_s
        )
