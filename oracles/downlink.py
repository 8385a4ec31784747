"""Setpoints to devices over Modbus: written, read back, and only then acknowledged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from offchain.domain.errors import DomainError, FlexError, PermanentError, TransientError
from oracles.clock import Clock, unix
from oracles.rounds import in_rounds
from oracles.sources.modbus import ModbusEndpoint
from oracles.sources.register_map import RegisterMap

_MAX_POWER_W = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Setpoints:
    """Schedule for one device: change of net consumption per ISP [W], positive means more consumption."""

    meter_id: bytes
    first_isp: int
    powers_w: Sequence[int]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The device holds the schedule; ``acknowledged_at`` in UTC seconds."""

    meter_id: bytes
    first_isp: int
    isp_count: int
    acknowledged_at: int


class ModbusDownlink:
    """Writes schedules to one flexible device."""

    def __init__(
        self, endpoint: ModbusEndpoint, unit_id: int, meter_id: bytes, register_map: RegisterMap, clock: Clock
    ):
        if register_map.setpoint is None:
            raise PermanentError(
                f"{endpoint.where(unit_id)}: takes no setpoints", hint="add [setpoint] to its register map"
            )
        self.endpoint = endpoint
        self.unit_id = unit_id
        self.meter_id = meter_id
        self.registers = register_map.setpoint
        self.clock = clock

    async def send(self, setpoints: Setpoints) -> Acknowledgement:
        """Write a schedule and read it back; safe to repeat."""
        for power_w in setpoints.powers_w:
            if abs(power_w) > _MAX_POWER_W:
                raise DomainError(f"setpoint of {power_w} W for unit {self.unit_id} does not fit the register")
        for start in range(0, len(setpoints.powers_w), self.registers.max_isps):
            words = self.registers.encode(
                setpoints.first_isp + start, setpoints.powers_w[start : start + self.registers.max_isps]
            )
            await self.endpoint.write(self.unit_id, self.registers.address, words)
            held = await self.endpoint.read(self.unit_id, "holding", self.registers.address, len(words))
            if held != words:
                raise TransientError(
                    f"{self.endpoint.where(self.unit_id)}: setpoints not held",
                    hint="another master may write to this device",
                )
        return Acknowledgement(self.meter_id, setpoints.first_isp, len(setpoints.powers_w), unix(self.clock))


async def dispatch(
    downlinks: Mapping[bytes, ModbusDownlink],
    schedules: Iterable[Setpoints],
    *,
    concurrency: int = 8,
    attempts: int = 3,
    delay_s: float = 0.2,
) -> tuple[dict[bytes, Acknowledgement], dict[bytes, FlexError]]:
    """Send one schedule to each of many devices.

    Returns
    -------
    acknowledged, failed : dict, dict
        By meter id; a device that is in ``failed`` may hold the old schedule, the new one, or part of it.
    """
    jobs = {}
    for schedule in schedules:
        if schedule.meter_id not in downlinks:
            raise DomainError(f"no device takes setpoints at meter {schedule.meter_id.hex()}")
        jobs[schedule.meter_id] = partial(downlinks[schedule.meter_id].send, schedule)
    return await in_rounds(jobs, concurrency=concurrency, attempts=attempts, delay_s=delay_s)
