"""SunSpec devices over real Modbus: discovery, counters, telemetry, several meters, moved models, RTU framing."""

import asyncio
import math

import pytest

from offchain.domain.errors import PermanentError, TransientError
from oracles.clock import SystemClock
from oracles.simulators.modbus_meters import Fault
from oracles.simulators.sunspec_device import SimulatedModel, SunSpecDeviceSimulator
from oracles.sources.port import DeviceStatus, Quantity
from oracles.sources.sunspec import DEFINITIONS, SunSpecDeviceConfig, discover

METER = b"\x09" * 32


def common(serial="SN-1", manufacturer="Maker"):
    return SimulatedModel(1, {"Mn": manufacturer, "Md": "Model X", "Vr": "1.2", "SN": serial})


def meter(import_wh=123_450, export_wh=6_780, *, model_id=203, exponent=1, **values):
    scale = {} if model_id > 210 else {"TotWhImp": exponent, "TotWhExp": exponent, "W": 1, "V": -1, "Hz": -2}
    values = {"TotWhImp": import_wh, "TotWhExp": export_wh, "W": -1_500, "Evt": 0} | values
    return SimulatedModel(model_id, values, scale | {"PhVphA": -1, "Hz": -2})


def inverter(model_id=103, **values):
    values = {"W": 4_200, "PhVphA": 231.5, "A": 18.2, "Hz": 50.02, "WH": 9_000_000, "TmpCab": 41.5, "St": 4} | values
    scale = {} if model_id > 110 else {"PhVphA": -1, "A": -1, "Hz": -2, "W": 1, "TmpCab": -1, "WH": 0}
    return SimulatedModel(model_id, values, scale)


def on(models, scenario, *, timeout_s=2.0, **options):
    async def run():
        async with SunSpecDeviceSimulator(models, **options) as device:
            framing = options.get("framing", "tcp")
            config = SunSpecDeviceConfig(
                host=device.host,
                port=device.port,
                framing=framing,
                unit_id=device.unit_id,
                meter_id=METER.hex(),
                timeout_s=timeout_s,
                device_id="pv",
                telemetry_every_s=1,
            )
            async with config.endpoint() as endpoint:
                return await scenario(device, endpoint, config)

    return asyncio.run(run())


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
@pytest.mark.parametrize("base", [40_000, 0, 50_000])
def test_discover_walks_chain_wherever_it_starts(base, framing):
    async def scenario(_, endpoint, config):
        return await discover(endpoint, config.unit_id)

    models = on([common(), SimulatedModel(120, length=26), inverter(), meter()], scenario, base=base, framing=framing)
    assert [(m.model_id, m.address - base, m.length) for m in models] == [
        (1, 4, 66),
        (120, 72, 26),
        (103, 100, 50),
        (203, 152, 105),
    ]
    assert models[3].identity.serial == "SN-1"
    assert models[3].identity.manufacturer == "Maker"


@pytest.mark.parametrize("model_id", [201, 202, 203, 204, 211, 212, 213, 214])
def test_read_returns_counters_of_every_meter_model(model_id):
    async def scenario(_, endpoint, config):
        source = config.meter_source(endpoint, SystemClock())
        return await source.probe(), await source.read()

    serial, reading = on([common("M-7"), meter(model_id=model_id)], scenario)
    assert serial == "M-7"
    assert (reading.meter_id, reading.import_register_wh, reading.export_register_wh) == (METER, 123_450, 6_780)
    assert reading.modulus_wh == (None if model_id > 210 else 10 * 2**32)
    assert not reading.faulty


def test_read_needs_one_request_once_discovered():
    async def scenario(device, endpoint, config):
        source = config.meter_source(endpoint, SystemClock())
        await source.read()
        device.reads.clear()
        await source.read()
        return device.reads

    ((_, count),) = on([common(), inverter(), meter()], scenario)
    assert count <= 125


