"""One falsified event at a time: each is found and named.

Every rule of the replay has its line here; the day it starts from is correct (``test_auditor.py``).
"""

from dataclasses import replace
from functools import partial

import pytest

from offchain.audit import Query
from offchain.chain.events import Event
from offchain.domain.curves import pack_quantities
from tests.offchain.audit import world as w


def nth(events: list[Event], name: str, index: int) -> int:
    """Position of the nth event of a name; negative counts from the end."""
    return [i for i, event in enumerate(events) if event.name == name][index]


def change(name, index, events, **values):
    """Other arguments; ``terms__price=1`` reaches into structs."""
    at = nth(events, name, index)
    args = dict(events[at].args)
    for path, value in values.items():
        *outer, last = path.split("__")
        target = args
        for key in outer:
            target[key] = dict(target[key])
            target = target[key]
        assert last in target, last
        target[last] = value(target[last]) if callable(value) else value
    events[at] = replace(events[at], args=args)


def falsify(name, index=0, **values):
    return lambda events: change(name, index, events, **values)


def drop(name, index=0):
    return lambda events: events.pop(nth(events, name, index))


def at_time(name, time, index=0):
    """The whole transaction of an event happens at another time."""

    def apply(events):
        block = events[nth(events, name, index)].block_number
        events[:] = [replace(e, timestamp=time) if e.block_number == block else e for e in events]

    return apply


def insert_before(name, contract, event_name, args, index=0, time=None):
    """One more transaction."""

    def apply(events):
        at = nth(events, name, index)
        block = events[at].block_number
        while at and events[at - 1].block_number == block:
            at -= 1
        template = events[at]
        events.insert(
            at,
            replace(
                template,
                contract=contract,
                address=w.ADDRESSES[contract],
                name=event_name,
                args=args,
                tx_hash=template.tx_hash + "0",
                timestamp=time or template.timestamp,
            ),
        )

    return apply


def repeat(name, index=0, **values):
    """The event once more in its transaction, with other arguments."""

    def apply(events):
        at = nth(events, name, index)
        events.insert(at + 1, events[at])
        change(name, [e is events[at] for e in events if e.name == name].index(True) + 1, events, **values)

    return apply


def all_of(*mutations):
    def apply(events):
        for mutation in mutations:
            mutation(events)

    return apply


def plus(amount, value):
    return value + amount


one_more, one_less = partial(plus, 1), partial(plus, -1)
OUTSIDER = w.account("outsider")
AGG1, AGG2 = w.AGGREGATORS[1], w.AGGREGATORS[2]
OTHER = bytes(32)


def status(who, standing):
    return {"account": who, "status": standing, "by": w.REGISTRAR, "reason": OTHER}


