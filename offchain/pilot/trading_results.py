"""What the trading day came to: figures for ``report.json``, curves and parties for the page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from offchain.chain.events import Event
from offchain.domain.curves import MISSING
from offchain.domain.isp import SECONDS_PER_ISP, isp_start
from offchain.domain.units import cost_up
from offchain.market.clearing import ClearingClass, levels
from offchain.market.netting import MeteredWindow, Position, net
from offchain.market.replay import BundleRecord, SessionRecord, replay_sessions
from offchain.market.settlement import Outcome, final_needs
from offchain.market.terms import EnergyType
from offchain.pilot.world import World
from offchain.store.readings import energy_matrix

ENERGY = ("bought_wh", "sold_wh", "injected_wh", "covered_wh", "shortage_wh", "surplus_wh")
MONEY = ("cost", "fees", "receipts", "charges", "reward", "rejection_fee")
MODULES = ("EnergyMarket", "MarketSettlement")
"""Contracts that move the money of the energy market."""
NOT_SETTLED = Outcome(*[0] * len(fields(Outcome)))


def trading_net(world: World, events: Sequence[Event]) -> Counter[str]:
    """What every account won or lost by trading [uToken], from the movements of the clearing house."""
    modules = {world.suite.address(name) for name in MODULES}
    net: Counter[str] = Counter()
    for event in events:
        if event.contract == "ClearingHouse" and event.args.get("module") in modules:
            if event.name == "Locked":
                net[event.args["account"]] -= event.args["amount"]
            elif event.name == "Released":
                net[event.args["account"]] += event.args["amount"]
    return net


def collect_trading(
    world: World, session_ids: Sequence[int], events: Sequence[Event]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and details of the sessions, the day-ahead session first."""
    replayed = replay_sessions(events)
    sessions = [replayed[session_id] for session_id in session_ids]
    net_utoken = trading_net(world, events)
    rows = {session.id: [_row(world, session, record) for record in session.standing] for session in sessions}
    parties = _parties([row for session in sessions for row in rows[session.id]], net_utoken)
    usage = world.chain.usage
    by_rule = {
        (event.args["sessionId"], event.args["connectionId"]) for event in events if event.name == "PlacedByRule"
    }
    placed = [(s.id, r.connection_id, len(s.book(r))) for s in sessions for r in s.standing]
    ruled = sum(orders for session_id, connection_id, orders in placed if (session_id, connection_id) in by_rule)
    orders = sum(count for _, _, count in placed)
    figures = {
        "sessions": [_session_figures(session, rows[session.id]) for session in sessions],
        "traders": len({connection_id for session in sessions for connection_id in session.bundles}),
        "by_rule": len({connection_id for _, connection_id in by_rule}),
        "orders": orders,
        "matched_wh": {kind.name.lower(): sum(s.volume_wh(kind) for s in sessions) for kind in EnergyType},
        "price_utoken_per_kwh": _price_range(sessions),
        "rejections": sum(event.name == "MatchRejected" for event in events),
        **{name: sum(row[name] for row in parties) for name in ENERGY},
        "day_ahead_alone": _alone(world, sessions[0]),
        "paid_utoken": sum(row["cost"] for row in parties),
        "received_utoken": sum(row["receipts"] for row in parties),
        "charges_utoken": sum(row["charges"] for row in parties),
        "rewards_utoken": sum(row["reward"] for row in parties),
        "fees_utoken": sum(row["fees"] for row in parties),
        "operator_net_utoken": net_utoken[sessions[0].operator],
        "residual_utoken": sum(net_utoken.values()),
        "gas_per_order": _gas_each(usage["MarketRelay", "submitSigned"].gas_used, orders - ruled),
        "gas_per_order_by_rule": _gas_each(usage["TradingRules", "place"].gas_used, ruled),
    }
    details = {
        "sessions": [{"periods": _periods(s), "isps_per_period": s.terms.isps_per_period} for s in sessions],
        "book": _book_of_one_hour(sessions[0]),
        "parties": parties,
        "operator": net_utoken[sessions[0].operator],
    }
    return figures, details


def _session_figures(session: SessionRecord, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "session": session.id,
        "delivery": isp_start(session.first_isp).isoformat(),
        "periods": session.terms.period_count,
        "period_minutes": session.terms.isps_per_period * SECONDS_PER_ISP // 60,
        "traders": len(session.standing),
        "orders": sum(len(session.book(record)) for record in session.standing),
        "matched_wh": {kind.name.lower(): session.volume_wh(kind) for kind in EnergyType},
        "price_utoken_per_kwh": _price_range([session]),
        **{name: sum(row[name] for row in rows) for name in ENERGY},
    }


