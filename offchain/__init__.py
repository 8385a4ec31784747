"""Off-chain services of gridpact: analytics, grid analysis, chain access, audit, pilot."""

import os
from importlib.util import find_spec

# The hash that everything here is made of: pysha3 is five times as fast as what eth-hash would choose by itself.
if find_spec("sha3") is not None:
    os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")
