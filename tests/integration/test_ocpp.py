"""Charge points of both versions of OCPP at a real central system over websockets."""

import asyncio
import base64
import ssl
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from offchain.domain.errors import DomainError, PermanentError, TransientError
from offchain.domain.isp import MarketDay, isp_start
from oracles.clock import SimulatedClock
from oracles.config import OcppDevice
from oracles.downlink import Acknowledgement, Setpoints
from oracles.downlink_charging import charging_downlinks
from oracles.simulators.ocpp_charge_points import SimulatedChargePoint
from oracles.sources import ocpp_station
from oracles.sources.ocpp_central import OcppCentral, OcppConfig
from oracles.sources.port import DeviceStatus, IntervalEnergy, MeterReading, Observation, Quantity
from oracles.wiring import open_devices
from tests.utils.broker import make_certificates

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
METER = sha256(b"evse").digest()
VERSIONS = ("1.6", "2.0.1")
TIME_OUT_S = 40


class Site:
    """A central system with a consumer that stores at once, unless told to hold."""

    def __init__(self, central, clock):
        self.central = central
        self.clock = clock
        self.values = []
        self.storing = asyncio.Event()
        self.storing.set()

    async def consume(self):
        async with aclosing(self.central.values()) as stream:
            async for value in stream:
                self.values.append(value)
                await self.storing.wait()
                self.central.taken(1)

    @property
    def url(self):
        scheme = "ws" if self.central.config.certificate is None else "wss"
        return f"{scheme}://127.0.0.1:{self.central.port}/ocpp"

    def charge_point(self, version, **more):
        return SimulatedChargePoint(self.url, "CP1", "secret one", version=version, clock=self.clock, **more)

    def readings(self):
        return [value for value in self.values if isinstance(value, MeterReading)]

    def statuses(self):
        return [
            (v.device_id, DeviceStatus(v.value))
            for v in self.values
            if isinstance(v, Observation) and v.quantity == Quantity.STATUS
        ]

    async def until(self, condition):
        async with asyncio.timeout(TIME_OUT_S):
            while not condition():
                await asyncio.sleep(0.01)


def config_of(folder, **more):
    (folder / "password").write_text("secret one\n")
    (folder / "tags").write_text("# staff\nTAG1\n\nTAG2\n")
    point = {"id": "CP1", "device_id": "evse", "password": {"file": folder / "password"}, "meters": {1: METER}}
    settings = {
        "host": "127.0.0.1",
        "port": 0,
        "sessions_file": folder / "sessions.db",
        "id_tags_file": folder / "tags",
        "charge_points": [point | more.pop("point", {})],
    }
    return OcppConfig.model_validate(settings | more)


@asynccontextmanager
async def running(folder, **more):
    clock = SimulatedClock(START)
    site = Site(OcppCentral(config_of(folder, **more), clock), clock)
    consumer = asyncio.create_task(site.consume())
    try:
        await site.until(lambda: site.central.port or consumer.done())
        yield site
    finally:
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)


def scenario(work):
    async def bounded():
        async with asyncio.timeout(TIME_OUT_S):
            await work()

    asyncio.run(bounded())