REGISTRIES = [
    (drop("ParticipantRegistered", 0), "role of", "ParticipantRegistered"),
    (drop("ParticipantRegistered", 2), "role of", "AggregatorActivated"),
    (repeat("ParticipantRegistered", 1), "role given twice", w.DSO),
    (
        insert_before("OfferPlaced", "ParticipantRegistry", "ParticipantStatusChanged", status(AGG1, 2)),
        f"role of {AGG1}",
        "offer 1",
    ),
    (
        insert_before(
            "OfferPlaced",
            "ParticipantRegistry",
            "ParticipantStatusChanged",
            status(AGG1, 2) | {"by": OUTSIDER},
        ),
        f"role of {OUTSIDER}",
        "ParticipantStatusChanged",
    ),
    (
        insert_before("OfferPlaced", "ParticipantRegistry", "ParticipantStatusChanged", status(AGG1, 1)),
        "change of standing",
        AGG1,
    ),
    (repeat("CongestionPointDeclared"), "congestion point declared twice", ""),
    (falsify("CongestionPointDeclared", dso=OUTSIDER), f"role of {OUTSIDER}", ""),
    (falsify("ConnectionRegistered", congestionPointId=OTHER), "event about something", "ConnectionReg"),
    (falsify("ConnectionRegistered", owner=AGG1), f"role of {AGG1}", "ConnectionRegistered"),
    (repeat("ConnectionRegistered"), "connection registered twice", ""),
    (repeat("MeterRegistered"), "meter registered twice", ""),
    (repeat("MeterRegistered", meterId=OTHER), "second meter of a connection", ""),
    (falsify("MeterRegistered", operator=OUTSIDER), f"role of {OUTSIDER}", "MeterRegistered"),
    (
        insert_before(
            "OfferPlaced",
            "MeterRegistry",
            "DeviceKeyReplaced",
            {"meterId": w.meter("late"), "oldKey": OUTSIDER, "newKey": OUTSIDER, "fromIsp": 2**31},
        ),
        "device key replaced",
        w.meter("late").hex(),
    ),
    (
        insert_before(
            "OfferPlaced",
            "MeterRegistry",
            "DeviceKeyReplaced",
            {"meterId": w.meter("late"), "oldKey": OUTSIDER, "newKey": OUTSIDER, "fromIsp": 7},
        ),
        "start of a device key",
        w.meter("late").hex(),
    ),
    (
        insert_before(
            "ProsumerOrdered",
            "MeterRegistry",
            "MeterDecommissioned",
            {"meterId": w.meter("late"), "endIsp": (w.START - 25_000) // 900},
        ),
        "meter of an order",
        "prosumer order 2",
    ),
    (
        insert_before(
            "ProsumerOrdered",
            "GridRegistry",
            "StaticLightSet",
            {"connectionId": w.connection("late"), "light": 2},
        ),
        "connection of an order",
        "prosumer order 2",
    ),
    (
        insert_before(
            "ProsumerOrdered",
            "GridRegistry",
            "ConnectionDecommissioned",
            {"connectionId": w.connection("late")},
        ),
        "connection of an order",
        "prosumer order 2",
    ),
    (
        insert_before("OfferPlaced", "GridRegistry", "CongestionPointWithdrawn", {"congestionPointId": w.POINT}),
        "aggregator at the congestion point",
        "offer 1",
    ),
    (
        insert_before("RequestPublished", "FlexMarket", "Paused", {"account": OUTSIDER}),
        "event of a paused contract",
        "RequestPublished",
    ),
    (
        insert_before("RequestPublished", "FlexMarket", "Upgraded", {"to": OUTSIDER}),
        "event without a rule",
        "FlexMarket.Upgraded",
    ),
    (falsify("MarketConnected", dispatch=OUTSIDER), "FlexDispatch of the market", ""),
]

TOKENS = [
    (
        insert_before("OfferPlaced", "EnergyToken", "Transfer", {"from": w.NOBODY, "to": OUTSIDER, "value": 1}),
        "second issue of energy tokens",
        OUTSIDER,
    ),
    (
        insert_before("OfferPlaced", "EnergyToken", "Transfer", {"from": OUTSIDER, "to": AGG1, "value": 1}),
        "transfer",
        OUTSIDER,
    ),
    (falsify("TokensBought", payment=one_less), "payment for tokens", w.DSO),
    (falsify("PurchaseLimitSet", limitPerAccount=19_999_999), "tokens bought", w.DSO),
    (falsify("TokensBought", to=OUTSIDER), "standing of a buyer", OUTSIDER),
    (falsify("TokensBought", tokens=one_less), "energy tokens of the desk", "block"),
    (falsify("Deposited", amount=one_more), "tokens of the clearing house", "block"),
    (falsify("Transfer", 3, value=one_less), "reserve of the desk", "block"),
    (
        falsify("Withdrawn", amount=one_more),
        "amount taken",
        AGG1,
    ),
]

LEDGER = [
    (falsify("Locked", 1, amount=one_more), "money of", "block"),
    (falsify("Released", -1, account=OUTSIDER), f"money of {OUTSIDER}", "block"),
    (drop("Relocked", 0), "money of lock FlexMarket.budgetLockId(1)", "block"),
    (repeat("Released", 3), "money of lock", "block"),
    (falsify("Moved", 0, amount=one_less), f"money of {w.DSO}", "block"),
    (falsify("Locked", 2, module=OUTSIDER), "module that moved money", "ClearingHouse.Locked"),
    (falsify("Locked", 2, amount=10**9), "amount taken", w.account("late")),
    (drop("ModuleSet", 2), "module that moved money", "ClearingHouse"),
    (
        insert_before(
            "OfferPlaced",
            "ClearingHouse",
            "Moved",
            {"from": w.DSO, "to": OUTSIDER, "module": w.ADDRESSES["FlexMarket"], "amount": 5},
        ),
        f"money of {OUTSIDER}",
        "block",
    ),
]

AGREEMENTS = [
    (falsify("AgreementRegistered", agreementId=7), "number of an agreement", "agreement 7"),
    (falsify("AgreementRegistered", terms__prosumer=OUTSIDER), "owner of the connection", "agreement 1"),
    (falsify("AgreementRegistered", terms__bond=one_more), "money of", "block"),
    (falsify("AgreementRegistered", terms__aggregator=OUTSIDER), f"role of {OUTSIDER}", "agreement 1"),
    (falsify("AgreementRegistered", terms__validUntil=5), "validity", "agreement 1"),
    (falsify("AgreementRegistered", version=3), "event about something", "AgreementRegistered"),
    (
        falsify("AgreementRegistered", 1, terms__connectionId=w.connection("failing")),
        "second agreement of a connection",
        "agreement 2",
    ),
    (
        insert_before(
            "OfferPlaced",
            "AgreementRegistry",
            "AgreementStatusChanged",
            {"agreementId": 1, "status": 2, "by": OUTSIDER, "endsAt": 0},
        ),
        "who changed an agreement",
        "agreement 1",
    ),
    (
        insert_before(
            "ProsumerOrdered",
            "AgreementRegistry",
            "AgreementStatusChanged",
            {"agreementId": 1, "status": 2, "by": AGG1, "endsAt": 0},
        ),
        "agreement of an order",
        "prosumer order 1",
    ),
    (
        insert_before(
            "OfferPlaced",
            "AgreementRegistry",
            "AgreementStatusChanged",
            {"agreementId": 1, "status": 3, "by": AGG1, "endsAt": w.START},
        ),
        "effect of a termination",
        "agreement 1",
    ),
    (
        insert_before(
            "OfferPlaced",
            "AgreementRegistry",
            "AgreementStatusChanged",
            {"agreementId": 1, "status": 1, "by": AGG1, "endsAt": 0},
        ),
        "who resumed",
        "agreement 1",
    ),
    (
        insert_before(
            "OwedCollected",
            "AgreementRegistry",
            "BondReturned",
            {"agreementId": 2, "prosumer": w.account("late"), "amount": 1_000_000},
        ),
        "bond returned",
        "agreement 2",
    ),
]

MARKET = [
    (falsify("RequestPublished", requestId=2), "number of a request", "request 2"),
    (falsify("RequestPublished", dso=OUTSIDER), "DSO of the congestion point", "request 1"),
    (falsify("RequestPublished", budget=one_less), "budget", "request 1"),
    (falsify("RequestPublished", requestedWh=one_more), "energy requested", "request 1"),
    (falsify("RequestPublished", terms__dispatchBy=w.START + 72 * 900), "deadlines", "request 1"),
    (falsify("RequestPublished", terms__gateClosure=w.START - 55_000), "deadlines", "request 1"),
    (falsify("RequestPublished", terms__priceCap=260_000), "price of an offer", "offer 2"),
    (falsify("OfferPlaced", offerId=3), "number of an offer", "offer 3"),
    (at_time("OfferPlaced", w.START - 39_999), "gate closure", "offer 1"),
    (falsify("OfferPlaced", price=300_001), "price of an offer", "offer 1"),
    (falsify("OfferPlaced", bond=one_less), "bond of an offer", "offer 1"),
    (falsify("OfferPlaced", offeredWh=one_less), "energy offered", "offer 1"),
    (falsify("OfferPlaced", baselineCommitmentId=2), "commitment to the baselines", "offer 1"),
    (falsify("OfferPlaced", baselineCommitmentId=9), "event about something", "OfferPlaced"),
    (at_time("Committed", w.START - 39_000), "baselines committed before the gate", "offer 1"),
    (falsify("Committed", kind=0), "commitment to the baselines", "offer 1"),
    (drop("AggregatorActivated", 1), "aggregator at the congestion point", "offer 2"),
    (
        insert_before(
            "OfferPlaced",
            "GridRegime",
            "RegimeChanged",
            {
                "congestionPointId": w.POINT,
                "regime": 3,
                "fromIsp": (w.START - 45_000) // 900,
                "untilIsp": w.DAY.end_isp,
                "requestId": 0,
                "reason": "emergency",
            },
        ),
        "market in Red",
        "offer 1",
    ),
    (at_time("RequestClosed", w.START - 40_000), "time of closing", "request 1"),
    (at_time("RequestClosed", w.START - 29_999), "time of closing", "request 1"),
    (falsify("RequestClosed", status=3), "time of closing", "request 1"),
    (falsify("RequestClosed", budgetReturned=one_more), "budget returned", "request 1"),
    (falsify("RequestClosed", orderedWh=one_more), "energy ordered", "request 1"),
    (falsify("OfferClosed", bondReturned=one_more), "bond returned of the offer", "flex order 1"),
    (drop("OfferClosed", 0), "status of the offer", "flex order 1"),
    (falsify("FlexOrdered", price=one_less), "price of an order", "flex order 1"),
    (falsify("FlexOrdered", escrow=one_more), "escrow", "flex order 1"),
    (falsify("FlexOrdered", bond=one_less), "bond of an order", "flex order 1"),
    (falsify("FlexOrdered", totalWh=one_less), "energy of an order", "flex order 1"),
    (falsify("FlexOrdered", aggregator=AGG2), "aggregator of an order", "flex order 1"),
    (
        falsify("FlexOrdered", orderedWh=pack_quantities(w.sold(2_501))),
        "energy ordered at position 72",
        "flex order 1",
    ),
    (
        falsify("RequestPublished", quantitiesWh=pack_quantities(w.sold(2_999))),
        "energy ordered at position 72",
        "flex order 2",
    ),
    (repeat("FlexOrdered", flexOrderId=2), "offer sold twice", "flex order 2"),
    (drop("FlexOrdered", 1), "offers marked as ordered without an order", "clearing house"),
    (falsify("FlexOrderClosed", status=2), "cancelled after dispatch", "flex order 1"),
    (falsify("RegimeChanged", fromIsp=one_more), "start of a regime", ""),
    (falsify("RegimeChanged", untilIsp=one_more), "request behind Orange", ""),
]

DISPATCH = [
    (falsify("ProsumerOrdered", prosumerOrderId=9), "number of an order", "prosumer order 9"),
    (falsify("ProsumerOrdered", groupId=2), "group of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", orderedWh=one_more), "energy of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", rewardLocked=one_less), "largest reward", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__quantitiesHash=OTHER), "hash of the quantities", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__baselineHash=OTHER), "pinned by an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__direction=1), "direction of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__dayFirstIsp=one_more), "market day of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__rewardRate=one_more), "rewardRate of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__penaltyRate=one_more), "penaltyRate of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__toleranceBps=9), "toleranceBps of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__multiplierBps=9), "multiplierBps of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__missingIsShortfall=True), "missingIsShortfall", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__prosumer=OUTSIDER), "prosumer of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__meterId=w.meter("late")), "meter of the agreement", "order 1"),
    (falsify("ProsumerOrdered", terms__agreementId=4), "aggregator of an order", "prosumer order 1"),
    (falsify("AgreementRegistered", terms__maxUpW=3_999), "power agreed", "prosumer order 1"),
    (falsify("AgreementRegistered", terms__workingDayIsps=1), "availability", "prosumer order 1"),
    (falsify("AgreementRegistered", terms__weeklyActivations=0), "orders of a week", "prosumer order 1"),
    (falsify("AgreementRegistered", terms__noticeSeconds=90_000), "noticeSeconds of an order", "prosumer order 1"),
    (falsify("ProsumerOrdered", terms__noticeSeconds=90_000), "notice", "prosumer order 1"),
    (at_time("ProsumerOrdered", w.END - 20 * 86_400), "bond of an order", "prosumer order 1"),
    (falsify("AgreementRegistered", terms__baselineMethod=OTHER), "baseline method", "prosumer order 1"),
    (falsify("AgreementRegistered", terms__aggregator=AGG2), "aggregator of an order", "prosumer order 1"),
    (falsify("AgreementRegistered", terms__validUntil=w.START + 73 * 900), "availability", "position 73"),
    (
        insert_before(
            "ProsumerOrdered",
            "AgreementRegistry",
            "AvailabilityDeclared",
            {"agreementId": 1, "dayFirstIsp": w.DAY.first_isp, "isps": 1 << 72},
        ),
        "availability",
        "prosumer order 1 (block",
    ),
    (at_time("ProsumerOrdered", w.START - 19_999), "time of dispatch", "prosumer order 1"),
    (
        repeat("ProsumerOrdered", prosumerOrderId=2),
        f"second order of a connection at ISP {w.DAY.first_isp + 72}",
        "prosumer order 2",
    ),
    (
        falsify("FlexOrdered", orderedWh=pack_quantities(w.sold(1_999))),
        "energy dispatched at position 72",
        "prosumer order 2",
    ),
    (at_time("StandbyListed", w.START - 19_999), "time of dispatch", "flex order 1"),
    (falsify("StandbyListed", standby=[w.on_standby("late")]), "agreement 2 on standby", "flex order 1"),
    (falsify("StandbyListed", standby=[w.on_standby("standby")] * 33), "standby list", "flex order 1"),
    (falsify("StandbyListed", standby=[]), "standby", "prosumer order 1"),
    (
        falsify("StandbyListed", standby=[w.on_standby("standby") | {"meterId": w.meter("late")}]),
        "meter of agreement 3",
        "flex order 1",
    ),
    (
        falsify("StandbyListed", standby=[w.on_standby("standby") | {"baselineHash": b"\x01" * 32}]),
        "listed as standby",
        "flex order 1",
    ),
    (
        all_of(
            falsify("AgreementRegistered", 1, terms__standby=True, terms__rewardRate=200_001),
            falsify("StandbyListed", standby=[w.on_standby("late"), w.on_standby("standby")]),
        ),
        "merit order of the standby list",
        "flex order 1",
    ),
    (falsify("Reassigned", shortfallWh=one_more), "shortfall", "prosumer order 1"),
    (falsify("Reassigned", takenWh=one_less), "energy taken over", "prosumer order 1"),
    (falsify("Reassigned", totalTakenWh=pack_quantities(w.curve(p75=499))), "energy taken over", "order 1"),
    (at_time("Reassigned", w.START + 75 * 900 + 1), "age of a reading", "prosumer order 1"),
    (falsify("Reassigned", isp=one_more), "reading before its end", "prosumer order 1"),
    (falsify("Reassigned", isp=w.DAY.first_isp + 3), "ISP of a shortfall", "prosumer order 1"),
    (falsify("Reassigned", failedOrderId=2), "order replaced", "prosumer order 2"),
    (
        falsify("ProsumerOrdered", 3, quantitiesWh=pack_quantities(w.curve(p75=499))),
        "energy a standby takes over",
        "prosumer order 1",
    ),
    (
        all_of(
            falsify("AgreementRegistered", 2, terms__noticeSeconds=9_000),
            falsify("ProsumerOrdered", 3, terms__noticeSeconds=9_000),
        ),
        "notice",
        "prosumer order 4",
    ),
    (falsify("RegimeChanged", regime=1), "regime of direct control", f"group {w.DIRECT_GROUP}"),
    (falsify("DirectGroupOpened", payer=OUTSIDER), "payer of direct control", ""),
    (falsify("DirectGroupOpened", rate=one_more), "regulated rate", ""),
    (falsify("DirectGroupOpened", groupId=one_more), "number of a direct group", ""),
    (at_time("Committed", w.START - 39_000, 2), "baselines of direct control", ""),
    (falsify("DirectControlUsed", connections=2), "connections under direct control", ""),
    (falsify("DirectControlUsed", reason=""), "reason of direct control", ""),
    (falsify("ConnectionRegistered", 4, technicalUpW=3_999), "technical limit", "prosumer order 5"),
    (falsify("ProsumerOrdered", 4, terms__rewardRate=one_more), "rewardRate of a direct order", "order 5"),
    (falsify("ProsumerOrdered", 4, terms__prosumer=OUTSIDER), "prosumer of a direct order", "order 5"),
    (
        falsify("RegimeChanged", untilIsp=w.DAY.first_isp + 75),
        "ISPs of direct control",
        "prosumer order 5",
    ),
]

