"""The library needs neither core nor chain: these tests run in an EVM of their own process, with Brownie or without."""

import pytest

from tests.contracts.TickBook.harness import Harness


@pytest.fixture(scope="module", autouse=True)
def steady_clock():
    """There is no chain whose clock could run."""


@pytest.fixture(autouse=True)
def _rolled_back():
    """Each test opens sessions of its own instead."""


@pytest.fixture(scope="session")
def book():
    return Harness()