@pytest.mark.parametrize("model_id", [101, 102, 103, 111, 112, 113])
def test_read_takes_inverter_counters_when_model_is_named(model_id):
    der = SimulatedModel(701, {"TotWhInj": 2**40, "TotWhAbs": 77, "W": 900, "InvSt": 4}, {"TotWhInj": 0, "W": 1})

    async def scenario(_, endpoint, config):
        named = config.model_copy(update={"meter_model": 701}).meter_source(endpoint, SystemClock())
        inverted = config.model_copy(update={"meter_model": model_id}).meter_source(endpoint, SystemClock())
        return await named.read(), await inverted.read()

    der_reading, inverter_reading = on([common(), inverter(model_id), der], scenario)
    assert (der_reading.import_register_wh, der_reading.export_register_wh) == (77, 2**40)
    assert (inverter_reading.import_register_wh, inverter_reading.export_register_wh) == (0, 9_000_000)


def test_read_chooses_meter_by_serial_when_there_are_several():
    chain = [common("INV"), inverter(), common("M-1"), meter(1_000), common("M-2"), meter(2_000)]

    async def scenario(_, endpoint, config):
        second = config.model_copy(update={"serial": "M-2"}).meter_source(endpoint, SystemClock())
        assert (await second.read()).import_register_wh == 2_000
        with pytest.raises(PermanentError, match=r"2 SunSpec meters fit \(choose .*203 \(M-1\), 203 \(M-2\)"):
            await config.meter_source(endpoint, SystemClock()).read()
        with pytest.raises(PermanentError, match="0 SunSpec meters fit"):
            await config.model_copy(update={"serial": "M-3"}).meter_source(endpoint, SystemClock()).read()

    on(chain, scenario)


def test_read_is_faulty_when_meter_misses_a_sensor():
    async def scenario(_, endpoint, config):
        return await config.meter_source(endpoint, SystemClock()).read()

    assert on([common(), meter(Evt=1 << 7)], scenario).faulty
    assert not on([common(), meter(Evt=1 << 4)], scenario).faulty


def test_read_raises_transient_when_counter_is_not_implemented():
    async def scenario(_, endpoint, config):
        await config.meter_source(endpoint, SystemClock()).read()

    with pytest.raises(TransientError, match="import at 40116 has no value"):
        on([common(), SimulatedModel(203, {"W": 1})], scenario)


def test_read_raises_when_scale_factor_is_impossible():
    async def scenario(_, endpoint, config):
        await config.meter_source(endpoint, SystemClock()).read()

    with pytest.raises(TransientError, match="scale factor 99"):
        on([common(), SimulatedModel(203, {"TotWhImp": 0, "TotWhExp": 0}, {"TotWhImp": 99, "TotWhExp": 99})], scenario)


def test_read_never_returns_other_registers_when_firmware_moves_model():
    async def scenario(device, endpoint, config):
        source = config.meter_source(endpoint, SystemClock())
        before = await source.read()
        device.models = [common(), SimulatedModel(120, length=26), meter(124_000)]
        with pytest.raises(PermanentError, match=r"120 instead of 203"):
            await source.read()
        return before.import_register_wh, (await source.read()).import_register_wh

    chain = [common(), meter(123_000), SimulatedModel(160, length=48)]
    assert on(chain, scenario) == (123_000, 124_000)


def test_discover_raises_when_there_is_no_marker_or_no_end():
    async def scenario(device, endpoint, config):
        with pytest.raises(PermanentError, match="does not end"):
            await discover(endpoint, config.unit_id)
        device.words = lambda: [1, 2, 3]
        with pytest.raises(PermanentError, match=r"no SunSpec device \(enable SunSpec"):
            await discover(endpoint, config.unit_id)

    on([SimulatedModel(2, length=0)] * 120, scenario)


def test_discover_raises_transient_when_device_is_silent():
    async def scenario(device, endpoint, config):
        device.fault = Fault.SILENT
        with pytest.raises(TransientError, match="no answer"):
            await discover(endpoint, config.unit_id)
        device.fault = None
        return len(await discover(endpoint, config.unit_id))

    assert on([common()], scenario, timeout_s=0.3) == 1
    assert on([common()], scenario, timeout_s=0.3, framing="rtu") == 1


