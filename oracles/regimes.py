"""Regime of congestion points as the chain tells it: green, yellow, orange, red, and direct control in orange."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from offchain.chain.events import Event

EVENTS = ("RegimeChanged",)


class Regime(IntEnum):
    """``IGridRegime.Regime``: normal; the market is used; the DSO may order directly; the market is closed."""

    GREEN = 0
    YELLOW = 1
    ORANGE = 2
    RED = 3


@dataclass(frozen=True, slots=True)
class RegimePeriod:
    """Regime of a point in ``[from_isp, until_isp)``, as the DSO gave it with its reason."""

    regime: Regime
    from_isp: int
    until_isp: int
    reason: str

    def at(self, isp: int) -> Regime:
        """Regime at an ISP; green before and after."""
        return self.regime if self.from_isp <= isp < self.until_isp else Regime.GREEN


def regimes_of(events: Iterable[Event]) -> dict[bytes, RegimePeriod]:
    """Last regime of every congestion point, from the events in their order."""
    return {
        event.args["congestionPointId"]: RegimePeriod(
            Regime(event.args["regime"]), event.args["fromIsp"], event.args["untilIsp"], event.args["reason"]
        )
        for event in events
        if event.name == "RegimeChanged"
    }
