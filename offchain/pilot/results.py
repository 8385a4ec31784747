"""What a pilot day came to: the figures of ``report.json`` and the details that ``report.html`` shows."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from offchain.audit import AuditReport
from offchain.baseline.evaluation import ISPS_PER_DAY, evaluate
from offchain.baseline.history import History, day_type
from offchain.baseline.method import baseline_method
from offchain.chain.client import Chain
from offchain.chain.events import Event
from offchain.domain.curves import MISSING, unpack_baseline
from offchain.domain.isp import MarketDay, isp_start
from offchain.domain.units import UTOKEN, Direction, delivered_wh
from offchain.flexibility.orders import OrderBook
from offchain.grid.power_flow import PowerFlowResult
from offchain.grid.scenario import ZONE
from offchain.grid.simbench_data import YEAR_FIRST_ISP, YEAR_ISPS
from offchain.pilot.delivery import Delivery, baselines_of
from offchain.pilot.foresight import forecast_quality, groups_of
from offchain.pilot.planning import BASELINE, DayAhead
from offchain.pilot.trading_results import collect_trading, trading_net
from offchain.pilot.world import World
from offchain.store.readings import energy_matrix

SCHEMA = 1
LOADING_LIMIT_PERCENT = 100.0
VOLTAGE_BAND_PU = (0.9, 1.1)
"""EN 50160."""
SAME_STEP_S = 600
"""Events of a kind that follow each other within this time are one step of the timeline [s]."""
AMOUNTS = {
    "RequestPublished": ("requestedWh", "budget"),
    "RequestClosed": ("orderedWh", "budgetReturned"),
    "OfferPlaced": ("offeredWh", "bond"),
    "OfferClosed": (None, "bondReturned"),
    "FlexOrdered": ("totalWh", "escrow"),
    "ProsumerOrdered": ("orderedWh", "rewardLocked"),
    "Reassigned": ("takenWh", None),
    "ProsumerSettled": ("creditedWh", "net"),
    "FlexOrderFinalised": ("creditedWh", "paid"),
    "GroupFinalised": (None, "payerReturned"),
    "BatchRejected": (None, "reward"),
    "BundleSubmitted": (None, "escrow"),
    "MatchRejected": (None, "fee"),
    "BundleClaimed": (None, "released"),
    "TraderSettled": (None, "payout"),
    "SessionClosed": (None, "residual"),
}
"""Energy [Wh] and money [uToken] that an event tells, by the names of its arguments."""
WHO = ("aggregator", "dso", "operator", "committer")
"""Arguments that name the organisation behind an event."""
COMMITMENTS = ("forecast", "baseline", "D-prognosis", "optimisation result")
REGIMES = ("green", "yellow", "orange", "red")


@dataclass(frozen=True)
class PilotResult:
    """Outcome of a pilot day.

    Attributes
    ----------
    report : dict
        ``report.json``.
    details : dict
        What the page shows besides: series, map, parties, timeline.
    audit : AuditReport
    """

    report: dict[str, Any]
    details: dict[str, Any]
    audit: AuditReport


def collect(
    world: World,
    ahead: DayAhead,
    delivery: Delivery,
    book: OrderBook,
    events: Sequence[Event],
    audit: AuditReport,
    wall_seconds: float,
) -> PilotResult:
    """Figures and details from the events, the store and a power flow on the metered values."""
    scenario, day = world.scenario, world.day
    metered_wh, missing = _metered(world, ahead)
    reactive_var = scenario.reactive_var(day)
    undisturbed_wh = scenario.net_wh(day)
    before = world.flow.run(undisturbed_wh, reactive_var)
    after = world.flow.run(metered_wh, reactive_var)
    delivered = _delivered_per_isp(world, ahead, book, metered_wh, missing)
    trading, trading_details = collect_trading(world, ahead.market.session_ids, events)
    report = {
        "schema": SCHEMA,
        "grid": {
            "code": scenario.code,
            "buses": int(scenario.grid.buses),
            "connections": len(scenario.connections),
            "prosumers": len(scenario.prosumers),
        },
        "day": day.day.isoformat(),
        "isps": day.isp_count,
        "congestion": {
            "element": scenario.congestion_point,
            "before": _congestion(world, before),
            "after": _congestion(world, after),
        },
        "energy_wh": _energy(ahead, delivery, events),
        "forecast": _forecast(world, ahead, undisturbed_wh),
        "baseline": baseline_quality(world, ahead, book, metered_wh, missing)
        | {"groups": _group_baselines(world, ahead, undisturbed_wh)},
        "money_utoken": _money(world, events),
        "trading": trading,
        "chain": _chain(world.chain, missing),
        "audit": {
            "ok": audit.ok,
            "checked": audit.checked,
            "mismatches": [asdict(mismatch) for mismatch in audit.mismatches],
        },
        "wall_seconds": round(wall_seconds, 1),
    }
    details = {
        "scenario": scenario.name,
        "seed": world.config.seed,
        "direction": None if ahead.need is None else ahead.need.direction.name,
        "zone": ZONE,
        "first_isp": day.first_isp,
        "limit_percent": LOADING_LIMIT_PERCENT,
        "loading": {
            "forecast": _series(ahead.expected_percent, 1),
            "before": _series(world_loading(world, before), 1),
            "after": _series(world_loading(world, after), 1),
        },
        "expected_wh": _expected(ahead, undisturbed_wh, metered_wh),
        "requested_wh": _series(ahead.need.quantity_wh if ahead.need else np.zeros(day.isp_count), 0),
        "ordered_wh": _series(_ordered(ahead, delivery, day.isp_count), 0),
        "delivered_wh": _series(delivered, 0),
        "direct_wh": int(delivery.direct_wh.sum()),
        "missing_readings": int(missing.sum()),
        "map": _map(world, book, before, after, delivery),
        "parties": _parties(world, events),
        "reassignments": _reassignments(world, book, events),
        "timeline": _timeline(world, events),
        "trading": trading_details,
        "faults": {world.cast.prosumers[_position(world, m)].name: f for m, f in delivery.faults.items()},
    }
    return PilotResult(report, details, audit)


# ------------------------------------------------------------------ forecast and baseline


def _forecast(world: World, ahead: DayAhead, undisturbed_wh: np.ndarray) -> dict[str, Any]:
    """Which forecasts the day was planned by, what they stand on, and how good they were."""
    parts = {"connections": ahead.forecast.connections, "groups": ahead.forecast.groups}
    first = ahead.forecast.connections
    return {
        "method": first.run.method,
        "issued_at": isp_start(first.forecast.known_until_isp).isoformat(),
        "runs": {
            name: {"sha256": part.run.digest().hex(), "inputs": part.run.inputs, "outputs": part.run.outputs}
            for name, part in parts.items()
        },
        "basis": dict(Counter(first.forecast.basis)),
        "quality": forecast_quality(world, ahead.forecast, undisturbed_wh),
    }


def _group_baselines(world: World, ahead: DayAhead, undisturbed_wh: np.ndarray) -> list[dict[str, Any]]:
    """How far the method is off for groups in the hours of the request, by placebo events.

    Events are on all days of this type in the year of the data, without orders and by what was known the day before;
    ``known`` are those that could be looked at before the day. Errors are baseline less net consumption.
    """
    day, method = world.day, baseline_method(BASELINE)
    window = _window(np.zeros(0) if ahead.need is None else ahead.need.quantity_wh, day.isp_count)
    position = {c.id: n for n, c in enumerate(world.scenario.connections)}
    year_wh = world.scenario.net_wh(range(YEAR_FIRST_ISP, YEAR_FIRST_ISP + YEAR_ISPS))
    known = MarketDay.of(day.day - timedelta(days=1), ZONE).first_isp - YEAR_FIRST_ISP
    rows = []
    for name, members in groups_of(world).items():
        columns = [position[member] for member in members]
        total_wh = year_wh[:, columns].sum(axis=1)
        histories = {"year": History(YEAR_FIRST_ISP, total_wh), "known": History(YEAR_FIRST_ISP, total_wh[:known])}
        found = evaluate([method], histories, window, kind=day_type(day.day), unknown_days=1).quality
        on_day = slice(window.start, window.stop)
        metered_wh = undisturbed_wh[on_day, columns].sum(axis=1)
        error_wh = ahead.baseline_wh[on_day, columns].sum(axis=1) - metered_wh
        rows.append(
            {
                "group": name,
                "connections": len(columns),
                "events": found["year"][BASELINE].events,
                "bias_percent": round(found["year"][BASELINE].bias_percent, 2),
                "bias_error_percent": round(found["year"][BASELINE].bias_error_percent, 2),
                "cv_rmse_percent": round(found["year"][BASELINE].cv_rmse_percent, 1),
                "known_bias_percent": round(found["known"][BASELINE].bias_percent, 2) if "known" in found else None,
                "day_bias_percent": round(100 * float(error_wh.sum() / np.abs(metered_wh).sum()), 1),
            }
        )
    return rows


def _window(requested_wh: np.ndarray, isp_count: int) -> range:
    """Longest run of requested ISPs, the whole day where nothing was requested; positions of a day of 96 ISPs."""
    runs, start = [range(0)], None
    for position, wanted in enumerate([*(requested_wh > 0), False]):
        if wanted and start is None:
            start = position
        elif not wanted and start is not None:
            runs.append(range(start, position))
            start = None
    longest = max(runs, key=len)
    return range(longest.start, min(longest.stop, ISPS_PER_DAY)) if longest else range(min(isp_count, ISPS_PER_DAY))


def _expected(ahead: DayAhead, undisturbed_wh: np.ndarray, metered_wh: np.ndarray) -> dict[str, list[int]]:
    """Net consumption of the congestion point per ISP [Wh]: forecast, baseline, and what came."""
    low, middle, high = ahead.forecast.of_point_wh()
    lines = {
        "p10": low,
        "p50": middle,
        "p90": high,
        "baseline": ahead.baseline_wh.sum(axis=1),
        "undisturbed": undisturbed_wh.sum(axis=1),
        "metered": metered_wh.sum(axis=1),
    }
    return {name: _series(values, 0) for name, values in lines.items()}


# ------------------------------------------------------------------ metered day


def _metered(world: World, ahead: DayAhead) -> tuple[np.ndarray, np.ndarray]:
    """Metered net consumption [Wh] and where readings are missing, both (isp_count, n_connections).

    A missing reading is substituted by the baseline: for the power flow only, never for money.
    """
    with world.store.read() as connection:
        matrix = energy_matrix(
            connection, [p.meter_id for p in world.cast.prosumers], world.day.first_isp, world.day.isp_count
        )
    missing = (matrix[:, :, 0] == MISSING).T
    net_wh = (matrix[:, :, 0] - matrix[:, :, 1]).T
    return np.where(missing, ahead.baseline_wh, net_wh), missing


def baseline_quality(
    world: World, ahead: DayAhead, book: OrderBook, metered_wh: np.ndarray, missing: np.ndarray
) -> dict[str, Any]:
    """How far the baselines were off where nobody was ordered anything: connections without order and gap.

    In the requested ISPs, in the whole day where nothing was requested. Errors are baseline less metered, by the mean
    size of the metered net consumption of each, and of all of them together.
    """
    ordered = {_position(world, order.meter_id) for order in book.orders.values()}
    requested = np.zeros(0) if ahead.need is None else np.flatnonzero(ahead.need.quantity_wh)
    isps = requested if requested.size else np.arange(world.day.isp_count)
    free = [c for c in range(metered_wh.shape[1]) if c not in ordered and not missing[isps, c].any()]
    metered, error = metered_wh[np.ix_(isps, free)], (ahead.baseline_wh - metered_wh)[np.ix_(isps, free)]

    def percent(wh: float, of_wh: np.ndarray) -> float | None:
        size = float(np.abs(of_wh).mean()) if of_wh.size else 0.0
        return round(100 * wh / size, 1) if size else None

    together, error_together = metered.sum(axis=1), error.sum(axis=1)
    return {
        "method": BASELINE,
        "isps": len(isps),
        "connections": len(free),
        "bias_percent": percent(float(error_together.mean()), together) if free else None,
        "cv_rmse_percent": percent(float(np.sqrt((error_together.astype(float) ** 2).mean())), together),
        "single_cv_rmse_percent": percent(float(np.sqrt((error.astype(float) ** 2).mean())), metered) if free else None,
    }


def _delivered_per_isp(
    world: World, ahead: DayAhead, book: OrderBook, metered_wh: np.ndarray, missing: np.ndarray
) -> np.ndarray:
    """Delivered energy that counts per ISP [Wh], for the chart; money goes by the contract's verdicts."""
    total = np.zeros(world.day.isp_count, dtype=np.int64)
    for order in book.orders.values():
        column = _position(world, order.meter_id)
        baseline_wh = unpack_baseline(baselines_of(world, ahead, order).packed[order.meter_id])
        direction = Direction(order.terms["direction"])
        for p, (quantity, taken) in enumerate(zip(order.quantities_wh(), order.taken_wh(), strict=True)):
            if quantity and not missing[p, column]:
                moved = delivered_wh(direction, baseline_wh[p], int(metered_wh[p, column]))
                total[p] += min(max(moved, 0), quantity - taken)
    return total


