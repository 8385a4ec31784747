"""Gas of settling a trader of the energy market: by its meter, with positions in no, some or many other sessions,
without readings, from a proposed batch; and of correcting it.

Run: ``python benchmarks/bench_market_settlement_gas.py``.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _harness import record
from eth_hash.auto import keccak

from offchain.chain.abi import checksum
from offchain.chain.anvil import Anvil
from offchain.chain.client import Chain
from offchain.chain.merkle import MerkleTree
from tests.market.settling import PROPOSER_SETTINGS, SettlingWorld
from tests.market.test_netting import BASE, Desk, open_at
from tests.market.world import BUY, SELL, OpenSession, price_tick
from tests.utils.evm import CHAIN_ID, Deployed, LocalEvm

_, TURN, CHALLENGE, _, MINIMUM, *_ = PROPOSER_SETTINGS
AT = price_tick(120_000)
HOURS = 24
HALF_HOURS = 8
LEAVES = 1_024
"""Outcomes of a proposed batch."""
GAS_LIMIT = 2 * 10**8


class ChainEvm(LocalEvm):
    """The calls of the tests as transactions of a chain, with what the last one cost."""

    def __init__(self, chain: Chain, now: int):
        self.chain, self.gas_used, self._next = chain, 0, now
        super().__init__(now)
        chain.request("anvil_autoImpersonateAccount", True)

    @property
    def now(self) -> int:
        return self._now

    @now.setter
    def now(self, seconds: int) -> None:
        self._now = seconds

    def deploy(self, name: str, *arguments: Any, sender: str) -> Deployed:
        code = self._artifacts[name]["bytecode"][2:] + self.codec.encode_constructor(name, arguments).hex()
        receipt = self._transact({"from": sender, "data": "0x" + code})
        address = checksum(receipt["contractAddress"])
        self._names[address] = name
        return Deployed(self, name, address)

    def call(self, contract: Deployed, function: str, arguments: tuple, sender: str) -> Any:
        data = "0x" + self.codec.encode_call(contract.name, function, arguments).hex()
        call = {"from": sender, "to": contract.address, "data": data, "gas": hex(GAS_LIMIT)}
        self._set_time()
        output = self.chain.request("eth_call", call, "pending")
        receipt = self._transact(call)
        self.gas_used = int(receipt["gasUsed"], 16)
        self.events = []
        for log in receipt["logs"]:
            topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
            name = self._names[checksum(log["address"])]
            self.events.append(self.codec.decode_log(name, topics, bytes.fromhex(log["data"][2:])))
        return self.codec.decode_result(contract.name, function, bytes.fromhex(output[2:]), len(arguments))

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        checkpoint, kept = self.chain.request("evm_snapshot"), (self.now, self._next)
        try:
            yield
        finally:
            self.chain.request("evm_revert", checkpoint)
            self.now, self._next = kept

    def _set_time(self) -> None:
        self._next = max(self._next + 1, self._now)
        self.chain.request("evm_setNextBlockTimestamp", self._next)

    def _transact(self, transaction: dict[str, str]) -> dict[str, Any]:
        self._set_time()
        self.chain.request("anvil_setBalance", transaction["from"], hex(10**24))
        filled = {"gas": hex(GAS_LIMIT), "gasPrice": hex(10**10)} | transaction
        tx_hash = self.chain.request("eth_sendTransaction", filled)
        while (receipt := self.chain.request("eth_getTransactionReceipt", tx_hash)) is None:
            time.sleep(0.01)
        if receipt["status"] != "0x1":
            raise RuntimeError(f"refused: {transaction['data'][:10]}")
        return receipt


class Day:
    """A day-ahead session and others within it: two sellers of every hour, the first one watched, and a buyer."""

    def __init__(self, world: SettlingWorld, sessions: int = 0):
        self.world = world
        self.sellers, self.buyer = world.traders[:2], world.traders[2]
        self.hourly = open_at(world, BASE, 4, HOURS)
        others = [open_at(world, BASE + 16 * k, 2, HALF_HOURS) for k in range(sessions)]
        self.desk = Desk(world, self.hourly, *others)
        for session in self.desk.sessions:
            sides = [(trader, SELL, 500) for trader in self.sellers] + [(self.buyer, BUY, 1_000)]
            for trader, side, wh in sides:
                self.desk.trade(session, trader, *((p, side, AT, wh) for p in range(session.terms.period_count)))

    def deliver(self) -> dict:
        """Evidence of both sellers, all injected."""
        self.desk.run_auctions()
        evidence = self.world.anchor(self.hourly, dict.fromkeys(self.sellers, [(0, 400)] * 96))
        self.world.evm.now += 3_600  # every transaction has a second of its own
        return evidence

    def settle(self, session: OpenSession, seller: int, evidence: dict) -> int:
        """Gas of a settlement by meter."""
        self.desk.settle(session, self.sellers[seller], evidence)
        return self.world.evm.gas_used

    def correct(self) -> int:
        """Gas of correcting the first seller once the buyer, too, is settled and the session closed."""
        world, (seller, _) = self.world, self.sellers
        evidence = world.anchor(self.hourly, {self.buyer: [(400, 0)] * 96})
        world.evm.now += 3_600
        self.desk.settle(self.hourly, self.buyer, evidence)
        world.market.closeSession(self.hourly.id)
        newer = world.anchor(self.hourly, {seller: [(0, 100)] * 96})
        world.evm.now += 3_600
        world.corrections.correct(self.hourly.id, seller.connection, self.desk.positions(seller), [newer[seller]])
        return world.evm.gas_used

    def settle_missing(self) -> int:
        """Gas of settling the first seller without readings, all deadlines over."""
        self.desk.run_auctions()
        trader, settlement = self.sellers[0], self.world.settlement
        self.world.evm.now = settlement.settleBy(self.hourly.id)
        settlement.settleMissing(self.hourly.id, trader.connection, self.desk.positions(trader))
        return self.world.evm.gas_used

    def claim_from_batch(self) -> list[int]:
        """Gas of the sellers' claims from a batch of :data:`LEAVES` outcomes."""
        world, evidence = self.world, self.deliver()
        proposer, staker = world.proposer, world.traders[3]
        outcomes = []
        for trader in self.sellers:
            found, injected = world.settlement.outcomeOf(
                self.hourly.id, trader.connection, self.desk.positions(trader), [evidence[trader]]
            )
            bundle = self.desk.bundles[self.hourly.id, trader]
            outcomes.append(
                {"connectionId": trader.connection, "bundle": bundle, "outcome": found, "injectedWh": list(injected)}
            )
        leaves = [proposer.leafOf(self.hourly.id, outcome) for outcome in outcomes]
        tree = MerkleTree(leaves + [keccak(bytes([n >> 8, n & 255])) for n in range(LEAVES - len(leaves))])
        proposer.stake(MINIMUM, sender=staker.address)
        world.evm.now = self.hourly.times.readings_due + 3 * TURN  # the turn of anybody
        proposer.propose(self.hourly.id, tree.root, LEAVES, keccak(b"data"), sender=staker.address)
        world.evm.now += CHALLENGE + 60
        gas = []
        for outcome, proof in zip(outcomes, tree.proofs(), strict=False):
            proposer.claim(self.hourly.id, outcome, proof)
            gas.append(world.evm.gas_used)
        return gas


