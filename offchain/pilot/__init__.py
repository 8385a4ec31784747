"""A whole flexibility day end to end, on a real grid, with real protocols, on a local chain."""

from offchain.pilot.config import PilotConfig
from offchain.pilot.run import PilotDay, run_pilot

__all__ = ["PilotConfig", "PilotDay", "run_pilot"]
