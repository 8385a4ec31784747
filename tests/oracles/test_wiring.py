"""open_devices: every kind of device of a site file becomes what it should; paths are those of the site's folder."""

import asyncio

import pytest

from oracles.clock import SystemClock
from oracles.config import load_site
from oracles.wiring import open_devices
from tests.oracles.siteworld import METER_IDS, write_site

ID = METER_IDS[0].hex()
DEVICES = f"""
[[device]]
kind = "modbus"
host = "192.0.2.10"
meter_id = "{ID}"
device_id = "feeder"
telemetry_every_s = 4
map = "abb_b23"

[[device]]
kind = "modbus"
host = "192.0.2.10"
unit_id = 2
meter_id = "{METER_IDS[1].hex()}"

[[device]]
kind = "mqtt"
host = "192.0.2.11"
client_id = "gridpact-test"
[[device.smx]]
prefix = "smx/1"
meter_id = "{METER_IDS[2].hex()}"
device_id = "smx-1"

[[device]]
kind = "csv"
path = "files"
mapping = "terni"
meters = {{ "A" = "{METER_IDS[3].hex()}" }}
"""


@pytest.fixture
def site(tmp_path):
    return load_site(write_site(tmp_path, ["http://127.0.0.1:1"], devices=DEVICES))


def test_open_devices_makes_sources_and_downlinks_when_they_are_configured(site):
    async def look():
        async with open_devices(site, SystemClock()) as devices:
            return devices

    devices = asyncio.run(look())
    assert set(devices.meters) == set(METER_IDS[:2])
    assert len(devices.coordinators) == 1  # both meters behind one address share its connections
    assert set(devices.events) == {"1:feeder", "3:mqtt", "4:csv"}
    assert devices.unlimited == {"4:csv"}
    assert set(devices.downlinks) == {METER_IDS[1]}  # the reference map has setpoint registers


def test_load_site_finds_the_files_of_sources_beside_it(site, tmp_path):
    assert site.device[3].path == tmp_path / "files"
