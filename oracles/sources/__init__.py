"""Sources of metered values: one port, one module per protocol."""
