"""Peer-to-peer energy market off chain: order bundles and the twin of the clearing."""
