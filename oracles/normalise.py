"""From cumulative registers to energy per ISP.

The energy of ISP ``k`` is the difference of the registers read at its end and at its start. Both boundaries
must have been read: nothing is interpolated, an ISP without both is missing. What is missing after what:

==========================  =====================================  ================================
cause                       recognised by                          ISPs without a reading
==========================  =====================================  ================================
boundary not read           next read is more than one ISP later   all in between
counter wrapped             it fell, and the rest is plausible     none, flagged
counter reset               it fell, and cannot have wrapped       the one of the reset
more than possible          above what the connection can move     that one
device stuck                its clock stands still                 until it runs, and the one after
device reports a fault      status word                            as if not read
==========================  =====================================  ================================

A reset of a counter that is within one plausible ISP of its modulus passes for a wrap; the error is at most
what the connection can draw in one ISP.
"""

from dataclasses import dataclass
from enum import IntFlag, StrEnum
from functools import lru_cache
from typing import NamedTuple

from offchain.domain.curves import MISSING
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import SECONDS_PER_HOUR
from offchain.store.readings import RegisterState
from oracles.sources.port import MeterReading


class Quality(IntFlag):
    """Flags of an accepted reading; none means that there is nothing to say about it."""

    GOOD = 0
    WRAPPED = 1
    CLOCK_SKEW = 2
    STATED = 4
    LATE = 8
    CORRECTED = 16
    DEVICE_SIGNED = 32
    INTEGRATED = 64

    @property
    def reasons(self) -> list[str]:
        """Each flag in words."""
        return [_REASONS[flag] for flag in Quality(self)]


_REASONS = {
    Quality.WRAPPED: "counter rolled over in this ISP",
    Quality.CLOCK_SKEW: "clock of the meter is off",
    Quality.STATED: "energy stated by the device, not computed from its registers",
    Quality.LATE: "arrived late",
    Quality.CORRECTED: "replaces another value",
    Quality.DEVICE_SIGNED: "signed by the device itself",
    Quality.INTEGRATED: "integrated from values of the power",
}


class Rejection(StrEnum):
    """Why registers did not become a reading."""

    UNKNOWN_METER = "unknown meter"
    OFF_BOUNDARY = "not read at an ISP boundary"
    FIRST = "first boundary of the meter"
    DUPLICATE = "boundary read before"
    OUT_OF_ORDER = "older than the last boundary"
    GAP = "boundary before was not read"
    RESET = "counter was reset"
    IMPLAUSIBLE = "more than the connection allows"
    STUCK = "registers stand still"
    FAULTY = "meter reports a fault"
    FUTURE = "from the future"
    OUT_OF_SERVICE = "meter was not in service"
    FLOOD = "more values than the meter may send"
    BAD_SIGNATURE = "not signed by the device"
    PUBLISHED = "correction of a reading whose signature was published"
    SUSPENDED = "meter is suspended by hand"


@dataclass(frozen=True, slots=True)
class MeteringPoint:
    """A meter and what its connection can take and give [W]: the plausibility limits.

    Attributes
    ----------
    first_isp, end_isp : int, int or None
        In service from ``first_isp`` up to, without, ``end_isp``.
    device_key : str or None
        Address of the key of a device that signs itself; the gateway signs for others.
    """

    meter_id: bytes
    max_import_w: int
    max_export_w: int
    first_isp: int = 0
    end_isp: int | None = None
    device_key: str | None = None

    def in_service(self, isp: int) -> bool:
        return self.first_isp <= isp and (self.end_isp is None or isp < self.end_isp)


@dataclass(frozen=True, slots=True)
class NormaliserSettings:
    """How far from a boundary registers may be read, how wrong a meter's clock may be unflagged, how far ahead of
    the gateway's clock a value may be, and after how long it counts as late [s]."""

    boundary_tolerance_s: int = 60
    max_clock_skew_s: int = 30
    future_tolerance_s: int = 60
    late_after_s: int = 1_800


class IspEnergy(NamedTuple):
    """Energy of one meter in one ISP [Wh]."""

    meter_id: bytes
    isp: int
    import_wh: int
    export_wh: int
    quality: Quality


class Normalised(NamedTuple):
    """Outcome of one register read: energy or the reason why not, and the state to go on from.

    ``state`` is ``None`` when the read says nothing about its boundary; the state before stays.
    """

    energy: IspEnergy | None
    rejection: Rejection | None
    state: RegisterState | None


def normalise(
    point: MeteringPoint, previous: RegisterState | None, reading: MeterReading, settings: NormaliserSettings
) -> Normalised:
    """Energy of the ISP that ends where ``reading`` was taken.

    Parameters
    ----------
    previous : RegisterState or None
        Last boundary that was read; ``None`` for a new meter.
    """
    boundary = (reading.read_at + SECONDS_PER_ISP // 2) // SECONDS_PER_ISP
    if abs(reading.read_at - boundary * SECONDS_PER_ISP) > settings.boundary_tolerance_s:
        return Normalised(None, Rejection.OFF_BOUNDARY, None)
    if reading.faulty:
        return Normalised(None, Rejection.FAULTY, None)
    state = RegisterState(
        reading.meter_id,
        boundary,
        reading.import_register_wh,
        reading.export_register_wh,
        reading.meter_clock,
    )
    if previous is None:
        return Normalised(None, Rejection.FIRST, state)
    if boundary <= previous.boundary:
        same = boundary == previous.boundary
        return Normalised(None, Rejection.DUPLICATE if same else Rejection.OUT_OF_ORDER, None)
    if reading.meter_clock is not None and reading.meter_clock == previous.meter_clock:
        return Normalised(None, Rejection.STUCK, None)
    if boundary > previous.boundary + 1:
        return Normalised(None, Rejection.GAP, state)

    import_wh = state.import_register_wh - previous.import_register_wh
    export_wh = state.export_register_wh - previous.export_register_wh
    quality = Quality.GOOD
    if import_wh < 0 or export_wh < 0:
        if reading.modulus_wh is None:
            return Normalised(None, Rejection.RESET, state)
        import_wh, export_wh = import_wh % reading.modulus_wh, export_wh % reading.modulus_wh
        quality |= Quality.WRAPPED
    span_s = SECONDS_PER_ISP + settings.boundary_tolerance_s
    if import_wh > limit_wh(point.max_import_w, span_s) or export_wh > limit_wh(point.max_export_w, span_s):
        wrapped = Quality.WRAPPED in quality
        return Normalised(None, Rejection.RESET if wrapped else Rejection.IMPLAUSIBLE, state)
    skewed = reading.meter_clock is not None and (
        abs(reading.meter_clock - reading.read_at) > settings.max_clock_skew_s
    )
    if skewed:
        quality |= Quality.CLOCK_SKEW
    return Normalised(IspEnergy(reading.meter_id, boundary - 1, import_wh, export_wh, quality), None, state)


@lru_cache(maxsize=1_024)
def limit_wh(max_w: int, span_s: int) -> int:
    """Most energy that a connection can move between two reads [Wh], rounded up, below the missing mark."""
    return min(-(-max_w * span_s // SECONDS_PER_HOUR), MISSING - 1)
