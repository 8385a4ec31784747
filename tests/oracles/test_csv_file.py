"""CSV files: the Terni format over days of 92, 96 and 100 quarter hours, times, units, bad lines, folders that fill."""

import asyncio
import os
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from offchain.domain.errors import PermanentError
from offchain.domain.isp import MarketDay, isp_start
from oracles.clock import SimulatedClock
from oracles.config import DeviceConfig
from oracles.sources.csv_file import CsvSource, CsvSourceConfig, EnergyCsvMapping, read_energy_csv
from oracles.sources.modbus import ModbusDeviceConfig
from oracles.sources.port import IntervalEnergy
from oracles.sources.register_map import SHIPPED
from oracles.sources.replay import ReplayConfig
from oracles.sources.tabular import BadLine, instants, load_mapping

ROME = "Europe/Rome"
METERS = {"IT01": b"\x01" * 32, "IT02": b"\x02" * 32}
TERNI = load_mapping("terni", EnergyCsvMapping)
HEADER = "Smartmeter_id;Energy Absorbed;Energy Injected;Date\n"
STATED = EnergyCsvMapping.model_validate(
    {
        "zone": ROME,
        "delimiter": ",",
        "time": {"column": "t", "format": "%Y-%m-%d %H:%M"},
        "import_wh": {"column": "in", "unit": "Wh"},
    }
)
MINIMAL = '[time]\ncolumn = "t"\n[import_wh]\ncolumn = "i"\nunit = "Wh"'
ONE = {"": b"\x01" * 32}


def terni_day(day, meter="IT01", count=None, first=0):
    count = MarketDay.of(day, ROME).isp_count if count is None else count
    return [f"{meter};0,{first + i:03d};1,5;{day:%d-%m-%Y}\n" for i in range(count)]


def content(tmp_path, text, mapping=TERNI, meters=METERS, encoding="utf-8"):
    path = tmp_path / "data.csv"
    path.write_text(text, encoding=encoding)
    return read_energy_csv(path, mapping, meters, 77)


@pytest.mark.parametrize(
    ("day", "count"), [(date(2019, 3, 31), 92), (date(2019, 6, 14), 96), (date(2019, 10, 27), 100)]
)
def test_read_energy_csv_places_terni_lines_on_days_of_any_length(tmp_path, day, count):
    values, bad = content(tmp_path, HEADER + "".join(terni_day(day)))
    first = MarketDay.of(day, ROME).first_isp
    assert bad == []
    assert values == [IntervalEnergy(METERS["IT01"], first + i, i, 1_500, 77) for i in range(count)]


def test_read_energy_csv_sorts_meters_by_quarter_hour(tmp_path):
    day = date(2019, 6, 14)
    pairs = zip(terni_day(day), terni_day(day, "IT02", first=500), strict=True)
    values, bad = content(tmp_path, HEADER + "".join(a + b for a, b in pairs))
    assert (len(values), bad) == (192, [])
    assert [v.import_wh for v in values[:4]] == [0, 500, 1, 501]


def test_read_energy_csv_refuses_day_in_order_when_lines_are_missing(tmp_path):
    short, whole = date(2019, 10, 27), date(2019, 10, 28)
    values, bad = content(tmp_path, HEADER + "".join(terni_day(short, count=96) + terni_day(whole)))
    assert len(values) == 96
    assert bad[0] == BadLine(2, "96 lines for 2019-10-27, which has 100 quarter hours")
    assert [line for line, _ in bad] == list(range(2, 98))


def test_read_energy_csv_names_bad_lines_and_keeps_the_others(tmp_path):
    lines = terni_day(date(2019, 6, 14))
    lines[3] = lines[3].replace("0,003", "abc")
    lines[4] = lines[4].replace("1,5", "-1,5")
    lines[5] = lines[5].replace("0,005", "")
    lines[6] = lines[6].replace("0,006", "nan")
    lines[7] = lines[7].replace("0,007", "99999999")
    lines[8] = lines[8].replace("IT01", '"IT01')  # never closed
    lines.insert(9, "IT09;0,1;0,1;14-06-2019\n")
    lines.insert(10, "IT02;0,1;0,1;2019-06-14\n")
    lines.insert(11, "IT02;0,1\n")
    lines.insert(12, "\n")
    lines.append(terni_day(date(2019, 6, 14))[8])  # what line 10 should have been
    lines.insert(13, "IT02;1e999999999;0;14-06-2019\n")
    lines.insert(14, "IT02;1e-999999999;0;14-06-2019\n")
    values, bad = content(tmp_path, HEADER + "".join(lines))
    assert bad == [
        BadLine(5, "Energy Absorbed 'abc' is not a number"),
        BadLine(6, "Energy Injected '-1,5' is negative"),
        BadLine(7, "Energy Absorbed is empty"),
        BadLine(8, "Energy Absorbed 'nan' is not a number"),
        BadLine(9, "Energy Absorbed '99999999' is too much"),
        BadLine(10, "too few columns"),
        BadLine(11, "unknown meter 'IT09'"),
        BadLine(12, "time '2019-06-14' is not written as %d-%m-%Y"),
        BadLine(13, "too few columns"),
        BadLine(15, "2 lines for 2019-06-14, which has 96 quarter hours"),
        BadLine(15, "Energy Absorbed '1e999999999' is not a number"),
        BadLine(16, "2 lines for 2019-06-14, which has 96 quarter hours"),
        BadLine(16, "Energy Absorbed '1e-999999999' is not a number"),
    ]
    assert len(values) == 91


