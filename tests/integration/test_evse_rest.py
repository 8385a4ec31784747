"""Stations and vehicles behind the REST service of Annex IV, over real HTTP."""

import asyncio
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from pydantic import ValidationError

from offchain.domain.errors import DomainError, PermanentError, TransientError
from oracles.clock import SimulatedClock
from oracles.downlink import Acknowledgement, Setpoints
from oracles.downlink_charging import charging_downlinks
from oracles.simulators.evse_server import EvseServer, SimulatedSocket, SimulatedStation
from oracles.sources.evse_rest import EvseRest, EvseRestConfig
from oracles.sources.port import DeviceStatus, Observation, Quantity

START = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
NOW = int(START.timestamp())
METER = sha256(b"evse rest").digest()
TIME_OUT_S = 40


@asynccontextmanager
async def service(tmp_path, **more):
    clock = SimulatedClock(START)
    stations = {"24": SimulatedStation({"A": SimulatedSocket("37"), "B": SimulatedSocket("38", "alarm")})}
    vehicles = {"-LRG": {"batteryPerc": "64", "autonomyKm": "180", "status": "disconnected", "latitude": "42.5"}}
    server = EvseServer(clock, stations, vehicles, token="abc")
    (tmp_path / "token").write_text("abc\n")
    async with asyncio.timeout(TIME_OUT_S), server.running() as url:
        config = EvseRestConfig.model_validate(
            {
                "base_url": url,
                "token": {"file": tmp_path / "token"},
                "timezone": "Europe/Rome",
                "poll_s": 30,
                "stations": [{"id": "24", "device_id": "evse24", "sockets": {"A": "37", "B": "38"}}],
                "vehicles": [{"id": "-LRG", "device_id": "zoe"}],
                **more,
            }
        )
        source = EvseRest(config, clock)
        try:
            yield server, source, clock
        finally:
            await source.aclose()


def scenario(tmp_path, work, **more):
    async def run():
        async with service(tmp_path, **more) as (server, source, clock):
            await work(server, source, clock)

    asyncio.run(run())


def test_values_come_at_every_poll_and_each_session_once(tmp_path):
    async def work(server, source, clock):
        async with aclosing(source.values()) as stream:
            first = [await anext(stream) for _ in range(5)]
            assert sorted(first) == [
                Observation("evse24/A", Quantity.STATUS, 0, DeviceStatus.CONNECTED, NOW, NOW),
                Observation("evse24/B", Quantity.STATUS, 0, DeviceStatus.FAULTED, NOW, NOW),
                Observation("zoe", Quantity.RANGE, 0, 180.0, NOW, NOW),
                Observation("zoe", Quantity.STATE_OF_CHARGE, 0, 64.0, NOW, NOW),
                Observation("zoe", Quantity.STATUS, 0, DeviceStatus.AVAILABLE, NOW, NOW),
            ]
            await source.start_charging("24", "A")
            server.stations["24"].sockets["A"].energy_kwh = 11.02
            clock.advance_to(START + timedelta(seconds=20))
            await source.stop_charging("24", "A")
            await asyncio.sleep(0.05)
            clock.advance_to(START + timedelta(seconds=31))
            second = [await anext(stream) for _ in range(6)]
            assert second[-1] == Observation("evse24/A", Quantity.SESSION_ENERGY, 0, 11_020.0, NOW + 20, NOW + 31)
            for seconds in (62, 93):
                await asyncio.sleep(0.05)
                clock.advance_to(START + timedelta(seconds=seconds))
                later = [await anext(stream) for _ in range(5)]
                assert sorted(value.quantity for value in later) == sorted(value.quantity for value in first)
            source.taken(21)

    scenario(tmp_path, work)


def test_set_limit_is_confirmed_within_the_range_and_refused_outside(tmp_path):
    async def work(server, source, clock):
        assert await source.set_limit("24", 7) == NOW
        assert await source.set_limit("24", 64) == NOW
        assert server.stations["24"].ampere == 64
        asked = len(server.requests)
        for ampere in (6, 65, 0, -7):
            with pytest.raises(DomainError, match=rf"station 24: {ampere} A is outside 7 to 64 A"):
                await source.set_limit("24", ampere)
        assert len(server.requests) == asked, "not even asked"
        assert server.requests[-1] == 'setPower {"chargeboxID":"24","powerValue":"64"}'

    scenario(tmp_path, work)


STEERED = {
    "id": "24",
    "device_id": "evse24",
    "sockets": {"A": "37", "B": "38"},
    "meter_id": METER,
    "steered": {"reference_w": 11_100, "max_w": 22_000},
}