def _position(world: World, meter_id: bytes) -> int:
    return next(p.position for p in world.cast.prosumers if p.meter_id == meter_id)


# ------------------------------------------------------------------ figures


def world_loading(world: World, result: PowerFlowResult) -> np.ndarray:
    """Loading of the congested transformer, shape (isp_count,) [%]."""
    position = list(world.scenario.grid.trafo_name).index(world.scenario.congestion_point)
    return result.trafo_loading_percent[:, position]


def _congestion(world: World, result: PowerFlowResult) -> dict[str, Any]:
    loading = world_loading(world, result)
    voltage = result.voltage_pu
    low, high = VOLTAGE_BAND_PU
    violated = (loading > LOADING_LIMIT_PERCENT) | (voltage.min(axis=1) < low) | (voltage.max(axis=1) > high)
    return {
        "max_loading_percent": round(float(loading.max()), 1),
        "min_voltage_pu": round(float(voltage.min()), 4),
        "max_voltage_pu": round(float(voltage.max()), 4),
        "violated_isps": int(violated.sum()),
    }


def _ordered(ahead: DayAhead, delivery: Delivery, isp_count: int) -> np.ndarray:
    total = np.zeros(isp_count, dtype=np.int64)
    for _, ordered_wh in ahead.flex_orders.values():
        total += ordered_wh
    return total + delivery.direct_wh


