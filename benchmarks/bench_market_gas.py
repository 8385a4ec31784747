"""Gas of the peer-to-peer market on a local chain: orders, clearing, claims, transaction and calldata included.

Writes ``results/market_gas.json`` and, from it, ``results/market_gas.svg``: gas to clear against orders, with the
figures of :data:`PEERS` beside them. Run by ``make bench``.
"""

import tempfile
from pathlib import Path
from typing import Any

import matplotlib
from _harness import RESULTS, record
from coincurve import PrivateKey
from eth_hash.auto import keccak

from offchain.chain.anvil import MNEMONIC, Anvil
from offchain.chain.client import Chain
from offchain.chain.clock import ChainClock
from offchain.chain.contracts import Suite
from offchain.chain.deployment import Deployment, Web3Executor
from offchain.chain.signatures import APPROVAL, participants_domain, sign
from offchain.chain.signers import mnemonic_signers
from offchain.market.operating import open_session, signed_bundle
from offchain.market.orders import orders
from offchain.market.terms import SessionTerms

HOURS, EVERY_ISPS, LEAD_SECONDS = 24, 96, 7_200
TRADERS = 111
PLACES = 47
"""Sessions of the schedule until one takes the place of the first (`MarketSessions`): they overlap it, or are kept."""
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
ORDERS, TICKS = (10, 100, 1_000, 10_000), (10, 30, 100, 300, 1_000)
FIXED_TICKS, FIXED_ORDERS = 10, 1_000
LARGEST_BUNDLE = 256
PEERS = {
    "lemlab": {
        "order": 173_059,
        "clear": {100: 24_600_000, 200: 67_500_000, 400: 218_000_000},
        "what": "double auction for local energy",
    },
    "EasyAuction": {
        "order": 125_614,
        "order in a batch": 52_163,
        "clear": {200: 340_236},
        "claim": 83_886,
        "claim in a batch": 13_587,
        "what": "batch auction of Gnosis, one-sided",
    },
    "Uniswap CCA": {"order": 149_928, "what": "continuous clearing auction, one-sided"},
}
"""Gas of peers' contracts, measured in an in-process EVM with transaction and calldata."""


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
        for position, (trader, bundle) in enumerate(bundles):
            arguments = (session, self.connection(trader), bundle)
            settled = suite.send(self.admin, "EnergyMarket", "settle", arguments).gas_used
            if position < 2:
                gas[f"settle a bundle of 24 in the market, {('claimed before', 'not claimed before')[position]}"] = (
                    settled
                )
        return gas

    def claim_all(self, session: int, bundles: list[tuple]) -> int:
        """Gas of claiming many bundles in one transaction."""
        claims = [(self.connection(trader), bundle) for trader, bundle in bundles]
        return self.suite.send(self.relayer, "EnergyMarket", "claimAll", (session, claims)).gas_used

    def clear_book(self, count: int, ticks: int) -> int:
        """Gas of clearing one period with ``count`` orders, both sides on each of ``ticks`` ticks."""
        lead = TERMS.gate_lead_seconds + LEAD_SECONDS
        earliest = (self.clock.now() + lead) // 900 + 1
        first_isp = earliest + (self.first_isp - earliest) % TERMS.isps_per_period  # delivery periods must not cross
        session = open_session(self.suite, self.operator, TERMS, first_isp)
        rows = [(0, (n + n // ticks) % 2, 200 + n % ticks, 100 + n % 7) for n in range(count)]
        parts = [rows[start : start + LARGEST_BUNDLE] for start in range(0, count, LARGEST_BUNDLE)]
        for trader, part in zip(self.traders, parts, strict=False):
            self.submit(session, trader, orders(part).tobytes())
        self.clock.advance_to(self.suite.call("EnergyMarket", "session", (session,))["gateClosure"] + 1)
        return self.suite.send(self.relayer, "EnergyMarket", "clear", (session, 0, 0, 2**255)).gas_used


def measure(market: Market) -> dict[str, int]:
    """Gas by scenario."""
    gas = {}
    one, two, three, four, five, *others = market.traders
    lone = orders([(3, 0, 300, 500)]).tobytes()
    first = market.open(0)
    gas["lone order, the first of its session"] = market.submit(first, one, lone)
    gas["lone order on an occupied tick, place never used"] = market.submit(first, two, lone)
    placed = [(three, day(300)), (four, day(290, sell=1, wh=700)), (five, day(300))]
    for trader, bundle in placed[:2]:
        market.submit(first, trader, bundle)
    gas["bundle of 24, warm book, place never used"] = market.submit(first, *placed[2])
    gas["bundle of 24 that replaces one"] = market.submit(first, five, day(300, wh=600), day(300))
    placed[2] = five, day(300, wh=600)
    gas |= market.finish(first, [*placed, (one, lone), (two, lone)])
    later = market.open(PLACES)
    for trader in others[:2]:
        market.submit(later, trader, day(300))
    gas["bundle of 24, warm book, place of an earlier session"] = market.submit(later, three, day(300))
    gas["lone order on an occupied tick, place of an earlier session"] = market.submit(later, one, lone)
    market.submit(later, others[2], day(300, step=1))
    gas["bundle of 24, warm book, 24 limit prices"] = market.submit(later, four, day(300, step=1))
    crowd = market.open(PLACES + 1)
    for n in range(5):
        market.submit(crowd, others[n], day(300 + n))
    relayed = [(trader, day(300 + n % 5)) for n, trader in enumerate(others[5:105])]
    gas["100 relayed bundles of 24, 5 limit prices"] = market.relay(crowd, relayed)
    market.submit(crowd, five, day(290, sell=1, wh=30_000))
    market.clock.advance_to(market.gate + TERMS.acceptance_seconds + 1)
    suite = market.suite
    suite.send(market.relayer, "EnergyMarket", "clear", (crowd, 0, 47, 2**255))
    suite.send(market.relayer, "EnergyMarket", "finalise", (crowd,))
    gas["claims of 100 bundles of 24 in one transaction"] = market.claim_all(crowd, relayed)
    return gas


def rejection(market: Market) -> int:
    """Gas of a trader that rejects one order of its bundle, in a session of its own."""
    session = market.open(PLACES + 2)
    one, two = market.traders[:2]
    market.submit(session, one, day(300))
    market.submit(session, two, day(290, sell=1, wh=700))
    market.clock.advance_to(market.gate + 1)
    suite = market.suite
    suite.send(market.relayer, "EnergyMarket", "clear", (session, 0, 47, 2**255))
    arguments = (session, market.connection(one), day(300), 1)
    return suite.send(one, "EnergyMarket", "reject", arguments).gas_used


def orders_on(ticks: int) -> int:
    """Orders of the books that grow by ticks: enough for both sides of each."""
    return max(2 * ticks, FIXED_ORDERS)


def plot(result: dict[str, Any], path: Path) -> None:
    """Gas to clear against orders, from a kept result."""
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "market_gas"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.8), layout="constrained")
    by_orders = {int(count): gas for count, gas in result["clear_by_orders"].items()}
    axes.plot(by_orders.keys(), by_orders.values(), "o-", label=f"this project, orders on {FIXED_TICKS} ticks")
    for ticks in (100, 1_000):
        label = f"this project, orders on {ticks:,} ticks"
        axes.plot([orders_on(ticks)], [result["clear_by_ticks"][str(ticks)]], "s", label=label)
    for (name, peer), marker in zip(((n, p) for n, p in PEERS.items() if "clear" in p), ("^--", "D"), strict=True):
        axes.plot(peer["clear"].keys(), peer["clear"].values(), marker, label=f"{name}: {peer['what']}")
    axes.set(xscale="log", yscale="log", xlabel="orders in the auction", ylabel="gas to clear it", ylim=(3e4, 1e9))
    axes.grid(True, which="major", alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    with Anvil() as node, tempfile.TemporaryDirectory() as folder:
        market = Market(Chain(node.url), Path(folder) / "deployment.json")
        gas = measure(market)
        gas["reject one order of a bundle of 24"] = rejection(market)
        by_orders = {count: market.clear_book(count, FIXED_TICKS) for count in ORDERS}
        by_ticks = {ticks: market.clear_book(orders_on(ticks), ticks) for ticks in TICKS}
    orders_in = {name: 2_400 if "100" in name else 24 for name in gas if "24" in name and "hours" not in name}
    del orders_in["reject one order of a bundle of 24"]
    for name, value in gas.items():
        each = f", {value / orders_in[name]:,.0f} an order" if name in orders_in else ""
        print(f"{name}: {value:,} gas{each}")
    for what, curve in (("orders", by_orders), ("ticks", by_ticks)):
        for size, value in curve.items():
            print(f"clear a period with {size:,} {what}: {value:,} gas")
    kept = record(
        "market_gas",
        question="gas of the peer-to-peer market, all in: orders, clearing, claims",
        data="24 hours, 4,096 ticks, Anvil, Cancun; value: bundle of 24 on a warm book in the place of an earlier one",
        seed=None,
        values=[gas["bundle of 24, warm book, place of an earlier session"] / 24],
        unit="gas per order",
        target=6_000,
        more={
            "gas": gas,
            "clear_by_orders": {str(count): value for count, value in by_orders.items()},
            "clear_by_ticks": {str(ticks): value for ticks, value in by_ticks.items()},
            "peers": PEERS,
        },
    )
    plot(kept, RESULTS / "market_gas.svg")


if __name__ == "__main__":
    main()