METERING = [
    (at_time("IntradayAnchored", w.START + 73 * 900 - 1), "time of anchoring", "IntradayAnchored"),
    (falsify("IntradayAnchored", operator=OUTSIDER), f"role of {OUTSIDER}", "IntradayAnchored"),
    (falsify("IntradayAnchored", root=OTHER), "batch missing in the store", "intraday batch"),
    (falsify("IntradayAnchored", leafCount=9), "stored intraday batch", "intraday batch"),
    (drop("IntradayAnchored"), "batch in the store that was never anchored", "intraday batch"),
    (at_time("DayAnchored", w.END - 1), "time of anchoring", "version 1"),
    (falsify("DayAnchored", 1, version=3), "version of a batch", "version 3"),
    (drop("BondPosted"), "bond of a meter operator", "version 1"),
    (falsify("DayAnchored", operator=w.SILENT_OPERATOR), "bond of a meter operator", w.SILENT_OPERATOR),
    (falsify("DayAnchored", root=OTHER), "root rebuilt from the metered days", "version 1"),
    (falsify("DayAnchored", leafCount=5), "metered days of a batch", "version 1"),
    (falsify("DayAnchored", dataHash=OTHER), "data behind a batch", "version 1"),
    (falsify("DayAnchored", operator=OUTSIDER), f"role of {OUTSIDER}", "version 1"),
    (falsify("Committed", commitmentId=5), "number of a commitment", "commitment 5"),
    (falsify("Committed", committer=OUTSIDER), "role of a committer", "commitment 1"),
    (falsify("Committed", madeAt=w.START), "time a commitment was made", "commitment 1"),
    (falsify("Committed", root=OTHER), "root rebuilt from the curves", "commitment 1"),
    (falsify("Committed", leafCount=9), "curves of a commitment", "commitment 1"),
    (
        insert_before(
            "ProsumerSettled",
            "MeteringLedger",
            "BatchRejected",
            {
                "operator": w.OPERATOR,
                "firstIsp": w.DAY.first_isp,
                "version": 1,
                "challenger": OUTSIDER,
                "meterId": w.meter("late"),
                "reward": 160_000,
                "forfeited": 240_000,
            },
        ),
        "challenge of a batch",
        "version 1",
    ),
    (
        insert_before(
            "ProsumerSettled",
            "MeteringLedger",
            "BatchRejected",
            {
                "operator": w.OPERATOR,
                "firstIsp": w.DAY.first_isp,
                "version": 1,
                "challenger": OUTSIDER,
                "meterId": w.meter("late"),
                "reward": 160_001,
                "forfeited": 239_999,
            },
            time=w.END + 200,
        ),
        "reward of a challenger",
        "version 1",
    ),
    (
        insert_before(
            "ProsumerSettled",
            "MeteringLedger",
            "BatchRejected",
            {
                "operator": w.OPERATOR,
                "firstIsp": w.DAY.first_isp,
                "version": 1,
                "challenger": w.OPERATOR,
                "meterId": w.meter("late"),
                "reward": 160_000,
                "forfeited": 0,
            },
            time=w.END + 200,
        ),
        "forfeited by a meter operator",
        "version 1",
    ),
    (
        insert_before(
            "ProsumerSettled",
            "MeteringLedger",
            "BondWithdrawn",
            {"operator": w.OPERATOR, "amount": 1},
            time=w.END + 200,
        ),
        "bond withdrawn",
        w.OPERATOR,
    ),
]

