"""Intraday sessions of the delivery day: everybody trades what it expects now beyond what it traded before.

Who sold too much the day before buys back, who has more than it sold offers it, who was ordered to take less resells.
What is expected is the forecast that the day-ahead session was traded by, with the prosumer orders that came since,
brought up to date by the readings of the day. Decision 0038.
"""

from dataclasses import replace

import numpy as np

from offchain.domain.curves import MISSING
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import Direction
from offchain.flexibility.orders import OrderBook
from offchain.forecasting.horizons import INTRADAY
from offchain.forecasting.method import round_forecast_wh
from offchain.forecasting.updating import updated_by_readings
from offchain.market.netting import traded_wh
from offchain.market.open_position import METHOD, by_reason, open_position_wh
from offchain.market.positions import held_between
from offchain.market.terms import SessionTerms
from offchain.pilot.planning import DayAhead
from offchain.pilot.trading import session_terms
from offchain.pilot.world import World
from offchain.store.readings import energy_matrix

OPENS_ISPS_BEFORE = 3
GATE_ISPS_BEFORE = 2
"""The gate closes half an hour before delivery; the match is final a quarter hour before it."""
FINAL_ISPS_BEFORE = 1


class Intraday:
    """Sessions of 8 half hours one after the other; the last one is as long as the day has hours left."""

    def __init__(self, world: World, ahead: DayAhead, book: OrderBook):
        self.world, self.ahead, self.book = world, ahead, book
        self.market = ahead.market
        first = world.config.trading.intraday_from // SECONDS_PER_ISP
        self._starts = range(first, world.day.isp_count, INTRADAY.step_isps * INTRADAY.steps)
        self._open: dict[int, int] = {}

    def at(self, position: int) -> None:
        """Take the steps that are due at the beginning of an ISP, by its position in the day."""
        for start in self._starts:
            if position == start - OPENS_ISPS_BEFORE:
                self._trade(start, position)
            elif position == start - GATE_ISPS_BEFORE:
                self.market.match(self._open[start], np.random.default_rng([self.world.config.seed, 9, start]))
            elif position == start - FINAL_ISPS_BEFORE:
                self.market.finalise(self._open.pop(start))

    def _trade(self, start: int, position: int) -> None:
        """Open the session that begins at a position of the day and bring everybody's orders."""
        world, day, market = self.world, self.world.day, self.market
        terms, first_isp = self._terms(start), day.first_isp + start
        sessions = market.sessions()
        area, span = world.congestion_point_id, (day.first_isp, day.end_isp)
        open_wh, positions = round_forecast_wh(self._expected_wh(position)), {}
        for trader in market.traders:
            prosumer, share_bps = trader.prosumer, trader.preference.share_bps
            held = held_between(sessions, prosumer.connection_id, area, *span)
            positions[prosumer.connection_id] = [bundle.as_position() for bundle in held]
            column = open_wh[:, prosumer.position]
            column[:] = open_position_wh(day.first_isp, column, positions[prosumer.connection_id], share_bps)
        market.commit(METHOD, open_wh, world.clock.now())
        session_id = self._open[start] = market.open(terms, first_isp)
        own = slice(start, start + terms.isps_per_period * terms.period_count)
        books = {}
        for trader in market.traders:
            prosumer = trader.prosumer
            bought, sold = traded_wh(day.first_isp, day.isp_count, positions[prosumer.connection_id])
            parts = by_reason(terms, open_wh[own, prosumer.position], bought[own], sold[own], trader.preference)
            books[prosumer.connection_id] = np.concatenate(
                [trader.orders(terms, first_isp, part_wh, how) for part_wh, how in parts]
            )
        market.place(market.sessions()[session_id], books)

    def _terms(self, start: int) -> SessionTerms:
        config = self.world.config.trading
        return replace(
            session_terms(self.world),
            isps_per_period=INTRADAY.step_isps,
            period_count=min(INTRADAY.steps, (self.world.day.isp_count - start) // INTRADAY.step_isps),
            gate_lead_seconds=GATE_ISPS_BEFORE * SECONDS_PER_ISP,
            acceptance_seconds=(GATE_ISPS_BEFORE - FINAL_ISPS_BEFORE) * SECONDS_PER_ISP,
            surplus_budget=config.intraday_surplus_budget,
            reward_budget=config.intraday_reward_budget,
        )

    def _expected_wh(self, known: int) -> np.ndarray:
        """Net consumption as it is expected when so many ISPs of the day are read, shape (isp_count, n) [Wh].

        Whoever has a prosumer order steers to it: it takes at most (UP), at least (DOWN) what the order makes of its
        baseline. What only an order makes it inject it does not sell: if its device did not follow, it would pay twice.
        """
        world, day = self.world, self.world.day
        expected_wh = np.array(self.ahead.forecast.expected_wh)
        position = {p.meter_id: p.position for p in world.cast.prosumers}
        for order in self.book.orders.values():
            column = position[order.meter_id]
            baseline_wh, ordered_wh = self.ahead.baseline_wh[:, column], np.array(order.quantities_wh())
            if Direction(order.terms["direction"]) is Direction.UP:
                steered_wh = np.minimum(expected_wh[:, column], np.maximum(baseline_wh - ordered_wh, 0))
            else:
                steered_wh = np.maximum(expected_wh[:, column], baseline_wh + ordered_wh)
            expected_wh[:, column] = np.where(ordered_wh > 0, steered_wh, expected_wh[:, column])
        with world.store.read() as connection:
            read = energy_matrix(connection, [p.meter_id for p in world.cast.prosumers], day.first_isp, known)
        net_wh = (read[:, :, 0] - read[:, :, 1]).T
        return updated_by_readings(expected_wh, np.where((read[:, :, 0] == MISSING).T, np.nan, net_wh))
