"""Meters over real Modbus TCP on loopback: read, wrap, reset, gap, silent, stuck, wrong device, setpoints."""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, timedelta
from hashlib import sha256
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from pymodbus.framer import FramerRTU

from offchain.chain.signatures import metering_domain
from offchain.domain.errors import AdapterError, DomainError, PermanentError, TransientError
from offchain.domain.isp import MarketDay, isp_start
from offchain.store import open_store
from offchain.store.readings import readings_of_meter
from oracles.clock import SimulatedClock, SystemClock, unix
from oracles.coordinator import EndpointCoordinator
from oracles.downlink import ModbusDownlink, Setpoints, dispatch
from oracles.gateway import SiteGateway
from oracles.normalise import MeteringPoint, Quality, Rejection
from oracles.pipeline import MeteringPipeline
from oracles.signer import GatewayKeys
from oracles.simulators.modbus_meters import Fault, ModbusMeterSimulator, seeded_follow_bps
from oracles.sources.modbus import ModbusDeviceConfig, ModbusEndpoint, ModbusMeterSource, ModbusTelemetrySource
from oracles.sources.port import Observation, Quantity
from oracles.sources.register_map import REFERENCE_MAP, load_register_map, register_map_of

DAY = MarketDay.of(date(2016, 5, 20))
FIRST = DAY.first_isp
METERS = [sha256(b"meter %d" % number).digest() for number in range(6)]
WIDE_MAP = register_map_of(
    {
        "table": "holding",
        "serial": {"address": 0, "type": "string", "words": 8},
        "meter_clock": {"address": 10, "type": "uint32"},
        "import_wh": {"address": 12, "type": "uint64"},
        "export_wh": {"address": 16, "type": "uint64"},
        "telemetry": [
            {"address": 20, "type": "int32", "quantity": "active_power_w", "scale": 0.1, "absent": -1},
            {"address": 22, "type": "float32", "quantity": "voltage_v", "phase": 1},
            {"address": 24, "type": "float32", "quantity": "voltage_v", "phase": 2},
        ],
    },
    "wide",
)
DECIMAL_MAP = register_map_of(
    {
        "table": "holding",
        "word_order": "little",
        "serial": {"address": 0, "type": "uint32"},
        "import_wh": {"address": 300, "type": "uint32", "scale": 0.01, "unit": "kWh", "wraps_at": 10**8},
        "export_wh": {"address": 400, "type": "uint32", "scale": 0.01, "unit": "kWh", "wraps_at": 10**8},
    },
    "decimal",
)


@asynccontextmanager
async def running_site(
    path, *, register_map=REFERENCE_MAP, follow_bps=None, units_per_server=4, timeout_s=0.2, framing="tcp"
):
    """Six meters behind two servers, read by two coordinators into one store."""
    clock = SimulatedClock(isp_start(FIRST))
    secrets = {meter_id: sha256(meter_id).digest() for meter_id in METERS}
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(
            ModbusMeterSimulator(
                METERS,
                clock=clock,
                seed=5,
                follow_bps=follow_bps,
                register_map=register_map,
                units_per_server=units_per_server,
                framing=framing,
            )
        )
        store = stack.enter_context(open_store(path / "site.db"))
        endpoints, sources = {}, {}
        for meter_id in METERS:
            host, port, unit_id = simulator.address_of(meter_id)
            if port not in endpoints:
                endpoints[port] = await stack.enter_async_context(
                    ModbusEndpoint(host, port, timeout_s=timeout_s, framing=framing)
                )
            sources[meter_id] = ModbusMeterSource(endpoints[port], unit_id, meter_id, register_map, clock)
        coordinators = [
            EndpointCoordinator([s for s in sources.values() if s.endpoint is endpoint], delay_s=0.001)
            for endpoint in endpoints.values()
        ]
        signer = GatewayKeys(metering_domain(31337, "0x" + "11" * 20), secrets)
        points = [MeteringPoint(meter_id, 20_000, 20_000) for meter_id in METERS]
        pipeline = MeteringPipeline(store, points, signer, clock)
        yield SimpleNamespace(
            clock=clock,
            simulator=simulator,
            store=store,
            sources=sources,
            coordinators=coordinators,
            pipeline=pipeline,
            gateway=SiteGateway(coordinators, pipeline, clock),
        )


