"""What all parts of a pilot day work on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_account.signers.local import LocalAccount

from offchain.chain.agreements import Terms
from offchain.chain.client import Chain, Receipt
from offchain.chain.clock import ChainClock
from offchain.chain.contracts import Suite
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay
from offchain.grid.power_flow import PowerFlow
from offchain.grid.scenario import Scenario
from offchain.pilot.cast import Cast, Prosumer
from offchain.pilot.config import PilotConfig
from offchain.store import Store

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass
class World:
    """A pilot in the middle of its day."""

    config: PilotConfig
    scenario: Scenario
    flow: PowerFlow
    cast: Cast
    chain: Chain
    suite: Suite
    clock: ChainClock
    store: Store
    progress: Progress
    congestion_point_id: bytes
    terms: dict[int, Terms] = field(default_factory=dict)
    """Agreed terms by agreement id."""
    member_of: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Agreement id to (position of the connection, position of the aggregator)."""

    @property
    def day(self) -> MarketDay:
        return self.scenario.day

    def at(self, offset_s: int) -> None:
        """Let time pass until so many seconds from local midnight of the delivery day."""
        self.clock.advance_to(self.day.first_isp * SECONDS_PER_ISP + offset_s)

    def time_of(self, offset_s: int) -> int:
        """UTC seconds of an offset from local midnight of the delivery day."""
        return self.day.first_isp * SECONDS_PER_ISP + offset_s

    def prosumer(self, agreement_id: int) -> Prosumer:
        return self.cast.prosumers[self.member_of[agreement_id][0]]

    def send(self, sender: LocalAccount, contract: str, function: str, *args: Any) -> Receipt:
        return self.send_all([(sender, contract, function, args)])[0]

    def send_all(self, calls: Sequence[tuple[LocalAccount, str, str, Sequence[Any]]]) -> list[Receipt]:
        """Send calls that do not build on one another; raises what the first contract refused."""
        return self.chain.send_all(
            [(sender, self.suite.prepare(contract, function, args)) for sender, contract, function, args in calls]
        )

    def call(self, contract: str, function: str, *args: Any) -> Any:
        return self.suite.call(contract, function, args)

    def events(self, receipts: Sequence[Receipt], name: str) -> list[dict[str, Any]]:
        """Arguments of the events of a name in receipts, in order."""
        return [e.args for receipt in receipts for e in self.suite.events(receipt) if e.name == name]