@given(
    st.lists(
        st.one_of(
            st.text(alphabet='0123456789-;,"\n\0abIT€ ', max_size=30),
            st.sampled_from(terni_day(date(2019, 6, 14), "IT02")),
        ),
        max_size=30,
    )
)
def test_read_energy_csv_keeps_good_day_whatever_else_is_in_the_file(tmp_path_factory, junk):
    day = date(2019, 6, 15)
    text = HEADER + "".join(terni_day(day)) + "".join(line.replace("IT01", "") + "\n" for line in junk)
    values, _ = content(tmp_path_factory.mktemp("csv"), text)
    assert [v for v in values if v.meter_id == METERS["IT01"]] == [
        IntervalEnergy(METERS["IT01"], isp, i, 1_500, 77) for i, isp in enumerate(MarketDay.of(day, ROME).isps)
    ]


@pytest.mark.parametrize("day", [date(2019, 3, 31), date(2019, 6, 14), date(2019, 10, 27)])
@pytest.mark.parametrize("label", ["start", "end"])
def test_read_energy_csv_places_local_times_on_days_of_any_length(tmp_path, day, label):
    isps = MarketDay.of(day, ROME).isps
    zone, later = ZoneInfo(ROME), timedelta(minutes=15 if label == "end" else 0)
    lines = [f"{(isp_start(isp) + later).astimezone(zone):%Y-%m-%d %H:%M},{i}\n" for i, isp in enumerate(isps)]
    mapping = STATED.model_copy(update={"time": STATED.time.model_copy(update={"label": label})})
    values, bad = content(tmp_path, "t,in\n" + "".join(lines), mapping, ONE)
    assert bad == []
    assert [(v.isp, v.import_wh, v.export_wh) for v in values] == [(isp, i, 0) for i, isp in enumerate(isps)]


