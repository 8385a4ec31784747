"""Schedules to devices behind an MQTT broker: published, repeated by the device, and only then acknowledged."""

from collections.abc import Mapping

from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP, isp_start
from oracles.clock import Clock, unix
from oracles.downlink import Acknowledgement, Setpoints
from oracles.sources.mqtt import MqttSource, SteeredTopic
from oracles.sources.port import EventSource


class MqttDownlink:
    """Publishes the schedules of one device (implements ``Downlink``).

    The object says everything twice that a device could take for something else: ``first_isp`` and ``start``, and
    ``isp_s`` beside them; ``powers_w`` is the change of net consumption per ISP [W], positive means more.
    """

    def __init__(self, source: MqttSource, device: SteeredTopic, clock: Clock):
        self.source = source
        self.device = device
        self.clock = clock

    async def send(self, setpoints: Setpoints) -> Acknowledgement:
        """Return once the device has said that it holds the schedule. Safe to repeat."""
        if setpoints.meter_id != self.device.meter_id:
            raise DomainError(f"setpoints of meter {setpoints.meter_id.hex()} for device {self.device.topic}")
        schedule = {
            "first_isp": setpoints.first_isp,
            "start": isp_start(setpoints.first_isp).isoformat(),
            "isp_s": SECONDS_PER_ISP,
            "powers_w": list(setpoints.powers_w),
        }
        await self.source.hand_over(self.device, schedule)
        count = len(setpoints.powers_w)
        return Acknowledgement(setpoints.meter_id, setpoints.first_isp, count, unix(self.clock))


def mqtt_downlinks(source: EventSource, clock: Clock) -> Mapping[bytes, MqttDownlink]:
    """Downlinks of everything that is steered behind a broker, by meter; none for other kinds of sources."""
    if not isinstance(source, MqttSource):
        return {}
    return {device.meter_id: MqttDownlink(source, device, clock) for device in source.config.steered}
