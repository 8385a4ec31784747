"""Entities of NGSI v2 and NGSI-LD to values, and what a mapping must say."""

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from offchain.domain.errors import PermanentError
from oracles.simulators.orion import Attribute
from oracles.sources.ngsi_entities import EntityMapping, EntityTranslator, load_mapping
from oracles.sources.port import DeviceStatus, IntervalEnergy, MeterReading, Observation, Quantity

METER = sha256(b"ngsi").digest()
AT = datetime(2026, 5, 1, 12, 15, tzinfo=UTC)
STAMP = int(AT.timestamp())
NOW = STAMP + 30
ENTITY = {"id": "m", "type": "SmartMeter", "device_id": "meter", "meter_id": METER.hex()}


def translator(**more):
    return EntityTranslator(EntityMapping.model_validate({"entity": [ENTITY | more]}))


def entity(form, **attributes):
    return {"id": "m", "type": "SmartMeter"} | {name: getattr(value, form)() for name, value in attributes.items()}


@pytest.mark.parametrize("form", ["v2", "ld"])
def test_values_observe_attributes_in_the_unit_of_their_code(form):
    mapped = translator(
        attribute=[
            {"name": "P", "quantity": "active_power_w", "phase": 1},
            {"name": "U", "quantity": "voltage_v"},
            {"name": "state", "quantity": "status"},
            {"name": "Phi", "quantity": "phase_angle_deg", "phase": 3},
            {"name": "absent", "quantity": "frequency_hz"},
        ]
    )
    shown = entity(form, P=Attribute(4.28, AT, "KWT"), U=Attribute("231.5", AT), state=Attribute("charging"))
    shown |= entity(form, Phi=Attribute(-12.5, AT, "DD"))
    assert mapped.values(shown, NOW) == [
        Observation("meter", Quantity.ACTIVE_POWER, 1, 4280.0, STAMP, NOW),
        Observation("meter", Quantity.VOLTAGE, 0, 231.5, STAMP, NOW),
        Observation("meter", Quantity.STATUS, 0, DeviceStatus.CHARGING, NOW, NOW),
        Observation("meter", Quantity.PHASE_ANGLE, 3, -12.5, STAMP, NOW),
    ]


@pytest.mark.parametrize("form", ["v2", "ld"])
@pytest.mark.parametrize(("stamped", "isp"), [("end", STAMP // 900 - 1), ("start", STAMP // 900)])
def test_values_give_interval_energy_of_the_right_isp(form, stamped, isp):
    mapped = translator(interval={"import": "absorbed", "export": "injected", "unit": "kWh", "stamped": stamped})
    shown = entity(form, absorbed=Attribute(1.25, AT), injected=Attribute(0, AT))
    assert mapped.values(shown, NOW) == [IntervalEnergy(METER, isp, 1_250, 0, NOW)]


@pytest.mark.parametrize("form", ["v2", "ld"])
def test_values_give_readings_when_registers_are_mapped(form):
    mapped = translator(registers={"import": "in", "export": "out"})
    shown = entity(form, **{"in": Attribute(7302.436, AT, "KWH"), "out": Attribute(12, AT)})
    assert mapped.values(shown, NOW) == [MeterReading(METER, STAMP, STAMP, 7_302_436, 12)]


def test_values_take_time_of_the_entity_when_attributes_have_none():
    mapped = translator(interval={"import": "absorbed", "stamped": "end"})
    shown = entity("v2", absorbed=Attribute(5)) | {
        "dateObserved": {"type": "DateTime", "value": "2026-05-01T12:15:00Z"}
    }
    assert mapped.values(shown, NOW) == [IntervalEnergy(METER, STAMP // 900 - 1, 5, 0, NOW)]


def test_values_ignore_other_instances_when_attribute_is_multiple():
    mapped = translator(attribute=[{"name": "P", "quantity": "active_power_w"}])
    shown = {"id": "m", "P": [{"value": 1, "datasetId": "urn:x"}, {"type": "Property", "value": 2}]}
    assert [value.value for value in mapped.values(shown, NOW)] == [2.0]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"absorbed": Attribute(1), "injected": Attribute(0)}, "undated energy"),
        ({"absorbed": Attribute(1, AT)}, "export without import or import without export"),
        ({"absorbed": Attribute(-1, AT), "injected": Attribute(0, AT)}, "malformed energy"),
        ({"absorbed": Attribute(True, AT), "injected": Attribute(0, AT)}, "malformed energy"),
        ({"absorbed": Attribute("much", AT), "injected": Attribute(0, AT)}, "malformed energy"),
        ({"absorbed": Attribute(1, AT, "VLT"), "injected": Attribute(0, AT)}, "malformed energy"),
        (
            {"absorbed": Attribute(1, AT.replace(minute=20)), "injected": Attribute(0, AT.replace(minute=20))},
            "interval off the quarter hour",
        ),
        (
            {"absorbed": Attribute(1, AT), "injected": Attribute(0, AT.replace(minute=30))},
            "import and export of different times",
        ),
    ],
)
def test_values_refuse_energy_that_cannot_be_settled(attributes, reason):
    mapped = translator(interval={"import": "absorbed", "export": "injected", "stamped": "end"})
    assert mapped.values(entity("v2", **attributes), NOW) == []
    assert mapped.refused == {reason: 1}


@pytest.mark.parametrize("shown", [{}, {"id": "other"}])
def test_values_refuse_when_entity_is_not_mapped(shown):
    mapped = translator(attribute=[{"name": "P", "quantity": "active_power_w"}])
    assert mapped.values(shown, NOW) == [] and mapped.refused == {"unknown entity": 1}


@pytest.mark.parametrize("value", [None, True, [], {}, "n/a", {"type": "Property"}])
def test_values_count_attribute_when_it_is_no_number(value):
    mapped = translator(attribute=[{"name": "P", "quantity": "active_power_w"}])
    assert mapped.values({"id": "m", "P": {"value": value} if value != {"type": "Property"} else value}, NOW) == []
    assert sum(mapped.refused.values()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[entity]", "Expected"),
        ("", "entity: Field required"),
        ('[[entity]]\nid="m"\ntype="t"\ndevice_id="d"\n', "maps nothing"),
        ('[[entity]]\nid="m"\ntype="t"\ndevice_id="d"\n[entity.registers]\nimport="a"\n', "no meter_id"),
        (
            '[[entity]]\nid="m"\ntype="t"\ndevice_id="d"\n[[entity.attribute]]\nname="P"\nquantity="active_power_w"\nunit="V"\n',
            "unit 'V' of active_power_w is not one of",
        ),
    ],
)
def test_load_mapping_names_what_is_wrong(text, message, tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    with pytest.raises(PermanentError, match=message):
        load_mapping(path)
    with pytest.raises(PermanentError, match="cannot be read"):
        load_mapping(tmp_path / "missing.toml")
