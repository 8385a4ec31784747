"""What the trading day came to: figures for ``report.json``, curves and parties for the page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from offchain.chain.events import Event
from offchain.domain.units import cost_up
from offchain.market.clearing import ClearingClass, levels
from offchain.market.replay import BundleRecord, SessionRecord, replay_sessions
from offchain.market.settlement import Outcome, final_needs
from offchain.market.terms import EnergyType
from offchain.pilot.world import World

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


def collect_trading(world: World, session_id: int, events: Sequence[Event]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and details of the session."""
    session = replay_sessions(events)[session_id]
    net = trading_net(world, events)
    rows = [_row(world, session, record, net) for record in session.standing]
    usage = world.chain.usage
    by_rule = {
        event.args["connectionId"]
        for event in events
        if event.name == "PlacedByRule" and event.args["sessionId"] == session_id
    }
    orders = sum(len(session.book(record)) for record in session.standing)
    relayed = sum(len(session.book(r)) for r in session.standing if r.connection_id not in by_rule)
    figures = {
        "session": session_id,
        "traders": len(session.bundles),
        "by_rule": len(by_rule),
        "orders": orders,
        "periods": session.terms.period_count,
        "matched_wh": {kind.name.lower(): session.volume_wh(kind) for kind in EnergyType},
        "price_utoken_per_kwh": _price_range(session),
        "rejections": sum(event.name == "MatchRejected" for event in events),
        "injected_wh": sum(row["injected_wh"] for row in rows),
        "shortage_wh": sum(row["shortage_wh"] for row in rows),
        "surplus_wh": sum(row["surplus_wh"] for row in rows),
        "paid_utoken": sum(row["cost"] for row in rows),
        "received_utoken": sum(row["receipts"] for row in rows),
        "charges_utoken": sum(row["charges"] for row in rows),
        "rewards_utoken": sum(row["reward"] for row in rows),
        "fees_utoken": sum(row["fees"] for row in rows),
        "operator_net_utoken": net[session.operator],
        "residual_utoken": sum(net.values()),
        "gas_per_order": _gas_each(usage["MarketRelay", "submitSigned"].gas_used, relayed),
        "gas_per_order_by_rule": _gas_each(usage["TradingRules", "place"].gas_used, orders - relayed),
    }
    details = {
        "periods": _periods(session),
        "book": _book_of_one_hour(session),
        "parties": sorted(rows, key=lambda row: (-row["net"], row["name"])),
        "operator": net[session.operator],
    }
    return figures, details


def _gas_each(gas_used: int, orders: int) -> int | None:
    return round(gas_used / orders) if orders else None


def _price_range(session: SessionRecord) -> dict[str, int] | None:
    prices = [result.price for result in session.final_results if result.kind > ClearingClass.NONE]
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


def _row(world: World, session: SessionRecord, record: BundleRecord, net: Counter[str]) -> dict[str, Any]:
    """What a trader bought, sold, paid and received; nothing is received before settlement."""
    fills, result = session.fills(record), record.outcome or NOT_SETTLED
    bought, sold = sum(fills.bought_wh), sum(fills.sold_wh)
    fees = cost_up(bought + sold, session.terms.fee_rate)
    return {
        "name": world.cast.names[record.trader],
        "bought_wh": bought,
        "sold_wh": sold,
        "injected_wh": result.injected_green_wh + result.injected_brown_wh,
        "shortage_wh": result.shortage_wh,
        "surplus_wh": result.surplus_wh,
        "cost": final_needs(session.terms, fills) - fees - cost_up(sold, session.terms.guarantee_rate),
        "fees": fees,
        "receipts": result.receipts,
        "charges": result.charges,
        "reward": result.green_reward + result.surplus_payment,
        "rejection_fee": record.rejected_fee,
        "metered": record.metered,
        "net": net[record.trader],
    }