def test_downlink_sets_each_current_when_its_isp_begins_also_after_a_restart(tmp_path):
    isp = NOW // 900

    async def work(server, source, clock):
        station = server.stations["24"]

        async def at(minutes, ampere):
            await asyncio.sleep(0.02)
            clock.advance_to(START + timedelta(minutes=minutes))
            while station.ampere != ampere:
                await asyncio.sleep(0.05)
                clock.advance_to(clock.now() + timedelta(seconds=1))

        downlink = charging_downlinks(source, clock)[METER]
        async with aclosing(source.values()) as stream:
            await anext(stream)
            assert station.ampere == 32, "nothing is set before there is an order"
            held = await downlink.send(Setpoints(METER, isp - 1, [-9_000, -4_200, 0, -11_100, 5_000]))
            assert held == Acknowledgement(METER, isp - 1, 5, NOW)
            assert station.ampere == 10, "6.9 kW on three phases"
            await at(15, 31)
        again = EvseRest(source.config, clock)
        async with aclosing(again.values()) as stream:
            await anext(stream)
            await at(30, 7)
            server.broken = True
            await at(46, 7)
            await asyncio.sleep(0.1)
            server.broken = False
            await at(50, 23)
            await at(60, 31)
        await again.aclose()

    scenario(tmp_path, work, stations=[STEERED], schedules_file=str(tmp_path / "schedules.json"))


def test_downlink_refuses_setpoints_of_another_meter(tmp_path):
    async def work(server, source, clock):
        downlink = charging_downlinks(source, clock)[METER]
        with pytest.raises(DomainError, match="for station 24"):
            await downlink.send(Setpoints(bytes(32), NOW // 900, [0]))
        server.broken = True
        with pytest.raises(TransientError, match="answered 503"):
            await downlink.send(Setpoints(METER, NOW // 900, [-1_000]))

    scenario(tmp_path, work, stations=[STEERED], schedules_file=str(tmp_path / "schedules.json"))


def test_command_raises_when_the_service_refuses_or_the_socket_is_unknown(tmp_path):
    async def work(server, source, clock):
        with pytest.raises(PermanentError, match="startChargebox of 24 refused: 'START_KO'"):
            await source.start_charging("24", "B")
        with pytest.raises(PermanentError, match="STOP_KO"):
            await source.stop_charging("24", "A")
        with pytest.raises(DomainError, match=r"no station is called 25 \(known: 24\)"):
            await source.start_charging("25", "A")

    scenario(tmp_path, work)


def test_sessions_are_those_of_the_interval(tmp_path):
    async def work(server, source, clock):
        for minute in (1, 2):
            await source.start_charging("24", "A")
            clock.advance_to(START + timedelta(minutes=minute))
            await source.stop_charging("24", "A")
        sessions = await source.sessions(START + timedelta(seconds=90), START + timedelta(hours=1), "24")
        assert [session["chargeID"] for session in sessions] == ["5001"]
        assert sessions[0]["dataStop"] == "2026-07-01 12:02:00", "local time of the service"

    scenario(tmp_path, work)


def test_values_go_on_when_the_service_was_down(tmp_path):
    async def work(server, source, clock):
        server.broken = True
        with pytest.raises(TransientError, match="answered 503"):
            await source.probe()
        async with aclosing(source.values()) as stream:
            first = asyncio.ensure_future(anext(stream))
            asked = len(server.requests)
            while len(server.requests) < asked + 3:
                await asyncio.sleep(0.01)
                clock.advance_to(clock.now() + timedelta(seconds=5))
            server.broken = False
            while not first.done():
                await asyncio.sleep(0.01)
                clock.advance_to(clock.now() + timedelta(seconds=5))
            assert isinstance(await first, Observation)

    scenario(tmp_path, work)


def test_values_raise_when_the_token_is_refused(tmp_path):
    async def work(server, source, clock):
        server.token = "another"
        with pytest.raises(PermanentError, match=r"access refused \(401\) \(check the token"):
            await source.probe()
        with pytest.raises(PermanentError, match="access refused"):
            async with aclosing(source.values()) as stream:
                await anext(stream)

    scenario(tmp_path, work)


def test_probe_raises_when_a_vehicle_is_unknown_there(tmp_path):
    async def work(server, source, clock):
        with pytest.raises(PermanentError, match="nobody not known"):
            await source.probe()

    vehicles = [{"id": "-LRG", "device_id": "zoe"}, {"id": "nobody", "device_id": "leaf"}]
    scenario(tmp_path, work, vehicles=vehicles)


def test_probe_counts_what_is_there(tmp_path):
    async def work(server, source, clock):
        assert await source.probe() == "evse service 127.0.0.1: 1 stations, 1 vehicles"

    scenario(tmp_path, work)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_url": "http://panel.example/api"}, "must begin with https"),
        ({"stations": [], "vehicles": []}, "nothing to read"),
        ({"timezone": "Rome"}, "no time zone is called"),
        ({"token": "abc"}, "Secret"),
        ({"stations": [STEERED]}, "need a schedules_file"),
        ({"stations": [STEERED | {"meter_id": None}]}, "both meter_id and steered"),
        ({"stations": [{"id": "1", "device_id": "x", "sockets": {"C": "1"}}]}, "'A' or 'B'"),
    ],
)
def test_config_is_refused_when_it_cannot_work(change, message):
    good = {"base_url": "https://panel.example/api", "timezone": "UTC", "vehicles": [{"id": "1", "device_id": "zoe"}]}
    with pytest.raises(ValidationError, match=message):
        EvseRestConfig.model_validate(good | change)
