"""The day before: forecasts, prognoses, baselines, need, request, offers, orders (LL-UC03 to LL-UC07)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from offchain.baseline.method import baseline_method, baselines
from offchain.domain.curves import pack_baseline, pack_quantities, unpack_baseline
from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay, isp_start
from offchain.domain.units import BPS, Direction
from offchain.flexibility.commitments import CommitmentKind, CommittedCurves, commit_forecast_run, commit_packed
from offchain.flexibility.orders import OrderBook, dispatch_calls, send_in_order
from offchain.flexibility.reassigning import candidates
from offchain.forecasting.method import round_forecast_wh
from offchain.grid.assets import AssetKind
from offchain.grid.congestion import FlexibilityNeed, flexibility_needs, loading_percent
from offchain.grid.scenario import ZONE, Scenario
from offchain.grid.simbench_data import YEAR_FIRST_ISP, YEAR_ISPS
from offchain.optimisation.disaggregation import disaggregate
from offchain.optimisation.member import Member, first_position_after_notice, positions_of_bitmap
from offchain.optimisation.offers import build_offer
from offchain.optimisation.selection import Offer, Selection, select_offers
from offchain.pilot.foresight import DayForecast, forecast_day
from offchain.pilot.trading import Market, trade_day_ahead
from offchain.pilot.world import World
from offchain.store.curves import latest_curve

BASELINE = "weighted_10@1"
HISTORY_DAYS = 35
"""Ten days of a weekend are in them."""
PLANNING_DAYS = range(2, 16)
"""Metered days, counted back from the delivery day, that bound what is planned for."""
PLANNING_SLACK_ISPS = 1
YELLOW = 1


@dataclass(frozen=True)
class DayAhead:
    """What is known and agreed when the day begins.

    Attributes
    ----------
    forecast : DayForecast
        Of every connection and group, with its uncertainty.
    baseline_wh : ndarray, shape (isp_count, n_connections)
        Baseline of every connection [Wh].
    expected_percent : ndarray, shape (isp_count,)
        Loading of the transformer by the aggregators' prognoses and the DSO's own forecast for the rest [%].
    need : FlexibilityNeed or None
        None when no congestion is forecast.
    request_id : int or None
    flex_orders : dict
        Flex order id to (position of the aggregator, ordered curve [Wh]).
    standby : dict
        Flex order id to its standby list as ``StandbyListed`` shows it, in merit order.
    uncovered_wh : ndarray, shape (isp_count,)
        What the market left open [Wh].
    committed : dict
        Baselines by committer: position of the aggregator, or -1 for the DSO.
    market : Market
        After the day-ahead session, in which everybody traded its forecast.
    """

    forecast: DayForecast
    baseline_wh: np.ndarray
    expected_percent: np.ndarray
    need: FlexibilityNeed | None
    request_id: int | None
    flex_orders: dict[int, tuple[int, np.ndarray]]
    standby: dict[int, list[dict[str, Any]]]
    uncovered_wh: np.ndarray
    committed: dict[int, CommittedCurves]
    market: Market


def require_history(scenario: Scenario) -> None:
    """Refuse a day that the data set does not hold, or not with the history before it."""
    year = range(YEAR_FIRST_ISP, YEAR_FIRST_ISP + YEAR_ISPS)
    first = MarketDay.of(scenario.day.day - timedelta(days=1 + HISTORY_DAYS), ZONE).first_isp
    if first not in year or scenario.day.end_isp - 1 not in year:
        earliest = isp_start(year[0]).astimezone(ZoneInfo(ZONE)).date() + timedelta(days=1 + HISTORY_DAYS)
        latest = isp_start(year[-1]).astimezone(ZoneInfo(ZONE)).date()
        raise DomainError(
            f"no pilot day on {scenario.day.day}: the data are of 2016, {1 + HISTORY_DAYS} days come first",
            hint=f"choose a day from {earliest} to {latest}",
        )


def plan_day(world: World, book: OrderBook) -> DayAhead:
    """Everything from the forecast to the prosumer orders."""
    table, day = world.config.timetable, world.day
    world.at(table.forecast)
    forecast, baseline_wh = forecast_day(world), _baselines_of_day(world)
    committed = _commit(world, forecast, baseline_wh)
    market = trade_day_ahead(world, forecast.expected_wh, forecast.connections.run.method_id)
    nothing = np.zeros(day.isp_count, dtype=np.int64)
    expected_percent, need = _need(world, forecast)
    ahead = DayAhead(forecast, baseline_wh, expected_percent, need, None, {}, {}, nothing, committed, market)
    if need is None:
        return ahead
    world.at(table.request)
    ahead = replace(ahead, request_id=_request(world, need))
    members = {position: _members(world, ahead, position) for position in range(len(world.cast.aggregators))}
    world.at(table.offers)
    offers = _offer(world, ahead, members)
    world.at(table.selection)
    flex_orders, uncovered_wh = _select(world, ahead, offers)
    ahead = replace(ahead, flex_orders=flex_orders, uncovered_wh=uncovered_wh)
    world.at(table.dispatch)
    return replace(ahead, standby=_dispatch(world, ahead, members, book))


def _baselines_of_day(world: World) -> np.ndarray:
    """Baselines of every connection from its metered history, known the day before."""
    return baselines(baseline_method(BASELINE), *_history(world, world.scenario.net_wh), world.day)


def _history(world: World, wh_of: Callable[[range], np.ndarray]) -> tuple[int, np.ndarray]:
    """First ISP and values of the whole days that are over when baselines are made."""
    # The day before delivery is not over then, so metering ends where it begins.
    first, last = (MarketDay.of(world.day.day - timedelta(days=days), ZONE).first_isp for days in (1 + HISTORY_DAYS, 1))
    return first, wh_of(range(first, last))


def _commit(world: World, forecast: DayForecast, baseline_wh: np.ndarray) -> dict[int, CommittedCurves]:
    """D-prognosis and baselines of every aggregator, connection by connection; forecast and baselines of the DSO."""
    cast, day, point = world.cast, world.day, world.congestion_point_id
    made_at = world.time_of(world.config.timetable.forecast)
    committed = {}
    common = {"scope": point, "day": day, "made_at": made_at}
    prognosis_wh = round_forecast_wh(forecast.expected_wh)
    for position, aggregator in enumerate(cast.aggregators):
        own = [c for c, a in world.member_of.values() if a == position]
        if not own:
            continue  # nobody to speak for
        commit_forecast_run(
            world.suite,
            world.store,
            aggregator,
            record=forecast.connections.run.to_json(),
            curves={cast.prosumers[c].meter_id: pack_baseline(prognosis_wh[:, c]) for c in own},
            kind=CommitmentKind.D_PROGNOSIS,
            **common,
        )
        committed[position] = _commit_baselines(world, aggregator, baseline_wh, own, common)
    # The DSO's baselines serve direct control; they are its own set, made a second later.
    everybody = range(len(cast.prosumers))
    committed[-1] = _commit_baselines(world, cast.dso, baseline_wh, everybody, common | {"made_at": made_at + 1})
    _, point_wh, _ = forecast.of_point_wh()
    commit_forecast_run(
        world.suite,
        world.store,
        cast.dso,
        record=forecast.groups.run.to_json(),
        curves={point: pack_baseline(round_forecast_wh(point_wh))},
        **common,
    )
    return committed


def _commit_baselines(
    world: World, committer, baseline_wh: np.ndarray, positions: Sequence[int], common: dict
) -> CommittedCurves:
    curves = {world.cast.prosumers[c].meter_id: pack_baseline(baseline_wh[:, c]) for c in positions}
    return commit_packed(
        world.suite,
        world.store,
        committer,
        kind=CommitmentKind.BASELINE,
        method=BASELINE,
        curves=curves,
        **common,
    )


def _prognosis_wh(world: World, forecast: DayForecast) -> np.ndarray:
    """Expected net consumption as the DSO knows it: what aggregators committed, connection by connection [Wh].

    The DSO's own forecast stands where no aggregator speaks for a connection.
    """
    method = forecast.connections.run.method_id
    with world.store.read() as connection:
        rows = {
            meter_id: latest_curve(connection, "d_prognosis", method, meter_id, world.day.first_isp)
            for meter_id in (p.meter_id for p in world.cast.prosumers)
        }
    own_wh = round_forecast_wh(forecast.expected_wh)
    columns = [
        own_wh[:, p.position] if rows[p.meter_id] is None else unpack_baseline(rows[p.meter_id].values)
        for p in world.cast.prosumers
    ]
    return np.array(columns, dtype=np.int64).T


def _need(world: World, forecast: DayForecast) -> tuple[np.ndarray, FlexibilityNeed | None]:
    """Expected loading, and what is enough for the highest import and the highest feed-in to plan for.

    These are P90 and P10 of the congestion point, but not beyond what was metered at about that time of day on its
    last days: an interval is also wide because little is known. Returns the direction with more energy, None when no
    congestion is to be planned for.
    """
    scenario, day, flow = world.scenario, world.day, world.flow
    element, expected_wh = scenario.congestion_point, _prognosis_wh(world, forecast)
    # Reactive power is expected as it was a week before.
    reactive_var = scenario.reactive_var(_isps_before(day, 7))
    low_wh, _, high_wh = forecast.of_point_wh()
    least_wh, most_wh = _metered_range(world)
    likely = forecast.connections.forecast
    flexible_wh = {direction: scenario.by_connection(scenario.flexible_wh(day, direction)) for direction in Direction}
    plans = {
        Direction.UP: (np.minimum(_neighbours(high_wh).max(axis=-1), most_wh), likely.p90 - likely.p50),
        Direction.DOWN: (np.maximum(_neighbours(low_wh).min(axis=-1), least_wh), likely.p50 - likely.p10),
    }
    needs = []
    for direction, (point_wh, spread_wh) in plans.items():
        found = flexibility_needs(
            flow,
            reaching(point_wh, expected_wh, spread_wh),
            reactive_var,
            element=element,
            flexible_wh=flexible_wh,
            margin=world.config.planning_margin,
            isps=list(day.isps),
        )
        needs += [need for need in found if need.direction is direction]
    expected = loading_percent(flow.grid, flow.run(expected_wh, reactive_var), element)
    return expected, max(needs, key=lambda need: need.quantity_wh.sum(), default=None)


def _metered_range(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Least and most net consumption of all connections together on the last days, shape (isp_count,) each [Wh]."""
    days_wh = [world.scenario.net_wh(_isps_before(world.day, back)).sum(axis=1) for back in PLANNING_DAYS]
    windows = _neighbours(np.array(days_wh))
    return windows.min(axis=(0, -1)), windows.max(axis=(0, -1))


