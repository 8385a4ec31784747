"""Hypothesis profiles: `default` is bounded and says the same each time, `long` searches on; `first-failure` is for who
only wants to know whether a test fails."""

from hypothesis import HealthCheck, Phase, settings

COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=50, stateful_step_count=20, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=1000, stateful_step_count=60, **COMMON)
settings.register_profile(
    "first-failure", settings.get_profile("default"), phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
settings.load_profile("default")
