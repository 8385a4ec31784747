"""The library needs none of the core: these tests run in an EVM of their own process."""

import pytest

from tests.contracts.TickBook.harness import Harness


@pytest.fixture(autouse=True)
def _rolled_back():
    """Each test opens sessions of its own instead."""


@pytest.fixture(scope="session")
def book():
    return Harness()
