"""Replay: rhythm and speed over a simulated clock, from a file, from a store, without waiting."""

import asyncio
from datetime import date, timedelta

import pytest
from pydantic import ValidationError

from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay, isp_start
from offchain.store import open_store
from offchain.store.readings import ReadingRow, insert_readings
from oracles.clock import SimulatedClock
from oracles.sources.port import IntervalEnergy, MeterReading, Observation, Quantity
from oracles.sources.replay import ReplayConfig, ReplaySource, known_at, stored_intervals

METER, OTHER = b"\x01" * 32, b"\x02" * 32
DAY = MarketDay.of(date(2019, 6, 14), "Europe/Rome")
FIRST = DAY.first_isp


def energy(isp, import_wh=1, meter_id=METER):
    return IntervalEnergy(meter_id, isp, import_wh, 0, 5)


def replayed(source, clock, steps):
    """What has come after each of ``steps`` seconds."""

    async def run():
        seen, counts = [], []

        async def consume():
            async for value in source.values():
                seen.append(value)

        start = clock.now()
        task = asyncio.create_task(consume())
        for step in steps:
            clock.advance_to(start + timedelta(seconds=step))
            while not clock._sleepers and not task.done():  # until the source waits, or has ended
                await asyncio.sleep(0.001)
            counts.append(len(seen))
        task.cancel()
        return counts

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("speed", "steps"), [(1, [0, 899, 900, 1_800]), (900, [0, 0.9, 1, 2]), (0.5, [0, 1_799, 1_800, 3_600])]
)
def test_values_come_in_their_rhythm_at_any_speed(speed, steps):
    clock = SimulatedClock(isp_start(0))
    values = [energy(7), energy(8), energy(8, meter_id=OTHER), energy(9)]
    source = ReplaySource(lambda: values, clock, speed=speed)
    assert replayed(source, clock, steps) == [1, 1, 3, 4]


def test_values_do_not_wait_without_speed():
    async def run():
        source = ReplaySource(lambda: (energy(isp) for isp in range(2_000)), SimulatedClock(isp_start(0)), speed=None)
        assert await source.probe() == "replay, without waiting"
        return [value.isp async for value in source.values()]

    assert asyncio.run(run()) == list(range(2_000))


def test_values_begin_anew_for_each_consumer():
    async def run():
        source = ReplaySource(lambda: (energy(isp) for isp in range(9)), SimulatedClock(isp_start(0)), speed=None)
        first = source.values()
        given = [(await anext(first)).isp, (await anext(first)).isp]
        await first.aclose()
        return given, [value.isp async for value in source.values()]

    assert asyncio.run(run()) == ([0, 1], list(range(9)))


def test_known_at_is_when_a_value_could_be_known():
    assert known_at(energy(7)) == 7_200
    assert known_at(MeterReading(METER, 11, None, 0, 0)) == 11
    assert known_at(Observation("d", Quantity.VOLTAGE, 0, 1.0, 12, 13)) == 12


def test_replay_refuses_to_stand_still():
    with pytest.raises(DomainError, match="replay at speed 0"):
        ReplaySource(list, SimulatedClock(isp_start(0)), speed=0)


@pytest.fixture
def filled_store(tmp_path):
    path = tmp_path / "site.db"
    with open_store(path) as store, store.write() as connection:
        rows = [
            ReadingRow(meter_id, FIRST + i, 10 * i, i, 0, b"\0" * 65, 1_000 + i, "modbus")
            for i in range(96)
            for meter_id in (METER, OTHER)
        ]
        insert_readings(connection, rows)
    return path


def test_stored_intervals_are_those_of_the_store(filled_store):
    with open_store(filled_store) as store:
        values = list(stored_intervals(store, FIRST + 1, FIRST + 3, {OTHER}))
    assert values == [IntervalEnergy(OTHER, FIRST + i, 10 * i, i, 1_000 + i) for i in (1, 2)]


def collected(source):
    async def run():
        return [value async for value in source.values()]

    return asyncio.run(run())


def test_config_replays_store(filled_store):
    config = ReplayConfig.model_validate(
        {
            "store": str(filled_store),
            "start": "2019-06-14T00:00:00+02:00",
            "end": "2019-06-15T00:00:00+02:00",
            "speed": None,
        }
    )
    values = collected(config.source(SimulatedClock(isp_start(0))))
    assert len(values) == 192
    assert [v.isp for v in values] == sorted(v.isp for v in values)


def test_config_replays_file_and_names_its_bad_lines(tmp_path, caplog):
    header = "Smartmeter_id;Energy Absorbed;Energy Injected;Date\n"
    (tmp_path / "1.csv").write_text(header + "IT01;0,001;0;14-06-2019\n" * 96)
    (tmp_path / "2.csv").write_text(header + "IT01;0,002;0;15-06-2019\n" * 96 + "IT01;x;0;16-06-2019\n")
    config = ReplayConfig.model_validate(
        {"csv": {"path": tmp_path, "mapping": "terni", "meters": {"IT01": METER.hex()}}, "speed": None}
    )
    values = collected(config.source(SimulatedClock(isp_start(0))))
    assert [(v.isp, v.import_wh) for v in values] == [(FIRST + i, 1 + i // 96) for i in range(192)]
    assert {v.reported_at - 900 * v.isp for v in values} == {900}
    assert any("2.csv line 98" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "either csv or store"),
        ({"store": "x"}, "give both, the earlier first"),
        ({"store": "x", "start": "2019-06-14T00:00:00", "end": "2019-06-15T00:00:00"}, "timezone"),
        ({"store": "x", "start": "2019-06-15T00:00:00Z", "end": "2019-06-14T00:00:00Z"}, "the earlier first"),
        ({"store": "x", "speed": 0}, "greater than 0"),
    ],
)
def test_config_names_what_is_wrong(data, message):
    with pytest.raises(ValidationError, match=message):
        ReplayConfig.model_validate(data)
