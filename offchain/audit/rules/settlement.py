"""Verdicts, finalisation and corrections: recomputed, compared, and paid as they should be."""

from collections.abc import Mapping
from typing import Any

from offchain.audit.model import (
    FIRST_DIRECT_GROUP,
    NOBODY,
    BatchStatus,
    FlexOrderStatus,
    Group,
    OrderStatus,
    ProsumerOrder,
    day_end,
)
from offchain.audit.replay import Replay, at
from offchain.audit.rules.debts import set_off, settle_debt
from offchain.audit.verdicts import Sums, Verdict, flex_order_money, sums_of, sums_without_day, verdict_of
from offchain.chain.events import Event
from offchain.domain.units import Direction

SUBJECT = "settlement"
CONTRACT = "FlexSettlement"

_FIELDS = (
    "creditedWh",
    "rewardedWh",
    "penalisedWh",
    "missingWh",
    "reward",
    "penalty",
    "bonus",
    "net",
)


def prosumer_settled(replay: Replay, event: Event) -> None:
    args = event.args
    order, group, where = _order_of(replay, event)
    terms = order.terms
    replay.checks.equal(SUBJECT, "status before settlement", where, OrderStatus.ISSUED, order.status)
    replay.rule(SUBJECT, "settled after finalisation", where, not group.finalised, "an open group", "finalised")
    due = day_end(terms["dayFirstIsp"], terms["ispCount"])
    if args["version"] == 0:
        due += _missing_from(replay, order)
    replay.rule(SUBJECT, "time of settlement", where, event.timestamp >= due, f"from {due}", event.timestamp)

    claimed = _claimed(args["verdict"])
    verdict = _recompute(replay, event, order, group, where, bond_spent=0)
    if verdict is not None:
        verdict = verdict._replace(bonus=_bonus(replay, order, verdict.credited_wh, where))
        _compare(replay, where, verdict, claimed)
    paid = verdict or claimed
    group_lock = replay.lock("FlexDispatch", "groupLockId", terms["groupId"])
    replay.pay(group_lock, terms["prosumer"], max(paid.net, 0) + paid.bonus)
    if paid.net < 0:
        replay.pay(_bond_lock(replay, order), group_lock, -paid.net)
    if any(order.taken_wh):
        order.pot = claimed.penalty
    _record(order, group, args["version"], claimed)


def prosumer_corrected(replay: Replay, event: Event) -> None:
    args = event.args
    order, group, where = _order_of(replay, event)
    terms = order.terms
    replay.rule(
        SUBJECT,
        "status before a correction",
        where,
        order.status in (OrderStatus.ISSUED, OrderStatus.SETTLED),
        "issued or settled",
        order.status.name.lower(),
    )
    replay.rule(SUBJECT, "correction before finalisation", where, group.finalised, "a finalised group", "open")
    until = day_end(terms["dayFirstIsp"], terms["ispCount"])
    until += replay.setting("FlexDispatch", "correctionSeconds")
    replay.rule(SUBJECT, "time of a correction", where, event.timestamp <= until, f"until {until}", event.timestamp)
    replay.rule(
        SUBJECT,
        "version of a correction",
        where,
        args["version"] > order.version,
        f"after version {order.version}",
        args["version"],
    )
    claimed = _claimed(args["verdict"])
    verdict = _recompute(replay, event, order, group, where, bond_spent=max(-order.net, 0))
    if verdict is not None:
        _compare(replay, where, verdict, claimed)
    difference = (verdict or claimed).net - order.net
    replay.checks.equal(SUBJECT, "difference of a correction", where, difference, args["difference"])
    if difference >= 0:
        settle_debt(replay, CONTRACT, group.payer, terms["prosumer"], difference)
    else:
        left = set_off(replay, CONTRACT, terms["prosumer"], group.payer, -difference)
        if terms["agreementId"]:
            bond_lock = _bond_lock(replay, order)
            from_bond = min(left, replay.expected_balance(bond_lock))
            replay.pay(bond_lock, group.payer, from_bond)
            left -= from_bond
        settle_debt(replay, CONTRACT, terms["prosumer"], group.payer, left)
    _record(order, group, args["version"], claimed)


def group_finalised(replay: Replay, event: Event) -> None:
    group_id = event.args["groupId"]
    where = at(event, f"group {group_id}")
    # A flex order of which nothing was dispatched has no group of its own yet.
    group = replay.model.groups.setdefault(group_id, Group(NOBODY, 0, 0, 0, b""))
    replay.rule(SUBJECT, "finalised twice", where, not group.finalised, "an open group", "finalised")
    if group_id >= FIRST_DIRECT_GROUP or group.issued:
        _require_finalisable(replay, event, group, where)
    lock_id = replay.lock("FlexDispatch", "groupLockId", group_id)
    left = replay.expected_balance(lock_id)
    replay.checks.equal(SUBJECT, "returned to the payer of a group", where, left, event.args["payerReturned"])
    replay.pay(lock_id, group.payer, left)
    group.finalised = True


