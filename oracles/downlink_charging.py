"""Setpoints to charging connectors over OCPP: orders are changes, a charge point takes limits."""

from collections.abc import Mapping

from offchain.domain.errors import DomainError
from oracles.downlink import Acknowledgement, Setpoints
from oracles.sources.ocpp_central import OcppCentral
from oracles.sources.ocpp_station import SteeredConnector


class OcppDownlink:
    """Turns the schedule of one connector into charging limits (implements ``Downlink``).

    A change of net consumption refers to what the connector would draw, its ``reference_w``: 2 kW less of 7.4 kW is a
    limit of 5.4 kW. Without an order the limit is its highest power, so that nobody is held back for nothing. A limit
    is all that can be asked for: more consumption (DOWN) is allowed, and comes if the vehicle takes it.
    """

    def __init__(
        self, central: OcppCentral, charge_point: str, connector: int, meter_id: bytes, steered: SteeredConnector
    ):
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


def charging_downlinks(central: OcppCentral) -> Mapping[bytes, OcppDownlink]:
    """Downlinks of all steered connectors, by meter."""
    return {
        point.meters[connector]: OcppDownlink(central, point.id, connector, point.meters[connector], steered)
        for point in central.config.charge_points
        for connector, steered in point.steered.items()
    }
