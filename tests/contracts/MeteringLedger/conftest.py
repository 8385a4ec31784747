"""A bonded meter operator with two meters, another one with a third."""

import pytest

from tests.utils import metering
from tests.utils.plain import plain


@pytest.fixture(scope="module")
def site(core, actors):
    return metering.open_site(core, actors)


@pytest.fixture(scope="module")
def ledger(site):
    return site.ledger


@pytest.fixture(scope="module")
def operator(actors):
    return actors.meter_operator


@pytest.fixture
def batch(site, operator):
    """Latest batch of the operator's day, as a dictionary."""
    return lambda first_isp=site.first_isp: plain(site.ledger.batch(operator, first_isp))