def flex_order_finalised(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    flex_order_id = args["flexOrderId"]
    where = at(event, f"flex order {flex_order_id}")
    order = replay.find(model.flex_orders, flex_order_id, "flex order")
    group = replay.find(model.groups, flex_order_id, "group")
    terms = model.requests[order.request_id].terms
    replay.checks.equal(SUBJECT, "status of the flex order", where, FlexOrderStatus.FINALISED, order.status)
    replay.rule(SUBJECT, "settled twice", where, not order.settled, "one settlement", "another")
    dispatch_by = terms["dispatchBy"]
    replay.rule(
        SUBJECT,
        "time of finalisation",
        where,
        event.timestamp > dispatch_by,
        f"after {dispatch_by}",
        event.timestamp,
    )
    paid, penalty = _share_delivered(replay, flex_order_id)
    expected = {
        "dso": order.dso,
        "aggregator": order.aggregator,
        "orderedWh": sum(order.ordered_wh),
        "creditedWh": group.credited_wh,
        "missingWh": group.missing_wh,
        "paid": paid,
        "penalty": penalty,
        "escrowReturned": order.escrow - paid,
        "bondReturned": order.bond - penalty,
    }
    for name, value in expected.items():
        replay.checks.equal("flex order settlements", f"{name} of a flex order", where, value, args[name])
    escrow_lock = replay.lock("FlexMarket", "escrowLockId", flex_order_id)
    bond_lock = replay.lock("FlexMarket", "bondLockId", flex_order_id)
    replay.pay(escrow_lock, order.aggregator, paid)
    replay.pay(escrow_lock, order.dso, order.escrow - paid)
    replay.pay(bond_lock, order.dso, penalty)
    replay.pay(bond_lock, order.aggregator, order.bond - penalty)
    order.settled, order.paid, order.penalty = True, args["paid"], args["penalty"]


def flex_order_corrected(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    flex_order_id = args["flexOrderId"]
    where = at(event, f"flex order {flex_order_id}")
    order = replay.find(model.flex_orders, flex_order_id, "flex order")
    group = replay.find(model.groups, flex_order_id, "group")
    paid, penalty = _share_delivered(replay, flex_order_id)
    difference = (paid - penalty) - (order.paid - order.penalty)
    expected = {
        "creditedWh": group.credited_wh,
        "missingWh": group.missing_wh,
        "paid": paid,
        "penalty": penalty,
        "difference": difference,
    }
    for name, value in expected.items():
        replay.checks.equal("flex order settlements", f"{name} of a correction", where, value, args[name])
    if difference >= 0:
        settle_debt(replay, CONTRACT, order.dso, order.aggregator, difference)
    else:
        settle_debt(replay, CONTRACT, order.aggregator, order.dso, -difference)
    order.paid, order.penalty = args["paid"], args["penalty"]


# -------------------------------------------------------------------------------- verdicts


def _recompute(
    replay: Replay, event: Event, order: ProsumerOrder, group: Group, where: str, *, bond_spent: int
) -> Verdict | None:
    """Verdict on an order from its evidence, without bonus; ``None`` without evidence, which is recorded."""
    sums = _sums(replay, event, order, group, where)
    if sums is None:
        return None
    terms = order.terms
    bond_left = bond_spent
    if terms["agreementId"]:
        bond_left += replay.expected_balance(_bond_lock(replay, order))
    return verdict_of(sums, terms["rewardRate"], terms["penaltyRate"], terms["multiplierBps"], bond_left)


def _sums(replay: Replay, event: Event, order: ProsumerOrder, group: Group, where: str) -> Sums | None:
    terms, version = order.terms, event.args["version"]
    if version == 0:
        return sums_without_day(terms["missingIsShortfall"], order.quantities_wh, order.taken_wh)
    operator = replay.model.meters[terms["meterId"]].operator
    _require_batch(replay, event, order, operator, where)
    day = replay.archive.metered_day(operator, terms["meterId"], terms["dayFirstIsp"], version)
    baseline = replay.archive.baseline(group.commitment_id, terms["meterId"], terms["baselineHash"])
    for what, evidence in (("metered day", day), ("baseline", baseline)):
        if isinstance(evidence, str):
            replay.checks.fail(
                "evidence",
                f"{what} of meter 0x{terms['meterId'].hex()} behind a verdict",
                where,
                f"a {what} that was proven",
                evidence,
            )
            return None
    replay.checks.passed("evidence", 2)
    return sums_of(
        Direction(terms["direction"]),
        terms["toleranceBps"],
        terms["missingIsShortfall"],
        order.quantities_wh,
        order.taken_wh,
        baseline,
        day,
    )


def _require_batch(replay: Replay, event: Event, order: ProsumerOrder, operator: str, where: str) -> None:
    """Settled from the latest version, standing, and no longer to be challenged."""
    terms = order.terms
    batch = replay.model.latest_batch(operator, terms["dayFirstIsp"])
    if batch is None:
        replay.checks.fail(SUBJECT, "batch of a verdict", where, "an anchored batch", "none")
        return
    replay.checks.equal(
        SUBJECT,
        "batch of a verdict",
        where,
        (batch.version, BatchStatus.ANCHORED, terms["ispCount"]),
        (event.args["version"], batch.status, batch.isp_count),
    )
    usable = batch.anchored_at + replay.setting("MeteringLedger", "challengeWindow")
    replay.rule(SUBJECT, "challenge window", where, event.timestamp >= usable, f"from {usable}", event.timestamp)


def _missing_from(replay: Replay, order: ProsumerOrder) -> int:
    """How long after the day an order without a metered day waits [s]: longer while its batch stands."""
    terms = order.terms
    readings_due = replay.setting("FlexSettlement", "readingsDueSeconds")
    batch = replay.model.latest_batch(replay.model.meters[terms["meterId"]].operator, terms["dayFirstIsp"])
    if batch is None or (batch.status, batch.isp_count) != (BatchStatus.ANCHORED, terms["ispCount"]):
        return readings_due
    return (readings_due + replay.setting("FlexSettlement", "settleBySeconds")) // 2


def _bonus(replay: Replay, order: ProsumerOrder, credited_wh: int, where: str) -> int:
    """Share of the penalty of the order that this one replaces [uToken]."""
    if not order.terms["replaces"]:
        return 0
    failed = replay.find(replay.model.orders, order.terms["replaces"], "prosumer order")
    replay.rule(
        SUBJECT,
        "replacement settled first",
        where,
        failed.status is not OrderStatus.ISSUED,
        "the failing order to be settled",
        failed.status.name.lower(),
    )
    taken = sum(failed.taken_wh)
    return failed.pot * credited_wh // taken if taken else 0


def _share_delivered(replay: Replay, flex_order_id: int) -> tuple[int, int]:
    model = replay.model
    order, group = model.flex_orders[flex_order_id], model.groups[flex_order_id]
    terms = model.requests[order.request_id].terms
    return flex_order_money(
        sum(order.ordered_wh),
        group.credited_wh,
        group.missing_wh,
        order.price,
        terms["toleranceBps"],
        terms["penaltyRate"],
        order.bond,
    )


def _claimed(verdict: Mapping[str, Any]) -> Verdict:
    return Verdict(*(verdict[name] for name in _FIELDS))


def _compare(replay: Replay, where: str, verdict: Verdict, claimed: Verdict) -> None:
    wrong = [i for i, (mine, theirs) in enumerate(zip(verdict, claimed, strict=True)) if mine != theirs]
    replay.checks.equal(
        "verdicts",
        "verdict",
        where,
        {_FIELDS[i]: verdict[i] for i in wrong},
        {_FIELDS[i]: claimed[i] for i in wrong},
    )


def _record(order: ProsumerOrder, group: Group, version: int, verdict: Verdict) -> None:
    if order.status is OrderStatus.ISSUED:
        order.status = OrderStatus.SETTLED
        group.settled += 1
    group.credited_wh += verdict.credited_wh - order.credited_wh
    group.missing_wh += verdict.missing_wh - order.missing_wh
    order.version = version
    order.credited_wh, order.missing_wh, order.net = verdict.credited_wh, verdict.missing_wh, verdict.net


# -------------------------------------------------------------------------------- checks and payments


def _order_of(replay: Replay, event: Event) -> tuple[ProsumerOrder, Group, str]:
    args = event.args
    where = at(event, f"prosumer order {args['prosumerOrderId']}")
    order = replay.find(replay.model.orders, args["prosumerOrderId"], "prosumer order")
    group = replay.find(replay.model.groups, order.terms["groupId"], "group")
    replay.checks.equal(SUBJECT, "group of an order", where, order.terms["groupId"], args["groupId"])
    replay.checks.equal(SUBJECT, "prosumer of an order", where, order.terms["prosumer"], args["prosumer"])
    return order, group, where


def _require_finalisable(replay: Replay, event: Event, group: Group, where: str) -> None:
    due = day_end(group.day_first_isp, group.isp_count)
    if group.settled < group.issued:
        due += replay.setting("FlexSettlement", "settleBySeconds")
    replay.rule(
        SUBJECT,
        "time of finalisation",
        where,
        event.timestamp >= due,
        f"from {due}, {group.settled} of {group.issued} orders settled",
        event.timestamp,
    )


def _bond_lock(replay: Replay, order: ProsumerOrder) -> bytes:
    return replay.lock("AgreementRegistry", "bondLockId", order.terms["agreementId"])


HANDLERS = {
    ("FlexSettlement", "ProsumerSettled"): prosumer_settled,
    ("FlexSettlement", "ProsumerCorrected"): prosumer_corrected,
    ("FlexDispatch", "GroupFinalised"): group_finalised,
    ("FlexSettlement", "FlexOrderFinalised"): flex_order_finalised,
    ("FlexSettlement", "FlexOrderCorrected"): flex_order_corrected,
}
