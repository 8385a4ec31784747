"""Clearing, money and outcomes of the energy market, recomputed.

Written from the rules in ``contracts/market/TickBook.sol``, ``interfaces/IEnergyMarket.sol`` and
``interfaces/IMarketSettlement.sol``, apart from the twin in :mod:`offchain.market` that operators and proposers go by:
orders one by one in merit order, Python integers, no arrays. Shared are the rounding functions, the packing of orders
and the record types.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from offchain.domain.units import WH_PER_KWH, cost_down, cost_up
from offchain.market.clearing import Clearing, ClearingClass
from offchain.market.orders import PriceGrid, unpack_bundle
from offchain.market.settlement import FinalRates, Outcome
from offchain.market.terms import EnergyType, SessionTerms, Span

OPEN = Clearing(ClearingClass.OPEN)


class Order(NamedTuple):
    product: int
    sell: int
    tick: int
    quantity_wh: int


class Trade(NamedTuple):
    """Final fills of a bundle in one product [Wh], at the clearing price [uToken/kWh]."""

    bought_wh: int
    sold_wh: int
    price: int


class Flow(NamedTuple):
    """What became of a trade: sold and injected, sold and covered by purchases, bought and taken [Wh]."""

    injected_wh: int = 0
    covered_wh: int = 0
    taken_wh: int = 0
    incomplete: bool = False


class Leg(NamedTuple):
    """Trade in one delivery period, in the order in which legs take from the meter."""

    period_isps: int
    session_id: int
    period: int
    brown: bool
    isps: range
    product: int
    trade: Trade


Readings = Mapping[int, tuple[int, int] | None]
"""(import, export) [Wh] by ISP, ``None`` where there is no reading."""


def orders_of(terms: SessionTerms, bundle: bytes) -> list[Order]:
    """Orders of a packed bundle; none when it is empty. Raises :class:`DomainError` when one breaks a bound."""
    return [Order(*row) for row in unpack_bundle(terms.grid, bundle).tolist()] if bundle else []


class Books:
    """Orders that stand in a session, kept by bundle and summed by product, side and tick as bundles come and go."""

    def __init__(self):
        self.orders: dict[bytes, list[Order]] = {}
        self._levels: dict[tuple[int, int], Counter[int]] = {}

    def put(self, connection_id: bytes, orders: list[Order]) -> None:
        """Orders of a connection, in the place of those that it had."""
        for sign, changed in ((-1, self.orders.get(connection_id, [])), (1, orders)):
            for order in changed:
                levels = self._levels.setdefault((order.product, order.sell), Counter())
                levels[order.tick] += sign * order.quantity_wh
        self.orders[connection_id] = orders

    def levels(self, product: int, sell: int) -> list[tuple[int, int]]:
        """(tick, quantity [Wh]) of a side, lowest tick first."""
        return sorted((tick, wh) for tick, wh in self._levels.get((product, sell), {}).items() if wh)

    def occupied(self) -> set[int]:
        """Products with an order."""
        return {product for (product, _), levels in self._levels.items() if any(levels.values())}


def clear(grid: PriceGrid, offers: Sequence[tuple[int, int]], bids: Sequence[tuple[int, int]]) -> Clearing:
    """Match the cheapest offer with the highest bid until they no longer meet.

    Parameters
    ----------
    offers, bids : sequence of (tick, quantity [Wh])
        Sides of one product, lowest tick first, each tick once.
    """
    supply, demand = list(reversed(offers)), list(bids)  # the best of each side last
    volume = sell_tick = buy_tick = 0
    whole = {1: 0, 0: 0}  # quantity of the tick that is being matched, by side
    while supply and demand and supply[-1][0] <= demand[-1][0]:
        (sell_tick, offered), (buy_tick, wanted) = supply.pop(), demand.pop()
        whole = {1: whole[1] or offered, 0: whole[0] or wanted}
        matched = min(offered, wanted)
        volume += matched
        if offered > matched:
            supply.append((sell_tick, offered - matched))
            whole[0] = 0
        elif wanted > matched:
            demand.append((buy_tick, wanted - matched))
            whole[1] = 0
        else:
            whole = {1: 0, 0: 0}
    if not volume:
        return Clearing(ClearingClass.NONE)
    if whole[1]:
        spare = supply[-1][1]
        kind, low, high, ration = ClearingClass.MARGINAL_SELLER, sell_tick, sell_tick, (whole[1] - spare, whole[1])
    elif whole[0]:
        spare = demand[-1][1]
        kind, low, high, ration = ClearingClass.MARGINAL_BUYER, buy_tick, buy_tick, (whole[0] - spare, whole[0])
    else:
        kind, ration = ClearingClass.EXACT, (0, 0)
        low = max(sell_tick, demand[-1][0]) if demand else sell_tick
        high = min(buy_tick, supply[-1][0]) if supply else buy_tick
    price = (grid.price(low) + grid.price(high)) // 2
    return Clearing(kind, price, volume, sell_tick, buy_tick, low, high, *ration)


def filled_wh(result: Clearing, order: Order) -> int:
    """Final quantity of an order [Wh]; at the margin pro rata, rounded up for a side that pays."""
    if result.kind <= ClearingClass.NONE:
        return 0
    if order.tick > result.sell_tick if order.sell else order.tick < result.buy_tick:
        return 0
    margin, rationed = (
        (result.sell_tick, ClearingClass.MARGINAL_SELLER)
        if order.sell
        else (result.buy_tick, ClearingClass.MARGINAL_BUYER)
    )
    if result.kind is not rationed or order.tick != margin:
        return order.quantity_wh
    whole, rest = divmod(order.quantity_wh * result.ration_numerator, result.ration_denominator)
    pays = bool(order.sell) is (result.price < 0)
    return whole + (1 if pays and rest else 0)


def trades(results: Mapping[int, Clearing], orders: Iterable[Order]) -> dict[int, Trade]:
    """What a bundle trades, by product; products without a fill are left out."""
    found: dict[int, Trade] = {}
    for order in orders:
        result = results.get(order.product, OPEN)
        filled = filled_wh(result, order)
        if filled:
            bought, sold, _ = found.get(order.product, (0, 0, 0))
            side = (bought, sold + filled) if order.sell else (bought + filled, sold)
            found[order.product] = Trade(*side, result.price)
    return found


# -------------------------------------------------------------------------------- money


def escrow(terms: SessionTerms, orders: Sequence[Order]) -> int:
    """Escrow of a bundle [uToken]: worst case of every order, fee, guarantee."""
    worst = 0
    for order in orders:
        limit = terms.grid.price(order.tick)
        worst += cost_up(order.quantity_wh, max(-limit if order.sell else limit, 0))
    energy = sum(order.quantity_wh for order in orders)
    offered = sum(order.quantity_wh for order in orders if order.sell)
    return worst + _fee_and_guarantee(terms, energy, offered)


def needed(terms: SessionTerms, traded: Mapping[int, Trade]) -> int:
    """What a final match keeps of its escrow [uToken]."""
    costs = 0
    for bought, sold, price in traded.values():
        costs += cost_up(bought, price) if price >= 0 else cost_up(sold, -price)
    energy = sum(trade.bought_wh + trade.sold_wh for trade in traded.values())
    return costs + _fee_and_guarantee(terms, energy, sum(trade.sold_wh for trade in traded.values()))


def _fee_and_guarantee(terms: SessionTerms, energy_wh: int, offered_wh: int) -> int:
    return cost_up(energy_wh, terms.fee_rate) + cost_up(offered_wh, terms.guarantee_rate)


def bound_wh(terms: SessionTerms, result: Clearing, rationed: ClearingClass) -> int:
    """Most that a side of a product can be filled with in all [Wh], when rationed orders are rounded up.

    Where the side is the rationed one, one Wh more for each order that can be at the margin.
    """
    extra = result.ration_denominator // terms.min_quantity_wh + 1 if result.kind is rationed else 0
    return result.volume_wh + extra


def rates(terms: SessionTerms, results: Mapping[int, Clearing]) -> FinalRates:
    """Largest rates, up to those of the terms, that the budgets suffice for."""
    bought = sum(bound_wh(terms, result, ClearingClass.MARGINAL_BUYER) for result in results.values())
    green_sold = sum(
        bound_wh(terms, result, ClearingClass.MARGINAL_SELLER)
        for product, result in results.items()
        if terms.type_and_period(product)[0] is EnergyType.GREEN
    )
    surplus, reward = terms.surplus_price, terms.green_reward_rate
    if bought:
        surplus = min(surplus, terms.surplus_budget * WH_PER_KWH // bought)
    if green_sold:
        reward = min(reward, terms.reward_budget * WH_PER_KWH // green_sold)
    return FinalRates(surplus, reward)


def volume_wh(terms: SessionTerms, results: Mapping[int, Clearing], kind: EnergyType) -> int:
    """Matched energy of a type [Wh]."""
    return sum(result.volume_wh for product, result in results.items() if terms.type_and_period(product)[0] is kind)


# -------------------------------------------------------------------------------- netting


def window_of(own: Span, others: Mapping[int, Span]) -> tuple[range, list[int]]:
    """ISPs that are netted with a session: its delivery and every period that meets it; and the sessions in it.

    Parameters
    ----------
    own : Span
    others : mapping
        Delivery of all sessions in which the connection has a bundle, by session id.
    """
    first, end = own.first_isp, own.end_isp
    while True:
        starts, ends, inside = [first], [end], []
        for session_id, span in others.items():
            periods = range(span.first_isp, span.end_isp, span.isps_per_period)
            touching = [isp for isp in periods if isp < end and first < isp + span.isps_per_period]
            starts += touching
            ends += [isp + span.isps_per_period for isp in touching]
            inside += [session_id] if touching else []
        if (min(starts), max(ends)) == (first, end):
            return range(first, end), inside
        first, end = min(starts), max(ends)


def flows(held: Mapping[int, tuple[Span, Mapping[int, Trade]]], readings: Readings) -> dict[tuple[int, int], Flow]:
    """What became of all trades of a connection, by session and product; parameters as :func:`netted`."""
    return netted(held, readings)[0]


def netted(
    held: Mapping[int, tuple[Span, Mapping[int, Trade]]], readings: Readings
) -> tuple[dict[tuple[int, int], Flow], Readings]:
    """What became of all trades of a connection, by session and product, and what of the readings none of them used.

    Bought energy lies in lots by ISP; a sale that is short draws on the lots of its ISPs, oldest leg first.

    Parameters
    ----------
    held : mapping
        Delivery and trades of every session by its id.
    readings : mapping
        Of all ISPs of the window.
    """
    legs = sorted(_legs(held, readings), key=lambda leg: leg[:4])
    imported, exported = ({isp: reading[k] if reading else 0 for isp, reading in readings.items()} for k in (0, 1))
    injected, covered, drawn = Counter(), Counter(), Counter()
    lots: dict[tuple[int, bool], list[list]] = {}
    for leg in legs:
        injected[leg] = _draw(exported, leg.isps, leg.trade.sold_wh)
        for i, isp in enumerate(leg.isps):
            part = leg.trade.bought_wh // leg.period_isps + (leg.trade.bought_wh % leg.period_isps if i == 0 else 0)
            lots.setdefault((isp, leg.brown), []).append([leg, part])
    for leg in sorted(legs, key=lambda leg: leg.brown):
        for brown_lots in (True, False) if leg.brown else (False,):
            for isp in leg.isps:
                for lot in lots.get((isp, brown_lots), []):
                    part = min(lot[1], leg.trade.sold_wh - injected[leg] - covered[leg])
                    lot[1] -= part
                    covered[leg] += part
                    drawn[lot[0]] += part
    found = {}
    for leg in legs:
        consumed = _draw(imported, leg.isps, leg.trade.bought_wh - drawn[leg])
        incomplete = any(readings[isp] is None for isp in leg.isps)
        taken = leg.trade.bought_wh if incomplete else drawn[leg] + consumed
        found[leg.session_id, leg.product] = Flow(injected[leg], covered[leg], taken, incomplete)
    left = {isp: reading and (imported[isp], exported[isp]) for isp, reading in readings.items()}
    return found, left


def _legs(held: Mapping[int, tuple[Span, Mapping[int, Trade]]], readings: Readings) -> Iterable[Leg]:
    for session_id, (span, traded) in held.items():
        for product, trade in traded.items():
            green, period = divmod(product, span.period_count)
            first = span.first_isp + period * span.isps_per_period
            isps = range(first, first + span.isps_per_period)
            if isps[0] in readings:
                yield Leg(span.isps_per_period, session_id, period, not green, isps, product, trade)


def _draw(energy_wh: dict[int, int], isps: range, wanted_wh: int) -> int:
    drawn = 0
    for isp in isps:
        part = min(energy_wh[isp], wanted_wh - drawn)
        energy_wh[isp] -= part
        drawn += part
    return drawn


def outcome(
    terms: SessionTerms, final: FinalRates, traded: Mapping[int, Trade], flow: Mapping[int, Flow]
) -> tuple[Outcome, list[int]]:
    """Outcome of a bundle by what became of its trades, by product.

    Returns
    -------
    Outcome
    injected_wh : list of int
        Delivered energy by product [Wh].
    """
    injected_wh = [0] * terms.product_count
    sums: Counter[str] = Counter()
    for product, (bought, sold, signed_price) in traded.items():
        kind, _ = terms.type_and_period(product)
        injected, covered, taken, incomplete = flow[product]
        price, shortage = max(signed_price, 0), sold - injected - covered
        injected_wh[product] = injected
        sums["bought"] += bought
        sums["sold"] += sold
        sums["covered"] += covered
        sums["shortage"] += shortage
        sums["surplus"] += bought - taken
        sums[kind.name] += injected
        sums["receipts"] += cost_down(taken, -signed_price) if signed_price < 0 else cost_down(sold, price)
        penal_price = max(terms.shortage_price, price) + terms.shortage_penalty_rate
        sums["charges"] += cost_up(shortage, price if incomplete else penal_price)
        sums["surplus payment"] += cost_down(bought - taken, min(final.surplus_price, price))
        if kind is EnergyType.GREEN:
            sums["reward"] += cost_down(injected, final.green_reward_rate)
        else:
            sums["charges"] += cost_up(injected, terms.brown_penalty_rate)
    guarantee = cost_up(sums["sold"], terms.guarantee_rate)
    available = guarantee + sums["receipts"]
    charges = min(sums["charges"], available)
    return (
        Outcome(
            bought_wh=sums["bought"],
            sold_wh=sums["sold"],
            injected_green_wh=sums["GREEN"],
            injected_brown_wh=sums["BROWN"],
            covered_wh=sums["covered"],
            shortage_wh=sums["shortage"],
            surplus_wh=sums["surplus"],
            guarantee=guarantee,
            receipts=sums["receipts"],
            charges=charges,
            surplus_payment=sums["surplus payment"],
            green_reward=sums["reward"],
            payout=available - charges + sums["surplus payment"] + sums["reward"],
        ),
        injected_wh,
    )
