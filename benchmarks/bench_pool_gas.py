"""Gas of the post-delivery pool on a local chain: joining, trades, reports, prices, claims, all in.

Run by ``make bench``.
"""

import tempfile
from pathlib import Path

from _harness import record
from bench_market_gas import FUNDS, Market
from coincurve import PrivateKey
from eth_hash.auto import keccak

from offchain.chain.anvil import Anvil
from offchain.chain.client import Chain
from offchain.chain.leaves import meter_day_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.chain.signatures import METER_DAY, metering_domain, sign
from offchain.domain.curves import pack_readings
from offchain.market.pool import Mechanism, PoolTerms, Trade
from offchain.market.pool_operating import join_signed, open_pool, register_trade, sign_trade, signed_joining
from offchain.market.terms import EnergyType

MEMBERS, ISPS = 20, 96
DEPOSIT = 10**7
SECONDS = 900
MAX_TICKS = 2**255


class Community(Market):
    """Members with meters, of which a day is anchored, in as many pools as one likes."""

    def __init__(self, chain: Chain, path: Path):
        super().__init__(chain, path)
        suite = self.suite
        self.members = self.traders[:MEMBERS]
        self.day = self.clock.now() // SECONDS + 200
        role = (self.relayer.address, 5, keccak(b"meter operator"))
        suite.send(self.registrar, "ParticipantRegistry", "registerOrganisation", role)
        suite.send(self.admin, "EnergyToken", "approve", (suite.address("ClearingHouse"), 2 * FUNDS))
        suite.send(self.admin, "ClearingHouse", "deposit", (self.relayer.address, 2 * FUNDS))
        suite.send(self.relayer, "MeteringLedger", "postBond", (FUNDS,))
        for member in self.members:
            arguments = (keccak(b"m" + member.key), self.connection(member), member.address, 0)
            suite.send(self.relayer, "MeterRegistry", "registerMeter", arguments)

    def terms(self, mechanism: Mechanism, period_count: int) -> PoolTerms:
        start = self.day * SECONDS
        end = start + ISPS * SECONDS
        return PoolTerms(
            *(mechanism, 300_000, 80_000, 0, 0, 1_000, self.day, ISPS // period_count, period_count),
            *(start, end, end + 7 * 86_400, 10**6),
        )

    def join(self, pool_id: int, members: list, limits=(0, 0)) -> int:
        signed = [
            signed_joining(
                self.suite,
                PrivateKey(bytes(member.key)),
                pool_id=pool_id,
                connection_id=self.connection(member),
                deposit=DEPOSIT,
                limits=limits,
                deadline=2**62,
            )
            for member in members
        ]
        return join_signed(self.suite, self.relayer, pool_id, signed).gas_used

    def trade(self, pool_id: int, period_count: int, seller, buyer) -> tuple[Trade, int]:
        trade = Trade(
            *(pool_id, self.connection(seller), self.connection(buyer), 150_000),
            *(EnergyType.BROWN, 2**62, 0, (100,) * period_count),
        )
        signatures = [sign_trade(self.suite, PrivateKey(bytes(party.key)), trade) for party in (seller, buyer)]
        return trade, register_trade(self.suite, self.relayer, trade, *signatures).gas_used

    def anchor(self) -> None:
        """Every second member feeds in at noon, all consume."""
        domain = metering_domain(self.chain.chain_id, self.suite.address("MeteringLedger"))
        self.evidence, leaves = [], []
        for n, member in enumerate(self.members):
            noon = [(0, 200) if n % 2 and 32 <= p < 64 else (60 + n, 0) for p in range(ISPS)]
            packed, meter = pack_readings(noon), keccak(b"m" + member.key)
            message = {"meterId": meter, "firstIsp": self.day, "ispCount": ISPS, "valuesHash": values_hash(packed)}
            signature = sign(METER_DAY.digest(domain, message), PrivateKey(bytes(member.key)))
            day = {"meterId": meter, "firstIsp": self.day, "ispCount": ISPS, "values": packed, "signature": signature}
            self.evidence.append({"day": day})
            leaves.append(meter_day_leaf(meter, self.day, ISPS, values_hash(packed)))
        tree = MerkleTree(leaves)
        for evidence, proof in zip(self.evidence, tree.proofs(), strict=True):
            evidence["proof"] = proof
        self.clock.advance_to((self.day + ISPS) * SECONDS + 1)
        anchored = (self.day, ISPS, tree.root, len(leaves), keccak(b"data"))
        self.suite.send(self.relayer, "MeteringLedger", "anchorDay", anchored)
        self.clock.advance_to(self.clock.now() + self.suite.call("MeteringLedger", "challengeWindow"))


def measure(community: Community) -> dict[str, int]:
    """Gas by scenario."""
    gas: dict[str, int] = {}
    suite, relayer, members = community.suite, community.relayer, community.members
    pools = {}
    for mechanism, count in (
        (Mechanism.MID_MARKET_RATE, 24),
        (Mechanism.MID_MARKET_RATE, 96),
        (Mechanism.TICK_BOOK, 24),
    ):
        name = f"{'tick book' if mechanism is Mechanism.TICK_BOOK else 'mid-market'}, {count} periods"
        pool_id = open_pool(suite, community.operator, community.terms(mechanism, count))
        limits = (200, 20) if mechanism is Mechanism.TICK_BOOK else (0, 0)
        gas[f"join {MEMBERS} members by relay, {name}"] = community.join(pool_id, members, limits)
        pools[name] = pool_id, count, mechanism
    trade, gas["register a trade of 24 periods"] = community.trade(1, 24, members[1], members[0])
    community.anchor()
    for name, (pool_id, _, mechanism) in pools.items():
        positions = []
        for n, member in enumerate(members):
            trades = [trade.as_tuple()] if pool_id == 1 and n < 2 else []
            arguments = (pool_id, community.connection(member), trades, [], [community.evidence[n]])
            receipt = suite.send(relayer, "PoolReports", "report", arguments)
            positions.append(suite.event(receipt, "PositionReported").args["position"])
            if n in (0, MEMBERS - 1):
                gas[f"report {'the first' if n == 0 else 'a further'} member, {name}"] = receipt.gas_used
        if mechanism is Mechanism.TICK_BOOK:
            cleared = suite.send(relayer, "PostDeliveryPool", "clear", (pool_id, 0, 23, MAX_TICKS))
            gas[f"clear, {name}"] = cleared.gas_used
        priced = suite.send(relayer, "PostDeliveryPool", "fixPrices", (pool_id,))
        gas[f"fix prices, {name}"] = priced.gas_used
        prices = suite.event(priced, "PoolPriced").args["prices"]
        for member, position in zip(members, positions, strict=True):
            arguments = (pool_id, community.connection(member), position, prices)
            paid = suite.send(relayer, "PostDeliveryPool", "claim", arguments)
        gas[f"claim of a member, {name}"] = paid.gas_used
    return gas


def main() -> None:
    with Anvil() as node, tempfile.TemporaryDirectory() as folder:
        gas = measure(Community(Chain(node.url), Path(folder) / "deployment.json"))
    for name, value in gas.items():
        print(f"{name}: {value:,} gas")
    record(
        "pool_gas",
        question="What do joining, trading, reporting, pricing and paying cost in a post-delivery pool?",
        data=f"{MEMBERS} members with a metered day of {ISPS} ISPs each, every second one feeds in at noon",
        seed=None,
        values=list(gas.values()),
        unit="gas",
        more={"gas": gas},
    )


if __name__ == "__main__":
    main()
