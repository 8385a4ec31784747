"""Charge points that speak real OCPP 1.6 or 2.0.1 over websockets.

They keep what they report about transactions and meters until the central system has answered, also while the
connection is gone, and send it in order when it is back. They obey remote commands and charging profiles.
"""

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self
from uuid import uuid4

import ocpp.v16
import ocpp.v16.call
import ocpp.v16.call_result
import ocpp.v201
import ocpp.v201.call
import ocpp.v201.call_result
from ocpp.exceptions import OCPPError
from ocpp.routing import on
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from offchain.domain.errors import DomainError, TransientError
from oracles.clock import Clock, unix
from oracles.sources.ocpp_station import answer_of, stamp

ANSWER_S = 30.0


@dataclass(slots=True)
class SimulatedConnector:
    """State of one connector (1.6) or EVSE (2.0.1); registers in Wh."""

    import_wh: int = 0
    export_wh: int = 0
    transaction_id: int | str | None = None
    id_tag: str | None = None
    reservation: tuple[int, str] | None = None
    events: int = 0


class SimulatedChargePoint:
    """One charge point.

    Parameters
    ----------
    url : str
        Address of the central system without the identity.
    identity, password : str
        Its basic authentication.
    version : str
        ``1.6`` or ``2.0.1``.
    connectors : int
        How many it has, numbered from 1.
    """

    def __init__(
        self,
        url: str,
        identity: str,
        password: str,
        *,
        version: Literal["1.6", "2.0.1"],
        clock: Clock,
        connectors: int = 1,
        tls: ssl.SSLContext | None = None,
    ):
        self.url = f"{url}/{identity}"
        self.identity = identity
        self.version = version
        self.clock = clock
        self.connectors = {number: SimulatedConnector() for number in range(1, connectors + 1)}
        self.limits: dict[tuple[int, int], dict[str, Any]] = {}
        """Charging profiles by connector and stack level."""
        self.settings: dict[str, str] = {}
        self.unsent: deque[Callable[[], Any]] = deque()
        self._tls = tls
        self._header = "Basic " + base64.b64encode(f"{identity}:{password}".encode()).decode()
        self._connection: ClientConnection | None = None
        self._link: Any = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.connect()
        await self.boot()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.disconnect()

    async def connect(self) -> None:
        """Open the websocket; what is unsent goes out."""
        self._connection = await connect(
            self.url,
            subprotocols=[f"ocpp{self.version}"],
            additional_headers={"Authorization": self._header},
            ssl=self._tls,
        )
        self._link = (_Link16 if self.version == "1.6" else _Link201)(self, self._connection)
        self._background(self._listen())
        await self.flush()

    async def disconnect(self) -> None:
        """Close the websocket, as a lost network would."""
        if self._connection is not None:
            await self._connection.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._connection = self._link = None

    async def boot(self) -> None:
        """Say what it is; the answer must accept it."""
        if self.version == "1.6":
            request = ocpp.v16.call.BootNotification("simulator", "gridpact")
        else:
            station = {"model": "simulator", "vendor_name": "gridpact"}
            request = ocpp.v201.call.BootNotification(station, "PowerUp")
        response = await self._link.call(request, suppress=False)
        if response.status != "Accepted":
            raise TransientError(f"simulated charge point {self.identity}: boot was answered {response.status}")
        for number in self.connectors:
            await self.say_status(number, "Available")

    async def heartbeat(self) -> str:
        """Time of the central system."""
        calls = ocpp.v16.call if self.version == "1.6" else ocpp.v201.call
        response = await self._link.call(calls.Heartbeat(), suppress=False)
        return str(response.current_time)

    async def authorize(self, id_tag: str) -> str:
        """Whether the central system knows a tag."""
        if self.version == "1.6":
            response = await self._link.call(ocpp.v16.call.Authorize(id_tag), suppress=False)
            return str(response.id_tag_info["status"])
        token = {"id_token": id_tag, "type": "ISO14443"}
        response = await self._link.call(ocpp.v201.call.Authorize(token), suppress=False)
        return str(response.id_token_info["status"])

    async def say_status(self, connector: int, status: str, *, error: str = "NoError") -> None:
        """Report the state of a connector; 2.0.1 knows ``Occupied`` where 1.6 knows more."""
        now = stamp(unix(self.clock))
        if self.version == "1.6":
            await self._report(lambda: ocpp.v16.call.StatusNotification(connector, error, status, timestamp=now))
        else:
            await self._report(lambda: ocpp.v201.call.StatusNotification(now, status, connector, 1))

    async def start(self, connector: int, id_tag: str) -> None:
        """A vehicle begins to charge."""
        state, now = self.connectors[connector], stamp(unix(self.clock))
        if state.transaction_id is not None:
            raise DomainError(f"simulated charge point {self.identity}: connector {connector} is charging")
        state.id_tag, state.events = id_tag, 0
        reservation = None if state.reservation is None else state.reservation[0]
        state.reservation = None
        register_wh = state.import_wh
        if self.version == "1.6":
            state.transaction_id = -1  # until the central system has given it a number

            def request() -> Any:
                return ocpp.v16.call.StartTransaction(connector, id_tag, register_wh, now, reservation)

            await self._report(request)
        else:
            state.transaction_id = str(uuid4())
            await self._report(self._event(connector, "Started", "Authorized", now, reservation=reservation))

    async def stop(self, connector: int, *, reason: str = "Local") -> None:
        """The vehicle ends charging."""
        state, now = self.connectors[connector], stamp(unix(self.clock))
        if state.transaction_id is None:
            raise DomainError(f"simulated charge point {self.identity}: connector {connector} is not charging")
        register_wh = state.import_wh
        if self.version == "1.6":

            def request() -> Any:
                number, state.transaction_id = state.transaction_id, None
                return ocpp.v16.call.StopTransaction(register_wh, now, int(number or 0), reason=reason)

            await self._report(request)
        else:
            event = self._event(connector, "Ended", "StopAuthorized", now)
            state.transaction_id = None
            await self._report(event)

    async def measure(self, connector: int, sampled: Mapping[str, float] | None = None) -> None:
        """Registers of a connector, clock-aligned, with further measurands as ``{"Power.Active.Import": 7000}``."""
        now, state = stamp(unix(self.clock)), self.connectors[connector]
        values = {
            "Energy.Active.Import.Register": state.import_wh,
            "Energy.Active.Export.Register": state.export_wh,
            **(sampled or {}),
        }
        if self.version == "1.6":
            sample = [
                {"value": str(value), "measurand": measurand, "context": "Sample.Clock"}
                for measurand, value in values.items()
            ]
            meter_value = [{"timestamp": now, "sampled_value": sample}]
            await self._report(lambda: ocpp.v16.call.MeterValues(connector, meter_value))
        else:
            sample = [
                {"value": value, "measurand": measurand, "context": "Sample.Clock"}
                for measurand, value in values.items()
            ]
            meter_value = [{"timestamp": now, "sampled_value": sample}]
            await self._report(lambda: ocpp.v201.call.MeterValues(connector, meter_value))

    def limit(self, connector: int, at: datetime) -> float | None:
        """Limit of a connector at a moment, in the unit of its profile; ``None`` when there is none.

        The highest stack level that is valid decides.
        """
        valid = [
            (level, profile)
            for (number, level), profile in self.limits.items()
            if number == connector
            and datetime.fromisoformat(profile["valid_from"]) <= at < datetime.fromisoformat(profile["valid_to"])
        ]
        if not valid:
            return None
        _, profile = max(valid, key=lambda found: found[0])
        schedule = profile["charging_schedule"]
        schedule = schedule[0] if isinstance(schedule, list) else schedule
        offset_s = (at - datetime.fromisoformat(schedule["start_schedule"])).total_seconds()
        if not 0 <= offset_s < schedule["duration"]:
            return None
        periods = [p for p in schedule["charging_schedule_period"] if p["start_period"] <= offset_s]
        return float(periods[-1]["limit"])

    async def flush(self) -> None:
        """Send what was not answered yet, in order; the rest stays for the next time."""
        async with self._sending:
            while self.unsent and self._link is not None:
                try:
                    response = await answer_of(self._link, self.unsent[0]())
                except (ConnectionClosed, ConnectionError, TimeoutError, OCPPError):
                    return
                self.unsent.popleft()
                if isinstance(response, ocpp.v16.call_result.StartTransaction):
                    waiting = [state for state in self.connectors.values() if state.transaction_id == -1]
                    waiting[0].transaction_id = response.transaction_id

    async def _report(self, request: Callable[[], Any]) -> None:
        self.unsent.append(request)
        await self.flush()

    def _event(
        self, connector: int, kind: str, trigger: str, now: str, *, reservation: int | None = None
    ) -> Callable[[], Any]:
        state = self.connectors[connector]
        info: dict[str, Any] = {"transaction_id": state.transaction_id}
        info["charging_state"] = "Charging" if kind == "Started" else "EVConnected"
        context = {"Started": "Transaction.Begin", "Ended": "Transaction.End"}[kind]
        sample = {"value": state.import_wh, "measurand": "Energy.Active.Import.Register", "context": context}
        number, state.events = state.events, state.events + 1
        request = ocpp.v201.call.TransactionEvent(
            kind,
            now,
            trigger,
            number,
            info,
            meter_value=[{"timestamp": now, "sampled_value": [sample]}],
            reservation_id=reservation,
            evse={"id": connector, "connector_id": 1},
            id_token={"id_token": state.id_tag or "", "type": "ISO14443"},
        )
        return lambda: request

    async def _listen(self) -> None:
        try:
            await self._link.start()
        except ConnectionClosed:
            self._link = None

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _set_limit(self, connector: int, profile: dict[str, Any]) -> str:
        if connector and connector not in self.connectors:
            return "Rejected"
        self.limits[connector, profile["stack_level"]] = profile
        return "Accepted"

    def _clear_limit(self, profile_id: int | None, key: str) -> str:
        found = [place for place, profile in self.limits.items() if profile_id in (None, profile[key])]
        for place in found:
            del self.limits[place]
        return "Accepted" if found else "Unknown"

    def _remote_start(self, connector: int | None, id_tag: str) -> str:
        number = connector or 1
        if number not in self.connectors or self.connectors[number].transaction_id is not None:
            return "Rejected"
        self._background(self.start(number, id_tag))
        return "Accepted"

    def _remote_stop(self, transaction_id: int | str) -> str:
        for number, state in self.connectors.items():
            if state.transaction_id == transaction_id:
                self._background(self.stop(number, reason="Remote"))
                return "Accepted"
        return "Rejected"

    def _reserve(self, connector: int | None, number: int, id_tag: str) -> str:
        state = self.connectors.get(connector or 1)
        if state is None:
            return "Rejected"
        if state.transaction_id is not None or (state.reservation is not None and state.reservation[0] != number):
            return "Occupied"
        state.reservation = number, id_tag
        return "Accepted"

    def _cancel(self, number: int) -> str:
        for state in self.connectors.values():
            if state.reservation is not None and state.reservation[0] == number:
                state.reservation = None
                return "Accepted"
        return "Rejected"


