"""Hypothesis profiles: `default` is bounded and says the same each time, `long` searches on; `first-failure` is for who
only wants to know whether a test fails. MQTT brokers there are."""

import warnings

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.utils.broker import describe_brokers, mosquitto

COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=50, stateful_step_count=20, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=1000, stateful_step_count=60, **COMMON)
settings.register_profile(
    "first-failure", settings.get_profile("default"), phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
settings.load_profile("default")


def pytest_report_header():
    return describe_brokers()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Leave out what only Mosquitto can pass where it cannot be had: the same is tested with Aedes (decision 0042)."""
    need = [item for item in items if item.get_closest_marker("mosquitto")]
    if need and not config.option.collectonly and mosquitto() is None:
        warnings.warn(f"no Mosquitto, {len(need)} tests left out (apt-get install mosquitto, as root)", stacklevel=1)
        config.hook.pytest_deselected(items=need)
        items[:] = [item for item in items if item not in need]