def in_site(path, scenario, **options):
    async def run():
        async with running_site(path, **options) as site:
            return await scenario(site)

    return asyncio.run(run())


async def pass_isp(site, boundary, import_wh=100, export_wh=0):
    """Let the ISP before ``boundary`` pass at all meters, then read them."""
    for meter_id in METERS:
        site.simulator.set_interval(meter_id, boundary - 1, import_wh, export_wh)
    site.simulator.advance_to(boundary)
    return await site.gateway.read_boundary()


def stored(site, meter_id):
    with site.store.read() as connection:
        return readings_of_meter(connection, meter_id, FIRST, DAY.end_isp)


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
@pytest.mark.parametrize("register_map", [REFERENCE_MAP, WIDE_MAP], ids=["input-uint32", "holding-uint64"])
def test_read_boundary_stores_energy_of_all_meters(tmp_path, register_map, framing):
    async def scenario(site):
        ports = {site.simulator.address_of(meter_id).port for meter_id in METERS}
        assert len(ports) == 2
        await site.gateway.read_boundary()
        for step in range(1, 5):
            report = await pass_isp(site, FIRST + step, 100 * step, step)
            assert (len(report.ingest.accepted), report.failures) == (6, {})
        return [[row[1:5] for row in stored(site, meter_id)] for meter_id in METERS]

    expected = [(FIRST + i, 100 * (i + 1), i + 1, 0) for i in range(4)]
    assert in_site(tmp_path, scenario, register_map=register_map, framing=framing) == [expected] * 6


def test_read_boundary_flags_when_scaled_decimal_counter_wraps(tmp_path):
    async def scenario(site):
        site.simulator.meters[METERS[0]].import_register_wh = 10**9 - 50
        await site.gateway.read_boundary()
        await pass_isp(site, FIRST + 1)
        return stored(site, METERS[0])[0]

    row = in_site(tmp_path, scenario, register_map=DECIMAL_MAP)
    assert (row.import_wh, row.quality) == (100, Quality.WRAPPED)


def test_read_boundary_follows_profile_until_simulated_time(tmp_path):
    async def scenario(site):
        for number, meter_id in enumerate(METERS):
            site.simulator.load_profile(meter_id, FIRST, [(10 * number + i, i) for i in range(96)])
        await site.gateway.read_boundary()
        for boundary in range(FIRST + 1, FIRST + 9):
            site.simulator.advance_to(boundary)
            await site.gateway.read_boundary()
        return [(row.import_wh, row.export_wh) for row in stored(site, METERS[3])]

    assert in_site(tmp_path, scenario) == [(30 + i, i) for i in range(8)]


def test_run_reads_every_boundary_as_time_passes(tmp_path):
    async def scenario(site):
        task = asyncio.create_task(site.gateway.run(FIRST, boundaries=4))
        for boundary in range(FIRST, FIRST + 4):
            for meter_id in METERS if boundary > FIRST else ():
                site.simulator.set_interval(meter_id, boundary - 1, 9, 0)
            site.simulator.advance_to(boundary)
            async with asyncio.timeout(60):  # a boundary that is missed does not come again
                while not task.done() and site.pipeline._states.get(METERS[0], (0, 0))[1] < boundary:
                    await asyncio.sleep(0.001)
        await task
        return [row.import_wh for row in stored(site, METERS[0])]

    assert in_site(tmp_path, scenario, timeout_s=10) == [9, 9, 9]


def test_run_keeps_reads_when_store_is_busy(tmp_path, monkeypatch):
    async def scenario(site):
        await site.gateway.read_boundary()

        def fail(*_):
            raise TransientError("database is locked")

        with monkeypatch.context() as patch:
            patch.setattr("oracles.pipeline.insert_readings", fail)
            with pytest.raises(TransientError):
                await pass_isp(site, FIRST + 1)
        await pass_isp(site, FIRST + 2)
        return [row.isp for row in stored(site, METERS[0])]

    assert in_site(tmp_path, scenario) == [FIRST, FIRST + 1]


def test_read_boundary_flags_when_counter_wraps(tmp_path):
    async def scenario(site):
        site.simulator.meters[METERS[0]].import_register_wh = 2**32 - 30
        await site.gateway.read_boundary()
        await pass_isp(site, FIRST + 1)
        return stored(site, METERS[0])[0]

    row = in_site(tmp_path, scenario)
    assert (row.import_wh, row.quality) == (100, Quality.WRAPPED)


