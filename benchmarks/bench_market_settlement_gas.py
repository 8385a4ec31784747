"""Gas of settling a trader of the energy market by its meter, with positions in no, some or many other sessions.

Run: ``python benchmarks/bench_market_settlement_gas.py``.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _harness import record

from offchain.chain.abi import checksum
from offchain.chain.anvil import Anvil
from offchain.chain.client import Chain
from tests.market.settling import SettlingWorld
from tests.market.test_netting import BASE, Desk, open_at
from tests.market.world import BUY, SELL, Trader, price_tick
from tests.utils.evm import CHAIN_ID, Deployed, LocalEvm

AT = price_tick(120_000)
HOURS = 24
HALF_HOURS = 8
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


def measure(world: SettlingWorld) -> dict[str, int]:
    """Gas by scenario; the watched seller sold in every hour of the day."""
    gas = {}
    seller, buyer = world.traders[:2]
    scenarios: tuple[tuple[str, Callable[[], list]], ...] = (
        ("24 hours, no other session", lambda: []),
        ("24 hours, one session of 8 half hours", lambda: [open_at(world, BASE, 2, HALF_HOURS)]),
        (
            "24 hours, six sessions of 8 half hours",
            lambda: [open_at(world, BASE + 16 * k, 2, HALF_HOURS) for k in range(6)],
        ),
    )
    for name, opened in scenarios:
        checkpoint = world.evm.chain.request("evm_snapshot")
        kept = world.evm.now, world.evm._next
        hourly = open_at(world, BASE, 4, HOURS)
        desk = Desk(world, hourly, *opened())
        for session in desk.sessions:
            for trader, side in ((seller, SELL), (buyer, BUY)):
                desk.trade(session, trader, *((p, side, AT, 500) for p in range(session.terms.period_count)))
        desk.run_auctions()
        evidence = world.anchor(hourly, {seller: [(0, 400)] * 96})
        world.evm.now += 3_600  # every transaction has a second of its own
        desk.settle(hourly, seller, evidence)
        gas[name] = world.evm.gas_used
        if len(desk.sessions) == 2:
            desk.settle(desk.sessions[1], seller, evidence)
            gas["8 half hours, within a session of 24 hours"] = world.evm.gas_used
        if len(desk.sessions) == 1:
            gas["correction of 24 hours, no other session"] = correction(desk, seller, buyer)
        world.evm.chain.request("evm_revert", checkpoint)
        world.evm.now, world.evm._next = kept
    return gas


def correction(desk: Desk, seller: Trader, buyer: Trader) -> int:
    """Gas of correcting the seller once, after the buyer was settled and the session closed."""
    world, (session,) = desk.world, desk.sessions
    evidence = world.anchor(session, {buyer: [(400, 0)] * 96})
    world.evm.now += 3_600
    desk.settle(session, buyer, evidence)
    world.market.closeSession(session.id)
    newer = world.anchor(session, {seller: [(0, 100)] * 96})
    world.evm.now += 3_600
    world.corrections.correct(session.id, seller.connection, desk.positions(seller), [newer[seller]])
    return world.evm.gas_used


def main() -> None:
    with Anvil(chain_id=CHAIN_ID) as node:
        chain = Chain(node.url)
        world_of_chain = type("World", (SettlingWorld,), {"make_evm": lambda _, now: ChainEvm(chain, now)})
        gas = measure(world_of_chain())
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
