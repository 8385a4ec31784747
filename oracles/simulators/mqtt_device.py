"""Flexible device behind a real MQTT broker: takes schedules, repeats what it holds, and follows as far as it likes."""

import json
from typing import Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from offchain.domain.isp import ISPS_PER_HOUR
from offchain.domain.units import BPS


class MqttDeviceSimulator:
    """One device; ``topic`` is what its topics begin with.

    Attributes
    ----------
    setpoints_w : dict
        Change of net consumption per ISP that it holds [W], positive means more.
    follow_bps : int
        Share of every setpoint that it follows [1/10,000].
    deaf : bool
        Whether it leaves schedules without an answer.
    """

    def __init__(self, host: str, port: int, topic: str, *, follow_bps: int = BPS):
        self.setpoints_w: dict[int, int] = {}
        self.follow_bps = follow_bps
        self.deaf = False
        self._topic = topic
        self._address = host, port
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{topic}/schedule", qos=1)
        self._client.on_message = self._take

    def __enter__(self) -> Self:
        self._client.connect(*self._address)
        self._client.loop_start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        if self.deaf:
            return
        schedule = json.loads(message.payload)
        self.setpoints_w.update(enumerate(schedule["powers_w"], start=schedule["first_isp"]))
        client.publish(f"{self._topic}/held", message.payload, qos=1)

    def net_wh(self, isp: int, natural_wh: int) -> int:
        """Net consumption of an ISP that would be ``natural_wh`` without setpoint [Wh]."""
        return natural_wh + self.setpoints_w.get(isp, 0) * self.follow_bps // (BPS * ISPS_PER_HOUR)