def _energy(ahead: DayAhead, delivery: Delivery, events: Sequence[Event]) -> dict[str, int]:
    requested = 0 if ahead.need is None else int(ahead.need.quantity_wh.sum())
    ordered = sum(int(curve.sum()) for _, curve in ahead.flex_orders.values()) + int(delivery.direct_wh.sum())
    delivered = sum(verdict["creditedWh"] for verdict in _verdicts(events).values())
    return {
        "requested": requested,
        "ordered": ordered,
        "delivered": delivered,
        "shortfall": ordered - delivered,
        "reassigned": sum(e.args["takenWh"] for e in _named(events, "Reassigned")),
    }


def _money(world: World, events: Sequence[Event]) -> dict[str, int]:
    verdicts = _verdicts(events).values()
    net = _net_of(world, events)
    cast = world.cast
    aggregators = {a.address for a in cast.aggregators}
    prosumers = {p.address for p in cast.prosumers}
    return {
        "escrowed": sum(e.args["budget"] for e in _named(events, "RequestPublished")),
        "rewards": sum(v["reward"] + v["bonus"] for v in verdicts),
        "penalties": sum(v["penalty"] for v in verdicts),
        "dso_paid": -net[cast.dso.address],
        "aggregators_net": sum(net[a] for a in aggregators),
        "prosumers_net": sum(net[p] for p in prosumers),
        "returned": sum(e.args["budgetReturned"] for e in _named(events, "RequestClosed"))
        + sum(e.args["escrowReturned"] for e in _named(events, "FlexOrderFinalised")),
        "residual": sum(net.values()),
    }