SETTLEMENT = [
    *(
        (falsify("ProsumerSettled", index, **{f"verdict__{name}": one_more}), "verdict", f"order {order_id}")
        for index, order_id in enumerate((1, 2, 4, 5, 3))
        for name in w.VERDICT_FIELDS
    ),
    (falsify("ProsumerSettled", groupId=2), "group of an order", "prosumer order 1"),
    (falsify("ProsumerSettled", prosumer=OUTSIDER), "prosumer of an order", "prosumer order 1"),
    (falsify("ProsumerSettled", prosumerOrderId=77), "event about something", "ProsumerSettled"),
    (falsify("ProsumerSettled", version=2), "batch of a verdict", "prosumer order 1"),
    (repeat("ProsumerSettled"), "status before settlement", "prosumer order 1"),
    (at_time("ProsumerSettled", w.END - 1), "time of settlement", "prosumer order 1"),
    (at_time("ProsumerSettled", w.END + 200), "challenge window", "prosumer order 1"),
    (at_time("ProsumerSettled", w.END + 2 * 86_400 - 1, 4), "time of settlement", "prosumer order 3"),
    (drop("DayAnchored", 0), "batch of a verdict", "prosumer order 1"),
    (
        lambda events: events.insert(
            nth(events, "ProsumerSettled", 0),
            replace(events[nth(events, "DayAnchored", 1)], timestamp=w.END + 200),
        ),
        "batch of a verdict",
        "prosumer order 1",
    ),
    (drop("ProsumerSettled", 0), "replacement settled first", "prosumer order 4"),
    (drop("ProsumerSettled", 1), "time of finalisation", "group 1"),
    (at_time("GroupFinalised", w.END - 1, 1), "time of finalisation", "group 1"),
    (at_time("FlexOrderFinalised", w.START - 20_000), "time of finalisation", "flex order 1"),
    (falsify("GroupFinalised", 1, payerReturned=one_more), "returned to the payer", "group 1"),
    (repeat("GroupFinalised", 1, payerReturned=0), "finalised twice", "group 1"),
    (repeat("FlexOrderFinalised"), "settled twice", "flex order 1"),
    (drop("FlexOrderFinalised"), "flex orders closed without settlement", ""),
    (drop("FlexOrderClosed"), "status of the flex order", "flex order 1"),
    *(
        (falsify("FlexOrderFinalised", **{name: one_more}), f"{name} of a flex order", "flex order 1")
        for name in (
            "orderedWh",
            "creditedWh",
            "missingWh",
            "paid",
            "penalty",
            "escrowReturned",
            "bondReturned",
        )
    ),
    (falsify("FlexOrderFinalised", aggregator=AGG2), "aggregator of a flex order", "flex order 1"),
    *(
        (falsify("ProsumerCorrected", **{f"verdict__{name}": one_more}), "verdict", "prosumer order 2")
        for name in w.VERDICT_FIELDS
    ),
    (falsify("ProsumerCorrected", difference=one_more), "difference of a correction", "prosumer order 2"),
    (falsify("ProsumerCorrected", version=1), "version of a correction", "prosumer order 2"),
    (at_time("ProsumerCorrected", w.END + 20 * 86_400 + 1), "time of a correction", "prosumer order 2"),
    (drop("GroupFinalised", 1), "correction before finalisation", "prosumer order 2"),
    *(
        (falsify("FlexOrderCorrected", **{name: one_more}), f"{name} of a correction", "flex order 1")
        for name in ("creditedWh", "missingWh", "paid", "penalty", "difference")
    ),
    (drop("Owed"), "debts recorded", "block"),
    (falsify("Owed", amount=one_less), "debts recorded", "block"),
    (falsify("Owed", total=one_more), "debt", AGG1),
    (falsify("OwedCollected", amount=one_less), "debt collected", AGG1),
    (falsify("OwedCollected", left=1), "debt left", AGG1),
]


