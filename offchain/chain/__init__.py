"""The chain seen from Python: hashes, trees, signatures, contract clients."""
