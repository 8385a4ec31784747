"""Meters and flexible devices behind real Modbus servers, TCP or RTU over TCP.

Counters start anywhere in their range, wrap as real ones do, and move by the energy of each ISP. A device
that holds a setpoint changes that energy by as much of it as its behaviour allows.
"""

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, Self

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from offchain.domain.errors import DomainError, PermanentError
from offchain.domain.isp import SECONDS_PER_ISP, isp_start
from offchain.domain.units import BPS, SECONDS_PER_HOUR
from oracles.clock import Clock, SimulatedClock, unix
from oracles.sources.modbus import FRAMERS, Framing
from oracles.sources.port import Quantity
from oracles.sources.register_map import REFERENCE_MAP, RegisterMap, TelemetryRegister

MAX_UNITS_PER_SERVER = 247
"""Unit ids that Modbus allows behind one server."""

_FULL = BPS


class Fault(Enum):
    """No answer; an answer with registers that stand still; a status word that says so."""

    SILENT = auto()
    OFFLINE = auto()
    STUCK = auto()
    FAULTY = auto()


class MeterAddress(NamedTuple):
    """Where a meter is found."""

    host: str
    port: int
    unit_id: int


@dataclass(slots=True)
class SimulatedMeter:
    """State of one device.

    Attributes
    ----------
    follow_bps : int
        Share of every setpoint that the device follows [1/10,000].
    setpoints_w : dict
        Accepted change of net consumption per ISP [W], positive means more.
    delay_s : float
        Time that every answer takes [s].
    telemetry : dict
        Value by quantity and phase, in the unit of the quantity; others of the map are absent.
    """

    meter_id: bytes
    serial: str
    import_register_wh: int
    export_register_wh: int
    follow_bps: int = _FULL
    fault: Fault | None = None
    clock_skew_s: int = 0
    delay_s: float = 0.0
    setpoints_w: dict[int, int] = field(default_factory=dict)
    telemetry: dict[tuple[Quantity, int], float] = field(default_factory=dict)
    last_isp: int | None = None
    frozen: list[int] | None = None


