"""OCPP 1.6 (JSON): what a charge point says and what it is told."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ocpp.routing import after, on
from ocpp.v16 import ChargePoint, call, call_result
from ocpp.v16.datatypes import ChargingProfile, ChargingSchedule, ChargingSchedulePeriod, IdTagInfo
from ocpp.v16.enums import (
    Action,
    AuthorizationStatus,
    ChargingProfileKindType,
    ChargingProfilePurposeType,
    ChargingRateUnitType,
    DataTransferStatus,
    RegistrationStatus,
)
from websockets.asyncio.server import ServerConnection

from offchain.domain.errors import AdapterError, PermanentError
from offchain.domain.isp import SECONDS_PER_ISP
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
    "Preparing": DeviceStatus.CONNECTED,
    "Charging": DeviceStatus.CHARGING,
    "SuspendedEV": DeviceStatus.SUSPENDED,
    "SuspendedEVSE": DeviceStatus.SUSPENDED,
    "Finishing": DeviceStatus.CONNECTED,
    "Reserved": DeviceStatus.RESERVED,
    "Unavailable": DeviceStatus.UNAVAILABLE,
    "Faulted": DeviceStatus.FAULTED,
}


class ChargePoint16(ChargePoint):
    """Our end of the connection to one charge point."""

    def __init__(self, station: Station, connection: ServerConnection, response_timeout: float):
        super().__init__(station.config.id, connection, response_timeout)
        self.station = station
        self._setting_up: asyncio.Task[None] | None = None

    @on(Action.boot_notification)
    def on_boot_notification(self, **_: object) -> call_result.BootNotification:
        return call_result.BootNotification(self.station.now, self.station.heartbeat_s, RegistrationStatus.accepted)

    @after(Action.boot_notification)
    def after_boot_notification(self, **_: object) -> None:
        self._setting_up = asyncio.create_task(self._set_up())

    @on(Action.heartbeat)
    def on_heartbeat(self, **_: object) -> call_result.Heartbeat:
        return call_result.Heartbeat(self.station.now)

    @on(Action.status_notification)
    async def on_status_notification(
        self, connector_id: int, error_code: str, status: str, timestamp: str | None = None, **_: object
    ) -> call_result.StatusNotification:
        at = seconds(timestamp or self.station.now)
        broken = error_code == "PowerMeterFailure"
        await self.station.stored([self.station.status(connector_id, _STATUS[status], at, broken_meter=broken)])
        return call_result.StatusNotification()

    @on(Action.authorize)
    def on_authorize(self, id_tag: str, **_: object) -> call_result.Authorize:
        return call_result.Authorize(self._info(id_tag))

    @on(Action.start_transaction)
    def on_start_transaction(
        self,
        connector_id: int,
        id_tag: str,
        meter_start: int,
        timestamp: str,
        reservation_id: int | None = None,
        **_: object,
    ) -> call_result.StartTransaction:
        session = self.station.sessions.start(self.id, connector_id, seconds(timestamp), meter_start)
        if reservation_id is not None:
            self.station.sessions.end_reservation(self.id, reservation_id)
        return call_result.StartTransaction(session.number, self._info(id_tag))

    @on(Action.stop_transaction)
    async def on_stop_transaction(
        self,
        meter_stop: int,
        timestamp: str,
        transaction_id: int,
        id_tag: str | None = None,
        transaction_data: Sequence[Mapping[str, Any]] = (),
        **_: object,
    ) -> call_result.StopTransaction:
        at = seconds(timestamp)
        session = self.station.sessions.stop(self.id, str(transaction_id), at, meter_stop)
        if session is None:
            log.warning("%s: transaction %d ended, which was not started here", self.station.where, transaction_id)
        else:
            values = self.station.values_of(session.connector, transaction_data)
            if session.meter_start_wh is not None:
                values.append(self.station.session_energy(session.connector, meter_stop - session.meter_start_wh, at))
            await self.station.stored(values)
        return call_result.StopTransaction(None if id_tag is None else self._info(id_tag))

    @on(Action.meter_values)
    async def on_meter_values(
        self, connector_id: int, meter_value: Sequence[Mapping[str, Any]], **_: object
    ) -> call_result.MeterValues:
        await self.station.stored(self.station.values_of(connector_id, meter_value))
        return call_result.MeterValues()

    @on(Action.data_transfer)
    def on_data_transfer(self, **_: object) -> call_result.DataTransfer:
        return call_result.DataTransfer(DataTransferStatus.unknown_vendor_id)

    @on(Action.firmware_status_notification)
    def on_firmware_status_notification(self, **_: object) -> call_result.FirmwareStatusNotification:
        return call_result.FirmwareStatusNotification()

    @on(Action.diagnostics_status_notification)
    def on_diagnostics_status_notification(self, **_: object) -> call_result.DiagnosticsStatusNotification:
        return call_result.DiagnosticsStatusNotification()

    async def set_limits(self, connector: int, limits: ChargingLimits) -> None:
        """Replace the charging limits of the same day of a connector, or of the whole charge point (0)."""
        schedule = ChargingSchedule(
            ChargingRateUnitType.watts if limits.unit == "W" else ChargingRateUnitType.amps,
            [ChargingSchedulePeriod(start_period=offset, limit=limit) for offset, limit in limits.periods],
            duration=limits.duration_s,
            start_schedule=stamp(limits.start_at),
        )
        profile = ChargingProfile(
            charging_profile_id=profile_id(connector, limits.stack_level),
            stack_level=limits.stack_level,
            charging_profile_purpose=_purpose(connector),
            charging_profile_kind=ChargingProfileKindType.absolute,
            charging_schedule=schedule,
            valid_from=stamp(limits.start_at),
            valid_to=stamp(limits.end_at),
        )
        await self.station.ask(self, call.SetChargingProfile(connector, profile))

    async def clear_limits(self, connector: int) -> None:
        """Take the limits away; fine when there were none."""
        for stack_level in range(PROFILES_PER_CONNECTOR):
            request = call.ClearChargingProfile(id=profile_id(connector, stack_level))
            await self.station.ask(self, request, accepted=("Accepted", "Unknown"))

    async def start_charging(self, connector: int) -> None:
        """Begin a transaction."""
        await self.station.ask(self, call.RemoteStartTransaction(REMOTE_TAG, connector))

    async def stop_charging(self, transaction_id: str) -> None:
        """End a transaction."""
        await self.station.ask(self, call.RemoteStopTransaction(int(transaction_id)))

    async def reserve(self, connector: int, number: int, id_tag: str, until: int) -> None:
        """Keep a connector for one tag."""
        await self.station.ask(self, call.ReserveNow(connector, stamp(until), id_tag, number))

    async def cancel(self, number: int) -> None:
        """Give a reservation up."""
        await self.station.ask(self, call.CancelReservation(number))

    async def _set_up(self) -> None:
        """Ask for registers at every ISP boundary and for telemetry in between."""
        wanted = {
            "ClockAlignedDataInterval": str(SECONDS_PER_ISP),
            "MeterValuesAlignedData": self.station.aligned_measurands,
            "MeterValueSampleInterval": str(self.station.sample_s),
            "MeterValuesSampledData": self.station.sampled_measurands,
        }
        for key, value in wanted.items():
            try:
                await self.station.ask(
                    self, call.ChangeConfiguration(key, value), accepted=("Accepted", "RebootRequired")
                )
            except PermanentError as error:
                log.warning("%s; %s stays as it is", error, key)
            except AdapterError as error:
                log.warning("%s; set up again at its next start", error)
                return

    def _info(self, id_tag: str) -> IdTagInfo:
        known = self.station.authorises(id_tag)
        return IdTagInfo(AuthorizationStatus.accepted if known else AuthorizationStatus.invalid)


def _purpose(connector: int) -> ChargingProfilePurposeType:
    if connector == 0:
        return ChargingProfilePurposeType.charge_point_max_profile
    return ChargingProfilePurposeType.tx_default_profile
