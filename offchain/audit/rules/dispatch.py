"""Prosumer orders: dispatch within the agreements, standby reassignment in merit order, direct control."""

from collections.abc import Mapping, Sequence
from typing import Any

from eth_hash.auto import keccak

from offchain.audit.model import (
    FIRST_DIRECT_GROUP,
    Agreement,
    Connection,
    FlexOrder,
    FlexOrderStatus,
    Group,
    Model,
    OrderStatus,
    ProsumerOrder,
    Regime,
    Role,
    StaticLight,
    day_end,
    week_of,
)
from offchain.audit.replay import Replay, at
from offchain.audit.rules.agreements import in_force
from offchain.audit.verdicts import largest_reward, money
from offchain.chain.events import Event
from offchain.domain.curves import unpack_quantities
from offchain.domain.isp import ISPS_PER_HOUR, SECONDS_PER_ISP
from offchain.domain.units import BPS, Direction, delivered_wh, share_down

SUBJECT = "dispatch"
STANDBY_LIMIT = 32


def prosumer_ordered(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    order_id, terms = args["prosumerOrderId"], args["terms"]
    where = at(event, f"prosumer order {order_id}")
    quantities = unpack_quantities(args["quantitiesWh"])
    order = ProsumerOrder(terms, quantities, [0] * len(quantities))
    group = _group_of(replay, terms["groupId"])
    replay.checks.equal(SUBJECT, "number of an order", where, len(model.orders) + 1, order_id)
    replay.checks.equal(SUBJECT, "group of an order", where, terms["groupId"], args["groupId"])
    replay.checks.equal(SUBJECT, "prosumer of an order", where, terms["prosumer"], args["prosumer"])
    replay.checks.equal(SUBJECT, "ISPs of an order", where, terms["ispCount"], len(quantities))
    replay.checks.equal(SUBJECT, "hash of the quantities", where, keccak(args["quantitiesWh"]), terms["quantitiesHash"])
    replay.checks.equal(SUBJECT, "energy of an order", where, sum(quantities), args["orderedWh"])
    replay.rule(SUBJECT, "order of nothing", where, sum(quantities) > 0, "some energy", 0)
    replay.checks.equal(
        SUBJECT,
        "market day of an order",
        where,
        (group.day_first_isp, group.isp_count),
        (terms["dayFirstIsp"], terms["ispCount"]),
    )
    replay.rule(SUBJECT, "order of a closed group", where, not group.finalised, "an open group", "finalised")
    connection = _require_connection(replay, event, order, group, where)
    _require_baseline(replay, group.commitment_id, terms["meterId"], terms["baselineHash"], "pinned by an order", where)
    reward = _largest_reward(order)
    replay.checks.equal(SUBJECT, "largest reward", where, reward, args["rewardLocked"])
    if terms["groupId"] >= FIRST_DIRECT_GROUP:
        _check_direct(replay, event, order, group, connection, where)
    else:
        _check_agreed(replay, event, order, connection, where)
    if terms["replaces"] == 0:  # a replacement is paid for when it is known what the failing order freed
        replay.pay(group.payer, replay.lock("FlexDispatch", "groupLockId", terms["groupId"]), reward)
    group.issued += 1
    model.orders[order_id] = order
    for position in order.positions:
        connection.orders[terms["dayFirstIsp"] + position] = order_id


def prosumer_order_cancelled(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    order_id = args["prosumerOrderId"]
    where = at(event, f"prosumer order {order_id}")
    order = replay.find(model.orders, order_id, "prosumer order")
    terms = order.terms
    flex_order = _open_flex_order(replay, terms["groupId"], where)
    agreement = replay.find(model.agreements, terms["agreementId"], "agreement")
    replay.checks.equal(SUBJECT, "status before cancelling", where, OrderStatus.ISSUED, order.status)
    replay.rule(
        SUBJECT,
        "cancelled after reassignment",
        where,
        terms["replaces"] == 0 and not any(order.taken_wh),
        "an order nobody else depends on",
        f"replaces {terms['replaces']}, {sum(order.taken_wh)} Wh taken over",
    )
    _require_notice(replay, event, order, where)
    released = _largest_reward(order)
    replay.checks.equal(SUBJECT, "reward released", where, released, args["rewardReleased"])
    replay.pay(replay.lock("FlexDispatch", "groupLockId", terms["groupId"]), flex_order.aggregator, released)
    order.status = OrderStatus.CANCELLED
    agreement.activations[week_of(terms["dayFirstIsp"])] -= 1
    model.groups[terms["groupId"]].issued -= 1
    connection = model.connections[model.meters[terms["meterId"]].connection_id]
    for position in order.positions:
        flex_order.dispatched_wh[position] -= order.quantities_wh[position]
        connection.orders.pop(terms["dayFirstIsp"] + position, None)


def standby_listed(replay: Replay, event: Event) -> None:
    flex_order_id, listed = event.args["flexOrderId"], list(event.args["standby"])
    where = at(event, f"flex order {flex_order_id}")
    flex_order = _open_flex_order(replay, flex_order_id, where)
    _require_dispatch_open(replay, event, flex_order, where)
    replay.rule(
        SUBJECT,
        "standby list",
        where,
        len(listed) <= STANDBY_LIMIT,
        f"at most {STANDBY_LIMIT}",
        len(listed),
    )
    last = 0
    for standby in listed:
        agreement_id, meter_id = standby["agreementId"], standby["meterId"]
        agreement = replay.find(replay.model.agreements, agreement_id, "agreement")
        terms = agreement.terms
        connection = replay.find(replay.model.connections, terms["connectionId"], "connection")
        replay.checks.equal(SUBJECT, f"meter of agreement {agreement_id}", where, connection.meter_id, meter_id)
        _require_baseline(
            replay, flex_order.commitment_id, meter_id, standby["baselineHash"], "listed as standby", where
        )
        replay.rule(
            SUBJECT,
            f"agreement {agreement_id} on standby",
            where,
            in_force(replay, agreement, event.timestamp)
            and terms["standby"]
            and terms["aggregator"] == flex_order.aggregator,
            f"in force, on standby, with {flex_order.aggregator}",
            f"{agreement.status.name.lower()}, standby {terms['standby']}, with {terms['aggregator']}",
        )
        rate = money(10**9, terms["rewardRate"], terms["multiplierBps"])
        replay.rule(SUBJECT, "merit order of the standby list", where, rate >= last, f"at least {last}", rate)
        last = rate
    flex_order.standby = listed


def reassigned(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    failed_id, replacement_id, isp = args["failedOrderId"], args["replacementOrderId"], args["isp"]
    where = at(event, f"prosumer order {failed_id} at ISP {isp}")
    failed = replay.find(model.orders, failed_id, "prosumer order")
    replacement = replay.find(model.orders, replacement_id, "prosumer order")
    group_id = failed.terms["groupId"]
    flex_order = _open_flex_order(replay, group_id, where)
    replay.checks.equal(SUBJECT, "status of the failing order", where, OrderStatus.ISSUED, failed.status)
    replay.checks.equal(SUBJECT, "order replaced", where, failed_id, replacement.terms["replaces"])
    end = (isp + 1) * SECONDS_PER_ISP
    replay.rule(SUBJECT, "reading before its end", where, event.timestamp >= end, f"from {end}", event.timestamp)
    until = end + replay.setting("FlexReassignment", "maxReadingAgeSeconds")
    replay.rule(SUBJECT, "age of a reading", where, event.timestamp <= until, f"until {until}", event.timestamp)
    missing = _missing(replay, event, failed, where)
    if missing is not None:
        _require_merit_order(replay, event, flex_order, replacement_id, missing, where)
    taken = [t + q for t, q in zip(failed.taken_wh, replacement.quantities_wh, strict=True)]
    replay.checks.equal(SUBJECT, "energy taken over", where, taken, unpack_quantities(args["totalTakenWh"]))
    replay.checks.equal(SUBJECT, "energy taken over", where, sum(replacement.quantities_wh), args["takenWh"])
    freed = _largest_reward(failed)
    failed.taken_wh = taken
    freed -= _largest_reward(failed)
    # What the failing order can no longer earn pays for the replacement; only a dearer one needs more.
    lock_id = replay.lock("FlexDispatch", "groupLockId", group_id)
    replay.pay(flex_order.aggregator, lock_id, max(_largest_reward(replacement) - freed, 0))


def direct_group_opened(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    group_id = args["groupId"]
    where = at(event, f"group {group_id}")
    point = replay.find(model.congestion_points, args["congestionPointId"], "congestion point")
    direct = [key for key in model.groups if key >= FIRST_DIRECT_GROUP]
    replay.checks.equal(SUBJECT, "number of a direct group", where, FIRST_DIRECT_GROUP + len(direct), group_id)
    replay.checks.equal(SUBJECT, "payer of direct control", where, point.dso, args["payer"])
    replay.require_role(SUBJECT, args["payer"], Role.DSO, where)
    regime = point.regime_at(event.timestamp)
    replay.rule(SUBJECT, "regime of direct control", where, regime is Regime.ORANGE, "orange", regime.name.lower())
    replay.checks.equal(SUBJECT, "regulated rate", where, model.regulated_rate, args["rate"])
    request = replay.find(model.requests, point.regime_request_id, "request")
    commitment = replay.find(model.commitments, args["baselineCommitmentId"], "commitment")
    first, count, gate = (request.terms[key] for key in ("dayFirstIsp", "ispCount", "gateClosure"))
    replay.rule(
        SUBJECT,
        "baselines of direct control",
        where,
        (commitment.first_isp, commitment.isp_count) == (first, count) and commitment.posted_at <= gate,
        f"baselines of the day from ISP {first}, committed until {gate}",
        f"from ISP {commitment.first_isp}, committed {commitment.posted_at}",
    )
    model.groups[group_id] = Group(
        args["payer"],
        first,
        count,
        args["baselineCommitmentId"],
        args["congestionPointId"],
        args["rate"],
        direction=Direction(request.terms["direction"]),
    )


def direct_control_used(replay: Replay, event: Event) -> None:
    group_id, connections = event.args["groupId"], event.args["connections"]
    group = replay.find(replay.model.groups, group_id, "group")
    where = at(event, f"group {group_id}")
    replay.checks.equal(SUBJECT, "connections under direct control", where, group.issued, connections)
    replay.checks.equal(SUBJECT, "DSO of direct control", where, group.payer, event.args["dso"])
    replay.rule(
        SUBJECT,
        "reason of direct control",
        where,
        bool(event.args["reason"]),
        "a reason",
        event.args["reason"],
    )


# -------------------------------------------------------------------------------- groups


def _group_of(replay: Replay, group_id: int) -> Group:
    """Group of an order; that of a flex order opens with its first order."""
    model = replay.model
    if group_id >= FIRST_DIRECT_GROUP:
        return replay.find(model.groups, group_id, "direct group")
    if group_id not in model.groups:
        flex_order = replay.find(model.flex_orders, group_id, "flex order")
        terms = replay.find(model.requests, flex_order.request_id, "request").terms
        model.groups[group_id] = Group(
            flex_order.aggregator,
            terms["dayFirstIsp"],
            terms["ispCount"],
            flex_order.commitment_id,
            terms["congestionPointId"],
            direction=Direction(terms["direction"]),
        )
    return model.groups[group_id]


def _open_flex_order(replay: Replay, flex_order_id: int, where: str) -> FlexOrder:
    flex_order = replay.find(replay.model.flex_orders, flex_order_id, "flex order")
    replay.checks.equal(SUBJECT, "status of the flex order", where, FlexOrderStatus.OPEN, flex_order.status)
    replay.require_role(SUBJECT, flex_order.aggregator, Role.AGGREGATOR, where)
    return flex_order


def _require_dispatch_open(replay: Replay, event: Event, flex_order: FlexOrder, where: str) -> None:
    until = replay.model.requests[flex_order.request_id].terms["dispatchBy"]
    replay.rule(SUBJECT, "time of dispatch", where, event.timestamp <= until, f"until {until}", event.timestamp)


# -------------------------------------------------------------------------------- one order


def _largest_reward(order: ProsumerOrder) -> int:
    terms = order.terms
    return largest_reward(
        order.quantities_wh,
        order.taken_wh,
        terms["toleranceBps"],
        terms["rewardRate"],
        terms["multiplierBps"],
    )


def _require_baseline(
    replay: Replay, commitment_id: int, meter_id: bytes, pinned_hash: bytes, how: str, where: str
) -> None:
    baseline = replay.archive.baseline(commitment_id, meter_id, pinned_hash)
    if isinstance(baseline, str):
        replay.checks.fail(
            "baselines",
            f"baseline of meter 0x{meter_id.hex()} {how}",
            where,
            f"0x{pinned_hash.hex()}, committed in {commitment_id}",
            baseline,
        )
    else:
        replay.checks.passed("baselines", 1)


def _require_connection(replay: Replay, event: Event, order: ProsumerOrder, group: Group, where: str) -> Connection:
    model, terms = replay.model, order.terms
    meter = replay.find(model.meters, terms["meterId"], "meter")
    connection = replay.find(model.connections, meter.connection_id, "connection")
    now = event.timestamp // SECONDS_PER_ISP
    replay.rule(
        SUBJECT,
        "meter of an order",
        where,
        connection.meter_id == terms["meterId"] and (not meter.end_isp or meter.end_isp > now),
        "the meter in service",
        terms["meterId"],
    )
    replay.rule(
        SUBJECT,
        "connection of an order",
        where,
        connection.active
        and connection.light is not StaticLight.RED
        and connection.congestion_point_id == group.congestion_point_id,
        f"active, not red, below 0x{group.congestion_point_id.hex()}",
        f"active {connection.active}, {connection.light.name.lower()}, below 0x{connection.congestion_point_id.hex()}",
    )
    replay.checks.equal(SUBJECT, "direction of an order", where, group.direction, Direction(terms["direction"]))
    for position in order.positions:
        isp = terms["dayFirstIsp"] + position
        other = connection.orders.get(isp)
        replay.rule(
            SUBJECT,
            f"second order of a connection at ISP {isp}",
            where,
            other is None,
            "one order",
            f"also order {other}",
        )
    return connection


def _check_agreed(replay: Replay, event: Event, order: ProsumerOrder, connection: Connection, where: str) -> None:
    model, terms = replay.model, order.terms
    flex_order = _open_flex_order(replay, terms["groupId"], where)
    agreement = replay.find(model.agreements, terms["agreementId"], "agreement")
    agreed = agreement.terms
    replay.rule(
        SUBJECT,
        "agreement of an order",
        where,
        in_force(replay, agreement, event.timestamp),
        f"agreement {terms['agreementId']} in force",
        agreement.status.name.lower(),
    )
    for name in (
        "rewardRate",
        "penaltyRate",
        "toleranceBps",
        "multiplierBps",
        "noticeSeconds",
        "missingIsShortfall",
        "prosumer",
    ):
        replay.checks.equal(SUBJECT, f"{name} of an order", where, agreed[name], terms[name])
    replay.checks.equal(SUBJECT, "aggregator of an order", where, flex_order.aggregator, agreed["aggregator"])
    meter_connection = model.meters[terms["meterId"]].connection_id
    replay.checks.equal(SUBJECT, "meter of the agreement", where, agreed["connectionId"], meter_connection)
    method = model.commitments[flex_order.commitment_id].method
    replay.checks.equal(SUBJECT, "baseline method", where, agreed["baselineMethod"], method)

    limit = _limit_wh(agreement, terms["direction"])
    for position in order.positions:
        quantity = order.quantities_wh[position]
        place = f"{where}, position {position}"
        replay.rule(SUBJECT, "power agreed", place, quantity <= limit, f"at most {limit} Wh", quantity)
        replay.rule(
            SUBJECT,
            "availability",
            place,
            agreement.available_at(terms["dayFirstIsp"], position),
            "an available ISP",
            "outside the agreement",
        )
    _require_notice(replay, event, order, where)
    week = week_of(terms["dayFirstIsp"])
    agreement.activations[week] += 1
    allowed = agreed["weeklyActivations"]
    replay.rule(
        SUBJECT,
        "orders of a week",
        where,
        agreement.activations[week] <= allowed,
        f"at most {allowed}",
        agreement.activations[week],
    )
    if terms["replaces"]:
        return
    _require_dispatch_open(replay, event, flex_order, where)
    last = day_end(terms["dayFirstIsp"], terms["ispCount"]) + replay.setting("FlexDispatch", "correctionSeconds")
    held = event.timestamp + replay.setting("AgreementRegistry", "bondHoldSeconds")
    replay.rule(SUBJECT, "bond of an order", where, last < held, f"held until after {last}", held)
    for position in order.positions:
        total = flex_order.dispatched_wh[position] + order.quantities_wh[position]
        bought = flex_order.ordered_wh[position]
        replay.rule(
            SUBJECT,
            f"energy dispatched at position {position}",
            where,
            total <= bought,
            f"at most {bought} Wh",
            total,
        )
        flex_order.dispatched_wh[position] = total


def _check_direct(
    replay: Replay, event: Event, order: ProsumerOrder, group: Group, connection: Connection, where: str
) -> None:
    terms = order.terms
    expected = {
        "agreementId": 0,
        "replaces": 0,
        "prosumer": connection.owner,
        "rewardRate": group.rate,
        "penaltyRate": 0,
        "toleranceBps": 0,
        "multiplierBps": BPS,
        "noticeSeconds": 0,
        "missingIsShortfall": False,
    }
    for name, value in expected.items():
        replay.checks.equal(SUBJECT, f"{name} of a direct order", where, value, terms[name])
    point = replay.model.congestion_points[group.congestion_point_id]
    up = Direction(terms["direction"]) is Direction.UP
    limit = (connection.technical_up_w if up else connection.technical_down_w) // ISPS_PER_HOUR
    now = event.timestamp // SECONDS_PER_ISP
    for position in order.positions:
        isp, quantity = terms["dayFirstIsp"] + position, order.quantities_wh[position]
        replay.rule(
            SUBJECT,
            "ISPs of direct control",
            where,
            now < isp < point.regime_until_isp,
            f"after {now}, before {point.regime_until_isp}",
            isp,
        )
        replay.rule(SUBJECT, "technical limit", where, quantity <= limit, f"at most {limit} Wh", quantity)


def _limit_wh(agreement: Agreement, direction: int) -> int:
    """Largest energy per ISP for the agreed power [Wh]."""
    up = Direction(direction) is Direction.UP
    return agreement.terms["maxUpW" if up else "maxDownW"] // ISPS_PER_HOUR


def _require_notice(replay: Replay, event: Event, order: ProsumerOrder, where: str) -> None:
    if not order.positions:
        return
    start = (order.terms["dayFirstIsp"] + order.positions[0]) * SECONDS_PER_ISP
    earliest = event.timestamp + order.terms["noticeSeconds"]
    replay.rule(SUBJECT, "notice", where, start >= earliest, f"first ISP from {earliest}", start)


# -------------------------------------------------------------------------------- reassignment


def _missing(replay: Replay, event: Event, failed: ProsumerOrder, where: str) -> list[int] | None:
    """Energy missing at each later position if the failing order goes on as its reading shows [Wh].

    ``None`` when the evidence is not there, which is recorded.
    """
    terms, isp = failed.terms, event.args["isp"]
    position = isp - terms["dayFirstIsp"]
    commitment_id = replay.model.groups[terms["groupId"]].commitment_id
    reading = replay.archive.reading(terms["meterId"], isp)
    baseline = replay.archive.baseline(commitment_id, terms["meterId"], terms["baselineHash"])
    for what, evidence in (("reading", reading), ("baseline", baseline)):
        if isinstance(evidence, str):
            replay.checks.fail(
                "evidence",
                f"{what} of meter 0x{terms['meterId'].hex()} behind a reassignment",
                where,
                f"a {what} that was proven",
                evidence,
            )
            return None
    if position not in failed.positions:
        replay.checks.fail(SUBJECT, "ISP of a shortfall", where, "an ordered ISP", isp)
        return None
    ordered = failed.quantities_wh[position]
    due = ordered - failed.taken_wh[position]
    delivered = delivered_wh(Direction(terms["direction"]), baseline[position], reading[0] - reading[1])
    done = max(delivered, 0)
    replay.checks.equal(SUBJECT, "shortfall", where, due - done, event.args["shortfallWh"])
    band = share_down(ordered, terms["toleranceBps"])
    replay.rule(
        SUBJECT,
        "shortfall beyond the tolerance",
        where,
        done + band < due,
        f"less than {due - band} Wh delivered",
        done,
    )
    return [
        max(quantity * (ordered - done) // ordered - taken, 0) if p > position else 0
        for p, (quantity, taken) in enumerate(zip(failed.quantities_wh, failed.taken_wh, strict=True))
    ]


def _require_merit_order(
    replay: Replay,
    event: Event,
    flex_order: FlexOrder,
    replacement_id: int,
    missing: Sequence[int],
    where: str,
) -> None:
    """The replacement is the first of the standby list that can take anything, and takes all it can."""
    replacement = replay.model.orders[replacement_id]
    for standby in flex_order.standby or ():
        take = _standby_take(replay, event, flex_order, standby, replacement_id, missing)
        if not any(take):
            continue
        settled_by = {name: replacement.terms[name] for name in standby}
        replay.checks.equal(SUBJECT, "first standby of the merit order", where, dict(standby), settled_by)
        replay.checks.equal(SUBJECT, "energy a standby takes over", where, list(take), replacement.quantities_wh)
        return
    replay.checks.fail(SUBJECT, "standby", where, "nobody able to take over", replacement.terms["agreementId"])


def _standby_take(
    replay: Replay,
    event: Event,
    flex_order: FlexOrder,
    standby: Mapping[str, Any],
    replacement_id: int,
    missing: Sequence[int],
) -> list[int]:
    """What an agreement could take over just before the replacement was issued [Wh]."""
    model: Model = replay.model
    agreement_id = standby["agreementId"]
    agreement = replay.find(model.agreements, agreement_id, "agreement")
    agreed = agreement.terms
    request = model.requests[flex_order.request_id].terms
    connection = replay.find(model.connections, agreed["connectionId"], "connection")
    meter = model.meters.get(connection.meter_id)
    day, now = request["dayFirstIsp"], event.timestamp
    activations = agreement.activations[week_of(day)]
    if model.orders[replacement_id].terms["agreementId"] == agreement_id:
        activations -= 1
    able = (
        in_force(replay, agreement, now)
        and agreed["standby"]
        and connection.active
        and connection.light is not StaticLight.RED
        and connection.congestion_point_id == request["congestionPointId"]
        and agreed["baselineMethod"] == model.commitments[flex_order.commitment_id].method
        and meter is not None
        and connection.meter_id == standby["meterId"]
        and (not meter.end_isp or meter.end_isp > now // SECONDS_PER_ISP)
        and activations < agreed["weeklyActivations"]
    )
    if not able:
        return [0] * len(missing)
    limit = _limit_wh(agreement, request["direction"])
    earliest = now + agreed["noticeSeconds"]
    return [
        min(wanted, limit)
        if wanted
        and agreement.available_at(day, position)
        and connection.orders.get(day + position) in (None, replacement_id)
        and (day + position) * SECONDS_PER_ISP >= earliest
        else 0
        for position, wanted in enumerate(missing)
    ]


HANDLERS = {
    ("FlexDispatch", "ProsumerOrdered"): prosumer_ordered,
    ("FlexDispatch", "ProsumerOrderCancelled"): prosumer_order_cancelled,
    ("FlexReassignment", "StandbyListed"): standby_listed,
    ("FlexReassignment", "Reassigned"): reassigned,
    ("FlexDispatch", "DirectGroupOpened"): direct_group_opened,
    ("GridRegime", "DirectControlUsed"): direct_control_used,
}
