"""Trading on the pilot's grid: who trades how, and what an auction takes from its orders to its settlement (HL-UC02).

The day before, everybody trades its forecast in a day-ahead session; on the day, in intraday sessions, what it expects
beyond that (``intraday.py``). Most sign their orders, which a relayer brings; some signed a trading rule once, by which
their orders are placed from what their aggregator committed. A few reject what they were matched; meters settle it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

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
from offchain.pilot.funding import buy_tokens
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
    """How a prosumer trades: at limits of its own for every bundle, or by a rule that it signed once."""

    prosumer: Prosumer
    preference: TradingPreference
    rule: TradingRule | None = None

    def orders(self, terms: SessionTerms, first_isp: int, net_wh: np.ndarray, how: TradingPreference) -> np.ndarray:
        """Orders for net consumption per ISP of a session [Wh]; the limits of a rule are its own."""
        if self.rule is None:
            return orders_from_forecast(terms, net_wh, how)
        return self.rule.orders(terms, first_isp, net_wh, buys=how.buys, sells=how.sells)


@dataclass
class Market:
    """The sessions of a pilot day as the chain tells them, and who trades in them.

    Attributes
    ----------
    next_block : int
        Until here the chain was read; nothing before the first of these is about a session.
    session_ids : list of int
        In the order of their opening, the day-ahead session first.
    """

    world: World
    traders: Sequence[Trader]
    next_block: int
    session_ids: list[int] = field(default_factory=list)
    _sessions: dict[int, SessionRecord] = field(default_factory=dict)

    def sessions(self) -> dict[int, SessionRecord]:
        """All sessions as the chain tells them now."""
        chain, last = self.world.chain, self.world.chain.block_number()
        if last >= self.next_block:
            replay_sessions(read_events(chain, self.world.suite, first=self.next_block, last=last), self._sessions)
            self.next_block = last + 1
        return self._sessions

    # ------------------------------------------------------------------ one auction

    def open(self, terms: SessionTerms, first_isp: int) -> int:
        """Open a session with the budgets of the market operator; its id."""
        operator = self.world.cast.market_operator
        buy_tokens(self.world, operator, {operator.address: terms.surplus_budget + terms.reward_budget})
        self.session_ids.append(open_session(self.world.suite, operator, terms, first_isp))
        return self.session_ids[-1]

    def place(self, session: SessionRecord, books: Mapping[bytes, np.ndarray]) -> None:
        """Bring everybody's orders, by connection id; those by rules go by what was committed for them before."""
        terms, suite, relayer = session.terms, self.world.suite, self.world.cast.relayer
        placing = [t for t in self.traders if len(books.get(t.prosumer.connection_id, ()))]
        bundles = {t.prosumer.connection_id: pack_bundle(terms.grid, books[t.prosumer.connection_id]) for t in placing}
        self._fund({t.prosumer.address: bundle_escrow(terms, books[t.prosumer.connection_id]) for t in placing})
        signed = [
            signed_bundle(
                suite,
                trader.prosumer.wallet,
                session_id=session.id,
                connection_id=trader.prosumer.connection_id,
                bundle=bundles[trader.prosumer.connection_id],
                deadline=session.times.gate_closure,
            )
            for trader in placing
            if trader.rule is None
        ]
        relay_bundles(suite, relayer, session.id, signed)
        for trader in placing:
            if trader.rule is not None:
                forecast = find_forecast(self.world.store, trader.rule, trader.prosumer.meter_id, session.first_isp)
                bundle = bundles[trader.prosumer.connection_id]
                # One after the other: each changes books that the next one's gas depends on.
                suite.chain.send(relayer, place_call(suite, trader.rule, session.id, bundle, forecast))

    def match(self, session_id: int, rng: np.random.Generator) -> None:
        """After the gate: provisional clearing, and the few who take their first match back for a fee."""
        suite, relayer = self.world.suite, self.world.cast.relayer
        clear_session(suite, relayer, self.sessions()[session_id])
        session = self.sessions()[session_id]
        wallets = {t.prosumer.connection_id: t.prosumer.wallet for t in self.traders}
        matched = []
        for record in session.standing:
            book = session.book(record)
            for position in range(len(book)):
                fills = bundle_fills(session.terms, session.final_results, book[position : position + 1])
                if sum(fills.bought_wh) + sum(fills.sold_wh):
                    matched.append((record, position))
                    break
        count = round(self.world.config.trading.rejecting * len(session.standing))
        for index in sorted(rng.permutation(len(matched))[:count].tolist()):
            record, position = matched[index]
            reject_signed(suite, relayer, wallets[record.connection_id], session_id, record, 1 << position)

    def finalise(self, session_id: int) -> None:
        """After the acceptance window: final clearing, spare escrow back, certificates to the buyers."""
        suite, relayer = self.world.suite, self.world.cast.relayer
        clear_session(suite, relayer, self.sessions()[session_id])
        finalise_session(suite, relayer, session_id)
        session = self.sessions()[session_id]
        claim_bundles(suite, relayer, session_id, session.standing)
        buyers = [record for record in session.standing if any(session.fills(record).bought_wh)]
        issue_certificates(suite, relayer, session_id, buyers)

    # ------------------------------------------------------------------ all sessions

    def settle(self, metered: Mapping[bytes, ProvenDay]) -> None:
        """Settle every bundle by its metered day, the others without readings when their time has come; close."""
        suite, relayer = self.world.suite, self.world.cast.relayer
        sessions = self.sessions()
        days = {p.connection_id: [metered[p.meter_id]] for p in self.world.cast.prosumers if p.meter_id in metered}
        left = {}
        for session_id in self.session_ids:
            standing = sessions[session_id].standing
            _, left[session_id] = settle_bundles(suite, relayer, sessions, session_id, standing, days)
        for session_id in sorted(left, key=lambda s: sessions[s].times.settle_by):
            if left[session_id]:
                self.world.clock.advance_to(max(self.world.clock.now(), sessions[session_id].times.settle_by))
                settle_missing_bundles(suite, relayer, sessions, session_id, left[session_id])
            close_session(suite, relayer, session_id)

    def commit(self, method: str, net_wh: np.ndarray, made_at: int) -> None:
        """What the aggregator expects of those who trade by a rule, shape (isp_count, n_connections) [Wh]."""
        ruled = [trader.prosumer for trader in self.traders if trader.rule is not None]
        if ruled:
            commit_packed(
                self.world.suite,
                self.world.store,
                self.world.cast.aggregators[0],
                kind=CommitmentKind.FORECAST,
                method=method,
                scope=self.world.congestion_point_id,
                day=self.world.day,
                curves={p.meter_id: pack_baseline(net_wh[:, p.position]) for p in ruled},
                made_at=made_at,
            )

    def _fund(self, escrows: Mapping[str, int]) -> None:
        """Whole tokens for what the balance lacks, bought for the prosumers by the relayer as their payment service."""
        balances = self.world.suite.call_all([("ClearingHouse", "balanceOf", (account,)) for account in escrows])
        lacking = {
            account: -(-(escrow - balance) // UTOKEN) * UTOKEN
            for (account, escrow), balance in zip(escrows.items(), balances, strict=True)
            if escrow > balance
        }
        if lacking:
            buy_tokens(self.world, self.world.cast.relayer, lacking)


def trade_day_ahead(world: World, forecast_wh: np.ndarray, method: str) -> Market:
    """From opening the day-ahead session to its final match.

    Parameters
    ----------
    forecast_wh : ndarray, shape (isp_count, n_connections)
        Expected net consumption, which the traders trade [Wh].
    method : str
        That made the forecast, ``"name@version"``.
    """
    terms, first_isp = session_terms(world), world.day.first_isp
    _accredit(world)
    market = Market(world, _traders(world), world.chain.block_number())
    for trader in market.traders:
        if trader.rule is not None:
            register_rule(
                world.suite,
                world.cast.relayer,
                trader.rule,
                sign_rule(world.suite, trader.prosumer.wallet, trader.rule),
            )
    net_wh = round_forecast_wh(forecast_wh)
    market.commit(method, net_wh, world.time_of(world.config.timetable.forecast))
    session_id = market.open(terms, first_isp)
    books = {
        trader.prosumer.connection_id: trader.orders(
            terms, first_isp, net_wh[:, trader.prosumer.position], trader.preference
        )
        for trader in market.traders
    }
    market.place(market.sessions()[session_id], books)
    world.at(1 - terms.gate_lead_seconds)
    market.match(session_id, np.random.default_rng([world.config.seed, 7]))
    world.at(1 - terms.gate_lead_seconds + terms.acceptance_seconds)
    market.finalise(session_id)
    return market


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


def _traders(world: World) -> list[Trader]:
    """Everybody, with limit prices that the seed draws; a few trade by a rule."""
    config = world.config.trading
    rng, ruled = (np.random.default_rng([world.config.seed, stream]) for stream in (5, 8))
    step = config.price_step
    accredited = world.suite.call_all(
        [("ProducerRegistry", "isGreen", (p.connection_id,)) for p in world.cast.prosumers]
    )
    traders = []
    for prosumer, green in zip(world.cast.prosumers, accredited, strict=True):
        buy, sell = (int(rng.integers(low // step, high // step + 1)) * step for low, high in config.limits)
        buys = EnergyType.GREEN if rng.random() < config.prefers_green else EnergyType.BROWN
        sells = EnergyType.GREEN if green else EnergyType.BROWN
        preference = TradingPreference(buy, sell, config.share_bps, buys, sells)
        by_rule = ruled.random() < BY_RULE
        traders.append(Trader(prosumer, preference, _rule(world, prosumer, preference) if by_rule else None))
    return traders


def _rule(world: World, prosumer: Prosumer, preference: TradingPreference) -> TradingRule:
    """What a prosumer lets the relayer trade for it on the delivery day, by what its aggregator commits."""
    buy, step = preference.buy_limit, world.config.trading.price_step
    return TradingRule(
        connection_id=prosumer.connection_id,
        agent=world.cast.relayer.address,
        forecaster=world.cast.aggregators[0].address,
        number=1,
        valid_from=world.time_of(world.config.timetable.setup),
        valid_until=world.day.end_isp * SECONDS_PER_ISP,
        share_bps=preference.share_bps,
        green_only=preference.buys is EnergyType.GREEN,
        buy_limits=tuple(buy + step if hour in EVENING_UTC else buy for hour in range(HOURS)),
        sell_limits=(preference.sell_limit,) * HOURS,
    )