def _verdicts(events: Sequence[Event]) -> dict[int, dict[str, int]]:
    """Verdict in force by prosumer order: the first one, or its latest correction with the bonus, which stands."""
    verdicts = {e.args["prosumerOrderId"]: e.args["verdict"] for e in _named(events, "ProsumerSettled")}
    for event in _named(events, "ProsumerCorrected"):
        order_id = event.args["prosumerOrderId"]
        bonus = verdicts[order_id]["bonus"] if order_id in verdicts else 0
        verdicts[order_id] = {**event.args["verdict"], "bonus": bonus}
    return verdicts


def _net_of(world: World, events: Sequence[Event]) -> dict[str, int]:
    """What every account won or lost by flexibility: balance and bonds now, less what was paid in and by trading."""
    accounts = list(world.cast.names)
    balances = world.suite.call_all([("ClearingHouse", "balanceOf", (a,)) for a in accounts])
    net = dict(zip(accounts, balances, strict=True))
    bonds = [(t.prosumer, ("AgreementRegistry", "bondLockId", (i,))) for i, t in world.terms.items()]
    bonds.append((world.cast.operator.address, ("MeteringLedger", "bondLockId", (world.cast.operator.address,))))
    lock_ids = world.suite.call_all([query for _, query in bonds])
    locked = world.suite.call_all([("ClearingHouse", "lockOf", (lock_id,)) for lock_id in lock_ids])
    for (account, _), amount in zip(bonds, locked, strict=True):
        net[account] += amount
    for event in _named(events, "Deposited"):
        net[event.args["account"]] -= event.args["amount"]
    for event in _named(events, "Withdrawn"):
        net[event.args["account"]] += event.args["amount"]
    for account, amount in trading_net(world, events).items():
        net[account] -= amount
    return net


