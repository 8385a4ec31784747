"""Smart meters that publish through an SMX over real MQTT: OBIS topics and JSON snapshots."""

import json
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion

from oracles.sources.smx import OBIS_OF_NAME

PUBLISH_S = 10.0


@dataclass(slots=True)
class SmxState:
    """What a meter shows, in W, var, V, A, Hz; registers in Wh and varh."""

    import_wh: float = 0.0
    export_wh: float = 0.0
    reactive_varh: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    voltage_v: tuple[float, float, float] = (230.0, 230.0, 230.0)
    current_a: tuple[float, float, float] = (0.0, 0.0, 0.0)
    active_w: tuple[float, float, float] = (0.0, 0.0, 0.0)
    reactive_var: tuple[float, float, float] = (0.0, 0.0, 0.0)
    frequency_hz: float = 50.0

    def named(self) -> dict[str, tuple[str, float]]:
        """Unit and value by the name in the snapshot."""
        values = {
            "Active Power 3-Phase": ("W", sum(self.active_w)),
            "Fundamental Reactive Power 3-Phase": ("VAr", sum(self.reactive_var)),
            "Frequency": ("Hz", self.frequency_hz),
            "Received Active Energy": ("kWh", self.import_wh / 1000),
            "Delivered Active Energy": ("kWh", self.export_wh / 1000),
        }
        for phase in range(3):
            values[f"Rms Voltage L{phase + 1}-N"] = "V", self.voltage_v[phase]
            values[f"Rms Current L{phase + 1}-N"] = "A", self.current_a[phase]
            values[f"Active Power Phase L{phase + 1}"] = "W", self.active_w[phase]
            values[f"Fundamental Reactive Power Phase L{phase + 1}"] = "VAr", self.reactive_var[phase]
        for quadrant, varh in enumerate(self.reactive_varh, start=1):
            values[f"Q{quadrant} Reactive Energy"] = "kVArh", varh / 1000
        return values


def formatted(value: float, *, energy: bool = False) -> str:
    """As the device shows it: energy with four decimals, else three digits, a point, three digits and a prefix."""
    if energy:
        return f"{value:011.4f}"
    sign, size = ("-" if value < 0 else ""), abs(value)
    for prefix, factor in (("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{sign}{size / factor:07.3f}{prefix}"
    return f"{sign}{size:07.3f}"


class SmxPublisher:
    """One MQTT client for any number of meters.

    Parameters
    ----------
    host, port : str, int
        The broker.
    username, password : str, optional
        Its credentials.
    tls : ssl.SSLContext, optional
        For a broker with TLS.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
    ):
        self._address = host, port
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages = 1000
        if username is not None:
            self._client.username_pw_set(username, password)
        if tls is not None:
            self._client.tls_set_context(tls)

    def __enter__(self) -> Self:
        self._client.connect(*self._address)
        self._client.loop_start()
        end = time.monotonic() + PUBLISH_S
        while not self._client.is_connected() and time.monotonic() < end:
            time.sleep(0.01)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, prefix: str, state: SmxState, *, measured_at: datetime | None = None) -> None:
        """One round of OBIS topics, after the clock object when a time is given; returns when the broker has all."""
        messages: list[tuple[str, str]] = []
        if measured_at is not None:
            messages.append((f"{prefix}/LD01/0-0-1-0-0-255/-2", _stamp(measured_at)))
        for name, (unit, value) in state.named().items():
            text = formatted(value, energy=unit.endswith("h"))
            messages.append((f"{prefix}/LD01/1-1-{OBIS_OF_NAME[name]}-255/-2", text))
        self.send(messages)

    def publish_snapshot(self, prefix: str, state: SmxState, *, measured_at: datetime) -> None:
        """All values at once as JSON."""
        snapshot: dict[str, object] = {
            ".REQUEST_TIME": _stamp(measured_at),
            ".SERVER_TIME": _stamp(measured_at),
            "Currents Sequence": {"value": "L1-L2-L3"},
            "THDI L4": {"unit": "%", "value": "n/a"},
        }
        for name, (unit, value) in state.named().items():
            snapshot[name] = {"unit": unit, "value": formatted(value, energy=unit.endswith("h"))}
        self.send([(prefix, json.dumps(snapshot))])

    def publish_json(self, topic: str, body: Mapping[str, object]) -> None:
        """Any object, such as a vehicle in its wrapper."""
        self.send([(topic, json.dumps(body))])

    def send(self, messages: Iterable[tuple[str, str]]) -> None:
        """Publish at QoS 1 and wait for the broker's acknowledgements."""
        pending: list[MQTTMessageInfo] = [self._client.publish(topic, text, qos=1) for topic, text in messages]
        for info in pending:
            info.wait_for_publish(PUBLISH_S)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