def test_read_energy_csv_refuses_times_that_cannot_be_placed(tmp_path):
    lines = [
        "2019-03-31 02:15,1",  # skipped when clocks go forward
        "2019-10-27 02:15,2",  # comes twice, given once
        "2019-06-14 10:07,3",
        "2019-06-14 10:15,4",
        "2019-06-14 10:15,5",
    ]
    values, bad = content(tmp_path, "t,in\n" + "\n".join(lines), STATED, ONE)
    assert [v.import_wh for v in values] == [4]
    assert bad == [
        BadLine(2, "2019-03-31 02:15:00 does not exist in Europe/Rome: clocks went forward"),
        BadLine(3, "2019-10-27 02:15:00 comes twice in Europe/Rome, and once in the file"),
        BadLine(4, "2019-06-14 10:07:00 is not the start of a quarter hour"),
        BadLine(6, "the same quarter hour as line 5"),
    ]


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ({"column": "t"}, "2019-06-14T10:00:00+02:00"),
        ({"column": "t"}, "2019-06-14 10:00"),
        ({"column": "t", "format": "unix"}, "1560499200"),
        ({"column": "t", "format": "unix_ms"}, "1560499200000"),
        ({"column": "t", "format": "%d/%m/%Y %H.%M"}, "14/06/2019 10.00"),
        ({"column": "t", "format": "%d/%m/%Y", "time_column": "h"}, "14/06/2019,10:00"),
    ],
)
def test_read_energy_csv_reads_times_as_written(tmp_path, time, text):
    mapping = EnergyCsvMapping.model_validate(STATED.model_dump() | {"time": time})
    header = "t,h,in\n" if "time_column" in time else "t,in\n"
    values, bad = content(tmp_path, f"{header}{text},9\n", mapping, ONE)
    assert (bad, [v.isp for v in values]) == ([], [1560499200 // 900])


def test_read_energy_csv_takes_midnight_as_end_of_its_day(tmp_path):
    time = {"column": "d", "format": "%d-%m-%Y", "time_column": "h", "label": "end"}
    mapping = EnergyCsvMapping.model_validate(STATED.model_dump() | {"time": time})
    values, bad = content(tmp_path, "d,h,in\n14-06-2019,24:00,9\n", mapping, ONE)
    assert (bad, [v.isp for v in values]) == ([], [MarketDay.of(date(2019, 6, 14), ROME).end_isp - 1])


@pytest.mark.parametrize(
    ("unit", "text", "energy_wh"),
    [
        ("Wh", "7", 7),
        ("kWh", "0.0015", 2),
        ("MWh", "1e-6", 1),
        ("kW", "4", 1_000),
        ("W", "10", 2),
        ("MW", "0.004", 1_000),
    ],
)
def test_read_energy_csv_converts_units(tmp_path, unit, text, energy_wh):
    mapping = EnergyCsvMapping.model_validate(STATED.model_dump() | {"import_wh": {"column": "in", "unit": unit}})
    values, _ = content(tmp_path, f"t,in\n2019-06-14 10:00,{text}\n", mapping, ONE)
    assert [v.import_wh for v in values] == [energy_wh]


def test_read_energy_csv_reads_files_without_header_and_other_encodings(tmp_path):
    mapping = EnergyCsvMapping.model_validate(
        TERNI.model_dump()
        | {"columns": ["Smartmeter_id", "Energy Absorbed", "Energy Injected", "Date"], "encoding": "cp1252"}
        | {"skip_lines": 1}
    )
    text = "Société électrique\n" + "".join(terni_day(date(2019, 6, 14)))
    values, bad = content(tmp_path, text, mapping, encoding="cp1252")
    assert (len(values), bad) == (96, [])


def test_read_energy_csv_raises_when_file_is_of_another_kind(tmp_path):
    with pytest.raises(PermanentError, match=r"no column 'Smartmeter_id' \(there are: a, b; correct"):
        content(tmp_path, "a;b\n1;2\n")
    with pytest.raises(PermanentError, match="empty file"):
        content(tmp_path, "")
    with pytest.raises(PermanentError, match="No such file"):
        read_energy_csv(tmp_path / "none.csv", TERNI, METERS, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('zone = "Terni"\n' + MINIMAL, "zone: Value error, no time zone is called 'Terni'"),
        ('encoding = "klingon"\n' + MINIMAL, "no encoding 'klingon'"),
        ('delimiter = ","\ndecimal = ","\n' + MINIMAL, "cannot be the same"),
        ("delimiter = ", "Invalid value"),
        ('[time]\ncolumn = "t"', "neither import_wh nor export_wh"),
        ('[time]\ncolumn = "t"\nin_order = true\ntime_column = "h"', "leave time_column out"),
        ('[time]\ncolumn = "t"\n[import_wh]\ncolumn = "i"\nunit = "J"', "import_wh.unit"),
        ("speed = 9\n" + MINIMAL, "speed"),
    ],
)
def test_load_mapping_names_entry_when_wrong(tmp_path, text, message):
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    with pytest.raises(PermanentError, match=message) as caught:
        load_mapping(str(path), EnergyCsvMapping)
    assert "\n" not in str(caught.value)


def test_load_mapping_names_the_shipped_ones_when_missing():
    with pytest.raises(PermanentError, match=r"one of .*terni"):
        load_mapping("perugia", EnergyCsvMapping)


def test_config_refuses_several_meters_when_file_names_none(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(MINIMAL)
    config = CsvSourceConfig(path=tmp_path, mapping=str(path), meters={"a": "01" * 32, "b": "02" * 32})
    with pytest.raises(PermanentError, match="no column for the meter, but 2 meters"):
        config.source(SimulatedClock(isp_start(0)))


@given(st.datetimes(datetime(2019, 1, 1), datetime(2020, 1, 1)), st.sampled_from([ROME, "UTC", "Europe/Dublin"]))
def test_instants_are_those_at_which_clocks_show_the_time(moment, zone):
    moment = moment.replace(microsecond=0, fold=0)
    found = instants(moment, ZoneInfo(zone))
    base = int(moment.replace(tzinfo=ZoneInfo("UTC")).timestamp())
    shown = [
        base + offset
        for offset in range(-3 * 3600, 3 * 3600 + 1, 1800)
        if datetime.fromtimestamp(base + offset, ZoneInfo(zone)).replace(tzinfo=None, fold=0) == moment
    ]
    assert found == shown


def collect(source):
    async def run():
        return [value async for value in source.values()]

    return asyncio.run(run())


def test_values_reports_as_of_modification_and_ends(tmp_path, caplog):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "".join(terni_day(date(2019, 6, 14))) + "IT09;1;1;14-06-2019\n" * 30)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    source = CsvSource(path, TERNI, METERS, SimulatedClock(isp_start(0)))
    assert asyncio.run(source.probe()) == "a.csv: 96 quarter hours, 30 bad lines, the first is 98: unknown meter 'IT09'"
    values = collect(source)
    assert len(values) == 96
    caplog.clear()
    assert collect(source) == values  # each consumer gets everything
    assert {v.reported_at for v in values} == {1_600_000_000}
    texts = [record.getMessage() for record in caplog.records]
    assert (len(texts), texts[-1].endswith("10 more bad lines")) == (21, True)


def test_values_finds_new_and_changed_files_and_passes_over_broken_ones(tmp_path, caplog):
    day = date(2019, 6, 14)
    (tmp_path / "1.csv").write_text("broken\n")
    (tmp_path / "2.csv").write_text(HEADER + "".join(terni_day(day)))
    clock = SimulatedClock(isp_start(0))
    source = CsvSource(tmp_path, TERNI, METERS, clock, watch_every_s=60)

    async def scenario():
        seen = []

        async def consume():
            async for value in source.values():
                seen.append(value)

        async def counted(minute):
            for _ in range(200):
                await asyncio.sleep(0.005)
                if clock._sleepers:
                    break
            clock.advance_to(isp_start(0) + timedelta(minutes=minute))
            return len(seen)

        task = asyncio.create_task(consume())
        counts = [await counted(1)]
        counts.append(await counted(2))
        (tmp_path / "3.csv").write_text(HEADER + "".join(terni_day(day, "IT02")))
        (tmp_path / "2.csv").write_text(HEADER + "".join(terni_day(day, first=1)))
        counts.append(await counted(3))
        task.cancel()
        return counts

    assert asyncio.run(scenario()) == [96, 96, 288]
    assert [r.getMessage().split(":")[1] for r in caplog.records] == [" no column 'Smartmeter_id' (there are"]


def test_values_passes_over_malformed_file_of_a_folder_and_ends(tmp_path, caplog):
    (tmp_path / "1.csv").write_text("broken\n")
    (tmp_path / "2.csv").write_text(HEADER + "".join(terni_day(date(2019, 6, 14))))
    assert len(collect(CsvSource(tmp_path, TERNI, METERS, SimulatedClock(isp_start(0))))) == 96
    assert "1.csv: no column" in caplog.text


def test_values_raises_when_the_only_file_is_malformed_or_missing(tmp_path):
    with pytest.raises(PermanentError, match="No such file"):
        collect(CsvSource(tmp_path / "none.csv", TERNI, METERS, SimulatedClock(isp_start(0))))
    path = tmp_path / "a.csv"
    path.write_text("x\n")
    with pytest.raises(PermanentError, match="no column"):
        collect(CsvSource(path, TERNI, METERS, SimulatedClock(isp_start(0))))
    assert "no file" in asyncio.run(CsvSource(tmp_path, TERNI, METERS, None, pattern="*.txt").probe())


def test_config_paths_are_relative_to_the_file_that_names_them(tmp_path):
    context = {"folder": tmp_path}
    files = {"path": "in", "mapping": "site.toml", "meters": {"a": "01" * 32}}
    config = CsvSourceConfig.model_validate(files, context=context)
    assert (config.path, config.mapping) == (tmp_path / "in", str(tmp_path / "site.toml"))
    shipped = CsvSourceConfig.model_validate(files | {"path": "/in", "mapping": "terni"}, context=context)
    assert (str(shipped.path), shipped.mapping) == ("/in", "terni")
    store = {"store": "site.db", "start": "2019-06-14T00:00:00Z", "end": "2019-06-15T00:00:00Z"}
    assert ReplayConfig.model_validate(store, context=context).store == str(tmp_path / "site.db")
    url = {**store, "store": "postgresql://db/site"}
    assert ReplayConfig.model_validate(url, context=context).store == "postgresql://db/site"
    (tmp_path / "m.toml").write_text((SHIPPED / "reference_meter.toml").read_text())
    device = {"host": "h", "meter_id": "01" * 32, "map": "m.toml"}
    assert ModbusDeviceConfig.model_validate(device, context=context).map == str(tmp_path / "m.toml")


def test_site_file_gives_paths_once(tmp_path, monkeypatch):
    """Paths of a site file that was itself named by a relative path."""
    monkeypatch.chdir(tmp_path)
    meters = {"a": "01" * 32}
    entry = {"kind": "csv", "path": "in", "mapping": "site.toml", "meters": meters}
    device = TypeAdapter(DeviceConfig).validate_python(entry, context={"folder": Path("sites")})
    assert (device.path, device.mapping) == (tmp_path / "sites" / "in", str(tmp_path / "sites" / "site.toml"))
