"""Packed curves: one market day of values as bytes, exactly as the contracts read them.

============  ==================================================  ===============
curve         one ISP, big endian                                 bound
============  ==================================================  ===============
quantity      ``uint32`` Wh, in the direction of the request      0 .. 2^32 - 2
baseline      ``int32`` Wh, import minus export                   +-(2^31 - 1)
reading       ``uint32`` import Wh, ``uint32`` export Wh          0 .. 2^32 - 2
============  ==================================================  ===============

A missing reading is ``0xffffffff`` in both fields (``MISSING``). A curve has ``isp_count`` entries
(92, 96 or 100), the first for local midnight. Twin of ``contracts/metering/Curves.sol``.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from offchain.domain.errors import DomainError

MISSING = 0xFFFFFFFF
"""Import and export of an ISP without a reading."""


def _pack(values: Sequence[int], dtype: str, low: int, high: int) -> bytes:
    array = np.asarray(values, dtype=np.int64)
    bad = np.flatnonzero((array < low) | (array > high))
    if bad.size:
        raise DomainError(f"curve value {array.flat[bad[0]]} at position {bad[0]} outside {low}..{high} Wh")
    return array.astype(dtype).tobytes()


def pack_quantities(values_wh: Sequence[int]) -> bytes:
    """Quantities per ISP [Wh] to bytes."""
    return _pack(values_wh, ">u4", 0, MISSING - 1)


def unpack_quantities(packed: bytes) -> list[int]:
    """Inverse of :func:`pack_quantities`."""
    return np.frombuffer(packed, ">u4").tolist()


def pack_baseline(net_wh: Sequence[int]) -> bytes:
    """Baseline net consumption per ISP [Wh], import positive, to bytes."""
    return _pack(net_wh, ">i4", -(2**31) + 1, 2**31 - 1)


def unpack_baseline(packed: bytes) -> list[int]:
    """Inverse of :func:`pack_baseline`."""
    return np.frombuffer(packed, ">i4").tolist()


def pack_readings(readings: Iterable[tuple[int, int] | None]) -> bytes:
    """Metered (import Wh, export Wh) per ISP to bytes; ``None`` where a reading is missing."""
    flat = [v for r in readings for v in (r if r is not None else (MISSING, MISSING))]
    return _pack(flat, ">u4", 0, MISSING)


def unpack_readings(packed: bytes) -> list[tuple[int, int] | None]:
    """Inverse of :func:`pack_readings`."""
    pairs = np.frombuffer(packed, ">u4").reshape(-1, 2).tolist()
    return [None if imp == MISSING else (imp, exp) for imp, exp in pairs]
