"""Baselines: what a connection would have consumed without an order. Pure functions over integers."""
