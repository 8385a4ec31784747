"""Devices, files and feeds of one site file, opened together against real servers and read once."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from types import SimpleNamespace

from pydantic import TypeAdapter

from offchain.domain.isp import MarketDay, isp_start
from offchain.store import open_store
from offchain.store.series import read_weather
from oracles.clock import SimulatedClock
from oracles.config import DeviceConfig
from oracles.external import store_external
from oracles.simulators.modbus_meters import ModbusMeterSimulator
from oracles.simulators.sunspec_device import SimulatedModel, SunSpecDeviceSimulator
from oracles.sources.port import ExternalValue, IntervalEnergy, Observation, Quantity
from oracles.sources.register_map import load_register_map
from oracles.wiring import open_devices

ABB, SUNSPEC, FILED = (bytes([number]) * 32 for number in (1, 2, 3))
DAY = date(2019, 6, 14)
WEATHER = """time,known_since,temperature_c,irradiance_w_m2,price_eur_per_mwh
2019-06-14T00:00:00Z,2019-06-13T12:00:00Z,18.5,,
"""
CHAIN = [
    SimulatedModel(1, {"SN": "INV"}),
    SimulatedModel(103, {"W": 4_000, "St": 4}, {"W": 2}),
    SimulatedModel(203, {"TotWhImp": 90_000, "TotWhExp": 1_000, "Evt": 0}, {"TotWhImp": 1, "TotWhExp": 1}),
]


def test_open_devices_makes_every_kind_of_device_file_and_feed(tmp_path):
    (tmp_path / "day.csv").write_text(
        "Smartmeter_id;Energy Absorbed;Energy Injected;Date\n" + "IT01;0,25;0;14-06-2019\n" * 96
    )
    (tmp_path / "weather.csv").write_text(WEATHER)

    async def scenario():
        clock = SimulatedClock(datetime(2019, 6, 15, tzinfo=UTC))
        async with AsyncExitStack() as stack:
            abb = ModbusMeterSimulator([ABB], clock=clock, register_map=load_register_map("abb_b23"), framing="rtu")
            await stack.enter_async_context(abb)
            abb.meters[ABB].import_register_wh = 7_770
            inverter = await stack.enter_async_context(SunSpecDeviceSimulator(CHAIN))
            host, port, unit_id = abb.address_of(ABB)
            csv = {"path": "day.csv", "mapping": "terni", "meters": {"IT01": FILED.hex()}}
            entries = [
                {"kind": "modbus", "host": host, "port": port, "unit_id": unit_id, "framing": "rtu", "map": "abb_b23"}
                | {"meter_id": ABB.hex(), "timeout_s": 5},
                {"kind": "sunspec", "host": inverter.host, "port": inverter.port, "meter_id": SUNSPEC.hex()}
                | {"device_id": "roof", "telemetry_every_s": 4, "timeout_s": 5},
                {"kind": "csv"} | csv,
                {"kind": "replay", "csv": csv, "speed": None},
                {"kind": "external", "series": "Terni", "mapping": "external_csv", "file": "weather.csv"},
            ]
            parse = TypeAdapter(tuple[DeviceConfig, ...]).validate_python
            site = SimpleNamespace(device=parse(entries, context={"folder": tmp_path}))
            devices = await stack.enter_async_context(open_devices(site, clock))
            polls = [await coordinator.poll() for coordinator in devices.coordinators]
            probed = {name: await source.probe() for name, source in devices.events.items()}
            first = {name: await anext(source.values()) for name, source in devices.events.items()}
            return polls, probed, first

    polls, probed, first = asyncio.run(scenario())
    assert [poll.failures for poll in polls] == [{}, {}]
    registers = {r.meter_id: (r.import_register_wh, r.modulus_wh) for poll in polls for r in poll.readings}
    assert registers == {ABB: (7_770, 10 * 2**64), SUNSPEC: (90_000, 10 * 2**32)}
    assert probed["3:csv"] == "day.csv: 96 quarter hours"
    assert isinstance(first["2:roof"], Observation)
    day = MarketDay.of(DAY, "Europe/Rome")
    for name in ("3:csv", "4:replay"):
        assert isinstance(first[name], IntervalEnergy)
        assert first[name][:3] == (FILED, day.first_isp, 250)
    assert first["5:external"] == ExternalValue(
        "Terni", Quantity.TEMPERATURE, 1_560_470_400, 1_560_474_000, 18.5, 1_560_427_200, "weather.csv"
    )
    with open_store(tmp_path / "site.db") as store:
        store_external(store, [first["5:external"]])
        with store.read() as connection:
            read = read_weather(connection, ["Terni"], "temperature_c", 1_560_470_400 // 900, 4)
    assert read.values.ravel().tolist() == [18.5] * 4
    assert isp_start(read.first_isp) == datetime(2019, 6, 14, tzinfo=UTC)
