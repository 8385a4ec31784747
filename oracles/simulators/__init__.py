"""Devices for tests and pilots that speak the real protocols."""
