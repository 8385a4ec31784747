"""From the devices of a site file to running sources and downlinks."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from oracles.clock import Clock
from oracles.config import (
    CsvDevice,
    ExternalDevice,
    ModbusDevice,
    PolledDevice,
    ReplayDevice,
    SiteConfig,
)
from oracles.coordinator import EndpointCoordinator
from oracles.downlink import ModbusDownlink
from oracles.downlink_charging import charging_downlinks
from oracles.downlink_mqtt import mqtt_downlinks
from oracles.sources.modbus import ModbusEndpoint
from oracles.sources.port import EventSource, MeterSource
from oracles.sources.register_map import load_register_map
from oracles.steering import Downlink


@dataclass(slots=True)
class Devices:
    """Everything of a site that speaks: meters that are polled, sources of events, devices that take schedules.

    ``unlimited`` names the event sources that may bring any number of values: files and replays.
    """

    meters: dict[bytes, MeterSource] = field(default_factory=dict)
    coordinators: list[EndpointCoordinator] = field(default_factory=list)
    events: dict[str, EventSource] = field(default_factory=dict)
    unlimited: set[str] = field(default_factory=set)
    downlinks: dict[bytes, Downlink] = field(default_factory=dict)


@asynccontextmanager
async def open_devices(site: SiteConfig, clock: Clock) -> AsyncIterator[Devices]:
    """Sources of all devices; devices behind the same address share its connections."""
    devices = Devices()
    async with AsyncExitStack() as stack:
        endpoints: dict[object, ModbusEndpoint] = {}
        polled: dict[object, list[MeterSource]] = {}
        for number, device in enumerate(site.device, start=1):
            if not isinstance(device, PolledDevice):
                name = f"{number}:{device.kind}"
                source = device.source(clock)
                if hasattr(source, "aclose"):
                    stack.push_async_callback(source.aclose)
                devices.events[name] = source
                devices.downlinks.update(charging_downlinks(source, clock))
                devices.downlinks.update(mqtt_downlinks(source, clock))
                if isinstance(device, CsvDevice | ReplayDevice | ExternalDevice):
                    devices.unlimited.add(name)
                continue
            key = device.endpoint_key
            if key not in endpoints:
                endpoints[key] = await stack.enter_async_context(device.endpoint())
            endpoint = endpoints[key]
            if (meter := device.meter_source(endpoint, clock)) is not None:
                devices.meters[meter.meter_id] = meter
                polled.setdefault(key, []).append(meter)
            if (telemetry := device.telemetry_source(endpoint, clock)) is not None:
                devices.events[f"{number}:{device.device_id}"] = telemetry
            if (downlink := _downlink(device, endpoint, clock)) is not None:
                devices.downlinks[device.meter_id] = downlink
        devices.coordinators += [EndpointCoordinator(meters) for meters in polled.values()]
        yield devices


def _downlink(device: object, endpoint: ModbusEndpoint, clock: Clock) -> ModbusDownlink | None:
    if not isinstance(device, ModbusDevice) or device.meter_id is None:
        return None
    register_map = load_register_map(device.map)
    if register_map.setpoint is None:
        return None
    return ModbusDownlink(endpoint, device.unit_id, device.meter_id, register_map, clock)