def test_read_boundary_leaves_isp_out_when_meter_was_reset(tmp_path):
    async def scenario(site):
        await site.gateway.read_boundary()
        await pass_isp(site, FIRST + 1)
        site.simulator.reset(METERS[0])
        report = await pass_isp(site, FIRST + 2)
        await pass_isp(site, FIRST + 3)
        return report.ingest.rejected, [row.isp for row in stored(site, METERS[0])]

    assert in_site(tmp_path, scenario) == ({Rejection.RESET: 1}, [FIRST, FIRST + 2])


@pytest.mark.parametrize(
    ("fault", "rejection"),
    [(Fault.STUCK, Rejection.STUCK), (Fault.FAULTY, Rejection.FAULTY), (Fault.SILENT, None)],
)
def test_read_boundary_leaves_gap_and_others_alone_when_one_meter_fails(tmp_path, fault, rejection):
    async def scenario(site):
        await site.gateway.read_boundary()
        await pass_isp(site, FIRST + 1)
        site.simulator.set_fault(METERS[0], fault)
        broken = await pass_isp(site, FIRST + 2)
        await pass_isp(site, FIRST + 3)
        site.simulator.set_fault(METERS[0], None)
        repaired = await pass_isp(site, FIRST + 4)
        await pass_isp(site, FIRST + 5)
        assert repaired.ingest.rejected == {Rejection.GAP: 1}
        assert broken.ingest.rejected == ({} if rejection is None else {rejection: 1})
        if fault is Fault.SILENT:
            assert list(broken.failures) == [METERS[0]]
            assert isinstance(broken.failures[METERS[0]], TransientError)
        return [[row.isp - FIRST for row in stored(site, meter_id)] for meter_id in METERS]

    assert in_site(tmp_path, scenario) == [[0, 4]] + [[0, 1, 2, 3, 4]] * 5


def test_poll_logs_loss_and_return_once(tmp_path, caplog):
    caplog.set_level("INFO", "oracles.coordinator")

    async def scenario(site):
        site.simulator.set_fault(METERS[0], Fault.SILENT)
        for _ in range(3):
            await site.coordinators[0].poll()
        site.simulator.set_fault(METERS[0], None)
        for _ in range(2):
            await site.coordinators[0].poll()

    in_site(tmp_path, scenario, timeout_s=0.05)
    texts = [record.getMessage() for record in caplog.records]
    assert [("lost" in t, "answers again" in t) for t in texts] == [(True, False), (False, True)]


def test_read_boundary_stores_once_when_polled_twice(tmp_path):
    async def scenario(site):
        await site.gateway.read_boundary()
        await pass_isp(site, FIRST + 1)
        again = await site.gateway.read_boundary()
        return again.ingest.rejected, len(stored(site, METERS[0]))

    assert in_site(tmp_path, scenario) == ({Rejection.DUPLICATE: 6}, 1)


def test_poll_recovers_when_server_comes_back(tmp_path):
    async def scenario(site):
        (server,) = (s for s in site.simulator._servers[:1])
        port = server.transport.sockets[0].getsockname()[1]
        await server.shutdown()
        down = await site.coordinators[0].poll()
        assert (len(down.readings), len(down.failures)) == (0, 4)
        assert all(isinstance(error, TransientError) for error in down.failures.values())
        assert (await site.coordinators[1].poll()).failures == {}
        server.comm_params.source_address = ("127.0.0.1", port)
        server.init_setup_connect_listen("127.0.0.1", port)
        await server.listen()
        for _ in range(3):
            up = await site.coordinators[0].poll()
        return len(up.readings), up.failures

    assert in_site(tmp_path, scenario) == (4, {})


def test_read_raises_transient_when_nobody_listens():
    async def scenario():
        async with ModbusEndpoint("127.0.0.1", 1, timeout_s=0.2) as endpoint:
            await endpoint.read(1, "input", 0, 1)

    with pytest.raises(TransientError, match=r"127\.0\.0\.1:1 unit 1: no connection"):
        asyncio.run(scenario())


