"""A market day for tests of the downlink: one DSO, one aggregator, and what they order of meters of a site.

The homes' meters are registered as by ``siteworld.enrol``. All quantities are Wh by position of the market day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak

from offchain.chain.agreements import Terms, agreement_digest, isp_bits, method_id
from offchain.chain.anvil import MNEMONIC
from offchain.chain.contracts import Suite
from offchain.chain.signatures import agreements_domain, sign, signing_key
from offchain.chain.signers import mnemonic_signers
from offchain.domain.curves import pack_baseline, pack_quantities
from offchain.domain.isp import MarketDay
from offchain.flexibility.commitments import CommitmentKind, CommittedCurves, commit_packed
from offchain.flexibility.orders import dispatch_calls
from offchain.store import Store

AGGREGATOR_ROLE, UP, ORANGE = 3, 0, 2
BASELINE = "mid_4_of_6@1"
FUNDS, BOND = 10**9, 10**7
POINT = keccak(b"congestion point")
"""As ``siteworld.enrol`` declares it."""


def quantities(day: MarketDay, by_position: Mapping[int, int]) -> bytes:
    return pack_quantities([by_position.get(position, 0) for position in range(day.isp_count)])


@dataclass
class FlexDay:
    """The day as it stands; make it, then call its methods in their order."""

    suite: Suite
    store: Store
    day: MarketDay
    meters: Sequence[bytes]
    connections: Sequence[bytes]
    baseline_wh: int

    def __post_init__(self) -> None:
        self.admin, _, self.registrar, self.dso, self.prosumer, self.aggregator = mnemonic_signers(MNEMONIC, 6)
        suite, registered = self.suite, (self.aggregator.address, AGGREGATOR_ROLE, keccak(b"aggregator"))
        suite.send(self.registrar, "ParticipantRegistry", "registerOrganisation", registered)
        suite.send(self.aggregator, "GridRegistry", "activateAggregator", (POINT,))
        payment = 3 * suite.call("TokenDesk", "quote", (FUNDS,))[0]
        suite.send(self.admin, "LocalCurrency", "mint", (self.admin.address, payment))
        suite.send(self.admin, "LocalCurrency", "approve", (suite.address("TokenDesk"), payment))
        for account in (self.dso, self.aggregator, self.prosumer):
            suite.send(self.admin, "TokenDesk", "buyAndDeposit", (FUNDS, account.address))
        packed = pack_baseline([self.baseline_wh] * self.day.isp_count)
        self.baselines: dict[str, CommittedCurves] = {
            who.address: commit_packed(
                suite,
                self.store,
                who,
                kind=CommitmentKind.BASELINE,
                method=BASELINE,
                scope=POINT,
                day=self.day,
                curves=dict.fromkeys(self.meters, packed),
                made_at=suite.chain.block()["timestamp"] - 10 + position,
            )
            for position, who in enumerate((self.aggregator, self.dso))
        }

    def agree(self, connection_id: bytes) -> int:
        """Agreement of the home behind a connection with the aggregator."""
        suite, now = self.suite, self.suite.chain.block()["timestamp"]
        all_day = isp_bits(range(100))
        terms = Terms(
            connection_id=connection_id,
            prosumer=self.prosumer.address,
            aggregator=self.aggregator.address,
            baseline_method=method_id(*BASELINE.split("@")),
            working_day_isps=all_day,
            weekend_isps=all_day,
            max_up_w=5_000,
            max_down_w=5_000,
            reward_rate=100_000,
            penalty_rate=100_000,
            tolerance_bps=1_000,
            multiplier_bps=10_000,
            notice_seconds=900,
            termination_notice_seconds=7 * 86_400,
            valid_from=now - 100,
            valid_until=now + 365 * 86_400,
            weekly_activations=5,
            standby=False,
            missing_is_shortfall=False,
            bond=BOND,
        )
        domain = agreements_domain(suite.chain.chain_id, suite.address("AgreementRegistry"))
        digest = agreement_digest(domain, terms, nonce=0, deadline=2**40)
        signatures = [sign(digest, signing_key(bytes(who.key))) for who in (self.prosumer, self.aggregator)]
        receipt = suite.send(self.admin, "AgreementRegistry", "register", (terms.as_tuple(), 2**40, *signatures))
        return suite.event(receipt, "AgreementRegistered").args["agreementId"]

    def sell(self, asked: Mapping[int, int], offered: Mapping[int, int], pass_time) -> int:
        """Request and offer, in full what was offered; the flex order. ``pass_time(seconds)`` passes the gate."""
        suite, now = self.suite, self.suite.chain.block()["timestamp"]
        wanted, given = quantities(self.day, asked), quantities(self.day, offered)
        terms = {
            "congestionPointId": POINT,
            "direction": UP,
            "dayFirstIsp": self.day.first_isp,
            "ispCount": self.day.isp_count,
            "priceCap": 300_000,
            "bondRate": 50_000,
            "penaltyRate": 100_000,
            "toleranceBps": 1_000,
            "gateClosure": now + 600,
            "selectBy": now + 1_200,
            "dispatchBy": now + 7_200,
        }
        receipt = suite.send(self.dso, "FlexMarket", "publishRequest", (terms, wanted))
        self.request_id = suite.event(receipt, "RequestPublished").args["requestId"]
        commitment_id = self.baselines[self.aggregator.address].commitment_id
        receipt = suite.send(
            self.aggregator, "FlexMarket", "placeOffer", (self.request_id, 200_000, commitment_id, given)
        )
        offer_id = suite.event(receipt, "OfferPlaced").args["offerId"]
        pass_time(700)
        chosen = [{"offerId": offer_id, "offeredWh": given, "orderedWh": given}]
        receipt = suite.send(self.dso, "FlexMarket", "select", (self.request_id, wanted, chosen))
        self.ordered = given
        return suite.event(receipt, "FlexOrdered").args["flexOrderId"]

    def dispatch(self, flex_order_id: int, parts: Mapping[tuple[int, bytes], Mapping[int, int]]) -> int:
        """Prosumer orders by (agreement, meter); the time of their block."""
        packed = [(agreement, meter, quantities(self.day, curve)) for (agreement, meter), curve in parts.items()]
        baselines = self.baselines[self.aggregator.address]
        (call,) = dispatch_calls(self.suite, flex_order_id, self.ordered, packed, baselines)
        return self._time_of(self.suite.chain.send(self.aggregator, call))

    def control_directly(self, home: int, curve: Mapping[int, int], reason: str) -> int:
        """Orange, and an order to one connection; the time of its block."""
        until = self.day.end_isp
        arguments = (POINT, ORANGE, until, self.request_id, reason)
        self.suite.send(self.dso, "GridRegime", "setRegime", arguments)
        committed = self.baselines[self.dso.address]
        order = {
            "connectionId": self.connections[home],
            "quantitiesWh": quantities(self.day, curve),
            "baselineWh": committed.packed[self.meters[home]],
            "baselineProof": committed.proofs[self.meters[home]],
        }
        arguments = (POINT, committed.commitment_id, [order], reason)
        return self._time_of(self.suite.send(self.dso, "GridRegime", "orderDirect", arguments))

    def _time_of(self, receipt) -> int:
        return self.suite.chain.block(receipt.block_number)["timestamp"]
