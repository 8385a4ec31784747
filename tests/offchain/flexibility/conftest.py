"""A suite that only keeps what it is told, a store, and the curves of a day."""

from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest

from offchain.chain.client import Call, Receipt
from offchain.domain.curves import pack_quantities
from offchain.domain.isp import MarketDay
from offchain.flexibility.orders import ProsumerOrder
from offchain.store import open_store

DAY = MarketDay.of(date(2016, 5, 20))


@dataclass
class RecordingSuite:
    """Keeps calls in the order they were sent; answers with the events and results prepared for it.

    Events are given by a function of contract, function and arguments; an exception among them is raised.
    """

    events_of: Any = lambda contract, function, args: []
    states: dict[int, dict[str, int]] = field(default_factory=dict)
    sent: list[tuple[str, str, tuple]] = field(default_factory=list)
    rounds: list[list[str]] = field(default_factory=list)

    def __post_init__(self):
        self.chain = self
        self._arguments: dict[bytes, tuple] = {}

    def prepare(self, contract, function, args=()):
        key = len(self._arguments).to_bytes(4)
        self._arguments[key] = tuple(args)
        return Call(contract, function, "0x" + "11" * 20, key)

    def send_all(self, items):
        self.rounds.append([call.function for _, call in items])
        return [self._receive(call.contract, call.function, self._arguments[call.data]) for _, call in items]

    def send(self, sender, *what):
        if isinstance(what[0], Call):
            return self.send_all([(sender, what[0])])[0]
        contract, function, args = what
        return self._receive(contract, function, tuple(args))

    def call_all(self, queries):
        return [self.states[args[0]] for _, _, args in queries]

    def events(self, receipt):
        return receipt.logs

    def event(self, receipt, name):
        return next(event for event in receipt.logs if event.name == name)

    def _receive(self, contract, function, args):
        self.sent.append((contract, function, args))
        logs = self.events_of(contract, function, args)
        if isinstance(logs, Exception):
            raise logs
        tx = "0x" + sha256(repr(len(self.sent)).encode()).hexdigest()
        return Receipt(contract, function, tx, len(self.sent), 100_000, 0, None, logs)


def event(name, **args):
    return SimpleNamespace(name=name, args=args)


def meter(number: int) -> bytes:
    return sha256(b"meter %d" % number).digest()


def curve(quantities: dict[int, int]) -> bytes:
    return pack_quantities([quantities.get(position, 0) for position in range(DAY.isp_count)])


def order(number, *, quantities=None, taken=b"", replaces=0, meter_number=None, **terms):
    """A prosumer order UP with a tolerance of 10%."""
    return ProsumerOrder(
        number,
        {
            "groupId": 1,
            "agreementId": number,
            "meterId": meter(number if meter_number is None else meter_number),
            "dayFirstIsp": DAY.first_isp,
            "ispCount": DAY.isp_count,
            "direction": 0,
            "toleranceBps": 1_000,
            "quantitiesHash": sha256(b"quantities %d" % number).digest(),
            "replaces": replaces,
            **terms,
        },
        curve({40: 1_000} if quantities is None else quantities),
        taken,
    )


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "store.db") as store:
        yield store