@pytest.mark.parametrize(
    ("mutation", "what", "where"),
    [
        pytest.param(*fault, id=f"{number}-{fault[1]}")
        for number, fault in enumerate(
            [*REGISTRIES, *TOKENS, *LEDGER, *AGREEMENTS, *MARKET, *DISPATCH, *METERING, *SETTLEMENT]
        )
    ],
)
def test_audit_names_the_rule_when_an_event_breaks_it(case, assert_found, mutation, what, where):
    mutation(case.events)
    assert_found(what, where)


def test_audit_finds_a_wrong_payment_when_event_and_ledger_agree(case, assert_found):
    """A contract that pays by its own wrong verdict contradicts the evidence, not itself."""
    change("ProsumerSettled", 1, case.events, verdict__reward=700_000, verdict__net=700_000)
    for i, event in enumerate(case.events):
        if event.name == "Released" and event.args["account"] == w.account("late"):
            case.events[i] = replace(event, args={**event.args, "amount": 700_000})
    report = assert_found("verdict", "prosumer order 2")
    first = next(m for m in report.mismatches if m.what == "verdict")
    assert (first.expected, first.found) == ("reward 600000, net 600000", "reward 700000, net 700000")
    assert any(m.what == f"money of {w.account('late')}" for m in report.mismatches)


def test_audit_names_the_lock_when_two_matters_share_it(case, assert_found):
    case.answers[Query("FlexMarket", "offerLockId", (2,))] = w.lock_id("FlexMarket.offerLockId", 1)
    assert_found("lock of two matters", "FlexMarket.offerLockId(2)")