def measure(world: SettlingWorld) -> dict[str, int]:
    """Gas by scenario; the watched seller sold in every hour of the day."""
    gas = {}
    for name, sessions in (
        ("no other session", 0),
        ("one session of 8 half hours", 1),
        ("six sessions of 8 half hours", 6),
    ):
        with world.evm.rolled_back():
            day = Day(world, sessions)
            evidence = day.deliver()
            gas[f"24 hours, {name}"] = day.settle(day.hourly, 0, evidence)
            if sessions == 0:
                gas[f"24 hours, {name}, not the first of its session"] = day.settle(day.hourly, 1, evidence)
                gas[f"24 hours, {name}, corrected afterwards"] = day.correct()
            if sessions == 1:
                gas["8 half hours, within a session of 24 hours"] = day.settle(day.desk.sessions[1], 0, evidence)
    with world.evm.rolled_back():
        gas["24 hours without readings"] = Day(world).settle_missing()
    with world.evm.rolled_back():
        first, later = Day(world).claim_from_batch()
        gas[f"24 hours from a batch of {LEAVES:,}"] = first
        gas[f"24 hours from a batch of {LEAVES:,}, not the first of its session"] = later
    return gas


def settling_world(node: Anvil) -> SettlingWorld:
    """The contracts of the tests, deployed on a chain."""
    chain = Chain(node.url)
    return type("World", (SettlingWorld,), {"make_evm": lambda _, now: ChainEvm(chain, now)})()


def main() -> None:
    with Anvil(chain_id=CHAIN_ID) as node:
        gas = measure(settling_world(node))
    for name, value in gas.items():
        print(f"{name}: {value:,} gas")
    first = gas["24 hours, no other session"]
    each = (gas["24 hours, six sessions of 8 half hours"] - first) / 6
    print(f"each other session of 8 half hours: {each:,.0f} gas more")
    record(
        "market_settlement_gas",
        question="gas of settling a trader of a day-ahead session by its meter, per position in another session",
        data="bundle of 24 sold hours, 96 metered ISPs; others of 8 half hours each; Anvil, Cancun",
        seed=None,
        values=[each],
        unit="gas per other session",
        more={"gas": gas},
    )


if __name__ == "__main__":
    main()
