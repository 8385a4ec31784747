"""One finished day of each kind, shared by all tests that only look at it."""

import pytest

from offchain.pilot import PilotConfig, PilotDay
from offchain.pilot.config import Faults
from tests.e2e.days import NOON_SEED, live, run_pilot_command


@pytest.fixture(scope="session")
def days_root(tmp_path_factory):
    """Folder of all days, so that they share the compact copies of their grids."""
    return tmp_path_factory.mktemp("days")


@pytest.fixture(scope="session")
def evening(days_root):
    """The default: 118 connections, UP, devices and meters that fail."""
    return live(PilotConfig(out=days_root / "evening"))


@pytest.fixture(scope="session")
def noon(days_root):
    """13 connections, DOWN."""
    return live(PilotConfig(scenario="noon", seed=NOON_SEED, out=days_root / "noon"))


@pytest.fixture(scope="session")
def noon_by_command(days_root):
    """The same day as ``noon``, by the command line: folder and finished process."""
    return run_pilot_command(days_root / "noon-by-command")


@pytest.fixture(scope="session")
def quiet(days_root):
    """No congestion."""
    return live(PilotConfig(scenario="quiet", out=days_root / "quiet"))


@pytest.fixture(scope="session")
def few_offers(days_root):
    """A tenth of the flexible connections takes part: the market falls short."""
    return live(PilotConfig(participation=0.1, out=days_root / "few"))


@pytest.fixture(scope="session")
def no_offers(days_root):
    """Nobody takes part."""
    return live(PilotConfig(scenario="noon", participation=0.0, out=days_root / "none"))


@pytest.fixture(scope="session")
def dead_oracle(days_root):
    """The oracle of the site stands still from 12:30 to 13:30."""
    faults = Faults(oracle_down=(50, 54))
    return live(PilotConfig(scenario="noon", seed=NOON_SEED, faults=faults, out=days_root / "dead-oracle"))


@pytest.fixture(scope="session")
def enrolled_day(days_root):
    """A chain with a finished enrolment, on which tests open sessions of their own."""
    with PilotDay(PilotConfig(scenario="noon", out=days_root / "operated")) as day:
        day.enrol()
        yield day