def _neighbours(values: np.ndarray) -> np.ndarray:
    """Every ISP (last axis) with its neighbours on a new last axis: peaks do not come on the minute."""
    ends = [(0, 0)] * (values.ndim - 1) + [(PLANNING_SLACK_ISPS, PLANNING_SLACK_ISPS)]
    return np.lib.stride_tricks.sliding_window_view(
        np.pad(values, ends, mode="edge"), 2 * PLANNING_SLACK_ISPS + 1, axis=-1
    )


def reaching(total_wh: np.ndarray, expected_wh: np.ndarray, spread_wh: np.ndarray) -> np.ndarray:
    """Net consumption of every connection [Wh] with which their sum is ``total_wh`` instead of what is expected.

    The difference is laid on the connections as their own intervals are wide, because who is hardest to predict is
    likeliest to differ; evenly where none has a width.

    Parameters
    ----------
    total_wh : ndarray, shape (n_isps,)
    expected_wh, spread_wh : ndarray, shape (n_isps, n_connections)
        ``spread_wh`` is non-negative.
    """
    width_wh = spread_wh.sum(axis=1, keepdims=True)
    even = np.full_like(spread_wh, 1 / spread_wh.shape[1])
    share = np.divide(spread_wh, width_wh, out=even, where=width_wh > 0)
    return expected_wh + (total_wh - expected_wh.sum(axis=1))[:, None] * share