def test_read_raises_permanent_when_register_does_not_exist(tmp_path):
    async def scenario(site):
        await site.sources[METERS[0]].endpoint.read(1, "input", 5_000, 2)

    with pytest.raises(PermanentError, match="no such register"):
        in_site(tmp_path, scenario)


def test_probe_returns_serial_and_refuses_other_device(tmp_path):
    async def scenario(site):
        source = site.sources[METERS[1]]
        serial = await source.probe()
        other = ModbusMeterSource(
            source.endpoint, source.unit_id, METERS[1], REFERENCE_MAP, site.clock, serial="GP99999999999999"
        )
        with pytest.raises(PermanentError, match="GP99999999999999"):
            await other.probe()
        return serial, site.simulator.meters[METERS[1]].serial

    found, expected = in_site(tmp_path, scenario)
    assert found == expected == "GP00000000000002"


def downlink_to(site, meter_id):
    source = site.sources[meter_id]
    return ModbusDownlink(source.endpoint, source.unit_id, meter_id, source.register_map, site.clock)


def test_dispatch_changes_what_is_metered_as_far_as_device_follows(tmp_path):
    follow = {METERS[1]: 5_000, METERS[2]: 0}

    async def scenario(site):
        downlinks = {meter_id: downlink_to(site, meter_id) for meter_id in METERS}
        schedules = [Setpoints(meter_id, FIRST + 1, [-2_000, 1_200]) for meter_id in METERS[:3]]
        acknowledged, failed = await dispatch(downlinks, schedules)
        assert (set(acknowledged), failed) == (set(METERS[:3]), {})
        await site.gateway.read_boundary()
        for step in range(1, 5):
            await pass_isp(site, FIRST + step, 300, 100)
        return [[(r.import_wh, r.export_wh) for r in stored(site, meter_id)] for meter_id in METERS[:4]]

    usual = (300, 100)
    assert in_site(tmp_path, scenario, follow_bps=follow) == [
        [usual, (0, 300), (500, 0), usual],
        [usual, (50, 100), (350, 0), usual],
        [usual] * 4,
        [usual] * 4,
    ]


def test_dispatch_sends_schedule_of_a_whole_day(tmp_path):
    async def scenario(site):
        powers_w = [4 * i - 200 for i in range(100)]
        acknowledged, _ = await dispatch(
            {METERS[0]: downlink_to(site, METERS[0])}, [Setpoints(METERS[0], FIRST, powers_w)]
        )
        assert acknowledged[METERS[0]].isp_count == 100
        return site.simulator.meters[METERS[0]].setpoints_w, powers_w

    held, powers_w = in_site(tmp_path, scenario)
    assert held == {FIRST + i: power_w for i, power_w in enumerate(powers_w)}


def test_dispatch_reports_who_did_not_acknowledge(tmp_path):
    async def scenario(site):
        site.simulator.set_fault(METERS[0], Fault.SILENT)
        downlinks = {meter_id: downlink_to(site, meter_id) for meter_id in METERS[:3]}
        schedules = [Setpoints(METERS[0], FIRST, [1]), Setpoints(METERS[1], FIRST, [2])]
        schedules.append(Setpoints(METERS[2], FIRST, [2**31]))
        acknowledged, failed = await dispatch(downlinks, schedules, delay_s=0.001)
        return set(acknowledged), {meter_id: type(error) for meter_id, error in failed.items()}

    acknowledged, failed = in_site(tmp_path, scenario, timeout_s=0.1)
    assert acknowledged == {METERS[1]}
    assert failed == {METERS[0]: TransientError, METERS[2]: DomainError}


def test_dispatch_raises_when_meter_has_no_device(tmp_path):
    async def scenario(site):
        await dispatch({}, [Setpoints(METERS[0], FIRST, [1])])

    with pytest.raises(DomainError, match="no device"):
        in_site(tmp_path, scenario)


def test_send_raises_when_another_master_overwrites(tmp_path, monkeypatch):
    async def scenario(site):
        downlink = downlink_to(site, METERS[0])
        write = downlink.endpoint.write

        async def overwritten(unit_id, address, words):
            await write(unit_id, address, words)
            await write(unit_id, address, [*words[:-1], 77])

        monkeypatch.setattr(downlink.endpoint, "write", overwritten)
        await downlink.send(Setpoints(METERS[0], FIRST, [5]))

    with pytest.raises(TransientError, match="not held"):
        in_site(tmp_path, scenario)


