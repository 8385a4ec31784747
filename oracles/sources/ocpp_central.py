"""Central system of charge points: OCPP 1.6 and 2.0.1 over websockets, as source of values and as downlink.

A charge point connects to ``ws(s)://host:port/<path>/<identity>`` with basic authentication; identities that are not in
the configuration are refused before the websocket opens. When one connects again, the new connection takes the place of
the old one, and transactions go on: they are on disk, not in the connection.
"""

import asyncio
import base64
import binascii
import hmac
import http
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from pydantic import BaseModel, Field, model_validator
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from offchain.domain.errors import DomainError, PermanentError, TransientError
from oracles.clock import Clock, unix
from oracles.sources.config import SitePath
from oracles.sources.delivery import Delivery, Value
from oracles.sources.ocpp_sessions import ChargeSession, ChargeSessions
from oracles.sources.ocpp_station import ChargePointConfig, Station
from oracles.sources.ocpp_v16 import ChargePoint16
from oracles.sources.ocpp_v201 import ChargePoint201
from oracles.sources.port import DeviceStatus

log = logging.getLogger(__name__)

_VERSIONS: dict[str, type[ChargePoint16] | type[ChargePoint201]] = {
    "ocpp2.0.1": ChargePoint201,
    "ocpp1.6": ChargePoint16,
}
_MAX_MESSAGE_BYTES = 1 << 20


