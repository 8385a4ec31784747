"""Charging stations and vehicles behind the REST service of eDREAM D2.5, Annex IV: polled, and commanded.

Every request is a GET whose parameters are a JSON object at the end of the path, such as
``<base>/setPower/{"chargeboxID":"24","powerValue":"32"}``; commands answer ``START_OK``, ``STOP_OK`` or ``SET_OK``.
One poll is three requests, whatever the number of stations: all stations, all vehicles, the sessions since the last.
"""

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
from pydantic import BaseModel, Field, field_validator, model_validator

from offchain.domain.errors import DomainError, PermanentError, TransientError
from oracles.clock import Clock, unix
from oracles.sources.config import Secret, Zone
from oracles.sources.delivery import Delivery, Value
from oracles.sources.http_client import json_of, request
from oracles.sources.port import Observation, Quantity
from oracles.sources.telemetry import observations, unix_of

log = logging.getLogger(__name__)

MIN_AMPERE, MAX_AMPERE = 7, 64
"""What ``setPower`` takes [A]."""

MAX_DELAY_S = 600.0
_HISTORY_S = 86_400


class EvseStation(BaseModel, extra="forbid", frozen=True):
    """A station: its id there, its name here, and the ids of its sockets by letter."""

    id: str = Field(min_length=1)
    device_id: str = Field(min_length=1)
    sockets: dict[Literal["A", "B"], str] = Field(min_length=1)


class EvseVehicle(BaseModel, extra="forbid", frozen=True):
    """A vehicle: its id there, its name here."""

    id: str = Field(min_length=1)
    device_id: str = Field(min_length=1)


