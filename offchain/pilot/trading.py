"""A trading day: everybody trades its forecast of the delivery day in one day-ahead session (HL-UC02).

Orders are signed by the prosumers and brought by a relayer; a few reject what they were matched; meters settle it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from eth_account.signers.local import LocalAccount

from offchain.chain.indexer import read_events
from offchain.domain.isp import ISPS_PER_HOUR
from offchain.domain.units import UTOKEN
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
from offchain.pilot.cast import Prosumer
from offchain.pilot.world import World

SOLAR = 1
"""``IProducerRegistry.ProducerClass``."""
PRODUCERS = (AssetKind.PV, AssetKind.PV_BATTERY)


@dataclass(frozen=True)
class Trader:
    """A prosumer with what it signed to trade."""

    prosumer: Prosumer
    bundle: bytes
    escrow: int


def trade_day_ahead(world: World, forecast_wh: np.ndarray) -> int:
    """From opening the session to the final match; the id of the session.

    Parameters
    ----------
    forecast_wh : ndarray, shape (isp_count, n_connections)
        Expected net consumption, which the traders trade [Wh].
    """
    config, cast, suite = world.config.trading, world.cast, world.suite
    terms = session_terms(world)
    _accredit(world)
    operator = cast.market_operator
    _buy_tokens(world, operator, {operator.address: terms.surplus_budget + terms.reward_budget})
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
    ]
    relay_bundles(suite, cast.relayer, session_id, signed)
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
    sessions = replay_sessions(read_events(world.chain, world.suite))
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
    rng = np.random.default_rng([world.config.seed, 5])
    step = terms.price_step
    accredited = world.suite.call_all(
        [("ProducerRegistry", "isGreen", (p.connection_id,)) for p in world.cast.prosumers]
    )
    traders = []
    for prosumer, green in zip(world.cast.prosumers, accredited, strict=True):
        buy, sell = (int(rng.integers(low // step, high // step + 1)) * step for low, high in config.limits)
        buys = EnergyType.GREEN if rng.random() < config.prefers_green else EnergyType.BROWN
        sells = EnergyType.GREEN if green else EnergyType.BROWN
        preference = TradingPreference(buy, sell, config.share_bps, buys, sells)
        book = orders_from_forecast(terms, round_forecast_wh(forecast_wh[:, prosumer.position]), preference)
        if len(book):
            traders.append(Trader(prosumer, pack_bundle(terms.grid, book), bundle_escrow(terms, book)))
    return traders


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
    return replay_sessions(read_events(world.chain, world.suite))[session_id]
