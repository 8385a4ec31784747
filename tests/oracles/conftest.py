"""Fixtures of the oracle tests: a store, device keys, points, and a clock at the start of a market day."""

from datetime import date
from hashlib import sha256

import pytest

from offchain.chain.signatures import metering_domain
from offchain.domain.isp import MarketDay, isp_start
from offchain.store import open_store
from oracles.clock import SimulatedClock
from oracles.normalise import MeteringPoint
from oracles.signer import GatewayKeys

DAY = MarketDay.of(date(2016, 5, 20))
DOMAIN = metering_domain(31337, "0x" + "11" * 20)


@pytest.fixture
def day():
    return DAY


@pytest.fixture
def domain():
    return DOMAIN


@pytest.fixture
def clock():
    return SimulatedClock(isp_start(DAY.first_isp))


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "site.db") as store:
        yield store


@pytest.fixture
def meter_ids():
    return [sha256(b"meter %d" % number).digest() for number in range(5)]


@pytest.fixture
def points(meter_ids):
    return [MeteringPoint(meter_id, 20_000, 20_000) for meter_id in meter_ids]


@pytest.fixture
def secrets(meter_ids):
    return {meter_id: sha256(b"secret" + meter_id).digest() for meter_id in meter_ids}


@pytest.fixture
def signer(secrets):
    return GatewayKeys(DOMAIN, secrets)