def seeded_follow_bps(
    meter_ids: Sequence[bytes], seed: int, *, partly: float = 0.05, not_at_all: float = 0.03
) -> dict[bytes, int]:
    """Behaviour of devices: most follow fully, seeded few follow 20 to 80% of a setpoint or nothing of it."""
    rng = random.Random(seed)
    shares = {}
    for meter_id in meter_ids:
        draw = rng.random()
        part = rng.randint(BPS // 5, BPS * 4 // 5)
        shares[meter_id] = 0 if draw < not_at_all else part if draw < not_at_all + partly else _FULL
    return shares


class ModbusMeterSimulator:
    """N meters behind as many servers on free ports as their unit ids need.

    Parameters
    ----------
    meter_ids : sequence of bytes
        The meters; serial numbers are given in this order.
    clock : Clock
        Time of the meters' own clocks.
    seed : int
        Start of the counters.
    follow_bps : mapping
        Behaviour by meter, see :func:`seeded_follow_bps`; who is not in it follows fully.
    """

    def __init__(
        self,
        meter_ids: Sequence[bytes],
        *,
        clock: Clock,
        seed: int = 0,
        follow_bps: Mapping[bytes, int] | None = None,
        register_map: RegisterMap = REFERENCE_MAP,
        host: str = "127.0.0.1",
        framing: Framing = "tcp",
        units_per_server: int = MAX_UNITS_PER_SERVER,
    ):
        if not 1 <= units_per_server <= MAX_UNITS_PER_SERVER:
            raise DomainError(f"{units_per_server} units behind one server, 1..{MAX_UNITS_PER_SERVER} are possible")
        self.clock = clock
        self.register_map = register_map
        self._host = host
        self._framer = FRAMERS[framing]
        self._units = units_per_server
        self._modulus_wh = register_map.modulus_wh
        self._servers: list[ModbusTcpServer] = []
        self._addresses: dict[bytes, MeterAddress] = {}
        self._profiles: dict[bytes, tuple[int, Sequence[tuple[int, int]]]] = {}
        rng = random.Random(seed)
        behaviour = follow_bps or {}
        self.meters = {
            meter_id: SimulatedMeter(
                meter_id,
                f"GP{number:014d}",
                self._wrapped(rng.randrange(1, 1 << 32)),
                self._wrapped(rng.randrange(1, 1 << 32)),
                behaviour.get(meter_id, _FULL),
            )
            for number, meter_id in enumerate(meter_ids, start=1)
        }

    async def __aenter__(self) -> Self:
        meters = list(self.meters.values())
        for start in range(0, len(meters), self._units):
            units = dict(enumerate(meters[start : start + self._units], start=1))
            server = ModbusTcpServer(
                [self._device(unit_id, meter) for unit_id, meter in units.items()],
                framer=self._framer,
                address=(self._host, 0),
                ignore_missing_devices=True,
            )
            await server.serve_forever(background=True)
            self._servers.append(server)
            port = server.transport.sockets[0].getsockname()[1]
            for unit_id, meter in units.items():
                self._addresses[meter.meter_id] = MeterAddress(self._host, port, unit_id)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for server in self._servers:
            await server.shutdown()
        self._servers.clear()

    def address_of(self, meter_id: bytes) -> MeterAddress:
        """Address of a meter while the simulator runs."""
        if meter_id not in self._addresses:
            raise PermanentError(f"meter {meter_id.hex()} is not served", hint="enter the simulator first")
        return self._addresses[meter_id]

    def set_interval(self, meter_id: bytes, isp: int, import_wh: int, export_wh: int) -> tuple[int, int]:
        """Let one ISP pass at a meter.

        Parameters
        ----------
        import_wh, export_wh : int
            Energy of the ISP without any setpoint [Wh], non-negative.

        Returns
        -------
        import_wh, export_wh : int
            Energy by which the counters moved, after what the device did of its setpoint.
        """
        meter = self.meters[meter_id]
        if import_wh < 0 or export_wh < 0:
            raise DomainError(f"negative energy at ISP {isp}: import {import_wh} Wh, export {export_wh} Wh")
        if meter.last_isp is not None and isp <= meter.last_isp:
            raise DomainError(f"ISP {isp} of meter {meter.serial} has passed, the last was {meter.last_isp}")
        meter.last_isp = isp
        import_wh, export_wh = _with_change(import_wh, export_wh, _response_wh(meter, isp))
        meter.import_register_wh = self._wrapped(meter.import_register_wh + import_wh)
        meter.export_register_wh = self._wrapped(meter.export_register_wh + export_wh)
        return import_wh, export_wh

    def load_profile(self, meter_id: bytes, first_isp: int, energy_wh: Sequence[tuple[int, int]]) -> None:
        """Give a meter its (import, export) per ISP [Wh] for :meth:`replay_until`."""
        self._profiles[meter_id] = first_isp, energy_wh

    def replay_until(self, end_isp: int) -> None:
        """Let every ISP of the loaded profiles before ``end_isp`` pass that has not yet."""
        for meter_id, (first_isp, energy_wh) in self._profiles.items():
            last = self.meters[meter_id].last_isp
            start = first_isp if last is None else max(first_isp, last + 1)
            for isp in range(start, min(end_isp, first_isp + len(energy_wh))):
                self.set_interval(meter_id, isp, *energy_wh[isp - first_isp])

    def advance_to(self, boundary: int) -> None:
        """Move a simulated clock to the start of ISP ``boundary``, with all that happens until then."""
        if not isinstance(self.clock, SimulatedClock):
            raise DomainError("only simulated time can be advanced")
        self.replay_until(boundary)
        self.clock.advance_to(isp_start(boundary))

    def set_fault(self, meter_id: bytes, fault: Fault | None) -> None:
        """Break a meter, or repair it with ``None``; its true counters move on behind the fault."""
        meter = self.meters[meter_id]
        meter.frozen = self._registers(meter) if fault is Fault.STUCK else None
        meter.fault = fault

    def reset(self, meter_id: bytes) -> None:
        """Set both counters of a meter to zero, as when its electronics are replaced."""
        meter = self.meters[meter_id]
        meter.import_register_wh = meter.export_register_wh = 0

    def _wrapped(self, energy_wh: int) -> int:
        return energy_wh if self._modulus_wh is None else energy_wh % self._modulus_wh

    def _registers(self, meter: SimulatedMeter) -> list[int]:
        if meter.frozen is not None:
            return meter.frozen
        map_ = self.register_map
        serial = meter.serial if map_.serial is None or not map_.serial.is_integer else int(meter.serial[2:])
        values = [
            (map_.serial, serial),
            (map_.import_wh, map_.import_wh and map_.import_wh.raw_of(meter.import_register_wh)),
            (map_.export_wh, map_.export_wh and map_.export_wh.raw_of(meter.export_register_wh)),
            (map_.meter_clock, unix(self.clock) + meter.clock_skew_s),
            (map_.status, map_.fault_mask if meter.fault is Fault.FAULTY else 0),
            *((register, _raw(register, meter.telemetry)) for register in map_.telemetry),
        ]
        words = [0] * max(register.end for register, _ in values if register is not None)
        for register, value in values:
            if register is not None:
                words[register.address : register.end] = register.encode(value)
        return words

    def _device(self, unit_id: int, meter: SimulatedMeter) -> SimDevice:
        setpoint = self.register_map.setpoint
        length = max(
            len(self._registers(meter)),
            0 if setpoint is None else setpoint.address + 3 + 2 * setpoint.max_isps,
        )

        async def serve(
            _function: int,
            _start: int,
            address: int,
            _count: int,
            registers: list[int],
            written: list[int] | list[bool] | None,
        ) -> ExcCodes | None:
            if meter.fault is Fault.SILENT:
                raise NoSuchIdException(meter.serial)  # the server leaves such a request without an answer
            if meter.fault is Fault.OFFLINE:
                return ExcCodes.GATEWAY_NO_RESPONSE
            if written is not None:
                return self._accept(meter, address, written)
            current = self._registers(meter)
            registers[: len(current)] = current
            if meter.delay_s:
                await asyncio.sleep(meter.delay_s)
            return None

        return SimDevice(unit_id, [SimData(0, count=length, values=0, datatype=DataType.REGISTERS)], action=serve)

    def _accept(self, meter: SimulatedMeter, address: int, words: list[int]) -> ExcCodes | None:
        setpoint = self.register_map.setpoint
        if setpoint is None or address != setpoint.address:
            return ExcCodes.ILLEGAL_ADDRESS
        try:
            first_isp, powers_w = setpoint.decode(words)
        except ValueError:
            return ExcCodes.ILLEGAL_VALUE
        meter.setpoints_w.update(enumerate(powers_w, start=first_isp))
        return None


def _raw(register: TelemetryRegister, telemetry: Mapping[tuple[Quantity, int], float]) -> int | float:
    value = telemetry.get((register.quantity, register.phase))
    if value is None:
        return (register.absent or 0) if register.is_integer else math.nan
    return round(value / register.factor) if register.is_integer else float(value / register.factor)


def _response_wh(meter: SimulatedMeter, isp: int) -> int:
    """What the device makes of its setpoint: change of net consumption [Wh], truncated toward zero."""
    power_w = meter.setpoints_w.get(isp, 0)
    energy_wh = abs(power_w) * meter.follow_bps * SECONDS_PER_ISP // (BPS * SECONDS_PER_HOUR)
    return energy_wh if power_w > 0 else -energy_wh


def _with_change(import_wh: int, export_wh: int, change_wh: int) -> tuple[int, int]:
    """Energy after a change of net consumption: it first displaces the flow in the other direction."""
    if change_wh >= 0:
        displaced_wh = min(export_wh, change_wh)
        return import_wh + change_wh - displaced_wh, export_wh - displaced_wh
    displaced_wh = min(import_wh, -change_wh)
    return import_wh - displaced_wh, export_wh - change_wh - displaced_wh
