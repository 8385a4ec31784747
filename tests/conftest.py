"""Hypothesis profiles for all tests; compiler, Anvil and a free port where Brownie's plugin is loaded."""

import socket
import sys

from hypothesis import HealthCheck, settings

from offchain.chain.toolchain import prepare_brownie

COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
# `default` is bounded and says the same each time; `long` (--hypothesis-profile=long) searches on.
settings.register_profile("default", max_examples=50, stateful_step_count=20, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=1000, stateful_step_count=60, **COMMON)
settings.load_profile("default")

if "brownie" in sys.modules:
    from brownie._config import CONFIG

    prepare_brownie()
    # Brownie would attach to whatever listens at its standard port, another developer's chain for example.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        CONFIG.networks["development"]["cmd_settings"]["port"] = probe.getsockname()[1]