def _isps_before(day: MarketDay, days: int) -> range:
    """As many ISPs as ``day`` has, from local midnight so many days before."""
    first = MarketDay.of(day.day - timedelta(days=days), ZONE).first_isp
    return range(first, first + day.isp_count)


def _request(world: World, need: FlexibilityNeed) -> int:
    table, prices, day = world.config.timetable, world.config.prices, world.day
    dso = world.cast.dso
    peak = round(float(need.loading_before_percent.max()))
    world.send(
        dso,
        "GridRegime",
        "setRegime",
        world.congestion_point_id,
        YELLOW,
        day.end_isp,
        0,
        f"{need.element}: {peak}% forecast",
    )
    terms = {
        "congestionPointId": world.congestion_point_id,
        "direction": int(need.direction),
        "dayFirstIsp": day.first_isp,
        "ispCount": day.isp_count,
        "priceCap": prices.price_cap,
        "bondRate": prices.bond_rate,
        "penaltyRate": prices.aggregator_penalty,
        "toleranceBps": world.config.tolerance_bps,
        "gateClosure": world.time_of(table.gate_closure),
        "selectBy": world.time_of(table.select_by),
        "dispatchBy": world.time_of(table.dispatch_by),
    }
    receipt = world.send(dso, "FlexMarket", "publishRequest", terms, pack_quantities(need.quantity_wh))
    return world.suite.event(receipt, "RequestPublished").args["requestId"]


