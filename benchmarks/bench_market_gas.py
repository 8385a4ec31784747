"""Gas of the peer-to-peer market on a local chain: orders, clearing, claims, transaction and calldata included.

Peers' figures, measured the same way, are in ``docs/decisions/0031-market-sessions.md``. Run by ``make bench``.
"""

import tempfile
from pathlib import Path

from _harness import record
from coincurve import PrivateKey
from eth_hash.auto import keccak

from offchain.chain.anvil import MNEMONIC, Anvil
from offchain.chain.client import Chain
from offchain.chain.clock import ChainClock
from offchain.chain.contracts import Suite
from offchain.chain.deployment import Deployment, Web3Executor
from offchain.chain.signatures import APPROVAL, participants_domain, sign
from offchain.chain.signers import mnemonic_signers
from offchain.market.operating import signed_bundle
from offchain.market.orders import orders
from offchain.market.terms import SessionTerms

HOURS, EVERY_ISPS, LEAD_SECONDS = 24, 96, 7_200
TRADERS = 111
FUNDS = 10**9
ORGANISATIONS = {"dso": 1, "operator": 6}
TERMS = SessionTerms(
    base_price=-100_000,
    price_step=1_000,
    tick_count=4_096,
    min_quantity_wh=100,
    isps_per_period=4,
    period_count=HOURS,
    gate_lead_seconds=43_200,
    acceptance_seconds=3_600,
    readings_due_seconds=3 * 86_400,
    settlement_seconds=4 * 86_400,
    fee_rate=1_000,
    rejection_fee_rate=5_000,
    guarantee_rate=50_000,
    shortage_price=300_000,
    shortage_penalty_rate=50_000,
    surplus_price=40_000,
    green_reward_rate=10_000,
    brown_penalty_rate=0,
    surplus_budget=10**6,
    reward_budget=10**6,
)


def day(tick: int, *, sell: int = 0, wh: int = 500, step: int = 0) -> bytes:
    """One order in each of 24 hours, every hour ``step`` ticks dearer."""
    return orders((hour, sell, tick + step * hour, wh) for hour in range(HOURS)).tobytes()


class Market:
    """A deployed suite with enrolled traders and a schedule of daily sessions."""

    def __init__(self, chain: Chain, path: Path):
        self.chain, self.clock = chain, ChainClock(chain, simulated=True)
        self.admin, self.registrar, self.dso, self.operator, self.relayer, *self.traders = mnemonic_signers(
            MNEMONIC, 5 + TRADERS
        )
        for account in self.traders:
            chain.request("anvil_setBalance", account.address, hex(10**20))
        identity = "0x" + keccak(b"registrar").hex()
        given = {"registrars": {self.registrar.address: identity}}
        Deployment(Web3Executor(chain, self.admin), given, path=path).run()
        self.suite = Suite.open(chain, path)
        self._enrol()
        self.chain.send(
            self.admin, self.suite.prepare("EnergyMarket", "setModule", (self.admin.address, True))
        )  # settles without meters: the benchmark is about the market
        self.first_isp = self.clock.now() // 900 + 2 * EVERY_ISPS
        arguments = (TERMS.as_tuple(), self.first_isp, EVERY_ISPS, 60, LEAD_SECONDS)
        self.suite.send(self.operator, "MarketSessions", "registerSchedule", arguments)

    def connection(self, trader) -> bytes:
        return keccak(trader.address.encode())

    def _enrol(self) -> None:
        suite, far = self.suite, 2**62
        for name, role in ORGANISATIONS.items():
            account = getattr(self, name).address
            suite.send(
                self.registrar, "ParticipantRegistry", "registerOrganisation", (account, role, keccak(b"organisation"))
            )
        area = keccak(b"area")
        suite.send(self.dso, "GridRegistry", "declareCongestionPoint", (area, 100_000))
        domain = participants_domain(self.chain.chain_id, suite.address("ParticipantRegistry"))
        key = PrivateKey(bytes(self.registrar.key))
        calls = []
        for trader in self.traders:
            message = {"account": trader.address, "identityCommitment": keccak(b"p"), "nonce": 0, "deadline": far}
            approval = sign(APPROVAL.digest(domain, message), key)
            arguments = (trader.address, keccak(b"p"), far, self.registrar.address, approval, b"")
            calls.append((trader, suite.prepare("ParticipantRegistry", "registerProsumer", arguments)))
        self.chain.send_all(calls)
        self.chain.send_all(
            [
                (
                    self.dso,
                    suite.prepare(
                        "GridRegistry",
                        "registerConnection",
                        (self.connection(trader), area, trader.address, 5_000, 5_000),
                    ),
                )
                for trader in self.traders
            ]
        )
        house = suite.address("ClearingHouse")
        suite.send(self.admin, "EnergyToken", "approve", (house, FUNDS * (TRADERS + 1)))
        everybody = [self.operator, *self.traders]
        self.chain.send_all(
            [(self.admin, suite.prepare("ClearingHouse", "deposit", (a.address, FUNDS))) for a in everybody]
        )

    def open(self, index: int) -> int:
        """Opens a session of the schedule; its id."""
        opens_at = (self.first_isp + EVERY_ISPS * index) * 900 - TERMS.gate_lead_seconds - LEAD_SECONDS
        self.clock.advance_to(opens_at)
        receipt = self.suite.send(self.relayer, "MarketSessions", "openScheduled", (1, index))
        self.gate = opens_at + LEAD_SECONDS
        return self.suite.event(receipt, "SessionOpened").args["sessionId"]

    def submit(self, session: int, trader, bundle: bytes, previous: bytes = b"") -> int:
        """Gas of a bundle by transaction."""
        arguments = (session, self.connection(trader), previous, bundle)
        return self.suite.send(trader, "EnergyMarket", "submit", arguments).gas_used

    def relay(self, session: int, bundles: list[tuple]) -> int:
        """Gas of many signed bundles in one transaction."""
        signed = [
            signed_bundle(
                self.suite,
                PrivateKey(bytes(trader.key)),
                session_id=session,
                connection_id=self.connection(trader),
                bundle=bundle,
                deadline=2**62,
            )
            for trader, bundle in bundles
        ]
        return self.suite.send(self.relayer, "MarketRelay", "submitSigned", (session, signed)).gas_used

    def finish(self, session: int, bundles: list[tuple]) -> dict[str, int]:
        """Gas of clearing all products, of finalising and of the first claim; settles all bundles."""
        self.clock.advance_to(self.gate + TERMS.acceptance_seconds + 1)
        suite = self.suite
        gas = {"clear 24 hours": suite.send(self.relayer, "EnergyMarket", "clear", (session, 0, 47, 2**255)).gas_used}
        gas["finalise 48 products"] = suite.send(self.relayer, "EnergyMarket", "finalise", (session,)).gas_used
        trader, bundle = bundles[0]
        claimed = suite.send(self.relayer, "EnergyMarket", "claim", (session, self.connection(trader), bundle))
        gas["claim a bundle of 24"] = claimed.gas_used
        for trader, bundle in bundles:
            suite.send(self.admin, "EnergyMarket", "settle", (session, self.connection(trader), bundle))
        return gas


