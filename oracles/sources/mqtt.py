"""Meters, vehicles and charging stations behind an MQTT broker (3.1.1).

QoS 1 and a session that the broker keeps: what is published while nobody listens waits there. A message is
acknowledged when its values are on disk, so that after a crash the broker sends it again. Acknowledgements of a
connection that was lost are dropped, because the broker may have given their number to another message.

Its last will, and its word while it is there, stand on a status topic of its own (``online``, ``offline``).

Devices that are steered find their schedule, retained, on ``<topic>/schedule``, and say what they hold on
``<topic>/held``: the same JSON object again. So a device that comes back has the newest schedule before anybody asks.

Devices that publish no time can only be dated by the arrival of their messages. That needs a session that the broker
does not keep (``keep_session = false``) in a source of its own: what was published during an absence is then gone, as
nobody would know when it was measured.
"""

import asyncio
import logging
import random
import secrets
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from functools import partial

import orjson
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from pydantic import BaseModel, Field, model_validator

from offchain.domain.errors import AdapterError, PermanentError, TransientError
from oracles.clock import Clock, unix
from oracles.sources.config import MeterId, Secret, SitePath, Zone
from oracles.sources.delivery import Delivery, Value
from oracles.sources.smx import SmxDecoder, SmxMeter
from oracles.sources.telemetry import observations, stamp_of

log = logging.getLogger(__name__)

MAX_DELAY_S = 60.0
"""Longest pause between two attempts to connect [s]."""

MAX_PAYLOAD_BYTES = 1 << 18
"""No message of a device is larger."""

_CLEAR_HINT = "check username and password"
_HUNG_UP_HINT = "does the broker want TLS on this port, or another tls.certificate?"
_REFUSED: dict[str, tuple[type[AdapterError], str]] = {
    "Bad user name or password": (PermanentError, _CLEAR_HINT),
    "Not authorized": (PermanentError, _CLEAR_HINT),
    "Client identifier not valid": (PermanentError, "choose another client_id"),
    "Unsupported protocol version": (PermanentError, "the broker must speak MQTT 3.1.1"),
}
_BROKEN: dict[type[Exception], tuple[str, str]] = {
    ssl.SSLCertVerificationError: ("certificate of the broker not trusted", "check tls.ca and the host name"),
    ssl.SSLError: ("TLS handshake failed", "does the broker speak TLS on this port, and accept tls.certificate?"),
    socket.gaierror: ("host name not found", "check host and the name server"),
    ConnectionRefusedError: ("connection refused", "is the broker running on this port?"),
    ConnectionError: ("connection lost", _HUNG_UP_HINT),
    TimeoutError: ("no answer", "check host, port and firewall"),
    OSError: ("connection broken", "check the network"),
}


