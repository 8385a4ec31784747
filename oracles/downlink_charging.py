"""Setpoints to charging connectors and stations: orders are changes of consumption, they take limits.

A change of net consumption refers to what the device would draw, its ``reference_w``: 2 kW less of 7.4 kW is a limit of
5.4 kW. Without an order the limit is its highest power, so that nobody is held back for nothing. A limit is all that
can be asked for: more consumption (DOWN) is allowed, and comes if the vehicle takes it.
"""

from collections.abc import Mapping

from offchain.domain.errors import DomainError
from oracles.clock import Clock, unix
from oracles.downlink import Acknowledgement, Setpoints
from oracles.sources.charging import Steered
from oracles.sources.evse_rest import EvseRest, EvseStation
from oracles.sources.ocpp_central import OcppCentral
from oracles.sources.port import EventSource


class OcppDownlink:
    """Turns the schedule of one connector into charging limits (implements ``Downlink``).

    The charge point holds the schedule; nothing is left to do here once it has accepted it.
    """

    def __init__(self, central: OcppCentral, charge_point: str, connector: int, meter_id: bytes, steered: Steered):
        self.central = central
        self.charge_point = charge_point
        self.connector = connector
        self.meter_id = meter_id
        self.steered = steered

    async def send(self, setpoints: Setpoints) -> Acknowledgement:
        """Set the limits of all ISPs at once; the charge point has accepted them when this returns. Safe to repeat."""
        if setpoints.meter_id != self.meter_id:
            raise DomainError(f"setpoints of meter {setpoints.meter_id.hex()} for meter {self.meter_id.hex()}")
        limits_w = [self.steered.limit_w(change_w) for change_w in setpoints.powers_w]
        at = await self.central.set_limits(self.charge_point, self.connector, setpoints.first_isp, limits_w)
        return Acknowledgement(self.meter_id, setpoints.first_isp, len(limits_w), at)


class EvseDownlink:
    """Turns the schedule of one station into currents (implements ``Downlink``).

    The service takes one current at a time and none below 7 A. So the gateway holds the schedule, on disk, and sets
    each value when its ISP begins; an order that goes deeper is followed down to 7 A.
    """

    def __init__(self, service: EvseRest, station: EvseStation, clock: Clock):
        self.service = service
        self.station = station
        self.clock = clock

    async def send(self, setpoints: Setpoints) -> Acknowledgement:
        """Keep the schedule, and set what belongs to the present ISP. Safe to repeat."""
        if setpoints.meter_id != self.station.meter_id or self.station.steered is None:
            raise DomainError(f"setpoints of meter {setpoints.meter_id.hex()} for station {self.station.id}")
        plan = {
            setpoints.first_isp + position: self.station.ampere(self.station.steered.limit_w(change_w))
            for position, change_w in enumerate(setpoints.powers_w)
        }
        await self.service.follow(self.station.id, plan)
        return Acknowledgement(setpoints.meter_id, setpoints.first_isp, len(plan), unix(self.clock))


def charging_downlinks(source: EventSource, clock: Clock) -> Mapping[bytes, OcppDownlink | EvseDownlink]:
    """Downlinks of everything that is steered behind a source, by meter; none for other kinds of sources."""
    if isinstance(source, OcppCentral):
        return {
            point.meters[connector]: OcppDownlink(source, point.id, connector, point.meters[connector], steered)
            for point in source.config.charge_points
            for connector, steered in point.steered.items()
        }
    if isinstance(source, EvseRest):
        steered = [station for station in source.config.stations if station.meter_id is not None]
        return {station.meter_id: EvseDownlink(source, station, clock) for station in steered if station.meter_id}
    return {}
