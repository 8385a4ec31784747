"""When a register that a device sent was read, and which of many reads is the one of a boundary (decision 0043)."""

from offchain.domain.isp import SECONDS_PER_ISP
from oracles.sources.port import MeterReading

LATE_S = 60
"""A message that is older was kept by its sender [s]: it was read when the device says, not when it arrived."""


def read_moment(measured_at: int, received_at: int) -> int:
    """When registers were read [UTC s], from the device's clock and from ours.

    Ours counts for what is fresh, so that a clock that is off is seen; it counts too for a device that is ahead.
    """
    return measured_at if received_at - measured_at > LATE_S else received_at


class FirstOfIsp:
    """Lets the first read of each ISP and meter through.

    A device that speaks every few seconds says its registers hundreds of times per ISP. The read next after a boundary
    is the one of that boundary; one that was taken before it would count energy in the wrong ISP.
    """

    def __init__(self) -> None:
        self._last: dict[bytes, int] = {}

    def admits(self, reading: MeterReading) -> bool:
        """Whether the meter's last admitted read was of another ISP."""
        isp = reading.read_at // SECONDS_PER_ISP
        if self._last.get(reading.meter_id) == isp:
            return False
        self._last[reading.meter_id] = isp
        return True
