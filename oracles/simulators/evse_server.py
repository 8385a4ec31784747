"""Charging stations and vehicles as the REST service of eDREAM D2.5, Annex IV, shows them, over real HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oracles.clock import Clock
from oracles.http_server import serving

_FORMAT = "%Y-%m-%d %H:%M:%S"


@dataclass(slots=True)
class SimulatedSocket:
    """A socket; ``session`` is when the running session began."""

    id: str
    status: str = "connected"
    energy_kwh: float = 0.0
    session: datetime | None = None


@dataclass(slots=True)
class SimulatedStation:
    """A station with its sockets by letter and its limit [A]."""

    sockets: dict[str, SimulatedSocket]
    ampere: int = 32


@dataclass
class EvseServer:
    """The service.

    Attributes
    ----------
    token : str, optional
        Bearer token that every request must carry.
    broken : bool
        Answers 503 to everything.
    """

    clock: Clock
    stations: dict[str, SimulatedStation]
    vehicles: dict[str, dict[str, Any]] = field(default_factory=dict)
    timezone: str = "Europe/Rome"
    token: str | None = None
    broken: bool = False
    sessions: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve; yields the base address."""
        handlers = {
            "chargeboxes": self._stations,
            "historyCharges": self._history,
            "startChargebox": self._start,
            "stopChargebox": self._stop,
            "setPower": self._set_power,
            "ev": self._vehicles,
        }

        async def answer(request: Request) -> Response:
            what, tail = request.path_params["what"], request.path_params["tail"]
            self.requests.append(f"{what} {tail}".strip())
            if self.broken:
                return Response(status_code=503)
            if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
                return Response(status_code=401)
            if what not in handlers:
                return Response(status_code=404)
            return JSONResponse(handlers[what](json.loads(tail) if tail else {}))

        app = Starlette(routes=[Route("/public/api/{what}/{tail:path}", answer)])
        async with serving(app, "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}/public/api"

    def _now(self) -> str:
        return self.clock.now().astimezone(ZoneInfo(self.timezone)).strftime(_FORMAT)

    def _stations(self, parameters: dict[str, str]) -> Any:
        shown = [
            {"chargeboxID": name, "maxPwrAC": str(station.ampere), "maxPwrDC": "0", "drStatus": "0"}
            | {f"tSocket{letter}": "type 2" for letter in station.sockets}
            | {f"stSocket{letter}": socket.status for letter, socket in station.sockets.items()}
            for name, station in self.stations.items()
        ]
        wanted = parameters.get("chargeboxID")
        return shown if wanted is None else next((entry for entry in shown if entry["chargeboxID"] == wanted), {})

    def _vehicles(self, parameters: dict[str, str]) -> Any:
        shown = [{"vehicleID": name, "timestamp": self._now()} | state for name, state in self.vehicles.items()]
        wanted = parameters.get("vehicleID")
        return shown if wanted is None else next((entry for entry in shown if entry["vehicleID"] == wanted), {})

    def _history(self, parameters: dict[str, str]) -> Any:
        found = [
            session
            for session in self.sessions
            if parameters.get("dateFrom", "") <= session["dataStop"] <= parameters.get("dateTo", "9")
            and parameters.get("chargeboxID", session["chargeboxID"]) == session["chargeboxID"]
        ]
        return {"numCharge": str(len(found)), "recharges": found}

    def _socket(self, parameters: dict[str, str]) -> SimulatedSocket | None:
        station = self.stations.get(parameters.get("chargeboxID", ""))
        sockets = [] if station is None else list(station.sockets.values())
        return next((socket for socket in sockets if socket.id == parameters.get("socketID")), None)

    def _start(self, parameters: dict[str, str]) -> str:
        socket = self._socket(parameters)
        if socket is None or socket.status != "connected":
            return "START_KO"
        socket.status, socket.session, socket.energy_kwh = "charging", self.clock.now(), 0.0
        return "START_OK"

    def _stop(self, parameters: dict[str, str]) -> str:
        socket = self._socket(parameters)
        if socket is None or socket.session is None:
            return "STOP_KO"
        letter = next(
            letter for letter, other in self.stations[parameters["chargeboxID"]].sockets.items() if other is socket
        )
        began = socket.session.astimezone(ZoneInfo(self.timezone)).strftime(_FORMAT)
        self.sessions.append(
            {
                "chargeID": str(5000 + len(self.sessions)),
                "dataStart": began,
                "dataStop": self._now(),
                "kwTot": socket.energy_kwh,
                "socketID": socket.id,
                "chargeboxID": parameters["chargeboxID"],
                "nomePresa": f"presa {letter}",
            }
        )
        socket.status, socket.session = "connected", None
        return "STOP_OK"

    def _set_power(self, parameters: dict[str, str]) -> str:
        station = self.stations.get(parameters.get("chargeboxID", ""))
        ampere = int(parameters["powerValue"])
        if station is None or not 7 <= ampere <= 64:
            return "SET_KO"
        station.ampere = ampere
        return "SET_OK"
