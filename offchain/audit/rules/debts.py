"""Debts of corrections, of every contract that keeps some: recorded, set off, collected."""

from offchain.audit.replay import Debt, Replay, at
from offchain.chain.events import Event

SUBJECT = "debts"


def owed(replay: Replay, event: Event) -> None:
    debt, where = _debt(event)
    replay.money.owed_found.append((debt, event.args["amount"]))
    replay.checks.equal(SUBJECT, "debt", where, replay.recorded_debt(debt), event.args["total"])


def owed_set_off(replay: Replay, event: Event) -> None:
    debt, where = _debt(event)
    replay.money.owed_found.append((debt, -event.args["amount"]))
    replay.checks.equal(SUBJECT, "debt left", where, replay.recorded_debt(debt), event.args["left"])


def owed_collected(replay: Replay, event: Event) -> None:
    debt, where = _debt(event)
    owed_before = replay.recorded_debt(debt)
    amount = min(owed_before, replay.expected_balance(debt.debtor))
    replay.checks.equal(SUBJECT, "debt collected", where, amount, event.args["amount"])
    replay.money.owed_found.append((debt, -event.args["amount"]))
    replay.money.owed_due.append((debt, -amount))
    replay.checks.equal(SUBJECT, "debt left", where, owed_before - amount, event.args["left"])
    replay.pay(debt.debtor, debt.creditor, amount)


def set_off(replay: Replay, contract: str, debtor: str, creditor: str, amount: int) -> int:
    """Say that an amount has to be set off against what is owed the other way; what is left to pay [uToken]."""
    counterclaim = Debt(contract, creditor, debtor)
    part = min(amount, replay.expected_debt(counterclaim))
    if part:
        replay.money.owed_due.append((counterclaim, -part))
    return amount - part


def settle_debt(replay: Replay, contract: str, debtor: str, creditor: str, amount: int) -> None:
    """Say that an amount has to be set off, paid from the free balance as far as that goes, and else recorded."""
    if debtor == creditor:
        return
    amount = set_off(replay, contract, debtor, creditor, amount)
    covered = min(amount, replay.expected_balance(debtor))
    replay.pay(debtor, creditor, covered)
    if covered < amount:
        replay.money.owed_due.append((Debt(contract, debtor, creditor), amount - covered))


def _debt(event: Event) -> tuple[Debt, str]:
    debtor, creditor = event.args["debtor"], event.args["creditor"]
    return Debt(event.contract, debtor, creditor), at(event, f"{debtor} to {creditor}")


HANDLERS = {
    (contract, name): handler
    for contract in ("FlexSettlement", "MarketCorrections")
    for name, handler in (("Owed", owed), ("OwedSetOff", owed_set_off), ("OwedCollected", owed_collected))
}
