"""load_site: a full file is read; every fault is one line with file, line, field and words; no secret in the file."""

import pytest

from offchain.domain.errors import PermanentError
from oracles.config import ConfigError, line_of, load_site

GOOD = """\
name = "terni"
time_zone = "Europe/Rome"
store = "site.db"

[chain]
endpoints = ["http://127.0.0.1:8545", "https://node.example/rpc"]
chain_id = 31337
deployment = "deployment.json"

[operator.key]
keystore = "operator.json"
password = { env = "OPERATOR_PASSWORD" }

[gateway]
keystore = "gateway.json"
password = { file = "gateway.password" }

[[meter]]
meter_id = "0x1111111111111111111111111111111111111111111111111111111111111111"
max_import_w = 20_000
max_export_w = 10_000
in_service_from = 2026-01-31T00:00:00+01:00

[[meter]]
meter_id = "0x2222222222222222222222222222222222222222222222222222222222222222"
max_import_w = 6_000
max_export_w = 0

[[device]]
kind = "modbus"
host = "192.0.2.10"
unit_id = 1
meter_id = "0x1111111111111111111111111111111111111111111111111111111111111111"

[[device]]
kind = "modbus"
host = "192.0.2.10"
unit_id = 2
meter_id = "0x2222222222222222222222222222222222222222222222222222222222222222"
"""


SIGNER = f"""\
[operator.signer]
url = "https://signer.example"
public_key = "{"ab" * 64}"

[gateway]"""
STREAMING = {
    "mqtt": """host = "b"\nclient_id = "x"\nsmx = [{ prefix = "a/SMX", device_id = "d", meter_id = "METER" }]""",
    "mqtt, steered": """host = "b"\nclient_id = "x"\nsteered = [{ topic = "a", meter_id = "METER" }]""",
    "ocpp": """port = 9000\nsessions_file = "o.db"\ncharge_points = [{ id = "CP1", device_id = "e", """
    """password = { env = "X" }, meters = { 1 = "METER" } }]""",
    "csv": """path = "day.csv"\nmapping = "terni"\nmeters = { IT01 = "METER" }""",
}


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "site.toml"
        path.write_text(text)
        return load_site(path)

    return read


def test_load_site_reads_everything_when_the_file_is_good(read, tmp_path):
    site = read(GOOD)
    assert (site.name, site.chain.chain_id, len(site.meter), len(site.device)) == ("terni", 31337, 2, 2)
    assert site.store == str(tmp_path / "site.db")
    assert site.gateway.password.file == tmp_path / "gateway.password"
    assert site.chain.deployment == tmp_path / "deployment.json"
    point = site.meter[0].point()
    assert (point.max_import_w, point.end_isp, point.first_isp * 900) == (20_000, None, 1_769_814_000)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("chain_id = 31337", 'chain_id = "main"', "site.toml:7: chain.chain_id: input should be a valid integer"),
        ("max_export_w = 0", "max_export_w = -1", "site.toml:27: meter.2.max_export_w: input should be greater than"),
        ("unit_id = 2", "unit = 2", "site.toml:38: device.2.unit: no such field (did you mean unit_id?)"),
        ('name = "terni"\n', "", "site.toml: name: field required (this field is needed)"),
        (
            'kind = "modbus"\nhost = "192.0.2.10"\nunit_id = 2',
            'kind = "modbuss"',
            "site.toml:35: device.2: no kind of device 'modbuss' (did you",
        ),
        (
            'password = { env = "OPERATOR_PASSWORD" }',
            'password = "hunter2"',
            "site.toml:12: operator.key.password: a secret never stands in this file; write { file",
        ),
        ("[[meter]]", "[[meters]]", "site.toml:18: meters: no such field (did you mean meter?)"),
        ("Europe/Rome", "Rome", "site.toml:2: time_zone: no time zone 'Rome', for example Europe/Rome"),
        ("01-31T00:00:00+01:00", "01-31T00:00:00", "meter.1: in_service_from without time zone"),
        ("01-31T00:00:00+01:00", "01-31T00:07:00+01:00", "meter.1: in_service_from is not on a quarter hour"),
        ("chain_id = 31337", "chain_id = = 1", "site.toml:7: not TOML"),
        ("0x2222", "0x222", "meter.2.meter_id: a meter id"),
        ("[gateway]", "[gatway]", "site.toml:14: gatway: no such field (did you mean gateway?)"),
        (
            '[gateway]\nkeystore = "gateway.json"\npassword = { file = "gateway.password" }\n',
            "",
            "site.toml:15: meter.1: no [g",
        ),
        (
            "2222" * 16,
            "1111" * 16,
            "site.toml:25: meter.2.meter_id: " + "1111" * 16 + " is listed twice, first as meter.1",
        ),
        ("unit_id = 2", 'unit_id = 2\nmap = "abb_b24"', "site.toml:39: device.2.map: register map"),
        (
            'kind = "modbus"\nhost = "192.0.2.10"\nunit_id = 2',
            "",
            "device.2: the kind of the device is missing (one of",
        ),
        (GOOD[GOOD.index("[chain]") : GOOD.index("[operator")], "", "site.toml: chain: field required (add [chain])"),
        (GOOD[GOOD.index("[[meter]]") :], "", "site.toml: meter: field required (add [[meter]])"),
        ("max_export_w = 0", "max_export_kw = 0", "meter.2.max_export_kw: no such field (did you mean max_export_w?)"),
        ("[gateway]", SIGNER, "site.toml:10: operator: give either a key or a signer"),
        (
            "max_export_w = 0",
            'max_export_w = 0\npower_of = "pv"',
            "site.toml:28: meter.2.power_of: registers of the meter are read by device.2",
        ),
        (
            "[gateway]",
            """\
[live]
retention_s = 600

[[meter]]
meter_id = "0x3333333333333333333333333333333333333333333333333333333333333333"
max_import_w = 1
max_export_w = 1
power_of = "pv"

[gateway]""",
            "site.toml:21: meter.1.power_of: needs live.retention_s of 3600 or more",
        ),
        ('"https://node.example/rpc"', '"node.example"', "chain.endpoints: 'node.example' is not an http(s) address"),
    ],
)
def test_load_site_names_line_and_field_when_something_is_wrong(read, old, new, problem):
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        read(GOOD.replace(old, new))
    assert any(problem in line for line in caught.value.problems), caught.value.problems
    assert all("\n" not in line for line in caught.value.problems)


