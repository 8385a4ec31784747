"""Hypothesis profiles: `default` is bounded and says the same each time, `long` searches on."""

from hypothesis import HealthCheck, settings

COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=50, stateful_step_count=20, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=1000, stateful_step_count=60, **COMMON)
settings.load_profile("default")