def test_write_raises_permanent_when_schedule_is_malformed_or_elsewhere(tmp_path):
    async def scenario(site):
        endpoint = site.sources[METERS[0]].endpoint
        with pytest.raises(PermanentError, match="value refused"):
            await endpoint.write(1, 100, [0, 1, 2, 0])
        with pytest.raises(PermanentError, match="no such register"):
            await endpoint.write(1, 12, [0, 0])

    in_site(tmp_path, scenario)


def test_downlink_raises_when_map_has_no_setpoint():
    plain = REFERENCE_MAP.model_copy(update={"setpoint": None})
    with pytest.raises(PermanentError, match="takes no setpoints"):
        ModbusDownlink(ModbusEndpoint("127.0.0.1", 502), 1, METERS[0], plain, SimulatedClock(isp_start(0)))


def test_set_interval_raises_when_isp_has_passed_or_energy_is_negative():
    simulator = ModbusMeterSimulator(METERS, clock=SimulatedClock(isp_start(FIRST)))
    simulator.set_interval(METERS[0], FIRST, 1, 1)
    with pytest.raises(DomainError, match="has passed"):
        simulator.set_interval(METERS[0], FIRST, 1, 1)
    with pytest.raises(DomainError, match="negative energy"):
        simulator.set_interval(METERS[0], FIRST + 1, -1, 1)


def test_simulator_is_the_same_when_seed_is_the_same():
    clock = SimulatedClock(isp_start(FIRST))
    start = [
        [(m.import_register_wh, m.export_register_wh) for m in simulator.meters.values()]
        for simulator in (ModbusMeterSimulator(METERS, clock=clock, seed=s) for s in (1, 1, 2))
    ]
    assert start[0] == start[1] != start[2]
    assert all(value > 0 for pair in start[0] for value in pair)


def test_seeded_follow_bps_keeps_to_its_shares():
    many = [number.to_bytes(32) for number in range(4_000)]
    shares = seeded_follow_bps(many, 7, partly=0.1, not_at_all=0.05)
    assert shares == seeded_follow_bps(many, 7, partly=0.1, not_at_all=0.05)
    none = sum(share == 0 for share in shares.values())
    full = sum(share == 10_000 for share in shares.values())
    assert 140 < none < 260
    assert 3_300 < full < 3_500


def test_run_goes_on_when_store_fails_for_a_while(tmp_path, monkeypatch, caplog):
    async def scenario(site):
        await site.gateway.read_boundary()

        def fail(*_):
            raise TransientError("database is locked")

        for boundary in (FIRST + 1, FIRST + 2):
            for meter_id in METERS:
                site.simulator.set_interval(meter_id, boundary - 1, 5, 0)
            site.simulator.advance_to(boundary)
            with monkeypatch.context() as patch:
                if boundary == FIRST + 1:
                    patch.setattr("oracles.pipeline.insert_readings", fail)
                await site.gateway.run(boundary, boundaries=1)
        return [row.import_wh for row in stored(site, METERS[0])]

    assert in_site(tmp_path, scenario) == [5, 5]
    assert "6 reads kept in memory" in caplog.text


def test_read_raises_transient_when_answer_is_too_short(tmp_path):
    def truncate(sending, pdu):
        if sending:
            pdu.registers.pop()
        return pdu

    async def scenario(site):
        site.simulator._servers[0].trace_pdu = truncate
        await site.sources[METERS[0]].read()

    with pytest.raises(TransientError, match="7 words instead of 8"):
        in_site(tmp_path, scenario)


def test_simulator_raises_when_used_wrongly():
    clock = SystemClock()
    with pytest.raises(DomainError, match=r"1\.\.247"):
        ModbusMeterSimulator(METERS, clock=clock, units_per_server=248)
    simulator = ModbusMeterSimulator(METERS, clock=clock)
    with pytest.raises(PermanentError, match="not served"):
        simulator.address_of(METERS[0])
    with pytest.raises(DomainError, match="simulated time"):
        simulator.advance_to(FIRST)