def _alone(world: World, session: SessionRecord) -> dict[str, int]:
    """What would have been short and too much in a session, had its traders traded in no other [Wh]."""
    meter_of = {p.connection_id: p.meter_id for p in world.cast.prosumers}
    span, alone = session.span, Counter(shortage_wh=0, surplus_wh=0)
    meters = [meter_of[record.connection_id] for record in session.standing]
    with world.store.read() as connection:
        read = energy_matrix(connection, meters, span.first_isp, span.end_isp - span.first_isp)
    for record, values in zip(session.standing, read.tolist(), strict=True):
        fills = session.fills(record)
        readings = [None if i == MISSING or not record.metered else (i, x) for i, x in values]
        position = Position(session.id, span, fills)
        netted = net([position], MeteredWindow.of(span.first_isp, readings)).sessions[session.id]
        alone["shortage_wh"] += sum(fills.sold_wh) - sum(netted.injected_wh)
        alone["surplus_wh"] += sum(fills.bought_wh) - sum(netted.taken_wh)
    return dict(alone)


def _parties(rows: Sequence[dict[str, Any]], net_utoken: Counter[str]) -> list[dict[str, Any]]:
    """Sums over the sessions by trader, whoever gained most first."""
    parties: dict[str, dict[str, Any]] = {}
    for row in rows:
        party = parties.setdefault(
            row["account"],
            {"name": row["name"], **dict.fromkeys((*ENERGY, *MONEY), 0)}
            | {"metered": True, "net": net_utoken[row["account"]]},
        )
        for name in (*ENERGY, *MONEY):
            party[name] += row[name]
        party["metered"] = party["metered"] and row["metered"]
    return sorted(parties.values(), key=lambda party: (-party["net"], party["name"]))


def _gas_each(gas_used: int, orders: int) -> int | None:
    return round(gas_used / orders) if orders else None


def _price_range(sessions: Sequence[SessionRecord]) -> dict[str, int] | None:
    prices = [r.price for session in sessions for r in session.final_results if r.kind > ClearingClass.NONE]
    return {"lowest": min(prices), "highest": max(prices)} if prices else None


def _periods(session: SessionRecord) -> list[dict[str, Any]]:
    """Price and volume by delivery period and type; no price where nothing was matched."""
    rows = []
    for period in range(session.terms.period_count):
        row: dict[str, Any] = {"first_isp": session.first_isp + period * session.terms.isps_per_period}
        for kind in EnergyType:
            result = session.final_results[session.terms.product(kind, period)]
            matched = result.kind > ClearingClass.NONE
            row[kind.name.lower()] = {"price": result.price if matched else None, "volume_wh": result.volume_wh}
        rows.append(row)
    return rows


def _book_of_one_hour(session: SessionRecord) -> dict[str, Any] | None:
    """Supply and demand of the product with the largest volume, as steps of (cumulative Wh, price)."""
    results = session.final_results
    product = max(range(len(results)), key=lambda p: (results[p].volume_wh, -p))
    if not results[product].volume_wh:
        return None
    grid = session.terms.grid
    everything = np.concatenate([session.book(record) for record in session.standing])
    supply, demand = levels(grid, everything[everything["period"] == product])
    kind, period = session.terms.type_and_period(product)
    return {
        "type": kind.name.lower(),
        "first_isp": session.first_isp + period * session.terms.isps_per_period,
        "price": results[product].price,
        "volume_wh": results[product].volume_wh,
        "supply": [[int(supply[t]), grid.price(int(t))] for t in np.flatnonzero(supply)],
        "demand": [[int(demand[t]), grid.price(int(t))] for t in np.flatnonzero(demand)[::-1]],
    }


def _row(world: World, session: SessionRecord, record: BundleRecord) -> dict[str, Any]:
    """What a trader bought, sold, paid and received in a session; nothing is received before settlement."""
    fills, result = session.fills(record), record.outcome or NOT_SETTLED
    bought, sold = sum(fills.bought_wh), sum(fills.sold_wh)
    fees = cost_up(bought + sold, session.terms.fee_rate)
    return {
        "account": record.trader,
        "name": world.cast.names[record.trader],
        "bought_wh": bought,
        "sold_wh": sold,
        "injected_wh": result.injected_green_wh + result.injected_brown_wh,
        "covered_wh": result.covered_wh,
        "shortage_wh": result.shortage_wh,
        "surplus_wh": result.surplus_wh,
        "cost": final_needs(session.terms, fills) - fees - cost_up(sold, session.terms.guarantee_rate),
        "fees": fees,
        "receipts": result.receipts,
        "charges": result.charges,
        "reward": result.green_reward + result.surplus_payment,
        "rejection_fee": record.rejected_fee,
        "metered": record.metered,
    }
