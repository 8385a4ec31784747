"""Flexibility potential: how much net consumption each asset can move, when, for how long and at what cost."""