def test_poll_reads_hundreds_of_meters_behind_several_servers():
    many = [number.to_bytes(32) for number in range(600)]

    async def scenario():
        clock = SimulatedClock(isp_start(FIRST))
        async with AsyncExitStack() as stack:
            simulator = await stack.enter_async_context(ModbusMeterSimulator(many, clock=clock))
            readings = {}
            for port in {simulator.address_of(meter_id).port for meter_id in many}:
                endpoint = await stack.enter_async_context(ModbusEndpoint("127.0.0.1", port))
                here = [m for m in many if simulator.address_of(m).port == port]
                poll = await EndpointCoordinator(
                    [
                        ModbusMeterSource(endpoint, simulator.address_of(m).unit_id, m, REFERENCE_MAP, clock)
                        for m in here
                    ]
                ).poll()
                readings |= {r.meter_id: r.import_register_wh for r in poll.readings}
            return readings, {m: simulator.meters[m].import_register_wh for m in many}

    readings, true_registers = asyncio.run(scenario())
    assert readings == true_registers


def test_read_never_takes_late_answer_for_its_own_when_frames_have_no_number(tmp_path):
    """A slow device answers the first request while the second waits: with RTU frames both look the same."""

    async def scenario(site):
        endpoint, meter = site.sources[METERS[0]].endpoint, site.simulator.meters[METERS[0]]
        meter.delay_s = 0.7
        with pytest.raises(TransientError, match="no answer"):
            await endpoint.read(1, "input", 0, 2)
        meter.import_register_wh, meter.delay_s = 2_000, 0.3
        return await endpoint.read(1, "input", 12, 2)

    assert in_site(tmp_path, scenario, framing="rtu", timeout_s=0.5) == [0, 2_000]


def telemetry_of(site, *, every_s=4.0):
    meter = site.sources[METERS[0]]
    return ModbusTelemetrySource(
        meter.endpoint, meter.unit_id, "feeder", meter.register_map, site.clock, every_s=every_s
    )


def test_telemetry_reads_what_the_device_has(tmp_path):
    async def scenario(site):
        site.simulator.meters[METERS[0]].telemetry = {
            (Quantity.ACTIVE_POWER, 0): -1_234.5,
            (Quantity.VOLTAGE, 2): 231.25,
        }
        source = telemetry_of(site)
        return await source.probe(), await source.read(), unix(site.clock)

    said, observations, now = in_site(tmp_path, scenario, register_map=WIDE_MAP)
    assert said == "2 of 3 values"
    assert observations == [
        Observation("feeder", Quantity.ACTIVE_POWER, 0, pytest.approx(-1_234.5), now, now),
        Observation("feeder", Quantity.VOLTAGE, 2, 231.25, now, now),
    ]


def test_telemetry_polls_at_its_rate_and_goes_on_when_device_is_lost(tmp_path, caplog):
    caplog.set_level("INFO", "oracles.sources.modbus")

    async def scenario(site):
        meter = site.simulator.meters[METERS[0]]
        meter.telemetry = {(Quantity.ACTIVE_POWER, 0): 10.0}
        values, seen = telemetry_of(site).values(), []

        async def collect():
            async for observation in values:
                seen.append(observation.observed_at - start)

        async def settle():  # until the source waits for its next poll
            while not site.clock._sleepers:
                await asyncio.sleep(0.001)

        start = unix(site.clock)
        task = asyncio.create_task(collect())
        for second in range(1, 25):
            await settle()
            meter.fault = Fault.OFFLINE if second in range(9, 17) else None
            site.clock.advance_to(isp_start(FIRST) + timedelta(seconds=second))
        await settle()
        task.cancel()
        return seen

    assert in_site(tmp_path, scenario, register_map=WIDE_MAP) == [0, 4, 8, 20, 24]
    texts = [record.getMessage() for record in caplog.records]
    assert [("lost" in t, "is back" in t) for t in texts] == [(True, False), (False, True)]


def test_sources_refuse_map_without_what_they_read():
    endpoint, clock = ModbusEndpoint("127.0.0.1", 502), SimulatedClock(isp_start(0))
    with pytest.raises(PermanentError, match="has no telemetry"):
        ModbusTelemetrySource(endpoint, 1, "d", REFERENCE_MAP, clock, every_s=4)
    only_telemetry = WIDE_MAP.model_copy(update={"import_wh": None, "export_wh": None})
    with pytest.raises(PermanentError, match="counts no energy"):
        ModbusMeterSource(endpoint, 1, METERS[0], only_telemetry, clock)