def _chain(chain: Chain, missing: np.ndarray) -> dict[str, Any]:
    usage = chain.usage
    readings = int((~missing).sum())
    anchoring = usage[("MeteringLedger", "anchorDay")].gas_used
    settled = usage[("FlexSettlement", "settle")]
    return {
        "transactions": sum(u.transactions for u in usage.values()),
        "gas_used": sum(u.gas_used for u in usage.values()),
        "readings_anchored": readings,
        "gas_per_reading": round(anchoring / readings, 2) if readings else None,
        "gas_per_prosumer_settled": round(settled.gas_used / settled.transactions) if settled.transactions else None,
    }


# ------------------------------------------------------------------ details


def _series(values: np.ndarray, digits: int) -> list[float]:
    return [round(float(v), digits) if digits else round(float(v)) for v in values]


def _map(
    world: World, book: OrderBook, before: PowerFlowResult, after: PowerFlowResult, delivery: Delivery
) -> dict[str, Any]:
    """Buses, lines and transformers with their loading per ISP, connections with what they were ordered."""
    grid = world.scenario.grid
    ordered = defaultdict(int)
    for order in book.orders.values():
        ordered[_position(world, order.meter_id)] += sum(order.quantities_wh())
    faults = {_position(world, meter_id): fault for meter_id, fault in delivery.faults.items()}
    return {
        "buses": [[round(float(x), 6), round(float(y), 6)] for x, y in zip(grid.bus_lon, grid.bus_lat, strict=True)],
        "lines": [
            {
                "name": str(grid.line_name[i]),
                "from": int(grid.line_from[i]),
                "to": int(grid.line_to[i]),
                "before_percent": _series(before.line_loading_percent[:, i], 0),
                "after_percent": _series(after.line_loading_percent[:, i], 0),
            }
            for i in range(grid.line_name.size)
        ],
        "trafos": [
            {
                "name": str(grid.trafo_name[i]),
                "bus": int(grid.trafo_lv[i]),
                "before_percent": _series(before.trafo_loading_percent[:, i], 1),
                "after_percent": _series(after.trafo_loading_percent[:, i], 1),
            }
            for i in range(grid.trafo_name.size)
        ],
        "connections": [
            {
                "name": c.id,
                "bus": c.bus,
                "prosumer": c.is_prosumer,
                "ordered_wh": ordered[i],
                "fault": faults.get(i),
            }
            for i, c in enumerate(world.scenario.connections)
        ],
    }


