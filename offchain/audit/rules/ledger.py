"""Clearing house: what its events say was moved, and that it had it to move."""

from offchain.audit.replay import Account, Replay, at
from offchain.chain.events import Event

SUBJECT = "ledger movements"


def deposited(replay: Replay, event: Event) -> None:
    account, amount = event.args["account"], event.args["amount"]
    replay.money.found[account] += amount
    replay.money.due[account] += amount
    replay.money.deposited += amount
    replay.checks.passed(SUBJECT, 1)


def withdrawn(replay: Replay, event: Event) -> None:
    account, amount = event.args["account"], event.args["amount"]
    _take(replay, event, account, amount)
    replay.money.due[account] -= amount
    replay.money.deposited -= amount


def locked(replay: Replay, event: Event) -> None:
    _move(replay, event, event.args["account"], event.args["lockId"])


def released(replay: Replay, event: Event) -> None:
    _move(replay, event, event.args["lockId"], event.args["account"])


def relocked(replay: Replay, event: Event) -> None:
    _move(replay, event, event.args["fromLockId"], event.args["toLockId"])


def moved(replay: Replay, event: Event) -> None:
    _move(replay, event, event.args["from"], event.args["to"])


def _move(replay: Replay, event: Event, source: Account, target: Account) -> None:
    modules = replay.model.modules["ClearingHouse"]
    module = event.args["module"]
    replay.rule("modules", "module that moved money", at(event), module in modules, "a module in force", module)
    _take(replay, event, source, event.args["amount"])
    replay.money.found[target] += event.args["amount"]


def _take(replay: Replay, event: Event, source: Account, amount: int) -> None:
    model = replay.model
    held = model.locks[source] if isinstance(source, bytes) else model.balances[source]
    held += replay.money.found[source]
    where = at(event, replay.name_of(source))
    replay.rule(SUBJECT, "amount taken", where, held >= amount, f"at most {held}", amount)
    replay.money.found[source] -= amount


HANDLERS = {
    ("ClearingHouse", "Deposited"): deposited,
    ("ClearingHouse", "Withdrawn"): withdrawn,
    ("ClearingHouse", "Locked"): locked,
    ("ClearingHouse", "Released"): released,
    ("ClearingHouse", "Relocked"): relocked,
    ("ClearingHouse", "Moved"): moved,
}
