"""Meters behind Modbus TCP: one endpoint (often a gateway with many units), one source per meter."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Literal, Self

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ConnectionException, ModbusIOException, ParameterException
from pymodbus.pdu import ModbusPDU

from offchain.domain.errors import AdapterError, PermanentError, TransientError
from oracles.clock import Clock, unix
from oracles.sources.port import MeterReading
from oracles.sources.register_map import RegisterMap

# The library logs every attempt; whoever polls logs when a meter breaks and when it recovers.
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


class ModbusEndpoint:
    """A Modbus TCP server and the few connections that are shared by everything behind it.

    Parameters
    ----------
    host, port : str, int
        Address of the server.
    connections : int
        Connections at most, and so requests at the same time; many gateways allow no more than four.
    timeout_s : float
        How long a device may take to answer [s].
    """

    def __init__(self, host: str, port: int, *, connections: int = 4, timeout_s: float = 1.0):
        self.host = host
        self.port = port
        self.connections = connections
        self.timeout_s = timeout_s
        self._free: asyncio.LifoQueue[AsyncModbusTcpClient] = asyncio.LifoQueue()
        self._clients: list[AsyncModbusTcpClient] = []

    async def __aenter__(self) -> Self:
        for _ in range(self.connections):
            client = AsyncModbusTcpClient(
                self.host, port=self.port, timeout=self.timeout_s, retries=0, reconnect_delay=0
            )
            self._clients.append(client)
            self._free.put_nowait(client)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()

    async def read(self, unit_id: int, table: Literal["input", "holding"], address: int, count: int) -> list[int]:
        """Read ``count`` words of one unit."""
        client = await self._free.get()
        try:
            await self._connect(client)
            function = client.read_input_registers if table == "input" else client.read_holding_registers
            response = self._checked(await function(address, count=count, device_id=unit_id), unit_id)
        except tuple(kind for kind in _TRANSLATION if isinstance(kind, type)) as exc:
            raise self._translated(exc, unit_id) from exc
        finally:
            self._free.put_nowait(client)
        if len(response.registers) != count:
            raise TransientError(f"{self.where(unit_id)}: {len(response.registers)} words instead of {count}")
        return response.registers

    async def write(self, unit_id: int, address: int, words: Sequence[int]) -> None:
        """Write holding registers of one unit in one request."""
        client = await self._free.get()
        try:
            await self._connect(client)
            self._checked(await client.write_registers(address, list(words), device_id=unit_id), unit_id)
        except tuple(kind for kind in _TRANSLATION if isinstance(kind, type)) as exc:
            raise self._translated(exc, unit_id) from exc
        finally:
            self._free.put_nowait(client)

    async def _connect(self, client: AsyncModbusTcpClient) -> None:
        if not client.connected and not await client.connect():
            raise ConnectionException(f"{self.host}:{self.port}")

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
        self.endpoint = endpoint
        self.unit_id = unit_id
        self.meter_id = meter_id
        self.register_map = register_map
        self.clock = clock
        self.serial = serial

    async def probe(self) -> str:
        register = self.register_map.serial
        words = await self.endpoint.read(self.unit_id, self.register_map.table, register.address, register.length)
        found = register.text(words, register.address)
        if self.serial is not None and found != self.serial:
            raise PermanentError(
                f"{self.endpoint.where(self.unit_id)}: serial number {found!r} instead of {self.serial!r}",
                hint="another meter was installed; register it, or correct the unit id",
            )
        await self.read()
        return found

    async def read(self) -> MeterReading:
        map_ = self.register_map
        first, count = map_.block
        words = await self.endpoint.read(self.unit_id, map_.table, first, count)
        return MeterReading(
            meter_id=self.meter_id,
            read_at=unix(self.clock),
            meter_clock=None if map_.meter_clock is None else map_.meter_clock.integer(words, first),
            import_register_wh=map_.import_wh.integer(words, first),
            export_register_wh=map_.export_wh.integer(words, first),
            faulty=map_.status is not None and bool(map_.status.integer(words, first) & map_.fault_mask),
            modulus_wh=1 << map_.register_bits,
        )