def _parties(world: World, events: Sequence[Event]) -> list[dict[str, Any]]:
    """What everybody won or lost, organisations first, prosumers by what they won."""
    names, net = world.cast.names, _net_of(world, events)
    ordered_by = {e.args["flexOrderId"]: names[e.args["aggregator"]] for e in _named(events, "FlexOrdered")}
    callers: dict[str, set[str]] = defaultdict(set)
    in_force = _verdicts(events)
    verdicts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for event in _named(events, "ProsumerSettled"):
        party = verdicts[event.args["prosumer"]]
        for key in ("creditedWh", "penalisedWh", "missingWh", "reward", "penalty", "bonus"):
            party[key] += in_force[event.args["prosumerOrderId"]][key]
        party["orders"] += 1
        callers[event.args["prosumer"]].add(ordered_by.get(event.args["groupId"], names[world.cast.dso.address]))
    prosumers = {p.address for p in world.cast.prosumers}
    rows = [
        {
            "name": names[a],
            "prosumer": a in prosumers,
            "ordered_by": sorted(callers[a]),
            "net_utoken": net[a],
            **verdicts.get(a, {}),
        }
        for a in names
        if net[a] or a in verdicts
    ]
    return sorted(rows, key=lambda row: (row["prosumer"], -row["net_utoken"], row["name"]))


def _reassignments(world: World, book: OrderBook, events: Sequence[Event]) -> list[dict[str, Any]]:
    """Who missed how much in which ISP, and who took it over."""

    def name(order_id: int) -> str:
        return world.cast.prosumers[_position(world, book.orders[order_id].meter_id)].name

    return [
        {
            "isp": e.args["isp"],
            "from": name(e.args["failedOrderId"]),
            "to": name(e.args["replacementOrderId"]),
            "shortfall_wh": e.args["shortfallWh"],
            "taken_wh": e.args["takenWh"],
        }
        for e in _named(events, "Reassigned")
    ]


def _timeline(world: World, events: Sequence[Event]) -> list[dict[str, Any]]:
    """Events of the suite in order; those of a kind and of a party that follow closely are one row."""
    rows: list[dict[str, Any]] = []
    latest: dict[tuple, dict[str, Any]] = {}
    for event in events:
        who = next((world.cast.names.get(event.args[key]) for key in WHO if key in event.args), None)
        kind = (event.contract, event.name, who, _note(event))
        row = latest.get(kind)
        if row is None or event.timestamp - row["until"] > SAME_STEP_S:
            row = latest[kind] = {
                "time": event.timestamp,
                "until": event.timestamp,
                "block": event.block_number,
                "contract": event.contract,
                "event": event.name,
                "who": who,
                "note": _note(event),
                "count": 0,
                "energy_wh": None,
                "money_utoken": None,
            }
            rows.append(row)
        row["count"] += 1
        row["until"], row["until_block"] = event.timestamp, event.block_number
        values = event.args.get("verdict") or event.args.get("outcome") or event.args
        amounts = AMOUNTS.get(event.name, (None, None))
        for column, argument in zip(("energy_wh", "money_utoken"), amounts, strict=True):
            if argument is not None:
                row[column] = (row[column] or 0) + values[argument]
    return rows


def _note(event: Event) -> str:
    """What the name of an event leaves open: kind, price, reason."""
    if event.name == "Committed":
        return COMMITMENTS[event.args["kind"]]
    if event.name == "RegimeChanged":
        return f"{REGIMES[event.args['regime']]}: {event.args['reason']}"
    if event.name in ("OfferPlaced", "FlexOrdered"):
        return f"at {event.args['price'] / UTOKEN:.3f} token/kWh"
    return event.args.get("reason", "") if event.name == "DirectControlUsed" else ""


def _named(events: Sequence[Event], name: str) -> list[Event]:
    return [event for event in events if event.name == name]
