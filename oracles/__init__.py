"""Oracles: metered values from devices to signed batches for the chain, and setpoints back to devices."""