class OcppConfig(BaseModel, extra="forbid", frozen=True):
    """Where charge points connect, and which.

    Attributes
    ----------
    path : str
        First part of the address, before the identity.
    sessions_file : Path
        SQLite file with transactions and reservations.
    certificate, key : Path, optional
        Of this server; without them the connection is not encrypted.
    id_tags_file : Path, optional
        Tags that may charge, one per line; remote starts work without.
    heartbeat_s, sample_s : int
        How often a charge point shows that it is there, and how often it measures during a transaction [s].
    answer_s : float
        How long a charge point may take to answer a command [s].
    """

    host: str = "0.0.0.0"
    port: int = Field(ge=0, le=65535)
    path: str = Field(default="/ocpp", pattern=r"^/[\w/\-]*[\w\-]$")
    sessions_file: SitePath
    certificate: SitePath | None = None
    key: SitePath | None = None
    id_tags_file: SitePath | None = None
    heartbeat_s: int = Field(default=300, ge=10)
    sample_s: int = Field(default=60, ge=1)
    answer_s: float = Field(default=30.0, gt=0)
    max_unstored: int = Field(default=10_000, ge=1)
    charge_points: tuple[ChargePointConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "OcppConfig":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("TLS needs both certificate and key")
        for what, names in (
            ("charge point", [point.id for point in self.charge_points]),
            ("device", [point.device_id for point in self.charge_points]),
        ):
            if twice := [name for name, count in Counter(names).items() if count > 1]:
                raise ValueError(f"{what} {twice[0]} is given twice")
        return self

    def source(self, clock: Clock) -> "OcppCentral":
        """The source."""
        return OcppCentral(self, clock)


class OcppCentral:
    """All charge points of a site (implements ``EventSource``; commands are its downlink).

    Attributes
    ----------
    port : int
        Where it listens while ``values`` runs.
    refused_connections : Counter
        Connections that were not let in, by reason.
    """

    def __init__(self, config: OcppConfig, clock: Clock):
        self.config = config
        self.clock = clock
        self.port = config.port
        self.refused_connections: Counter[str] = Counter()
        self.where = f"ocpp central system {config.host}:{config.port}"
        self.sessions = ChargeSessions(config.sessions_file)
        self._delivery = Delivery(config.max_unstored)
        self._links: dict[str, ChargePoint16 | ChargePoint201] = {}
        authorised = _tags(config.id_tags_file)
        self._stations = {
            point.id: Station(
                point,
                self.sessions,
                self._delivery,
                clock,
                authorised=authorised,
                heartbeat_s=config.heartbeat_s,
                sample_s=config.sample_s,
            )
            for point in config.charge_points
        }
        self._passwords = {point.id: point.password.read() for point in config.charge_points}

    @property
    def connected(self) -> frozenset[str]:
        """Identities of the charge points that are connected."""
        return frozenset(self._links)

    @property
    def refused(self) -> Counter[str]:
        """Sampled values that could not be used, by reason."""
        return sum((station.refused for station in self._stations.values()), Counter())

    async def values(self) -> AsyncIterator[Value]:
        try:
            server = await serve(
                self._serve,
                self.config.host,
                self.config.port,
                subprotocols=list(_VERSIONS),
                process_request=self._admit,
                ssl=self._tls(),
                max_size=_MAX_MESSAGE_BYTES,
                logger=logging.getLogger("oracles.websockets"),
            )
        except OSError as exc:
            raise PermanentError(f"{self.where}: cannot listen: {exc.strerror}", hint="is the port free?") from exc
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            async for value in self._delivery.values():
                yield value

    def taken(self, count: int) -> None:
        self._delivery.taken(count)

    async def probe(self) -> str:
        """Check that the port is free, or who is connected when this central system runs already."""
        if self._links:
            return f"{self.where}: {len(self._links)} of {len(self._stations)} charge points connected"
        self._tls()
        try:
            server = await asyncio.start_server(lambda *_: None, self.config.host, self.config.port)
        except OSError as exc:
            raise PermanentError(f"{self.where}: cannot listen: {exc.strerror}", hint="is the port free?") from exc
        server.close()
        await server.wait_closed()
        return f"{self.where}: port is free, {len(self._stations)} charge points may connect"

    async def aclose(self) -> None:
        """Close the file of transactions."""
        self.sessions.close()

    async def set_limits(self, charge_point: str, connector: int, first_isp: int, limits_w: Sequence[int]) -> int:
        """Limit what a connector may draw, per ISP.

        Parameters
        ----------
        connector : int
            Connector (1.6) or EVSE (2.0.1); 0 for the whole charge point.
        limits_w : sequence of int
            Highest power of each ISP from ``first_isp`` on [W]; converted for charge points that take A.

        Returns
        -------
        int
            When the charge point accepted [UTC s].

        Raises
        ------
        TransientError
            Not connected, or no answer in time.
        PermanentError
            Refused.
        """
        link, station = self._link(charge_point)
        await link.set_limits(connector, station.limits(first_isp, limits_w))
        return unix(self.clock)

    async def clear_limits(self, charge_point: str, connector: int) -> int:
        """Take the limits of :meth:`set_limits` away; returns when [UTC s]."""
        link, _ = self._link(charge_point)
        await link.clear_limits(connector)
        return unix(self.clock)

    async def start_charging(self, charge_point: str, connector: int) -> None:
        """Begin a transaction; the charge point reports when it did."""
        link, _ = self._link(charge_point)
        await link.start_charging(connector)

    async def stop_charging(self, charge_point: str, connector: int) -> ChargeSession:
        """End the transaction that runs at a connector."""
        link, station = self._link(charge_point)
        session = self.sessions.running(charge_point, connector)
        if session is None:
            raise DomainError(f"{station.where}: nothing charges at connector {connector}")
        await link.stop_charging(session.transaction_id)
        return session

    async def reserve(self, charge_point: str, connector: int, id_tag: str, until: int) -> int:
        """Keep a connector for a tag until a moment [UTC s]; returns the number of the reservation."""
        link, _ = self._link(charge_point)
        number = self.sessions.new_reservation(charge_point, connector, until)
        try:
            await link.reserve(connector, number, id_tag, until)
        except PermanentError:
            self.sessions.end_reservation(charge_point, number)
            raise
        return number

    async def cancel_reservation(self, charge_point: str, number: int) -> None:
        """Give a reservation up."""
        link, _ = self._link(charge_point)
        await link.cancel(number)
        self.sessions.end_reservation(charge_point, number)

    def _link(self, charge_point: str) -> tuple[ChargePoint16 | ChargePoint201, Station]:
        station = self._stations.get(charge_point)
        if station is None:
            raise DomainError(f"no charge point is called {charge_point}")
        link = self._links.get(charge_point)
        if link is None:
            raise TransientError(f"{station.where}: not connected")
        return link, station

    def _tls(self) -> ssl.SSLContext | None:
        if self.config.certificate is None:
            return None
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.config.certificate, self.config.key)
        except (OSError, ssl.SSLError) as exc:
            raise PermanentError(f"{self.where}: TLS files: {exc}", hint="check certificate and key") from exc
        return context

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Let in whom the configuration names and who knows the password."""
        folder, _, identity = request.path.partition("?")[0].rpartition("/")
        if folder != self.config.path or identity not in self._stations:
            self.refused_connections["unknown charge point"] += 1
            log.warning("%s: %s is not known", self.where, request.path)
            return connection.respond(http.HTTPStatus.NOT_FOUND, "unknown charge point\n")
        if not _has_password(request.headers.get("Authorization", ""), identity, self._passwords[identity]):
            self.refused_connections["wrong password"] += 1
            log.warning("%s: %s with wrong user name or password", self.where, identity)
            response = connection.respond(http.HTTPStatus.UNAUTHORIZED, "wrong user name or password\n")
            response.headers["WWW-Authenticate"] = 'Basic realm="ocpp"'
            return response
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        identity = connection.request.path.partition("?")[0].rpartition("/")[2]
        station = self._stations[identity]
        link = _VERSIONS[connection.subprotocol](station, connection, self.config.answer_s)
        before = self._links.get(identity)
        self._links[identity] = link
        log.info("%s: connected, %s", station.where, connection.subprotocol)
        if before is not None:
            await before._connection.close(reason="connected again")
        try:
            await link.start()
        except ConnectionClosed:
            pass
        finally:
            if self._links.get(identity) is link:
                del self._links[identity]
                log.info("%s: disconnected", station.where)
                station.deliver([station.status(0, DeviceStatus.UNAVAILABLE, unix(self.clock))])


def _tags(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise PermanentError(f"id tags in {path} cannot be read: {exc.strerror}") from exc
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def _has_password(header: str, identity: str, password: str) -> bool:
    scheme, _, encoded = header.partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(given, f"{identity}:{password}".encode())