class _Link16(ocpp.v16.ChargePoint):
    def __init__(self, device: SimulatedChargePoint, connection: ClientConnection):
        super().__init__(device.identity, connection, ANSWER_S)
        self.device = device

    @on("ChangeConfiguration")
    def on_change_configuration(self, key: str, value: str) -> Any:
        self.device.settings[key] = value
        return ocpp.v16.call_result.ChangeConfiguration("Accepted")

    @on("SetChargingProfile")
    def on_set_charging_profile(self, connector_id: int, cs_charging_profiles: dict[str, Any]) -> Any:
        return ocpp.v16.call_result.SetChargingProfile(self.device._set_limit(connector_id, cs_charging_profiles))

    @on("ClearChargingProfile")
    def on_clear_charging_profile(self, id: int | None = None, **_: object) -> Any:
        return ocpp.v16.call_result.ClearChargingProfile(self.device._clear_limit(id, "charging_profile_id"))

    @on("RemoteStartTransaction")
    def on_remote_start_transaction(self, id_tag: str, connector_id: int | None = None, **_: object) -> Any:
        return ocpp.v16.call_result.RemoteStartTransaction(self.device._remote_start(connector_id, id_tag))

    @on("RemoteStopTransaction")
    def on_remote_stop_transaction(self, transaction_id: int) -> Any:
        return ocpp.v16.call_result.RemoteStopTransaction(self.device._remote_stop(transaction_id))

    @on("ReserveNow")
    def on_reserve_now(self, connector_id: int, id_tag: str, reservation_id: int, **_: object) -> Any:
        return ocpp.v16.call_result.ReserveNow(self.device._reserve(connector_id, reservation_id, id_tag))

    @on("CancelReservation")
    def on_cancel_reservation(self, reservation_id: int) -> Any:
        return ocpp.v16.call_result.CancelReservation(self.device._cancel(reservation_id))


