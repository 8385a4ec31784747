"""Readies compiler, Anvil and a free port before Brownie's pytest plugin compiles and connects.

Loaded by ``-p`` in ``pyproject.toml``: a ``conftest.py`` would come too late. Does nothing under
``-p no:pytest-brownie``.
"""

import socket

import pytest

from offchain.chain.toolchain import prepare_brownie


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    if not early_config.pluginmanager.hasplugin("pytest-brownie"):
        return
    from brownie._config import CONFIG

    prepare_brownie()
    # Brownie would attach to whatever listens at its standard port, another developer's chain for example.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        CONFIG.networks["development"]["cmd_settings"]["port"] = probe.getsockname()[1]
