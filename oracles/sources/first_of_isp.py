"""Which of many register reads says what a counter showed at a boundary."""

from offchain.domain.isp import SECONDS_PER_ISP
from oracles.sources.port import MeterReading


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