class EvseRestConfig(BaseModel, extra="forbid", frozen=True):
    """The service and what is read from it.

    Attributes
    ----------
    base_url : str
        Such as ``https://panel.example/public/api``; plain http only to this machine.
    token : Secret, optional
        Sent as bearer token.
    timezone : str
        In which the service writes times.
    poll_s : float
        Pause between two polls [s].
    """

    base_url: str
    token: Secret | None = None
    timezone: Zone
    poll_s: float = Field(default=60.0, gt=0)
    timeout_s: float = Field(default=10.0, gt=0)
    stations: tuple[EvseStation, ...] = ()
    vehicles: tuple[EvseVehicle, ...] = ()

    @field_validator("base_url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        parsed = httpx.URL(url)
        if parsed.scheme != "https" and (parsed.scheme != "http" or parsed.host not in ("127.0.0.1", "localhost")):
            raise ValueError("the address must begin with https://")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _something(self) -> "EvseRestConfig":
        if not self.stations and not self.vehicles:
            raise ValueError("nothing to read: name at least one station or vehicle")
        return self

    def source(self, clock: Clock) -> "EvseRest":
        """The source."""
        return EvseRest(self, clock)


class EvseRest:
    """Stations and vehicles of one service (implements ``EventSource``; commands are its downlink).

    Attributes
    ----------
    refused : Counter
        Objects that could not be read, by reason.
    """

    def __init__(self, config: EvseRestConfig, clock: Clock):
        self.config = config
        self.clock = clock
        self.where = f"evse service {httpx.URL(config.base_url).host}"
        self.refused: Counter[str] = Counter()
        self._delivery = Delivery()
        self._stations = {station.id: station for station in config.stations}
        self._vehicles = {vehicle.id: vehicle for vehicle in config.vehicles}
        self._sockets = {
            socket: f"{station.device_id}/{letter}"
            for station in config.stations
            for letter, socket in station.sockets.items()
        }
        self._sessions_seen: dict[str, int] = {}
        self._missing: frozenset[str] = frozenset()
        headers = {} if config.token is None else {"Authorization": f"Bearer {config.token.read()}"}
        self._client = httpx.AsyncClient(timeout=config.timeout_s, headers=headers)

    async def values(self) -> AsyncIterator[Value]:
        self._sessions_seen.clear()
        poller = asyncio.create_task(self._run())
        try:
            async for value in self._delivery.values():
                yield value
        finally:
            poller.cancel()
            await asyncio.gather(poller, return_exceptions=True)

    def taken(self, count: int) -> None:
        self._delivery.taken(count)

    async def probe(self) -> str:
        """Read everything once; all configured stations and vehicles must be there."""
        missing: set[str] = set()
        if self._stations:
            missing |= self._stations.keys() - {str(entry["chargeboxID"]) for entry in await self.stations()}
            await self.sessions(self.clock.now() - timedelta(hours=1), self.clock.now())
        if self._vehicles:
            missing |= self._vehicles.keys() - {str(entry["vehicleID"]) for entry in await self.vehicles()}
        if missing:
            raise PermanentError(f"{self.where}: {', '.join(sorted(missing))} not known", hint="check the ids")
        return f"{self.where}: {len(self._stations)} stations, {len(self._vehicles)} vehicles"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def start_charging(self, station_id: str, socket: Literal["A", "B"]) -> int:
        """Begin a session at a socket; returns when it was confirmed [UTC s]."""
        return await self._command("startChargebox", "START_OK", self._socket(station_id, socket))

    async def stop_charging(self, station_id: str, socket: Literal["A", "B"]) -> int:
        """End the session at a socket; returns when it was confirmed [UTC s]."""
        return await self._command("stopChargebox", "STOP_OK", self._socket(station_id, socket))

    async def set_limit(self, station_id: str, ampere: int) -> int:
        """Limit the current of a station [A]; returns when it was confirmed [UTC s].

        Raises
        ------
        DomainError
            Outside 7 to 64 A, which the service would not take.
        """
        self._station(station_id)
        if not MIN_AMPERE <= ampere <= MAX_AMPERE:
            raise DomainError(
                f"station {station_id}: {ampere} A is outside {MIN_AMPERE} to {MAX_AMPERE} A",
                hint="stop the session to charge nothing",
            )
        return await self._command("setPower", "SET_OK", {"chargeboxID": station_id, "powerValue": str(ampere)})

    async def stations(self) -> list[dict[str, Any]]:
        """Details and status of all stations, as the service says it."""
        return _objects(await self._get("chargeboxes"), "chargeboxID")

    async def vehicles(self) -> list[dict[str, Any]]:
        """Details and status of all vehicles, as the service says it."""
        return _objects(await self._get("ev"), "vehicleID")

    async def sessions(self, since: datetime, until: datetime, station_id: str | None = None) -> list[dict[str, Any]]:
        """Charging sessions of a time interval, of one station or of all."""
        which = {} if station_id is None else {"chargeboxID": station_id}
        times = {"dateFrom": self._local(since), "dateTo": self._local(until)}
        answer = await self._get("historyCharges", which | times)
        if not isinstance(answer, Mapping) or not isinstance(answer.get("recharges", []), list):
            raise PermanentError(f"{self.where}: the history of sessions has an unknown form")
        return list(answer.get("recharges", []))

    async def _run(self) -> None:
        delay_s = 1.0
        broken = False
        while True:
            await self._delivery.room()
            try:
                values = await self._poll()
            except TransientError as error:
                if not broken:
                    log.warning("%s; asking again until it answers", error)
                broken = True
                await self._pause(delay_s * random.uniform(0.5, 1.0))
                delay_s = min(delay_s * 2, MAX_DELAY_S)
                continue
            except Exception as error:
                self._delivery.fail(error)
                return
            if broken:
                log.info("%s: answers again", self.where)
            delay_s, broken = 1.0, False
            self._delivery.put(values)
            await self._pause(self.config.poll_s)

    async def _pause(self, seconds: float) -> None:
        await self.clock.sleep_until(self.clock.now() + timedelta(seconds=seconds))

    async def _poll(self) -> list[Value]:
        """Everything once."""
        now = unix(self.clock)
        values: list[Value] = []
        missing: set[str] = set()
        for wanted, key, read in (
            (self._stations, "chargeboxID", self.stations),
            (self._vehicles, "vehicleID", self.vehicles),
        ):
            if not wanted:
                continue
            found = {str(entry[key]): entry for entry in await read()}
            missing |= wanted.keys() - found.keys()
            for name in wanted.keys() & found.keys():
                try:
                    values += observations(found[name], wanted[name].device_id, self.config.timezone, now)
                except (ValueError, TypeError, AttributeError):
                    self.refused["malformed"] += 1
        if new := missing - self._missing:
            log.warning("%s: %s not known there", self.where, ", ".join(sorted(new)))
        self._missing = frozenset(missing)
        if self._stations:
            values += await self._ended_sessions(now)
        return values

    async def _ended_sessions(self, now: int) -> list[Observation]:
        """Energy of sessions that ended within a day and were not told yet."""
        horizon = now - _HISTORY_S
        self._sessions_seen = {name: at for name, at in self._sessions_seen.items() if at > horizon}
        found = []
        for session in await self.sessions(_moment(horizon), _moment(now)):
            try:
                device = self._sockets.get(str(session["socketID"]))
                if device is None or not session.get("dataStop"):
                    continue
                name, ended_at = str(session["chargeID"]), unix_of(session["dataStop"], self.config.timezone)
                energy_wh = float(Decimal(str(session["kwTot"])) * 1000)
            except (ValueError, KeyError, TypeError, ArithmeticError):
                self.refused["malformed"] += 1
                continue
            if name not in self._sessions_seen:
                self._sessions_seen[name] = max(ended_at, horizon + 1)
                found.append(Observation(device, Quantity.SESSION_ENERGY, 0, energy_wh, ended_at, now))
        return found

    def _station(self, station_id: str) -> EvseStation:
        if station_id not in self._stations:
            raise DomainError(f"no station is called {station_id}", hint=f"known: {', '.join(self._stations)}")
        return self._stations[station_id]

    def _socket(self, station_id: str, socket: Literal["A", "B"]) -> dict[str, str]:
        sockets = self._station(station_id).sockets
        if socket not in sockets:
            raise DomainError(f"station {station_id} has no socket {socket}")
        return {"chargeboxID": station_id, "socketID": sockets[socket]}

    async def _command(self, command: str, confirmation: str, parameters: Mapping[str, str]) -> int:
        answer = await self._get(command, parameters)
        if answer != confirmation:
            raise PermanentError(
                f"{self.where}: {command} of {parameters['chargeboxID']} refused: {str(answer)[:100]!r}"
            )
        return unix(self.clock)

    async def _get(self, what: str, parameters: Mapping[str, str] | None = None) -> Any:
        tail = quote(json.dumps(parameters, separators=(",", ":")), safe="") if parameters else ""
        response = await request(self._client, "GET", f"{self.config.base_url}/{what}/{tail}", f"{self.where}: {what}")
        return json_of(response, f"{self.where}: {what}")

    def _local(self, moment: datetime) -> str:
        return moment.astimezone(ZoneInfo(self.config.timezone)).strftime("%Y-%m-%d %H:%M:%S")


def _objects(answer: Any, key: str) -> list[dict[str, Any]]:
    """One object or a list of them."""
    entries = answer if isinstance(answer, list) else [answer]
    return [entry for entry in entries if isinstance(entry, dict) and key in entry]


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
