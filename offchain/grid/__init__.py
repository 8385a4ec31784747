"""Low-voltage grids: SimBench data, scenarios, power flow, congestion. Knows nothing of the chain."""
