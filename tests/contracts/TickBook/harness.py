"""``TickBookHarness`` in an EVM of this process: thousands of calls a second, storage open to the tests."""

import re
from collections.abc import Iterable

import numpy as np
from eth_abi import decode, encode
from eth_hash.auto import keccak
from pyrevm import EVM

from offchain.chain.compile import update_artifacts
from offchain.market.clearing import Clearing, ClearingClass
from offchain.market.orders import MAX_TICKS, PriceGrid, orders

CALLER = "0x" + "11" * 20
GAS_LIMIT = 2**40
RESULT = "(uint8,int256,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"
ALL = 2**256 - 1


def position(tick: int, sell: int) -> int:
    """Bit of a tick in the bitmap of its side: clearing comes to the cheapest supply and the dearest demand first."""
    return tick if sell else MAX_TICKS - 1 - tick


class Reverted(Exception):
    """A call reverted; carries the error's name and its arguments."""

    def __init__(self, name: str, arguments: tuple):
        super().__init__(f"{name}{arguments}")
        self.name, self.arguments = name, arguments


class Harness:
    """Sessions are numbered; each test opens its own, so that nothing has to be rolled back."""

    def __init__(self):
        artifact = update_artifacts()["TickBookHarness"]
        self._evm = EVM(gas_limit=GAS_LIMIT)
        self._address = self._evm.deploy(CALLER, bytes.fromhex(artifact["bytecode"][2:]))
        self._errors = {}
        for item in artifact["abi"]:
            if item["type"] == "error":
                inputs = [argument["type"] for argument in item["inputs"]]
                selector = keccak(f"{item['name']}({','.join(inputs)})".encode())[:4]
                self._errors[selector] = item["name"], inputs
        self._sessions = 0

    def call(self, name: str, inputs: list[str], outputs: list[str], *arguments):
        """Calls a function; storage stays warm between calls, so that gas is measured on a chain instead."""
        data = keccak(f"{name}({','.join(inputs)})".encode())[:4] + encode(inputs, arguments)
        try:
            returned = self._evm.message_call(CALLER, self._address, calldata=data)
        except RuntimeError as exc:
            output = re.search(r"output: 0x([0-9a-f]*)", str(exc))
            data = bytes.fromhex(output[1]) if output else b""
            if data[:4] not in self._errors:
                raise AssertionError(f"{name}: {exc}") from exc
            error, types = self._errors[data[:4]]
            raise Reverted(error, decode(types, data[4:])) from exc
        return decode(outputs, returned)

    def open(self, grid: PriceGrid) -> int:
        """A fresh session with these prices and periods."""
        self._sessions += 1
        terms = (grid.base_price, grid.price_step, grid.tick_count, grid.period_count, grid.min_quantity_wh)
        self.call("open", ["uint256", "(int64,uint32,uint16,uint16,uint32)"], [], self._sessions, terms)
        return self._sessions

    def place(self, session: int, bundle: bytes) -> int:
        return self.call("place", ["uint256", "bytes"], ["uint256"], session, bundle)[0]

    def place_all(self, session: int, bundles: list[bytes]) -> int:
        return self.call("placeAll", ["uint256", "bytes[]"], ["uint256"], session, bundles)[0]

    def remove(self, session: int, bundle: bytes) -> int:
        return self.call("remove", ["uint256", "bytes"], ["uint256"], session, bundle)[0]

    def clear(self, session: int, period: int = 0, max_ticks: int = ALL) -> bool:
        arguments = ["uint256", "uint256", "uint256"]
        return self.call("clear", arguments, ["bool"], session, period, max_ticks)[0]

    def clear_all(self, session: int, end: int) -> list[Clearing]:
        (results,) = self.call("clearAll", ["uint256", "uint256"], [RESULT + "[]"], session, end)
        return [clearing(*fields) for fields in results]

    def result(self, session: int, period: int = 0) -> Clearing:
        (fields,) = self.call("resultOf", ["uint256", "uint256"], [RESULT], session, period)
        return clearing(*fields)

    def fills(self, session: int, bundle: bytes) -> list[int]:
        return list(self.call("fills", ["uint256", "bytes"], ["uint256[]"], session, bundle)[0])

    def level(self, session: int, tick: int, period: int = 0) -> tuple[int, int]:
        """Demand and supply at a tick [Wh]."""
        types = ["uint256", "uint256", "uint256"]
        return self.call("levelOf", types, ["uint256", "uint256"], session, period, tick)

    def unfinished(self, session: int) -> int:
        return self.call("unfinished", ["uint256"], ["uint256"], session)[0]

    def worst_case_cost(self, limit_price: int, quantity_wh: int, sell: bool) -> int:
        types = ["int256", "uint256", "bool"]
        return self.call("worstCaseCost", types, ["uint256"], limit_price, quantity_wh, sell)[0]

    def storage(self, session: int, slots: Iterable[int]) -> list[int]:
        """Slots of a session's books, counted from its first."""
        (first,) = self.call("slotOf", ["uint256"], ["uint256"], session)
        return [self._evm.storage(self._address, (first + slot) % 2**256) for slot in slots]

    def store(self, session: int, slot: int, value: int) -> None:
        (first,) = self.call("slotOf", ["uint256"], ["uint256"], session)
        self._evm.insert_account_storage(self._address, (first + slot) % 2**256, value)


def clearing(
    kind, price, volume_wh, sell_tick, buy_tick, low_tick, high_tick, ration_numerator, ration_denominator
) -> Clearing:
    """``TickBook.Result`` as the twin has it."""
    ticks = (sell_tick, buy_tick, low_tick, high_tick)
    return Clearing(ClearingClass(kind), price, volume_wh, *ticks, ration_numerator, ration_denominator)


def bundle_of(rows: Iterable[tuple[int, int, int, int]]) -> bytes:
    """Bundle from rows of (period, sell, tick, quantity), unchecked beyond the width of the fields."""
    return orders(rows).tobytes()


def random_book(rng: np.random.Generator, *, size: int, ticks: int, largest: int, period: int = 0) -> np.ndarray:
    """Orders of one period: any mix of sides, prices on ``ticks`` ticks from 0, quantities to ``largest`` Wh."""
    share = rng.choice([0.0, 0.3, 0.5, 0.5, 0.5, 0.7, 1.0])
    columns = (
        np.full(size, period),
        rng.random(size) < share,
        rng.integers(0, ticks, size),
        rng.integers(1, largest + 1, size),
    )
    return orders(np.column_stack(columns))
