"""Charging stations and vehicles behind the REST service of eDREAM D2.5, Annex IV: polled, and commanded.

Every request is a GET whose parameters are a JSON object at the end of the path, such as
``<base>/setPower/{"chargeboxID":"24","powerValue":"32"}``; commands answer ``START_OK``, ``STOP_OK`` or ``SET_OK``.
One poll is three requests, whatever the number of stations: all stations, all vehicles, the sessions since the last.
"""

import asyncio
import json
import logging
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
from pydantic import BaseModel, Field, field_validator, model_validator

from offchain.domain.errors import DomainError, PermanentError, TransientError
from offchain.domain.isp import isp_of, isp_start
from oracles.clock import Clock, unix
from oracles.sources.charging import Steered
from oracles.sources.config import MeterId, Secret, SitePath, Zone
from oracles.sources.delivery import Delivery, Value
from oracles.sources.http_client import json_of, request
from oracles.sources.port import Observation, Quantity
from oracles.sources.telemetry import observations, unix_of

log = logging.getLogger(__name__)

MIN_AMPERE, MAX_AMPERE = 7, 64
"""What ``setPower`` takes [A]."""

MAX_DELAY_S = 600.0
_HISTORY_S = 86_400
_FOLLOW_S = 10


class EvseStation(BaseModel, extra="forbid", frozen=True):
    """A station: its id there, its name here, and the ids of its sockets by letter.

    Attributes
    ----------
    meter_id, steered : bytes, Steered
        Its meter and its power, when it follows orders.
    phases, voltage_v : int, float
        How W become A, per phase [V].
    """

    id: str = Field(min_length=1)
    device_id: str = Field(min_length=1)
    sockets: dict[Literal["A", "B"], str] = Field(min_length=1)
    meter_id: MeterId | None = None
    steered: Steered | None = None
    phases: Literal[1, 2, 3] = 3
    voltage_v: float = Field(default=230.0, gt=0)

    @model_validator(mode="after")
    def _both(self) -> "EvseStation":
        if (self.meter_id is None) != (self.steered is None):
            raise ValueError(f"station {self.id} follows orders only with both meter_id and steered")
        return self

    def ampere(self, limit_w: int) -> int:
        """Current for a limit [A], rounded down, within what the service takes."""
        return min(max(int(limit_w / (self.voltage_v * self.phases)), MIN_AMPERE), MAX_AMPERE)


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
    schedules_file : Path, optional
        Where schedules of steered stations are kept.
    """

    base_url: str
    token: Secret | None = None
    timezone: Zone
    poll_s: float = Field(default=60.0, gt=0)
    timeout_s: float = Field(default=10.0, gt=0)
    schedules_file: SitePath | None = None
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
        if self.schedules_file is None and any(station.steered is not None for station in self.stations):
            raise ValueError("stations that follow orders need a schedules_file")
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
        self._schedules = _load_schedules(config.schedules_file)
        self._set: dict[str, int] = {}
        self._missing: frozenset[str] = frozenset()
        headers = {} if config.token is None else {"Authorization": f"Bearer {config.token.read()}"}
        self._client = httpx.AsyncClient(timeout=config.timeout_s, headers=headers)

    async def values(self) -> AsyncIterator[Value]:
        self._sessions_seen.clear()
        tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._keep_schedules())]
        try:
            async for value in self._delivery.values():
                yield value
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

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

    async def follow(self, station_id: str, plan: Mapping[int, int]) -> None:
        """Take up the currents of ISPs [A] for a steered station, and set that of the present one.

        What was planned for other ISPs stays. Once this returns the plan survives a restart; it is carried out while
        ``values`` runs.
        """
        self._station(station_id)
        if self.config.schedules_file is None:
            raise DomainError(f"station {station_id} does not follow orders", hint="give it meter_id and steered")
        now = isp_of(self.clock.now())
        kept = {isp: ampere for isp, ampere in self._schedules.get(station_id, {}).items() if isp >= now}
        schedules = self._schedules | {station_id: kept | {isp: a for isp, a in plan.items() if isp >= now}}
        _save_schedules(self.config.schedules_file, schedules)
        self._schedules = schedules
        await self._set_planned(station_id)

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

    async def _keep_schedules(self) -> None:
        """Set the current of each steered station when its ISP begins, again and again until the service confirms."""
        failing: set[str] = set()
        while True:
            for station in self.config.stations:
                if station.steered is None:
                    continue
                try:
                    await self._set_planned(station.id)
                    failing.discard(station.id)
                except (TransientError, PermanentError) as error:
                    if station.id not in failing:
                        log.warning("%s; trying again every %d s", error, _FOLLOW_S)
                    failing.add(station.id)
            boundary = isp_start(isp_of(self.clock.now()) + 1)
            await self.clock.sleep_until(min(boundary, self.clock.now() + timedelta(seconds=_FOLLOW_S)))

    async def _set_planned(self, station_id: str) -> None:
        """Set what the schedule says now; without one everything is allowed, but only after there was one."""
        station = self._stations[station_id]
        planned = self._schedules.get(station_id)
        if planned is None or station.steered is None:
            return
        ampere = planned.get(isp_of(self.clock.now()), station.ampere(station.steered.max_w))
        if self._set.get(station_id) != ampere:
            await self.set_limit(station_id, ampere)
            self._set[station_id] = ampere

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


def _load_schedules(path: Path | None) -> dict[str, dict[int, int]]:
    """Current per ISP [A] of each station, as it was saved."""
    if path is None or not path.exists():
        return {}
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {name: {int(isp): int(ampere) for isp, ampere in plan.items()} for name, plan in saved.items()}
    except (OSError, ValueError, AttributeError) as exc:
        raise PermanentError(f"schedules in {path} cannot be read: {exc}", hint="remove the file") from exc


def _save_schedules(path: Path, schedules: Mapping[str, Mapping[int, int]]) -> None:
    """Replace the file in one step, so that a crash leaves the old one or the new one."""
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(schedules, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as exc:
        raise TransientError(f"schedules in {path} cannot be saved: {exc.strerror}") from exc


def _objects(answer: Any, key: str) -> list[dict[str, Any]]:
    """One object or a list of them."""
    entries = answer if isinstance(answer, list) else [answer]
    return [entry for entry in entries if isinstance(entry, dict) and key in entry]


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