def measure(market: Market) -> dict[str, int]:
    """Gas by scenario."""
    gas = {}
    one, two, three, four, five, *others = market.traders
    lone = orders([(3, 0, 300, 500)]).tobytes()
    first = market.open(0)
    gas["lone order, the first of its session"] = market.submit(first, one, lone)
    gas["lone order on an occupied tick"] = market.submit(first, two, lone)
    placed = [(three, day(300)), (four, day(290, sell=1, wh=700)), (five, day(300))]
    for trader, bundle in placed[:2]:
        market.submit(first, trader, bundle)
    gas["bundle of 24, warm book"] = market.submit(first, *placed[2])
    gas["bundle of 24 that replaces one"] = market.submit(first, five, day(300, wh=600), day(300))
    placed[2] = five, day(300, wh=600)
    gas |= market.finish(first, [*placed, (one, lone), (two, lone)])
    later = market.open(10)
    for trader in others[:2]:
        market.submit(later, trader, day(300))
    gas["bundle of 24, warm book, place of an earlier session"] = market.submit(later, three, day(300))
    market.submit(later, others[2], day(300, step=1))
    gas["bundle of 24, warm book, 24 limit prices"] = market.submit(later, four, day(300, step=1))
    crowd = market.open(11)
    for n in range(5):
        market.submit(crowd, others[n], day(300 + n))
    gas["100 relayed bundles of 24, 5 limit prices"] = market.relay(
        crowd, [(trader, day(300 + n % 5)) for n, trader in enumerate(others[5:105])]
    )
    return gas


def main() -> None:
    with Anvil() as node, tempfile.TemporaryDirectory() as folder:
        gas = measure(Market(Chain(node.url), Path(folder) / "deployment.json"))
    orders_in = {name: 2_400 if "100 relayed" in name else 24 for name in gas if "24" in name and "hours" not in name}
    orders_in.pop("finalise 48 products", None)
    for name, value in gas.items():
        each = f", {value / orders_in[name]:,.0f} an order" if name in orders_in else ""
        print(f"{name}: {value:,} gas{each}")
    record(
        "market_gas",
        question="gas of the peer-to-peer market, all in: orders, clearing, claims",
        data="24 hours, 4,096 ticks, Anvil, Cancun; value: bundle of 24 on a warm book in the place of an earlier one",
        seed=None,
        values=[gas["bundle of 24, warm book, place of an earlier session"] / 24],
        unit="gas per order",
        target=6_000,
        more={"gas": gas},
    )


if __name__ == "__main__":
    main()