@pytest.mark.parametrize("inverter_id", [103, 113])
@pytest.mark.parametrize(("storage_id", "name"), [(124, "ChaState"), (713, "SoC"), (802, "SoC")])
def test_telemetry_of_inverter_and_storage_in_our_signs(inverter_id, storage_id, name):
    storage = SimulatedModel(storage_id, {name: 64.5}, {name: -1})

    async def scenario(_, endpoint, config):
        source = config.telemetry_source(endpoint, SystemClock())
        return await source.probe(), await source.read()

    said, observations = on([common(), inverter(inverter_id), storage, meter()], scenario)
    values = {(o.quantity, o.phase): o.value for o in observations}
    assert said == f"{len(observations)} values"
    assert values == {
        (Quantity.ACTIVE_POWER, 0): -4_200,
        (Quantity.VOLTAGE, 1): pytest.approx(231.5),
        (Quantity.CURRENT, 0): pytest.approx(18.2),
        (Quantity.FREQUENCY, 0): pytest.approx(50.02),
        (Quantity.TEMPERATURE, 0): pytest.approx(41.5),
        (Quantity.STATUS, 0): DeviceStatus.CONNECTED,
        (Quantity.STATE_OF_CHARGE, 0): pytest.approx(64.5),
    }
    assert {o.device_id for o in observations} == {"pv"}


@pytest.mark.parametrize(("positive", "expected"), [("import", -1_500), ("export", 1_500)])
def test_telemetry_of_meter_follows_its_sign(positive, expected):
    async def scenario(_, endpoint, config):
        source = config.model_copy(update={"positive_power": positive, "telemetry_models": (203,)})
        return await source.telemetry_source(endpoint, SystemClock()).read()

    observations = on([common(), inverter(), meter()], scenario)
    assert [o.value for o in observations if o.quantity is Quantity.ACTIVE_POWER] == [expected]


def test_telemetry_is_of_inverter_and_of_the_meter_with_the_serial():
    chain = [common("INV"), inverter(), common("M-1"), meter(W=1_000), common("M-2"), meter(W=2_000)]

    async def scenario(_, endpoint, config):
        powers = []
        for models in ((), (203,)):
            chosen = config.model_copy(update={"serial": "M-2", "telemetry_models": models})
            observations = await chosen.telemetry_source(endpoint, SystemClock()).read()
            powers += [o.value for o in observations if o.quantity is Quantity.ACTIVE_POWER]
        return powers

    assert on(chain, scenario) == [-4_200, 2_000]


def test_telemetry_leaves_out_what_is_not_implemented():
    chain = [common(), SimulatedModel(213, {"W": math.nan, "Hz": 49.5}), SimulatedModel(713, {"SoC": 5}, length=6)]

    async def scenario(_, endpoint, config):
        full = config.model_copy(update={"telemetry_models": (213, 713)}).telemetry_source(endpoint, SystemClock())
        return await full.read()

    assert [(o.quantity, o.value) for o in on(chain, scenario)] == [(Quantity.FREQUENCY, 49.5)]


def test_telemetry_values_go_on_when_device_was_silent(caplog):
    caplog.set_level("INFO")

    async def scenario(device, endpoint, config):
        device.fault = Fault.SILENT
        source = config.model_copy(update={"telemetry_every_s": 0.5}).telemetry_source(endpoint, SystemClock())
        values = source.values()
        waiting = asyncio.ensure_future(anext(values))
        while "lost" not in caplog.text:
            await asyncio.sleep(0.01)
        device.fault = None
        observation = await asyncio.wait_for(waiting, 10)
        await values.aclose()
        return observation

    assert on([common(), inverter()], scenario, timeout_s=0.3).device_id == "pv"
    texts = [record.getMessage() for record in caplog.records if "telemetry of pv" in record.getMessage()]
    assert ["lost" in text for text in texts] == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meter_id": None, "telemetry_every_s": None, "device_id": None}, "give meter_id for readings"),
        ({"device_id": None}, "go together"),
        ({"meter_model": 999}, "model 999 is not one of 1, 101"),
        ({"telemetry_models": [160]}, "model 160"),
        ({"meter_id": "00"}, "32 bytes, not 1"),
        ({"speed": 9}, "Extra inputs"),
    ],
)
def test_config_names_what_is_wrong(change, message):
    good = {"host": "h", "meter_id": METER.hex(), "device_id": "d", "telemetry_every_s": 4}
    SunSpecDeviceConfig.model_validate(good)
    with pytest.raises(ValueError, match=message):
        SunSpecDeviceConfig.model_validate(good | change)


def test_definitions_fit_into_their_models():
    for model in DEFINITIONS.values():
        assert all(point.end <= model.length for point in model.points)