def _members(world: World, ahead: DayAhead, aggregator: int) -> dict[str, tuple[int, Member]]:
    """Members of an aggregator that are not standby, by agreement id."""
    scenario, day, direction = world.scenario, world.day, ahead.need.direction
    possible_wh = _possible_wh(world, ahead)
    members = {}
    for agreement_id, (connection, owner) in world.member_of.items():
        terms = world.terms[agreement_id]
        if owner != aggregator or terms.standby:
            continue
        assets = [scenario.assets[i] for i in scenario.connections[connection].assets]
        energy_wh = sum(a.up_energy_wh if direction is Direction.UP else a.down_energy_wh for a in assets if a.flexible)
        bitmap = world.call("AgreementRegistry", "availableIsps", agreement_id, day.first_isp)
        member = Member(
            id=f"{agreement_id:06d}",
            max_up_w=terms.max_up_w,
            max_down_w=terms.max_down_w,
            reward_utoken_per_kwh=terms.reward_rate,
            available=positions_of_bitmap(bitmap, day.isp_count),
            possible_wh=possible_wh[:, connection],
            energy_limit_wh=energy_wh,
            first_position=first_position_after_notice(
                day.first_isp, world.time_of(world.config.timetable.dispatch), terms.notice_seconds
            ),
        )
        members[member.id] = (agreement_id, member)
    return members


def _possible_wh(world: World, ahead: DayAhead) -> np.ndarray:
    """What every connection can be counted on to move against its baseline, shape (isp_count, n_connections) [Wh].

    UP, part of what EVs and heat pumps are expected to use is not counted on: what is not in use cannot be taken off.
    DOWN, devices first have to make good what the connection may feed in beyond its baseline (P10).
    """
    scenario, direction = world.scenario, ahead.need.direction
    possible_wh = scenario.flexible_wh(world.day, direction, asset_wh=_expected_use_wh(world))
    if direction is Direction.DOWN:
        beyond_wh = ahead.baseline_wh - round_forecast_wh(ahead.forecast.connections.forecast.p10)
        return np.maximum(scenario.by_connection(possible_wh) - np.maximum(beyond_wh, 0), 0)
    uncertain = np.array([a.kind in (AssetKind.EV, AssetKind.HEAT_PUMP) for a in scenario.assets])
    counted_wh = possible_wh * (BPS - world.config.reserve_bps) // BPS
    return scenario.by_connection(np.where(uncertain, counted_wh, possible_wh))


def _expected_use_wh(world: World) -> np.ndarray:
    """Expected net consumption per device, whole Wh: by the method of the baselines, from the same days.

    So nobody is asked to take more off than its baseline has.
    """
    return baselines(baseline_method(BASELINE), *_history(world, world.scenario.asset_wh), world.day)