def test_endpoints_with_an_access_key_are_read_from_a_secret(read, tmp_path, monkeypatch):
    text = GOOD.replace('"https://node.example/rpc"', '{ env = "NODE_URL" }, { file = "node.url" }')
    site = read(text)
    (tmp_path / "node.url").write_text("https://node.example/v3/key\n")
    monkeypatch.setenv("NODE_URL", "https://user:key@node.example")
    assert site.chain.urls() == [
        "http://127.0.0.1:8545",
        "https://user:key@node.example",
        "https://node.example/v3/key",
    ]
    monkeypatch.setenv("NODE_URL", "hunter2")
    with pytest.raises(PermanentError, match=r"chain.endpoints.2: what is in the secret is not an http") as caught:
        site.chain.urls()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"chain.endpoints: an endpoint with a password; write { file"):
        read(GOOD.replace("https://node.example/rpc", "https://user:key@node.example/rpc"))


def test_load_site_names_every_fault_when_there_are_several(read):
    with pytest.raises(ConfigError) as caught:
        read(GOOD.replace("chain_id = 31337", "chain_id = 0").replace("unit_id = 2", "unit_id = 900"))
    assert len(caught.value.problems) == 2


def test_load_site_refuses_a_device_when_no_meter_is_described(read):
    last = GOOD.rindex("2222" * 16)
    with pytest.raises(ConfigError, match=r"which no \[\[meter\]\] describes"):
        read(GOOD[:last] + "3333" * 16 + GOOD[last + 64 :])


@pytest.mark.parametrize("name", STREAMING)
def test_load_site_refuses_a_stream_when_no_meter_is_described(read, name):
    entry = GOOD + f'\n[[device]]\nkind = "{name.split(",")[0]}"\n' + STREAMING[name]
    assert len(read(entry.replace("METER", "11" * 32)).device) == 3
    with pytest.raises(ConfigError, match=r"site.toml:41: device.3: names meter 3333.*no \[\[meter\]\] describes"):
        read(entry.replace("METER", "33" * 32))


def test_load_site_refuses_a_meter_when_two_devices_read_it(read):
    last = GOOD.rindex("2222" * 16)
    with pytest.raises(ConfigError, match=r"site.toml:39: device.2.meter_id: the meter is read by device.1 already"):
        read(GOOD[:last] + "1111" * 16 + GOOD[last + 64 :])


def test_load_site_says_so_when_the_file_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_site(tmp_path / "none.toml")


def test_line_of_finds_the_table_when_the_field_is_not_there():
    assert line_of(GOOD, ["meter", 1, "missing"]) == 24
    assert line_of(GOOD, ["nothing"]) is None
