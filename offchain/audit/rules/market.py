"""Flexibility market: requests, offers, orders, and the grid regime."""

from offchain.audit.model import (
    CommitmentKind,
    CongestionPoint,
    FlexOrder,
    FlexOrderStatus,
    Offer,
    OfferStatus,
    Regime,
    Request,
    RequestStatus,
    Role,
)
from offchain.audit.replay import Replay, at
from offchain.chain.events import Event
from offchain.domain.curves import unpack_quantities
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import cost_down, cost_up

SUBJECT = "market"


def request_published(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    request_id, terms, dso = args["requestId"], args["terms"], args["dso"]
    where = at(event, f"request {request_id}")
    point = replay.find(model.congestion_points, terms["congestionPointId"], "congestion point")
    quantities = unpack_quantities(args["quantitiesWh"])
    replay.checks.equal(SUBJECT, "number of a request", where, len(model.requests) + 1, request_id)
    replay.checks.equal(SUBJECT, "DSO of the congestion point", where, point.dso, dso)
    replay.require_role(SUBJECT, dso, Role.DSO, where)
    replay.rule(SUBJECT, "congestion point of a request", where, point.active, "an active one", "withdrawn")
    _require_open_market(replay, point, event, where)
    replay.checks.equal(SUBJECT, "ISPs of a request", where, terms["ispCount"], len(quantities))
    replay.checks.equal(SUBJECT, "energy requested", where, sum(quantities), args["requestedWh"])
    first = next((p for p, q in enumerate(quantities) if q), 0)
    start = (terms["dayFirstIsp"] + first) * SECONDS_PER_ISP
    deadlines = terms["gateClosure"], terms["selectBy"], terms["dispatchBy"]
    replay.rule(
        SUBJECT,
        "deadlines of a request",
        where,
        event.timestamp <= deadlines[0] < deadlines[1] <= deadlines[2] < start,
        f"{event.timestamp} <= gate < selection <= dispatch < {start}",
        deadlines,
    )
    budget = cost_up(sum(quantities), terms["priceCap"])
    replay.checks.equal(SUBJECT, "budget", where, budget, args["budget"])
    replay.pay(dso, replay.lock("FlexMarket", "budgetLockId", request_id), budget)
    model.requests[request_id] = Request(terms, dso, quantities, args["budget"], ordered_wh=[0] * len(quantities))


def request_closed(replay: Replay, event: Event) -> None:
    args = event.args
    request_id, status = args["requestId"], RequestStatus(args["status"])
    where = at(event, f"request {request_id}")
    request = replay.find(replay.model.requests, request_id, "request")
    gate, select_by = request.terms["gateClosure"], request.terms["selectBy"]
    replay.checks.equal(SUBJECT, "status before closing", where, RequestStatus.OPEN, request.status)
    in_time = {
        RequestStatus.SELECTED: gate < event.timestamp <= select_by,
        RequestStatus.CANCELLED: event.timestamp <= gate,
        RequestStatus.EXPIRED: event.timestamp > select_by,
    }.get(status, False)
    replay.rule(
        SUBJECT,
        "time of closing",
        where,
        in_time,
        f"gate {gate}, selection until {select_by}",
        f"{status.name.lower()} at {event.timestamp}",
    )
    replay.checks.equal(SUBJECT, "energy ordered", where, sum(request.ordered_wh), args["orderedWh"])
    left = request.budget - request.escrowed
    replay.checks.equal(SUBJECT, "budget returned", where, left, args["budgetReturned"])
    replay.pay(replay.lock("FlexMarket", "budgetLockId", request_id), request.dso, left)
    request.status = status


def offer_placed(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    offer_id, aggregator = args["offerId"], args["aggregator"]
    where = at(event, f"offer {offer_id}")
    request = replay.find(model.requests, args["requestId"], "request")
    terms = request.terms
    point = replay.find(model.congestion_points, terms["congestionPointId"], "congestion point")
    quantities = unpack_quantities(args["quantitiesWh"])
    replay.checks.equal(SUBJECT, "number of an offer", where, len(model.offers) + 1, offer_id)
    replay.checks.equal(SUBJECT, "status of the request", where, RequestStatus.OPEN, request.status)
    gate = terms["gateClosure"]
    replay.rule(SUBJECT, "gate closure", where, event.timestamp <= gate, f"until {gate}", event.timestamp)
    _require_open_market(replay, point, event, where)
    replay.require_role(SUBJECT, aggregator, Role.AGGREGATOR, where)
    replay.rule(
        SUBJECT,
        "aggregator at the congestion point",
        where,
        point.active and aggregator in point.aggregators,
        "an active aggregator",
        aggregator,
    )
    cap = terms["priceCap"]
    replay.rule(SUBJECT, "price of an offer", where, args["price"] <= cap, f"at most {cap}", args["price"])
    commitment = replay.find(model.commitments, args["baselineCommitmentId"], "commitment")
    replay.checks.equal(
        SUBJECT,
        "commitment to the baselines of an offer",
        where,
        (CommitmentKind.BASELINE, aggregator, terms["dayFirstIsp"], terms["ispCount"]),
        (commitment.kind, commitment.committer, commitment.first_isp, commitment.isp_count),
    )
    replay.rule(
        SUBJECT,
        "baselines committed before the gate",
        where,
        commitment.posted_at <= gate,
        f"until {gate}",
        commitment.posted_at,
    )
    replay.checks.equal(SUBJECT, "ISPs of an offer", where, terms["ispCount"], len(quantities))
    replay.checks.equal(SUBJECT, "energy offered", where, sum(quantities), args["offeredWh"])
    bond = cost_up(sum(quantities), terms["bondRate"])
    replay.checks.equal(SUBJECT, "bond of an offer", where, bond, args["bond"])
    replay.pay(aggregator, replay.lock("FlexMarket", "offerLockId", offer_id), bond)
    model.offers[offer_id] = Offer(
        args["requestId"], aggregator, args["price"], args["baselineCommitmentId"], quantities, args["bond"]
    )


def offer_closed(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    offer_id, status = args["offerId"], OfferStatus(args["status"])
    where = at(event, f"offer {offer_id}")
    offer = replay.find(model.offers, offer_id, "offer")
    request = replay.find(model.requests, offer.request_id, "request")
    gate, select_by = request.terms["gateClosure"], request.terms["selectBy"]
    replay.checks.equal(SUBJECT, "status before closing", where, OfferStatus.OPEN, offer.status)
    if status is not OfferStatus.ORDERED:  # what an order leaves of the bond is checked with the order
        allowed = (
            event.timestamp <= gate
            if status is OfferStatus.WITHDRAWN
            else request.status is not RequestStatus.OPEN or event.timestamp > select_by
        )
        replay.rule(
            SUBJECT,
            "time of closing",
            where,
            allowed,
            f"withdrawn until {gate}, released when the request is closed or after {select_by}",
            f"{status.name.lower()} at {event.timestamp}",
        )
        replay.checks.equal(SUBJECT, "bond returned", where, offer.bond, args["bondReturned"])
    offer.status, offer.bond_returned = status, args["bondReturned"]
    lock_id = replay.lock("FlexMarket", "offerLockId", offer_id)
    replay.pay(lock_id, offer.aggregator, args["bondReturned"])


def flex_ordered(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    flex_order_id, offer_id = args["flexOrderId"], args["offerId"]
    where = at(event, f"flex order {flex_order_id}")
    request = replay.find(model.requests, args["requestId"], "request")
    offer = replay.find(model.offers, offer_id, "offer")
    ordered = unpack_quantities(args["orderedWh"])
    replay.checks.equal(SUBJECT, "number of a flex order", where, len(model.flex_orders) + 1, flex_order_id)
    replay.checks.equal(SUBJECT, "request of the offer", where, offer.request_id, args["requestId"])
    replay.checks.equal(SUBJECT, "status of the request", where, RequestStatus.OPEN, request.status)
    replay.checks.equal(SUBJECT, "status of the offer", where, OfferStatus.ORDERED, offer.status)
    replay.rule(
        SUBJECT,
        "offer sold twice",
        where,
        not offer.flex_order_id,
        "one order",
        f"also {offer.flex_order_id}",
    )
    replay.checks.equal(SUBJECT, "aggregator of an order", where, offer.aggregator, args["aggregator"])
    replay.require_role(SUBJECT, offer.aggregator, Role.AGGREGATOR, where)
    replay.checks.equal(SUBJECT, "price of an order", where, offer.price, args["price"])
    replay.checks.equal(SUBJECT, "ISPs of an order", where, len(request.quantities_wh), len(ordered))
    replay.checks.equal(SUBJECT, "energy of an order", where, sum(ordered), args["totalWh"])
    for position, quantity in enumerate(ordered):
        sold = request.ordered_wh[position] + quantity
        limit, wanted = offer.quantities_wh[position], request.quantities_wh[position]
        what = f"energy ordered at position {position}"
        replay.rule(SUBJECT, what, where, quantity <= limit, f"at most {limit} Wh offered", quantity)
        replay.rule(SUBJECT, what, where, sold <= wanted or not quantity, f"at most {wanted} Wh requested", sold)
        request.ordered_wh[position] = sold
    escrow = cost_down(sum(ordered), offer.price)
    bond = cost_up(sum(ordered), request.terms["bondRate"])
    replay.checks.equal(SUBJECT, "escrow", where, escrow, args["escrow"])
    replay.checks.equal(SUBJECT, "bond of an order", where, bond, args["bond"])
    replay.checks.equal(SUBJECT, "bond returned of the offer", where, offer.bond - bond, offer.bond_returned)
    budget_lock = replay.lock("FlexMarket", "budgetLockId", args["requestId"])
    offer_lock = replay.lock("FlexMarket", "offerLockId", offer_id)
    replay.pay(budget_lock, replay.lock("FlexMarket", "escrowLockId", flex_order_id), escrow)
    replay.pay(offer_lock, replay.lock("FlexMarket", "bondLockId", flex_order_id), bond)
    request.escrowed += args["escrow"]
    offer.flex_order_id = flex_order_id
    model.flex_orders[flex_order_id] = FlexOrder(
        args["requestId"],
        offer_id,
        request.dso,
        offer.aggregator,
        args["price"],
        offer.commitment_id,
        ordered,
        args["escrow"],
        args["bond"],
        dispatched_wh=[0] * len(ordered),
    )


def flex_order_closed(replay: Replay, event: Event) -> None:
    flex_order_id, status = event.args["flexOrderId"], FlexOrderStatus(event.args["status"])
    where = at(event, f"flex order {flex_order_id}")
    order = replay.find(replay.model.flex_orders, flex_order_id, "flex order")
    replay.checks.equal(SUBJECT, "status before closing", where, FlexOrderStatus.OPEN, order.status)
    order.status = status
    if status is FlexOrderStatus.FINALISED:  # its money moves with the settlement
        return
    group = replay.model.groups.get(flex_order_id)
    replay.rule(
        SUBJECT,
        "cancelled after dispatch",
        where,
        group is None or group.issued == 0,
        "nothing dispatched",
        group and group.issued,
    )
    replay.pay(replay.lock("FlexMarket", "escrowLockId", flex_order_id), order.dso, order.escrow)
    replay.pay(replay.lock("FlexMarket", "bondLockId", flex_order_id), order.aggregator, order.bond)


def regime_changed(replay: Replay, event: Event) -> None:
    args = event.args
    point = replay.find(replay.model.congestion_points, args["congestionPointId"], "congestion point")
    regime = Regime(args["regime"])
    where = at(event, f"congestion point 0x{args['congestionPointId'].hex()}")
    replay.require_role(SUBJECT, point.dso, Role.DSO, where)
    now = event.timestamp // SECONDS_PER_ISP
    replay.checks.equal(SUBJECT, "start of a regime", where, now, args["fromIsp"])
    if regime is not Regime.GREEN:
        until = args["untilIsp"]
        replay.rule(SUBJECT, "end of a regime", where, until > now, f"after ISP {now}", until)
    if regime is Regime.ORANGE:
        _require_shortfall(replay, event, where)
    point.regime = regime
    point.regime_until_isp, point.regime_request_id = args["untilIsp"], args["requestId"]


def market_connected(replay: Replay, event: Event) -> None:
    for name, contract in (("regime", "GridRegime"), ("dispatch", "FlexDispatch")):
        replay.checks.equal(
            "modules",
            f"{contract} of the market",
            at(event),
            replay.addresses.get(contract),
            event.args[name],
        )


def regulated_rate_set(replay: Replay, event: Event) -> None:
    replay.model.regulated_rate = event.args["rate"]


def _require_shortfall(replay: Replay, event: Event, where: str) -> None:
    args = event.args
    request = replay.find(replay.model.requests, args["requestId"], "request")
    ordered, requested = sum(request.ordered_wh), sum(request.quantities_wh)
    first, count = request.terms["dayFirstIsp"], request.terms["ispCount"]
    replay.rule(
        SUBJECT,
        "request behind Orange",
        where,
        request.status in (RequestStatus.SELECTED, RequestStatus.EXPIRED)
        and request.terms["congestionPointId"] == args["congestionPointId"]
        and ordered < requested
        and first <= args["fromIsp"]
        and args["untilIsp"] <= first + count,
        f"a closed request of this point and day, ordered below {requested} Wh",
        f"request {args['requestId']}, {request.status.name.lower()}, {ordered} Wh",
    )


def _require_open_market(replay: Replay, point: CongestionPoint, event: Event, where: str) -> None:
    regime = point.regime_at(event.timestamp)
    replay.rule(SUBJECT, "market in Red", where, regime is not Regime.RED, "an open market", regime.name)


HANDLERS = {
    ("FlexMarket", "RequestPublished"): request_published,
    ("FlexMarket", "RequestClosed"): request_closed,
    ("FlexMarket", "OfferPlaced"): offer_placed,
    ("FlexMarket", "OfferClosed"): offer_closed,
    ("FlexMarket", "FlexOrdered"): flex_ordered,
    ("FlexMarket", "FlexOrderClosed"): flex_order_closed,
    ("FlexMarket", "MarketConnected"): market_connected,
    ("GridRegime", "RegimeChanged"): regime_changed,
    ("GridRegime", "RegulatedRateSet"): regulated_rate_set,
}
