"""A trading day: everybody trades its forecast of the delivery day in one day-ahead session (HL-UC02).

Most sign their orders, which a relayer brings; some signed a trading rule once, by which their orders are placed from
the forecast that their aggregator committed. A few reject what they were matched; meters settle it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from eth_account.signers.local import LocalAccount

from offchain.chain.indexer import read_events
from offchain.domain.curves import pack_baseline
from offchain.domain.isp import ISPS_PER_HOUR, SECONDS_PER_ISP
from offchain.domain.units import UTOKEN
from offchain.flexibility.commitments import CommitmentKind, commit_packed
from offchain.flexibility.metered_days import ProvenDay
from offchain.forecasting.method import round_forecast_wh
from offchain.grid.assets import AssetKind
from offchain.market.bidding import TradingPreference, orders_from_forecast
from offchain.market.operating import (
    claim_bundles,
    clear_session,
    close_session,
    finalise_session,
    issue_certificates,
    open_session,
    reject_signed,
    relay_bundles,
    settle_bundles,
    settle_missing_bundles,
    signed_bundle,
)
from offchain.market.orders import pack_bundle
from offchain.market.replay import SessionRecord, replay_sessions
from offchain.market.settlement import bundle_escrow, bundle_fills
from offchain.market.terms import EnergyType, SessionTerms
from offchain.market.trading_rules import HOURS, TradingRule, find_forecast, place_call, register_rule, sign_rule
from offchain.pilot.cast import Prosumer
from offchain.pilot.world import World

SOLAR = 1
"""``IProducerRegistry.ProducerClass``."""
PRODUCERS = (AssetKind.PV, AssetKind.PV_BATTERY)
BY_RULE = 0.2
"""Share of the traders that signed a trading rule instead of every bundle."""
EVENING_UTC = range(16, 21)
"""Hours in which those who trade by a rule pay one price step more."""


@dataclass(frozen=True)
class Trader:
    """A prosumer with what it signed to trade."""

    prosumer: Prosumer
    bundle: bytes
    escrow: int
    rule: TradingRule | None = None
    """By which the orders are placed; ``None``: the bundle is signed itself."""


def trade_day_ahead(world: World, forecast_wh: np.ndarray, method: str) -> int:
    """From opening the session to the final match; the id of the session.

    Parameters
    ----------
    forecast_wh : ndarray, shape (isp_count, n_connections)
        Expected net consumption, which the traders trade [Wh].
    method : str
        That made the forecast, ``"name@version"``.
    """
    config, cast, suite = world.config.trading, world.cast, world.suite
    terms = session_terms(world)
    _accredit(world)
    operator = cast.market_operator
    _buy_tokens(world, operator, {operator.address: terms.surplus_budget + terms.reward_budget})
    world.trading_from_block = world.chain.block_number()
    session_id = open_session(suite, operator, terms, world.day.first_isp)
    traders = _traders(world, terms, forecast_wh)
    _fund(world, traders)
    deadline = world.time_of(-terms.gate_lead_seconds)
    signed = [
        signed_bundle(
            suite,
            trader.prosumer.wallet,
            session_id=session_id,
            connection_id=trader.prosumer.connection_id,
            bundle=trader.bundle,
            deadline=deadline,
        )
        for trader in traders
        if trader.rule is None
    ]
    relay_bundles(suite, cast.relayer, session_id, signed)
    _place_by_rules(world, session_id, [trader for trader in traders if trader.rule is not None], forecast_wh, method)
    world.at(1 - terms.gate_lead_seconds)
    clear_session(suite, cast.relayer, _session(world, session_id))
    _reject(world, _session(world, session_id), round(config.rejecting * len(traders)))
    world.at(1 - terms.gate_lead_seconds + terms.acceptance_seconds)
    session = _session(world, session_id)
    clear_session(suite, cast.relayer, session)
    finalise_session(suite, cast.relayer, session_id)
    session = _session(world, session_id)
    claim_bundles(suite, cast.relayer, session_id, session.standing)
    buyers = [record for record in session.standing if any(session.fills(record).bought_wh)]
    issue_certificates(suite, cast.relayer, session_id, buyers)
    return session_id


def settle_trading(world: World, session_id: int, metered: Mapping[bytes, ProvenDay]) -> None:
    """Settle every bundle by its metered day, the others without readings when their time has come; close."""
    suite, relayer = world.suite, world.cast.relayer
    sessions = replay_sessions(read_events(world.chain, world.suite, first=world.trading_from_block))
    session = sessions[session_id]
    by_connection = {p.connection_id: [metered[p.meter_id]] for p in world.cast.prosumers if p.meter_id in metered}
    _, left = settle_bundles(suite, relayer, sessions, session_id, session.standing, by_connection)
    if left:
        world.clock.advance_to(max(world.clock.now(), session.times.settle_by))
        settle_missing_bundles(suite, relayer, sessions, session_id, left)
    close_session(suite, relayer, session_id)


def session_terms(world: World) -> SessionTerms:
    """Terms of the day-ahead session: one delivery period an hour of the market day."""
    config = world.config.trading
    return SessionTerms(
        base_price=config.base_price,
        price_step=config.price_step,
        tick_count=config.tick_count,
        min_quantity_wh=config.min_quantity_wh,
        isps_per_period=ISPS_PER_HOUR,
        period_count=world.day.isp_count // ISPS_PER_HOUR,
        gate_lead_seconds=-config.gate_closure,
        acceptance_seconds=config.acceptance_seconds,
        readings_due_seconds=world.config.readings_due_s,
        settlement_seconds=world.config.settle_by_s - world.config.readings_due_s,
        fee_rate=config.fee_rate,
        rejection_fee_rate=config.rejection_fee_rate,
        guarantee_rate=config.guarantee_rate,
        shortage_price=config.shortage_price,
        shortage_penalty_rate=config.shortage_penalty_rate,
        surplus_price=config.surplus_price,
        green_reward_rate=config.green_reward_rate,
        brown_penalty_rate=config.brown_penalty_rate,
        surplus_budget=config.surplus_budget,
        reward_budget=config.reward_budget,
        congestion_point_id=world.congestion_point_id,
    )


def _accredit(world: World) -> None:
    """The registrar records who produces from the sun, but for a few who never asked for it."""
    rng = np.random.default_rng([world.config.seed, 6])
    calls = []
    for prosumer in world.cast.prosumers:
        accredited = rng.random() < world.config.trading.accredited
        if accredited and _produces(world, prosumer):
            arguments = (prosumer.connection_id, SOLAR)
            calls.append((world.cast.registrar, "ProducerRegistry", "setProducerClass", arguments))
    world.send_all(calls)


def _produces(world: World, prosumer: Prosumer) -> bool:
    assets = world.scenario.connections[prosumer.position].assets
    return any(world.scenario.assets[i].kind in PRODUCERS for i in assets)


def _traders(world: World, terms: SessionTerms, forecast_wh: np.ndarray) -> list[Trader]:
    """Everybody with something to trade, by limit prices that the seed draws."""
    config = world.config.trading
    rng, ruled = (np.random.default_rng([world.config.seed, stream]) for stream in (5, 8))
    step = terms.price_step
    accredited = world.suite.call_all(
        [("ProducerRegistry", "isGreen", (p.connection_id,)) for p in world.cast.prosumers]
    )
    traders = []
    for prosumer, green in zip(world.cast.prosumers, accredited, strict=True):
        buy, sell = (int(rng.integers(low // step, high // step + 1)) * step for low, high in config.limits)
        buys = EnergyType.GREEN if rng.random() < config.prefers_green else EnergyType.BROWN
        sells = EnergyType.GREEN if green else EnergyType.BROWN
        net_wh = round_forecast_wh(forecast_wh[:, prosumer.position])
        rule = None
        if ruled.random() < BY_RULE:
            rule = _rule(world, prosumer, buy, sell, green_only=buys is EnergyType.GREEN)
            book = rule.orders(terms, world.day.first_isp, net_wh, buys=buys, sells=sells)
        else:
            preference = TradingPreference(buy, sell, config.share_bps, buys, sells)
            book = orders_from_forecast(terms, net_wh, preference)
        if len(book):
            traders.append(Trader(prosumer, pack_bundle(terms.grid, book), bundle_escrow(terms, book), rule))
    return traders


def _rule(world: World, prosumer: Prosumer, buy: int, sell: int, *, green_only: bool) -> TradingRule:
    """What a prosumer lets the relayer trade for it on the delivery day, by the forecast of its aggregator."""
    config, step = world.config.trading, world.config.trading.price_step
    return TradingRule(
        connection_id=prosumer.connection_id,
        agent=world.cast.relayer.address,
        forecaster=world.cast.aggregators[0].address,
        number=1,
        valid_from=world.time_of(world.config.timetable.setup),
        valid_until=world.day.end_isp * SECONDS_PER_ISP,
        share_bps=config.share_bps,
        green_only=green_only,
        buy_limits=tuple(buy + step if hour in EVENING_UTC else buy for hour in range(HOURS)),
        sell_limits=(sell,) * HOURS,
    )


def _place_by_rules(world: World, session_id: int, traders: list[Trader], forecast_wh: np.ndarray, method: str) -> None:
    """Register the signed rules, commit the forecasts that they go by, and place what they allow."""
    if not traders:
        return
    suite, cast = world.suite, world.cast
    for trader in traders:
        register_rule(suite, cast.relayer, trader.rule, sign_rule(suite, trader.prosumer.wallet, trader.rule))
    expected_wh = round_forecast_wh(forecast_wh)
    commit_packed(
        suite,
        world.store,
        cast.aggregators[0],
        kind=CommitmentKind.FORECAST,
        method=method,
        scope=world.congestion_point_id,
        day=world.day,
        curves={t.prosumer.meter_id: pack_baseline(expected_wh[:, t.prosumer.position]) for t in traders},
        made_at=world.time_of(world.config.timetable.forecast),
    )
    for trader in traders:
        forecast = find_forecast(world.store, trader.rule, trader.prosumer.meter_id, world.day.first_isp)
        # One after the other: each changes books that the next one's gas depends on.
        suite.chain.send(cast.relayer, place_call(suite, trader.rule, session_id, trader.bundle, forecast))


def _fund(world: World, traders: list[Trader]) -> None:
    """Tokens for the worst case of every bundle, bought for the prosumers by the relayer as their payment service."""
    amounts = {trader.prosumer.address: -(-trader.escrow // UTOKEN) * UTOKEN for trader in traders}
    _buy_tokens(world, world.cast.relayer, amounts)


def _buy_tokens(world: World, buyer: LocalAccount, amounts: Mapping[str, int]) -> None:
    """Tokens from the desk into the ledger, by account [uToken]; the buyer pays for all of them."""
    quotes = world.suite.call_all([("TokenDesk", "quote", (amount,)) for amount in amounts.values()])
    payment, desk = sum(quote[0] for quote in quotes), world.suite.address("TokenDesk")
    world.send(world.cast.admin, "LocalCurrency", "mint", buyer.address, payment)
    world.send(buyer, "LocalCurrency", "approve", desk, payment)
    world.send_all([(buyer, "TokenDesk", "buyAndDeposit", (amount, account)) for account, amount in amounts.items()])


def _reject(world: World, session: SessionRecord, count: int) -> None:
    """The seeded few take their first match back for a fee."""
    rng = np.random.default_rng([world.config.seed, 7])
    wallets = {p.connection_id: p.wallet for p in world.cast.prosumers}
    matched = []
    for record in session.standing:
        book = session.book(record)
        for position in range(len(book)):
            fills = bundle_fills(session.terms, session.final_results, book[position : position + 1])
            if sum(fills.bought_wh) + sum(fills.sold_wh):
                matched.append((record, position))
                break
    for index in sorted(rng.permutation(len(matched))[:count].tolist()):
        record, position = matched[index]
        reject_signed(world.suite, world.cast.relayer, wallets[record.connection_id], session.id, record, 1 << position)


def _session(world: World, session_id: int) -> SessionRecord:
    """The session as the chain tells it."""
    return replay_sessions(read_events(world.chain, world.suite, first=world.trading_from_block))[session_id]
