"""OCPP 2.0.1: what a charging station says and what it is told. Its EVSEs are what 1.6 calls connectors."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ocpp.routing import after, on
from ocpp.v201 import ChargePoint, call, call_result
from ocpp.v201.datatypes import (
    ChargingProfileType,
    ChargingSchedulePeriodType,
    ChargingScheduleType,
    ComponentType,
    IdTokenInfoType,
    IdTokenType,
    SetVariableDataType,
    VariableType,
)
from ocpp.v201.enums import (
    Action,
    AuthorizationStatusEnumType,
    ChargingProfileKindEnumType,
    ChargingProfilePurposeEnumType,
    ChargingRateUnitEnumType,
    DataTransferStatusEnumType,
    IdTokenEnumType,
    RegistrationStatusEnumType,
)
from websockets.asyncio.server import ServerConnection

from offchain.domain.errors import AdapterError
from offchain.domain.isp import SECONDS_PER_ISP
from oracles.clock import unix
from oracles.sources.ocpp_station import (
    PROFILES_PER_CONNECTOR,
    REMOTE_TAG,
    ChargingLimits,
    Station,
    profile_id,
    seconds,
    stamp,
)
from oracles.sources.port import DeviceStatus

log = logging.getLogger(__name__)

_STATUS = {
    "Available": DeviceStatus.AVAILABLE,
    "Occupied": DeviceStatus.CONNECTED,
    "Reserved": DeviceStatus.RESERVED,
    "Unavailable": DeviceStatus.UNAVAILABLE,
    "Faulted": DeviceStatus.FAULTED,
}
_CHARGING_STATE = {
    "Charging": DeviceStatus.CHARGING,
    "EVConnected": DeviceStatus.CONNECTED,
    "SuspendedEV": DeviceStatus.SUSPENDED,
    "SuspendedEVSE": DeviceStatus.SUSPENDED,
    "Idle": DeviceStatus.CONNECTED,
}


class ChargePoint201(ChargePoint):
    """Our end of the connection to one charging station."""

    def __init__(self, station: Station, connection: ServerConnection, response_timeout: float):
        super().__init__(station.config.id, connection, response_timeout)
        self.station = station
        self._setting_up: asyncio.Task[None] | None = None

    @on(Action.boot_notification)
    def on_boot_notification(self, **_: object) -> call_result.BootNotification:
        accepted = RegistrationStatusEnumType.accepted
        return call_result.BootNotification(self.station.now, self.station.heartbeat_s, accepted)

    @after(Action.boot_notification)
    def after_boot_notification(self, **_: object) -> None:
        self._setting_up = asyncio.create_task(self._set_up())

    @on(Action.heartbeat)
    def on_heartbeat(self, **_: object) -> call_result.Heartbeat:
        return call_result.Heartbeat(self.station.now)

    @on(Action.status_notification)
    async def on_status_notification(
        self, timestamp: str, connector_status: str, evse_id: int, **_: object
    ) -> call_result.StatusNotification:
        await self.station.stored([self.station.status(evse_id, _STATUS[connector_status], seconds(timestamp))])
        return call_result.StatusNotification()

    @on(Action.authorize)
    def on_authorize(self, id_token: Mapping[str, Any], **_: object) -> call_result.Authorize:
        return call_result.Authorize(self._info(id_token))

    @on(Action.transaction_event)
    async def on_transaction_event(
        self,
        event_type: str,
        timestamp: str,
        transaction_info: Mapping[str, Any],
        meter_value: Sequence[Mapping[str, Any]] = (),
        evse: Mapping[str, Any] | None = None,
        id_token: Mapping[str, Any] | None = None,
        reservation_id: int | None = None,
        **_: object,
    ) -> call_result.TransactionEvent:
        sessions, at, transaction_id = self.station.sessions, seconds(timestamp), transaction_info["transaction_id"]
        register_wh = self.station.register_wh(meter_value)
        session = sessions.find(self.id, transaction_id)
        if session is None and evse is not None:
            # An event without the one that began it: the beginning was lost, or happened before this file.
            started_wh = register_wh if event_type == "Started" else None
            session = sessions.start(self.id, evse["id"], at, started_wh, transaction_id)
        if reservation_id is not None:
            sessions.end_reservation(self.id, reservation_id)
        if session is not None:
            values = self.station.values_of(session.connector, meter_value)
            if event_type == "Ended":
                sessions.stop(self.id, transaction_id, at, register_wh)
                if register_wh is not None and session.meter_start_wh is not None:
                    energy_wh = register_wh - session.meter_start_wh
                    values.append(self.station.session_energy(session.connector, energy_wh, at))
            state = transaction_info.get("charging_state")
            if state in _CHARGING_STATE:
                values.append(self.station.status(session.connector, _CHARGING_STATE[state], at))
            await self.station.stored(values)
        return call_result.TransactionEvent(id_token_info=None if id_token is None else self._info(id_token))

    @on(Action.meter_values)
    async def on_meter_values(
        self, evse_id: int, meter_value: Sequence[Mapping[str, Any]], **_: object
    ) -> call_result.MeterValues:
        await self.station.stored(self.station.values_of(evse_id, meter_value))
        return call_result.MeterValues()

    @on(Action.reservation_status_update)
    def on_reservation_status_update(self, reservation_id: int, **_: object) -> call_result.ReservationStatusUpdate:
        self.station.sessions.end_reservation(self.id, reservation_id)
        return call_result.ReservationStatusUpdate()

    @on(Action.data_transfer)
    def on_data_transfer(self, **_: object) -> call_result.DataTransfer:
        return call_result.DataTransfer(DataTransferStatusEnumType.unknown_vendor_id)

    @on(Action.notify_event)
    def on_notify_event(self, **_: object) -> call_result.NotifyEvent:
        return call_result.NotifyEvent()

    @on(Action.notify_report)
    def on_notify_report(self, **_: object) -> call_result.NotifyReport:
        return call_result.NotifyReport()

    @on(Action.notify_charging_limit)
    def on_notify_charging_limit(self, **_: object) -> call_result.NotifyChargingLimit:
        return call_result.NotifyChargingLimit()

    @on(Action.security_event_notification)
    def on_security_event_notification(self, type: str, **_: object) -> call_result.SecurityEventNotification:
        log.warning("%s: security event %s", self.station.where, type)
        return call_result.SecurityEventNotification()

    @on(Action.firmware_status_notification)
    def on_firmware_status_notification(self, **_: object) -> call_result.FirmwareStatusNotification:
        return call_result.FirmwareStatusNotification()

    async def set_limits(self, connector: int, limits: ChargingLimits) -> None:
        """Replace the charging limits of the same day of an EVSE, or of the whole station (0)."""
        schedule = ChargingScheduleType(
            id=profile_id(connector, limits.stack_level),
            charging_rate_unit=ChargingRateUnitEnumType.watts if limits.unit == "W" else ChargingRateUnitEnumType.amps,
            charging_schedule_period=[
                ChargingSchedulePeriodType(start_period=offset, limit=limit) for offset, limit in limits.periods
            ],
            start_schedule=stamp(limits.start_at),
            duration=limits.duration_s,
        )
        profile = ChargingProfileType(
            id=profile_id(connector, limits.stack_level),
            stack_level=limits.stack_level,
            charging_profile_purpose=_purpose(connector),
            charging_profile_kind=ChargingProfileKindEnumType.absolute,
            charging_schedule=[schedule],
            valid_from=stamp(limits.start_at),
            valid_to=stamp(limits.end_at),
        )
        await self.station.ask(self, call.SetChargingProfile(connector, profile))

    async def clear_limits(self, connector: int) -> None:
        """Take the limits away; fine when there were none."""
        for stack_level in range(PROFILES_PER_CONNECTOR):
            request = call.ClearChargingProfile(charging_profile_id=profile_id(connector, stack_level))
            await self.station.ask(self, request, accepted=("Accepted", "Unknown"))

    async def start_charging(self, connector: int) -> None:
        """Begin a transaction."""
        token = IdTokenType(REMOTE_TAG, IdTokenEnumType.central)
        remote_start_id = unix(self.station.clock) % 2**31
        await self.station.ask(self, call.RequestStartTransaction(token, remote_start_id, evse_id=connector))

    async def stop_charging(self, transaction_id: str) -> None:
        """End a transaction."""
        await self.station.ask(self, call.RequestStopTransaction(transaction_id))

    async def reserve(self, connector: int, number: int, id_tag: str, until: int) -> None:
        """Keep an EVSE for one token."""
        token = IdTokenType(id_tag, IdTokenEnumType.iso14443)
        await self.station.ask(self, call.ReserveNow(number, stamp(until), token, evse_id=connector))

    async def cancel(self, number: int) -> None:
        """Give a reservation up."""
        await self.station.ask(self, call.CancelReservation(number))

    async def _set_up(self) -> None:
        """Ask for registers at every ISP boundary, and at begin and end of transactions; telemetry in between."""
        ends = self.station.aligned_measurands
        wanted = {
            ("AlignedDataCtrlr", "Interval"): str(SECONDS_PER_ISP),
            ("AlignedDataCtrlr", "Measurands"): self.station.aligned_measurands,
            ("SampledDataCtrlr", "TxStartedMeasurands"): ends,
            ("SampledDataCtrlr", "TxEndedMeasurands"): ends,
            ("SampledDataCtrlr", "TxUpdatedInterval"): str(self.station.sample_s),
            ("SampledDataCtrlr", "TxUpdatedMeasurands"): self.station.sampled_measurands,
        }
        data = [
            SetVariableDataType(value, ComponentType(component), VariableType(variable))
            for (component, variable), value in wanted.items()
        ]
        try:
            response = await self.station.ask(self, call.SetVariables(data))
        except AdapterError as error:
            log.warning("%s; set up again at its next start", error)
            return
        for result in response.set_variable_result:
            if result["attribute_status"] not in ("Accepted", "RebootRequired"):
                log.warning(
                    "%s: %s of %s stays as it is: %s",
                    self.station.where,
                    result["variable"]["name"],
                    result["component"]["name"],
                    result["attribute_status"],
                )

    def _info(self, id_token: Mapping[str, Any]) -> IdTokenInfoType:
        known = self.station.authorises(id_token["id_token"])
        return IdTokenInfoType(AuthorizationStatusEnumType.accepted if known else AuthorizationStatusEnumType.invalid)


def _purpose(connector: int) -> ChargingProfilePurposeEnumType:
    if connector == 0:
        return ChargingProfilePurposeEnumType.charging_station_max_profile
    return ChargingProfilePurposeEnumType.tx_default_profile