@pytest.mark.parametrize("version", VERSIONS)
def test_charge_point_is_set_up_when_it_boots(version, tmp_path):
    async def work():
        async with running(tmp_path) as site, site.charge_point(version, connectors=2) as point:
            assert site.central.connected == {"CP1"}
            assert await point.heartbeat() == "2026-03-01T12:00:00Z"
            assert [await point.authorize(tag) for tag in ("TAG1", "TAG9", "# staff")] == [
                "Accepted",
                "Invalid",
                "Invalid",
            ]
            await site.until(lambda: len(point.settings) >= (4 if version == "1.6" else 5))
            interval = point.settings["ClockAlignedDataInterval" if version == "1.6" else "Interval"]
            assert interval == "900", "registers at every ISP boundary"
            assert site.statuses() == [("evse/1", DeviceStatus.AVAILABLE), ("evse/2", DeviceStatus.AVAILABLE)]
        assert site.central.connected == frozenset()
        await asyncio.sleep(0)

    scenario(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_registers_and_power_come_when_charge_point_measures(version, tmp_path):
    async def work():
        async with running(tmp_path) as site, site.charge_point(version) as point:
            point.connectors[1].import_wh, point.connectors[1].export_wh = 5_000, 20
            await point.measure(1, {"Power.Active.Import": 7200, "SoC": 55})
            at = int(START.timestamp())
            assert site.readings() == [MeterReading(METER, at, at, 5_000, 20)]
            power, charge = site.values[1:3]
            assert power == Observation("evse/1", Quantity.ACTIVE_POWER, 0, 7200.0, at, at)
            assert charge[1:4] == (Quantity.STATE_OF_CHARGE, 0, 55.0)

    scenario(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_transaction_goes_on_when_connection_and_central_system_were_lost(version, tmp_path):
    async def work():
        async with running(tmp_path) as site:
            point = site.charge_point(version)
            await point.connect()
            await point.boot()
            point.connectors[1].import_wh = 1_000
            await point.start(1, "TAG1")
            session = site.central.sessions.running("CP1", 1)
            assert (session.meter_start_wh, session.stopped_at) == (1_000, None)
            await point.disconnect()
            await site.until(lambda: site.statuses()[-1] == ("evse", DeviceStatus.UNAVAILABLE))
        async with running(tmp_path) as site:
            site.clock.advance_to(START + timedelta(minutes=15))
            point.clock, point.url = site.clock, f"{site.url}/CP1"
            point.connectors[1].import_wh = 4_500
            await point.measure(1)
            assert point.unsent, "kept while nobody listens"
            await point.connect()
            await site.until(lambda: not point.unsent)
            assert site.readings()[0].import_register_wh == 4_500
            await point.stop(1)
            ended = site.central.sessions.find("CP1", session.transaction_id)
            assert ended.number == session.number
            assert (ended.stopped_at - ended.started_at, ended.meter_stop_wh) == (900, 4_500)
            energy = [v for v in site.values if isinstance(v, Observation) and v.quantity == Quantity.SESSION_ENERGY]
            assert [value.value for value in energy] == [3_500.0]
            assert site.central.sessions.running("CP1", 1) is None
            await point.disconnect()

    scenario(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_start_is_one_session_when_the_charge_point_repeats_it(version, tmp_path):
    async def work():
        async with running(tmp_path) as site, site.charge_point(version) as point:
            await point.start(1, "TAG1")
            first = site.central.sessions.running("CP1", 1)
            if version == "1.6":
                link = point._link
                again = await link.call(_start_again(first), suppress=False)
                assert again.transaction_id == first.number
            assert site.central.sessions.running("CP1", 1) == first
            await point.stop(1)
            site.clock.advance_to(START + timedelta(seconds=1))
            await point.start(1, "TAG1")
            assert site.central.sessions.running("CP1", 1).number == first.number + 1

    scenario(work)


def _start_again(session):
    from ocpp.v16 import call

    return call.StartTransaction(1, "TAG1", session.meter_start_wh, ocpp_station.stamp(session.started_at))


@pytest.mark.parametrize("version", VERSIONS)
def test_charge_point_gets_no_answer_before_its_values_are_stored(version, tmp_path, monkeypatch):
    monkeypatch.setattr(ocpp_station, "STORE_S", 0.3)

    async def work():
        async with running(tmp_path) as site, site.charge_point(version) as point:
            site.storing.clear()
            await point.measure(1)
            assert len(point.unsent) == 1, "told to send it again"
            await point.flush()
            assert len(point.unsent) == 1, "and again, as the first coming is not stored yet"
            site.storing.set()
            await point.flush()
            assert not point.unsent
            assert len(site.readings()) == 1

    scenario(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_limits_hold_per_isp_when_they_were_set(version, tmp_path):
    first_isp = int(START.timestamp()) // 900

    async def work():
        async with running(tmp_path) as site, site.charge_point(version) as point:
            accepted_at = await site.central.set_limits("CP1", 1, first_isp, [11_000, 11_000, 0, 3_600])
            assert accepted_at == int(START.timestamp())
            moments = [START + timedelta(minutes=minutes) for minutes in (0, 29, 30, 45, 59, 60)]
            assert [point.limit(1, at) for at in moments] == [11_000, 11_000, 0, 3_600, 3_600, None]
            ((_, profile),) = point.limits.items()
            schedule = profile["charging_schedule"]
            periods = (schedule if version == "1.6" else schedule[0])["charging_schedule_period"]
            assert len(periods) == 3, "equal neighbours are one period"
            await site.central.set_limits("CP1", 0, first_isp, [22_000])
            (whole,) = [profile for (connector, _), profile in point.limits.items() if connector == 0]
            assert "ChargePointMaxProfile" in str(whole) or "StationMaxProfile" in str(whole)
            await site.central.clear_limits("CP1", 1)
            assert point.limit(1, START) is None and point.limit(0, START) == 22_000
            await site.central.clear_limits("CP1", 1)
            with pytest.raises(PermanentError, match="SetChargingProfile refused: Rejected"):
                await site.central.set_limits("CP1", 7, first_isp, [1_000])
            with pytest.raises(DomainError, match="0 W and above"):
                await site.central.set_limits("CP1", 1, first_isp, [-1])

    scenario(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_limits_of_a_day_stay_when_those_of_the_next_day_are_set(version, tmp_path):
    days = [MarketDay.of(START.date() + timedelta(days=later), "Europe/Berlin") for later in range(3)]

    async def work():
        async with running(tmp_path) as site, site.charge_point(version) as point:
            for day, limit_w in zip(days, (1_000, 2_000, 3_000), strict=True):
                await site.central.set_limits("CP1", 1, day.first_isp, [limit_w] * day.isp_count)
                if day is days[1]:
                    assert [point.limit(1, isp_start(d.first_isp)) for d in days] == [1_000, 2_000, None]
            assert [point.limit(1, isp_start(d.end_isp - 1)) for d in days[1:]] == [2_000, 3_000]
            await site.central.set_limits("CP1", 1, days[1].first_isp, [500] * days[1].isp_count)
            assert [point.limit(1, isp_start(d.first_isp)) for d in days[1:]] == [500, 3_000]
            await site.central.clear_limits("CP1", 1)
            assert point.limits == {}

    scenario(work)


def test_limits_are_rounded_down_when_charge_point_takes_ampere(tmp_path):
    async def work():
        point = {"limit_unit": "A", "phases": 3, "voltage_v": 230, "max_periods": 2}
        async with running(tmp_path, point=point) as site, site.charge_point("1.6") as device:
            await site.central.set_limits("CP1", 1, int(START.timestamp()) // 900, [11_000, 5_000])
            assert device.limit(1, START) == 15.9
            (profile,) = device.limits.values()
            assert profile["charging_schedule"]["charging_rate_unit"] == "A"
            with pytest.raises(DomainError, match="3 periods, it takes 2"):
                await site.central.set_limits("CP1", 1, 0, [1_000, 2_000, 3_000])

    scenario(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_downlink_holds_limits_around_the_reference_when_orders_change_consumption(version, tmp_path):
    first_isp = int(START.timestamp()) // 900

    async def work():
        steered = {"steered": {1: {"reference_w": 7_400, "max_w": 11_000}}}
        async with running(tmp_path, point=steered) as site:
            downlink = charging_downlinks(site.central, site.clock)[METER]
            setpoints = Setpoints(METER, first_isp, [-2_000, 0, 2_000, -9_000, 9_000])
            with pytest.raises(TransientError, match="not connected"):
                await downlink.send(setpoints)
            async with site.charge_point(version) as point:
                for _ in range(2):
                    held = await downlink.send(setpoints)
                assert held == Acknowledgement(METER, first_isp, 5, int(START.timestamp()))
                limits = [point.limit(1, START + timedelta(minutes=15 * isp)) for isp in range(6)]
                assert limits == [5_400, 11_000, 9_400, 0, 11_000, None]
                with pytest.raises(DomainError, match="setpoints of meter"):
                    await downlink.send(Setpoints(bytes(32), first_isp, [0]))

    scenario(work)


def test_open_devices_gives_a_downlink_for_each_steered_connector(tmp_path):
    steered = {1: {"reference_w": 7_400, "max_w": 11_000}}
    device = OcppDevice(kind="ocpp", **dict(config_of(tmp_path, point={"steered": steered})))

    async def work():
        async with open_devices(SimpleNamespace(device=[device]), SimulatedClock(START)) as devices:
            assert list(devices.downlinks) == [METER]
            assert devices.downlinks[METER].central is devices.events["1:ocpp"]

    scenario(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_remote_start_and_stop_move_the_transaction(version, tmp_path):
    async def work():
        async with running(tmp_path) as site, site.charge_point(version) as point:
            with pytest.raises(DomainError, match="nothing charges at connector 1"):
                await site.central.stop_charging("CP1", 1)
            await site.central.start_charging("CP1", 1)
            await site.until(lambda: site.central.sessions.running("CP1", 1))
            await site.until(lambda: point.connectors[1].transaction_id not in (None, -1))
            with pytest.raises(PermanentError, match="refused: Rejected"):
                await site.central.start_charging("CP1", 1)
            await site.central.stop_charging("CP1", 1)
            await site.until(lambda: site.central.sessions.running("CP1", 1) is None)

    scenario(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_reservation_holds_until_used_or_cancelled(version, tmp_path):
    now = int(START.timestamp())

    async def work():
        async with running(tmp_path) as site, site.charge_point(version) as point:
            central = site.central
            number = await central.reserve("CP1", 1, "TAG1", now + 3600)
            assert point.connectors[1].reservation == (number, "TAG1")
            assert central.sessions.reservations("CP1", now) == {number: (1, now + 3600)}
            with pytest.raises(PermanentError, match="ReserveNow refused: Occupied"):
                await central.reserve("CP1", 1, "TAG2", now + 3600)
            await central.cancel_reservation("CP1", number)
            assert point.connectors[1].reservation is None
            second = await central.reserve("CP1", 1, "TAG1", now + 3600)
            assert second > number
            await point.start(1, "TAG1")
            assert central.sessions.reservations("CP1", now) == {}

    scenario(work)


def test_charge_point_is_refused_when_unknown_or_without_password(tmp_path):
    async def status(url, header=None):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, subprotocols=["ocpp1.6"], additional_headers=header or {})
        return refused.value.response.status_code

    def basic(user, password):
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}

    async def work():
        async with running(tmp_path) as site:
            assert await status(f"{site.url}/CP2", basic("CP2", "secret one")) == 404
            assert await status(f"{site.url}/../CP1", basic("CP1", "secret one")) == 404
            assert await status(f"{site.url}/CP1") == 401
            assert await status(f"{site.url}/CP1", basic("CP1", "wrong")) == 401
            assert await status(f"{site.url}/CP1", basic("CP2", "secret one")) == 401
            assert await status(f"{site.url}/CP1", {"Authorization": "Basic !"}) == 401
            assert site.central.refused_connections == {"unknown charge point": 2, "wrong password": 4}
            assert site.values == []

    scenario(work)


def test_new_connection_replaces_the_old_when_charge_point_comes_again(tmp_path):
    async def work():
        async with running(tmp_path) as site, site.charge_point("1.6") as old, site.charge_point("1.6") as new:
            await site.until(lambda: old._link is None)
            assert site.central.connected == {"CP1"}
            await site.central.set_limits("CP1", 1, 0, [1_000])
            assert new.limits and not old.limits
            assert ("evse", DeviceStatus.UNAVAILABLE) not in site.statuses()

    scenario(work)


def test_command_raises_when_charge_point_is_not_there(tmp_path):
    async def work():
        async with running(tmp_path) as site:
            with pytest.raises(TransientError, match="charge point CP1: not connected"):
                await site.central.start_charging("CP1", 1)
            with pytest.raises(DomainError, match="no charge point is called CP9"):
                await site.central.start_charging("CP9", 1)

    scenario(work)


def test_command_raises_at_once_when_the_connection_is_lost_before_the_answer(tmp_path):
    async def work():
        async with running(tmp_path) as site:
            header = {"Authorization": "Basic " + base64.b64encode(b"CP1:secret one").decode()}
            silent = await connect(f"{site.url}/CP1", subprotocols=["ocpp1.6"], additional_headers=header)
            command = asyncio.create_task(site.central.clear_limits("CP1", 1))
            await silent.recv()
            await silent.close()
            with pytest.raises(TransientError, match="connection lost during ClearChargingProfile"):
                async with asyncio.timeout(3):
                    await command

    scenario(work)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "5",
        "[]",
        "[2]",
        '[2,"1","Heartbeat"]',
        '[2,"1","Nothing",{}]',
        '[2,"1","StopTransaction",{"x":1}]',
        '[3,"nobody asked",{}]',
        '[2,"1","StartTransaction",{"connectorId":1,"idTag":"T","meterStart":1,"timestamp":"x"}]',
        b"\xff",
    ],
)
def test_central_system_goes_on_when_a_charge_point_sends_rubbish(frame, tmp_path):
    async def work():
        async with running(tmp_path) as site:
            header = {"Authorization": "Basic " + base64.b64encode(b"CP1:secret one").decode()}
            rude = await connect(f"{site.url}/CP1", subprotocols=["ocpp1.6"], additional_headers=header)
            await rude.send(frame)
            await asyncio.sleep(0.05)
            async with site.charge_point("1.6") as point:
                assert await point.heartbeat()
                await point.measure(1)
            assert len(site.readings()) == 1
            await rude.close()

    scenario(work)


def test_charge_point_connects_over_tls(tmp_path):
    certificates = make_certificates(tmp_path)

    async def work():
        tls = {"certificate": certificates.certificate, "key": certificates.key}
        async with running(tmp_path, **tls) as site:
            context = ssl.create_default_context(cafile=certificates.ca)
            async with site.charge_point("2.0.1", tls=context) as point:
                assert await point.heartbeat()

    scenario(work)


def test_probe_raises_when_port_is_taken(tmp_path):
    async def work():
        async with running(tmp_path) as site:
            assert "port is free" in await OcppCentral(config_of(tmp_path), site.clock).probe()
            other = OcppCentral(config_of(tmp_path, port=site.central.port), site.clock)
            with pytest.raises(PermanentError, match="cannot listen"):
                await other.probe()
            with pytest.raises(PermanentError, match="cannot listen"):
                await anext(other.values())

    scenario(work)


def test_values_of_reads_units_intervals_and_phases(tmp_path):
    at = "2026-03-01T11:45:00+00:00"
    sampled = [
        {"value": "1.5", "measurand": "Energy.Active.Import.Interval", "unit": "kWh", "context": "Sample.Clock"},
        {"value": "7", "measurand": "Current.Import", "phase": "L2", "unit": "A"},
        {"value": "231", "measurand": "Voltage", "phase": "L1-N"},
        {"value": "400", "measurand": "Voltage", "phase": "L1-L2"},
        {"value": 68, "measurand": "Temperature", "unit_of_measure": {"unit": "Fahrenheit"}},
        {"value": 11, "measurand": "Power.Active.Export", "unit_of_measure": {"unit": "W", "multiplier": 3}},
        {"value": "abc", "format": "SignedData"},
        {"value": "3", "measurand": "RPM"},
    ]
    central = OcppCentral(config_of(tmp_path), SimulatedClock(START))
    station = central._stations["CP1"]
    values = station.values_of(1, [{"timestamp": at, "sampled_value": sampled}, {"timestamp": "yesterday"}])
    now = int(START.timestamp())
    assert [value[1:4] for value in values[:-1]] == [
        (Quantity.CURRENT, 2, 7.0),
        (Quantity.VOLTAGE, 1, 231.0),
        (Quantity.TEMPERATURE, 0, 20.0),
        (Quantity.ACTIVE_POWER, 0, -11_000.0),
    ]
    assert values[-1] == IntervalEnergy(METER, (now - 900) // 900 - 1, 1_500, 0, now)
    assert central.refused == {"other phases or signed data": 2, "measurand RPM": 1, "malformed": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"certificate": "c.pem"}, "needs both certificate and key"),
        ({"charge_points": []}, "at least 1"),
        ({"point": {"id": "a/b"}}, "pattern"),
        ({"point": {"password": "secret"}}, "valid dictionary or instance of Secret"),
        ({"path": "ocpp"}, "pattern"),
        ({"point": {"steered": {2: {"reference_w": 1, "max_w": 1}}}}, "connector 2 is steered but has no meter"),
        ({"point": {"steered": {1: {"reference_w": 2, "max_w": 1}}}}, "reference_w 2 is above max_w 1"),
        ({"point": {"meters": {1: "ff"}}}, "32 bytes"),
    ],
)
def test_config_is_refused_when_it_cannot_work(change, message, tmp_path):
    with pytest.raises(ValidationError, match=message):
        config_of(tmp_path, **change)