@pytest.mark.parametrize("shipped", ["eastron_sdm630", "abb_b23"])
def test_shipped_map_reads_what_such_a_meter_shows(shipped):
    register_map = load_register_map(shipped)

    async def scenario():
        clock = SimulatedClock(isp_start(FIRST))
        async with ModbusMeterSimulator(METERS[:1], clock=clock, register_map=register_map) as simulator:
            meter = simulator.meters[METERS[0]]
            meter.import_register_wh, meter.export_register_wh = 1_234_560, 7_500
            meter.telemetry = {(r.quantity, r.phase): 123.5 for r in register_map.telemetry}
            host, port, unit_id = simulator.address_of(METERS[0])
            config = ModbusDeviceConfig(
                host=host,
                port=port,
                unit_id=unit_id,
                map=shipped,
                meter_id=METERS[0].hex(),
                serial="1",
                device_id="m",
                telemetry_every_s=4,
            )
            async with config.endpoint() as endpoint:
                meter_source = config.meter_source(endpoint, clock)
                observations = await config.telemetry_source(endpoint, clock).read()
                return await meter_source.probe(), await meter_source.read(), observations

    serial, reading, observations = asyncio.run(scenario())
    assert serial == "1"
    assert (reading.import_register_wh, reading.export_register_wh) == (1_234_560, 7_500)
    assert [o.value for o in observations] == [pytest.approx(123.5)] * len(register_map.telemetry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meter_id": None}, "give meter_id for readings"),
        ({"device_id": "d"}, "go together"),
        ({"framing": "ascii"}, "framing"),
        ({"port": 0}, "port"),
        ({"telemetry_every_s": 0.1, "device_id": "d"}, "telemetry_every_s"),
        ({"unit": 7}, "Extra inputs"),
    ],
)
def test_config_names_what_is_wrong(change, message):
    good = {"host": "192.0.2.1", "meter_id": "0x" + METERS[0].hex()}
    assert ModbusDeviceConfig.model_validate(good).endpoint_key == ("192.0.2.1", 502, "tcp")
    with pytest.raises(ValidationError, match=message):
        ModbusDeviceConfig.model_validate(good | change)


def test_config_allows_one_connection_when_frames_are_those_of_a_serial_line():
    config = ModbusDeviceConfig(host="192.0.2.1", meter_id=METERS[0], framing="rtu")
    assert config.endpoint().connections == 1
    assert config.telemetry_source(config.endpoint(), SystemClock()) is None


def nonsense(request, framing, rng):
    """Something that is not the answer, now and then it is."""
    if framing == "tcp":
        pdus = [b"\1\x04\x04\0\1\0\2", b"\1\x04\xff\0\1", b"\1\x03\x02\0\1", b"\1\x04", b"\1\x84" + rng.randbytes(1)]
        lengths = [len(pdu := rng.choice(pdus)), 0, 65_535, len(pdu) + 1]
        frame = request[:2] + b"\0\0" + rng.choices(lengths, [9, 1, 1, 1])[0].to_bytes(2) + pdu
    else:
        pdu = rng.choice([b"\1\x04\x04\0\1\0\2", b"\2\x04\x04\0\1\0\2", b"\1\x04\xff\0", b"\1\x84" + rng.randbytes(1)])
        frame = pdu + FramerRTU.compute_CRC(pdu).to_bytes(2)
    return rng.choices([frame, rng.randbytes(20), b""], [8, 1, 1])[0]


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_read_raises_nothing_but_our_errors_when_device_talks_nonsense(framing):
    rng, outcomes = random.Random(7), Counter()

    async def answer(reader, writer):
        while request := await reader.read(300):
            writer.write(nonsense(request, framing, rng))
            if rng.random() < 0.1:
                break
        writer.close()

    async def scenario():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # what the library cannot decode
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with ModbusEndpoint("127.0.0.1", port, connections=1, timeout_s=0.03, framing=framing) as endpoint:
            for _ in range(80):
                try:
                    words = await asyncio.wait_for(endpoint.read(1, "input", 0, 2), 5)
                    outcomes[tuple(words)] += 1
                except AdapterError as error:
                    outcomes[type(error)] += 1
        server.close()

    asyncio.run(scenario())
    assert set(outcomes) == {(1, 2), TransientError, PermanentError}
