"""Readies compiler, Anvil and a free port before Brownie's pytest plugin compiles and connects.

Loaded by ``-p`` in ``pyproject.toml``: a ``conftest.py`` would come too late. Does nothing under
``-p no:pytest-brownie``.
"""

import functools
import gc
import socket
import sys
import time
from types import SimpleNamespace

import pytest

from offchain.chain.toolchain import prepare_brownie

PATIENCE_S = 5.0


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    if not early_config.pluginmanager.hasplugin("pytest-brownie"):
        return
    from brownie._config import CONFIG

    prepare_brownie()
    _wait_for_transactions()
    _spare_what_nobody_asks_for()
    # Brownie would attach to whatever listens at its standard port, another developer's chain for example.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        CONFIG.networks["development"]["cmd_settings"]["port"] = probe.getsockname()[1]


def _wait_for_transactions() -> None:
    """Looks a transaction up again before it counts as unknown.

    Brownie takes a transaction for dropped when the sender's nonce has moved on and the receipt is not there yet; on a
    busy machine Anvil shows the one before the other.
    """
    from web3.eth import Eth
    from web3.exceptions import TransactionNotFound

    def patient(lookup):
        @functools.wraps(lookup)
        def look(eth, transaction_hash):
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    return lookup(eth, transaction_hash)
                except TransactionNotFound:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)

        return look

    Eth.get_transaction = patient(Eth.get_transaction)
    Eth.get_transaction_receipt = patient(Eth.get_transaction_receipt)


def _spare_what_nobody_asks_for() -> None:
    """Takes out of every snapshot and transaction what costs more than the transaction itself.

    Before each snapshot Brownie reads the source of all callers to warn whoever does not go by ``chain``, which it
    cannot tell once ``chain`` is compiled; and after each transaction it takes a snapshot for ``chain.undo``, which no
    test uses.
    """
    from brownie.network import account, chain

    class ChainWithoutUndo:
        def __getattr__(self, name):
            return getattr(chain, name)

        def _add_to_undo_buffer(self, *_call):
            """Nothing to undo."""

    by_chain = SimpleNamespace(frame=SimpleNamespace(f_locals={"self": chain}))
    account.Chain = ChainWithoutUndo
    sys.modules["brownie.network.rpc"].inspect = SimpleNamespace(stack=lambda: [None, by_chain])


def pytest_collection_finish():
    """Brownie collects garbage on every revert: not also what was loaded and compiled, which stays to the end."""
    gc.collect()
    gc.freeze()