class MqttTls(BaseModel, extra="forbid", frozen=True):
    """Certificates: of the authority that signed the broker's (else those of the system), and the client's own."""

    ca: SitePath | None = None
    certificate: SitePath | None = None
    key: SitePath | None = None

    @model_validator(mode="after")
    def _pair(self) -> "MqttTls":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate needs both certificate and key")
        return self

    def context(self) -> ssl.SSLContext:
        """Context for connections; the broker's name is always checked."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as exc:
            raise PermanentError(f"TLS files of the MQTT source: {exc}", hint="check ca, certificate and key") from exc
        return context


class TelemetryTopic(BaseModel, extra="forbid", frozen=True):
    """Topic on which one vehicle or station publishes JSON; ``timezone`` is that of its times without offset."""

    topic: str = Field(min_length=1, pattern=r"^[^+#]*$")
    device_id: str = Field(min_length=1)
    timezone: Zone


class SteeredTopic(BaseModel, extra="forbid", frozen=True):
    """Device that takes schedules for a meter; its topics begin with ``topic``."""

    topic: str = Field(min_length=1, pattern=r"^[^+#]*[^+#/]$")
    meter_id: MeterId

    @property
    def schedule(self) -> str:
        return f"{self.topic}/schedule"

    @property
    def held(self) -> str:
        return f"{self.topic}/held"


class MqttConfig(BaseModel, extra="forbid", frozen=True):
    """An MQTT broker and what is published there.

    Attributes
    ----------
    client_id : str
        Must stay the same for ever, because the broker keeps the session under it, and belong to this source alone.
    keep_session : bool
        Whether the broker keeps what is published during an absence.
    status_topic : str
        Where the source says that it is online; ``gridpact/<client_id>/status`` unless given.
    max_unstored : int
        Messages that may wait for the consumer before reading pauses.
    """

    host: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    client_id: str = Field(min_length=1, max_length=23)
    username: str | None = None
    password: Secret | None = None
    tls: MqttTls | None = None
    keepalive_s: int = Field(default=30, ge=5, le=600)
    timeout_s: float = Field(default=10.0, gt=0)
    keep_session: bool = True
    status_topic: str | None = None
    max_unstored: int = Field(default=10_000, ge=1)
    smx: tuple[SmxMeter, ...] = ()
    telemetry: tuple[TelemetryTopic, ...] = ()
    steered: tuple[SteeredTopic, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> "MqttConfig":
        if not self.smx and not self.telemetry and not self.steered:
            raise ValueError("nothing to subscribe to: name at least one smx meter, telemetry topic or steered device")
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")
        if self.keep_session and (undated := [meter.prefix for meter in self.smx if meter.dated_by == "arrival"]):
            raise ValueError(
                f"{undated[0]} is dated by arrival: that needs keep_session = false, in a source of its own"
            )
        names = [meter.prefix for meter in self.smx] + [entry.topic for entry in self.telemetry]
        names += [entry.held for entry in self.steered]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"topic {twice[0]} is given twice")
        return self

    def source(self, clock: Clock) -> "MqttSource":
        """The source."""
        return MqttSource(self, clock)


class MqttSource:
    """Everything behind one broker (implements ``EventSource``).

    Attributes
    ----------
    connected : bool
        Whether the broker has accepted the subscriptions of the present connection.
    received : int
        Messages that arrived.
    refused : Counter
        Messages that brought no value, by reason.
    """

    def __init__(self, config: MqttConfig, clock: Clock):
        self.config = config
        self.clock = clock
        self.connected = False
        self.received = 0
        self._down = False
        self.port = config.port or (1883 if config.tls is None else 8883)
        self.where = f"mqtt {config.host}:{self.port}"
        self._status = config.status_topic or f"gridpact/{config.client_id}/status"
        self._delivery = Delivery(config.max_unstored)
        self._refused: Counter[str] = Counter()
        self._smx = {meter.prefix: SmxDecoder(meter) for meter in config.smx}
        self._telemetry = {entry.topic: entry for entry in config.telemetry}
        self._held: dict[str, asyncio.Future[None] | None] = dict.fromkeys(entry.held for entry in config.steered)
        self._expected: dict[str, object] = {}
        self._client_now: Client | None = None

    @property
    def refused(self) -> Counter[str]:
        return sum((decoder.refused for decoder in self._smx.values()), self._refused)

    async def values(self) -> AsyncIterator[Value]:
        runner = asyncio.create_task(self._run())
        try:
            async for value in self._delivery.values():
                yield value
        finally:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)

    def taken(self, count: int) -> None:
        self._delivery.taken(count)

    async def hand_over(self, device: SteeredTopic, schedule: Mapping[str, object]) -> None:
        """Give a device its schedule; returns when the device has said that it holds it. Safe to repeat.

        Raises
        ------
        TransientError
            Not connected, or the device did not say so in time.
        """
        if self._client_now is None or not self.connected:
            raise TransientError(f"{self.where}: not connected")
        heard = self._held[device.held] = asyncio.get_running_loop().create_future()
        self._expected[device.held] = schedule
        self._client_now.publish(device.schedule, orjson.dumps(schedule), qos=1, retain=True)
        try:
            await asyncio.wait_for(heard, self.config.timeout_s)
        except TimeoutError as exc:
            raise TransientError(
                f"{self.where}: {device.held} did not repeat the schedule", hint="is the device there?"
            ) from exc

    def _hear(self, message: MQTTMessage) -> None:
        """A device said what it holds; what is retained it said some time ago."""
        heard = self._held[message.topic]
        if heard is None or heard.done() or message.retain:
            return
        try:
            said = orjson.loads(message.payload)
        except ValueError:
            self._refused["malformed"] += 1
            return
        if said == self._expected[message.topic]:
            heard.set_result(None)

    async def probe(self) -> str:
        """Connect and subscribe under another client id and without session: nothing that waits is disturbed."""
        await self._connection(probe=True)
        return f"{self.where}: connected as {self.config.username or 'anonymous'}, {len(self._topics())} subscriptions"

    async def _run(self) -> None:
        """Stay connected; longer pauses from failure to failure, and an end when the broker refuses for good."""
        delay_s, loop = 0.5, asyncio.get_running_loop()
        while True:
            await self._delivery.room()
            started = loop.time()
            try:
                await self._connection()
            except PermanentError as error:
                self._delivery.fail(error)
                return
            except TransientError as error:
                if not self._down:
                    log.warning("%s; connecting again until it works", error)
                self._down = True
            except Exception as exc:
                self._delivery.fail(exc)
                return
            delay_s = 0.5 if loop.time() - started > MAX_DELAY_S else min(delay_s * 2, MAX_DELAY_S)
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))

    def _topics(self) -> list[str]:
        return [topic for meter in self.config.smx for topic in meter.topics] + [*self._telemetry, *self._held]

    def _client(self, *, probe: bool) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"probe-{secrets.token_hex(6)}" if probe else self.config.client_id,
            clean_session=probe or not self.config.keep_session,
            protocol=MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        client.connect_timeout = self.config.timeout_s
        if not probe:
            client.will_set(self._status, "offline", qos=1, retain=True)
        if self.config.username is not None:
            password = None if self.config.password is None else self.config.password.read()
            client.username_pw_set(self.config.username, password)
        if self.config.tls is not None:
            client.tls_set_context(self.config.tls.context())
        return client

    async def _connection(self, *, probe: bool = False) -> None:
        """One connection: raises when it is lost; a probe returns when its subscriptions were accepted."""
        client = self._client(probe=probe)
        try:
            await asyncio.to_thread(client.connect, self.config.host, self.port, self.config.keepalive_s)
        except OSError as exc:
            words, hint = next(entry for kind, entry in _BROKEN.items() if isinstance(exc, kind))
            raise TransientError(f"{self.where}: {words}", hint=hint) from exc
        if client.socket() is None:  # the client has seen, and not told, that its first packet did not go out
            raise TransientError(f"{self.where}: connection lost", hint=_HUNG_UP_HINT)
        for decoder in self._smx.values():
            decoder.forget()
        connection = _Connection(self, client, probe=probe)
        try:
            self._client_now = None if probe else client
            await connection.run()
        finally:
            if not probe:
                self.connected, self._client_now = False, None
            connection.close()

    def _decoded(self, message: MQTTMessage) -> list[Value]:
        """Values of one message; a message that cannot be read brings none and is counted."""
        now = unix(self.clock)
        topic = message.topic
        if len(message.payload) > MAX_PAYLOAD_BYTES:
            self._refused["too large"] += 1
            return []
        if topic in self._held:
            self._hear(message)
            return []
        decoder = self._smx.get(topic.rstrip("/")) or self._smx.get(topic.rsplit("/", 3)[0])
        if decoder is not None:
            if message.retain and decoder.meter.dated_by == "arrival":
                decoder.refused["undated"] += 1
                return []
            return decoder.decode(topic, message.payload, now)
        entry = self._telemetry.get(topic)
        if entry is None:
            self._refused["unknown topic"] += 1
            return []
        try:
            body = orjson.loads(message.payload)
            if self.config.keep_session and stamp_of(body) is None:
                self._refused["undated"] += 1
                return []
            return list(observations(body, entry.device_id, entry.timezone, now))
        except (ValueError, TypeError, AttributeError):
            self._refused["malformed"] += 1
            return []


class _Connection:
    """What belongs to one connection: its client, its socket in the event loop, and when it ends."""

    def __init__(self, source: MqttSource, client: Client, *, probe: bool):
        self._source = source
        self._client = client
        self._probe = probe
        self._loop = asyncio.get_running_loop()
        self._socket = client.socket()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._resuming: asyncio.Task[None] | None = None
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_socket_register_write = lambda *_: self._loop.add_writer(self._socket, client.loop_write)
        client.on_socket_unregister_write = lambda *_: self._loop.remove_writer(self._socket)
        client.on_socket_close = lambda *_: self._loop.remove_reader(self._socket)

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._loop.add_reader(self._socket, self._read)
        self._read()
        deadline = self._loop.time() + self._source.config.timeout_s
        while not self._ended.done():
            await asyncio.wait({self._ended}, timeout=1)
            self._client.loop_misc()
            if not self._source.connected and self._loop.time() > deadline:
                self._end(TransientError(f"{self._source.where}: no answer", hint="does it speak MQTT on this port?"))
        self._ended.result()

    def close(self) -> None:
        """Leave in order when there still is a connection."""
        self._ended.cancel()
        if self._resuming is not None:
            self._resuming.cancel()
        if self._client.is_connected():
            if not self._probe:
                self._client.publish(self._source._status, "offline", qos=1, retain=True)
            self._client.disconnect()
            self._client.loop_write()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def _end(self, error: AdapterError | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    def _read(self) -> None:
        self._client.loop_read()
        # TLS may hold decrypted bytes of which the event loop knows nothing.
        while self._client.socket() is not None and isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            if self._source._delivery.full:
                break
            self._client.loop_read()
        if not self._source._delivery.full or self._resuming is not None or self._client.socket() is None:
            return
        if self._source.config.keep_session:
            self._loop.remove_reader(self._socket)
            self._resuming = asyncio.create_task(self._resume())
        else:  # the arrival of what waits in the socket would date it wrongly
            self._end(TransientError(f"{self._source.where}: left, because values are not stored fast enough"))

    async def _resume(self) -> None:
        """Read on when the consumer has caught up."""
        await self._source._delivery.room()
        self._resuming = None
        if self._client.socket() is not None:
            self._loop.add_reader(self._socket, self._read)
            self._read()

    def _on_connect(self, client: Client, userdata: object, flags: object, reason: object, properties: object) -> None:
        if reason.is_failure:
            kind, hint = _REFUSED.get(str(reason), (TransientError, ""))
            self._end(kind(f"{self._source.where}: {str(reason).lower()}", hint=hint))
            return
        client.subscribe([(topic, 1) for topic in self._source._topics()])

    def _on_subscribe(self, client: Client, userdata: object, mid: int, reasons: list, properties: object) -> None:
        topics = self._source._topics()
        if denied := [topic for topic, reason in zip(topics, reasons, strict=True) if reason.is_failure]:
            self._end(
                PermanentError(
                    f"{self._source.where}: may not subscribe to {', '.join(denied)}",
                    hint="give this user the right to read them",
                )
            )
        elif self._probe:
            self._end(None)
        else:
            self._source.connected = True
            self._source._down = False
            log.info("%s: connected, %d subscriptions", self._source.where, len(topics))
            client.publish(self._source._status, "online", qos=1, retain=True)

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        if self._probe:
            return
        self._source.received += 1
        self._source._delivery.put(self._source._decoded(message), partial(client.ack, message.mid, message.qos))

    def _on_disconnect(
        self, client: Client, userdata: object, flags: object, reason: object, properties: object
    ) -> None:
        hint = "does another client use the same client_id?" if self._source.connected else _HUNG_UP_HINT
        self._end(TransientError(f"{self._source.where}: connection lost ({str(reason).lower()})", hint=hint))