def _offer(
    world: World, ahead: DayAhead, members: dict[int, dict[str, tuple[int, Member]]]
) -> dict[int, tuple[int, Offer]]:
    """Offers by offer id, with the position of their aggregator."""
    rng = np.random.default_rng([world.config.seed, 3])
    prices, need = world.config.prices, ahead.need
    offers = {}
    for position, aggregator in enumerate(world.cast.aggregators):
        low, high = prices.aggregator_price
        floor = int(rng.integers(low // 1_000, high // 1_000 + 1)) * 1_000
        built = build_offer(
            [m for _, m in members[position].values()],
            need.quantity_wh,
            need.direction,
            price_cap_utoken_per_kwh=prices.price_cap,
        )
        if built is None:
            continue
        price = max(built.price_utoken_per_kwh, floor)
        receipt = world.send(
            aggregator,
            "FlexMarket",
            "placeOffer",
            ahead.request_id,
            price,
            ahead.committed[position].commitment_id,
            pack_quantities(built.quantity_wh),
        )
        offer_id = world.suite.event(receipt, "OfferPlaced").args["offerId"]
        offers[offer_id] = (position, Offer(f"{offer_id:06d}", built.quantity_wh, price))
    return offers


def _select(
    world: World, ahead: DayAhead, offers: dict[int, tuple[int, Offer]]
) -> tuple[dict[int, tuple[int, np.ndarray]], np.ndarray]:
    need = ahead.need
    # Whose baselines are not those of the agreed method and history is not selected: nobody else checks them.
    honest = {
        offer_id: (position, offer)
        for offer_id, (position, offer) in offers.items()
        if ahead.committed[position].packed.items() <= ahead.committed[-1].packed.items()
    }
    selection = _spread(need.quantity_wh, [offer for _, offer in honest.values()], world.config.max_share_bps)
    if not selection.ordered_wh:
        world.at(world.config.timetable.select_by + 1)
        world.send(world.cast.relayer, "FlexMarket", "expireRequest", ahead.request_id)
        return {}, selection.uncovered_wh
    chosen = [
        {
            "offerId": offer_id,
            "offeredWh": pack_quantities(offer.quantity_wh),
            "orderedWh": pack_quantities(selection.ordered_wh[offer.id]),
        }
        for offer_id, (_, offer) in offers.items()
        if offer.id in selection.ordered_wh
    ]
    receipt = world.send(
        world.cast.dso, "FlexMarket", "select", ahead.request_id, pack_quantities(need.quantity_wh), chosen
    )
    ordered = {}
    for event in world.events([receipt], "FlexOrdered"):
        position, offer = offers[event["offerId"]]
        ordered[event["flexOrderId"]] = (position, selection.ordered_wh[offer.id])
    for offer_id, (_, offer) in offers.items():
        if offer.id not in selection.ordered_wh:
            world.send(world.cast.relayer, "FlexMarket", "releaseOffer", offer_id)
    return ordered, selection.uncovered_wh


def _spread(request_wh: np.ndarray, offers: Sequence[Offer], max_share_bps: int) -> Selection:
    """Offers at least cost, none beyond a share of the request per ISP unless more would stay uncovered.

    A DSO that hangs on one aggregator hangs on its one telemetry link.
    """
    at_most_wh = -(-request_wh * max_share_bps // BPS)
    shared = [replace(offer, quantity_wh=np.minimum(offer.quantity_wh, at_most_wh)) for offer in offers]
    spread, anyhow = select_offers(request_wh, shared), select_offers(request_wh, offers)
    return spread if spread.uncovered_wh.sum() <= anyhow.uncovered_wh.sum() else anyhow


def _dispatch(
    world: World,
    ahead: DayAhead,
    members: dict[int, dict[str, tuple[int, Member]]],
    book: OrderBook,
) -> dict[int, list[dict[str, Any]]]:
    """Prosumer orders and the standby list of every flex order."""
    standby = {}
    for flex_order_id, (position, ordered_wh) in ahead.flex_orders.items():
        aggregator, own = world.cast.aggregators[position], members[position]
        plan = disaggregate(
            ordered_wh,
            [m for _, m in own.values()],
            ahead.need.direction,
            allow_shortfall=True,
            isps=list(world.day.isps),
        )
        parts = [
            (own[member_id][0], world.prosumer(own[member_id][0]).meter_id, pack_quantities(curve))
            for member_id, curve in plan.curves_wh.items()
        ]
        calls = dispatch_calls(
            world.suite, flex_order_id, pack_quantities(ordered_wh), parts, ahead.committed[position]
        )
        receipts = send_in_order(world.suite, aggregator, calls)
        book.add(world.suite, receipts, at=world.clock.now())
        listed = sorted(
            (a for a, (_, owner) in world.member_of.items() if owner == position and world.terms[a].standby),
            key=lambda a: (world.terms[a].reward_rate, a),
        )[:32]
        meter_of = {a: world.prosumer(a).meter_id for a in listed}
        proven = candidates(listed, meter_of, ahead.committed[position])
        receipt = world.send(aggregator, "FlexReassignment", "listStandby", flex_order_id, proven)
        standby[flex_order_id] = world.suite.event(receipt, "StandbyListed").args["standby"]
    return standby
