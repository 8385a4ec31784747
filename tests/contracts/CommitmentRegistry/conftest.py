"""A commitment registry over the core."""

import pytest

from tests.utils import metering, system


@pytest.fixture(scope="module")
def commitments(core, actors):
    registry = metering.deploy_commitments(actors.admin, core.authority, core.participants)
    system.govern(core.authority, registry, actors)
    return registry