class _Link201(ocpp.v201.ChargePoint):
    def __init__(self, device: SimulatedChargePoint, connection: ClientConnection):
        super().__init__(device.identity, connection, ANSWER_S)
        self.device = device

    @on("SetVariables")
    def on_set_variables(self, set_variable_data: list[dict[str, Any]], **_: object) -> Any:
        results = []
        for entry in set_variable_data:
            self.device.settings[entry["variable"]["name"]] = entry["attribute_value"]
            results.append(
                {"attribute_status": "Accepted", "component": entry["component"], "variable": entry["variable"]}
            )
        return ocpp.v201.call_result.SetVariables(results)

    @on("SetChargingProfile")
    def on_set_charging_profile(self, evse_id: int, charging_profile: dict[str, Any], **_: object) -> Any:
        return ocpp.v201.call_result.SetChargingProfile(self.device._set_limit(evse_id, charging_profile))

    @on("ClearChargingProfile")
    def on_clear_charging_profile(self, charging_profile_id: int | None = None, **_: object) -> Any:
        return ocpp.v201.call_result.ClearChargingProfile(self.device._clear_limit(charging_profile_id, "id"))

    @on("RequestStartTransaction")
    def on_request_start_transaction(self, id_token: dict[str, Any], evse_id: int | None = None, **_: object) -> Any:
        status = self.device._remote_start(evse_id, id_token["id_token"])
        return ocpp.v201.call_result.RequestStartTransaction(status)

    @on("RequestStopTransaction")
    def on_request_stop_transaction(self, transaction_id: str, **_: object) -> Any:
        return ocpp.v201.call_result.RequestStopTransaction(self.device._remote_stop(transaction_id))

    @on("ReserveNow")
    def on_reserve_now(self, id: int, id_token: dict[str, Any], evse_id: int | None = None, **_: object) -> Any:
        return ocpp.v201.call_result.ReserveNow(self.device._reserve(evse_id, id, id_token["id_token"]))

    @on("CancelReservation")
    def on_cancel_reservation(self, reservation_id: int, **_: object) -> Any:
        return ocpp.v201.call_result.CancelReservation(self.device._cancel(reservation_id))
