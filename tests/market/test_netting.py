"""MarketSettlement over overlapping sessions: every metered Wh counts once, nothing is left out, order does not matter.

settle, settleMissing, outcomeOf
├── positions: all that deliver in the window, in their place → PositionOmitted, PositionNotInWindow, BundleMismatch;
│   their auctions ended → NotFinalised
├── window: whole delivery periods of all of them → DeliveryNotOver; readings for 30 days → ReadingsTooLate
└── injected, covered, taken: by the twin, whatever overlaps, whoever settles first, in every session's own pot
leftOf, residualOf
└── what no position used, deviation from what was traded
sessions of a day
└── at most 32 an area → DayFull; periods that nest → PeriodsCross
"""

from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offchain.market.netting import Fills, MeteredWindow, Position, net, residual_wh
from offchain.market.positions import held_between
from offchain.market.replay import BundleRecord, SessionRecord
from offchain.market.settlement import FinalRates, Outcome, outcome
from tests.market.settling import CHALLENGE_WINDOW, SettlingWorld, position, span_of
from tests.market.test_proposer import CHALLENGE, MINIMUM
from tests.market.world import BUY, OPENING, SELL, SOLAR, TERMS, OpenSession, Trader, bundle_of, price_tick
from tests.utils.evm import reverts

DAY = 86_400
AT = price_tick(120_000)
BASE = (OPENING // 900 // 96 + 2) * 96
"""ISP at midnight UTC, two days ahead."""
LEAD = 8 * 900


def open_at(world, first_isp: int, isps_per_period: int, period_count: int, base: int = BASE, **changed) -> OpenSession:
    """A session whose gate closes two hours before ``base``, like that of all others with the same base."""
    terms = replace(
        TERMS,
        isps_per_period=isps_per_period,
        period_count=period_count,
        gate_lead_seconds=LEAD + (first_isp - base) * 900,
        **changed,
    )
    session_id = world.sessions.open(terms.as_tuple(), first_isp, sender=world.operator.address)
    return OpenSession(world, session_id, terms, first_isp)


class Desk:
    """Sessions with the bundles of some traders; everything runs at the same times."""

    def __init__(self, world: SettlingWorld, *sessions: OpenSession):
        self.world, self.sessions = world, list(sessions)
        self.bundles: dict[tuple[int, Trader], bytes] = {}

    def trade(self, session: OpenSession, trader: Trader, *rows: tuple[int, int, int, int]) -> None:
        bundle = bundle_of(*rows)
        session.submit(trader, bundle)
        self.bundles[session.id, trader] = bundle

    def swap(self, session: OpenSession, product: int, seller: Trader, buyer: Trader, wh: int) -> None:
        """One match of two traders; each trades once in a session."""
        self.trade(session, seller, (product, SELL, AT, wh))
        self.trade(session, buyer, (product, BUY, AT, wh))

    def run_auctions(self) -> None:
        for session in self.sessions:
            session.run_auction()

    def positions(self, trader: Trader, first: int = 0, end: int = 2**32) -> list[dict]:
        """Those that deliver in [first, end), in the order of `IMarketSessions.overlapping` for sessions of one day."""
        return [
            position(session, self.bundles[session.id, trader])
            for session in self.sessions
            if (session.id, trader) in self.bundles and session.first_isp < end and first < span_of(session).end_isp
        ]

    def fills(self, session: OpenSession, trader: Trader) -> Fills:
        return Fills(*self.world.market.fillsOf(session.id, self.bundles[session.id, trader]).values())

    def settle(self, session: OpenSession, trader: Trader, evidence: dict) -> Outcome:
        found = self.world.settlement.settle(session.id, trader.connection, self.positions(trader), [evidence[trader]])
        return Outcome(*found.values())

    def outcomes(self, trader: Trader, evidence: dict) -> list[Outcome]:
        """In the order of the sessions, settled in this order."""
        mine = [session for session in self.sessions if (session.id, trader) in self.bundles]
        return [self.settle(session, trader, evidence) for session in mine]


@pytest.fixture
def desk(settling):
    """An hourly session of two periods and one of half hours over its first hour; the first trader is watched."""
    for trader in settling.traders[:2]:
        settling.set_producer_class(trader, SOLAR)
    return Desk(settling, open_at(settling, BASE, 4, 2), open_at(settling, BASE, 2, 2))


def sold_twice(desk) -> tuple[Trader, dict]:
    """1,000 Wh sold in the hour and 1,000 Wh sold in its first half; 1,000 Wh injected in it."""
    seller, buyer = desk.world.traders[:2]
    hourly, half_hourly = desk.sessions
    desk.swap(hourly, 0, seller, buyer, 1_000)
    desk.swap(half_hourly, 0, seller, buyer, 1_000)
    desk.run_auctions()
    return seller, desk.world.anchor(hourly, {seller: [(0, 400), (0, 600), (0, 0), (0, 0)]})


# ---------------------------------------------------------------------- what counts


def test_settle_counts_an_injected_wh_once(desk):
    seller, evidence = sold_twice(desk)
    hourly, half_hourly = desk.outcomes(seller, evidence)
    assert (half_hourly.injected_brown_wh, half_hourly.shortage_wh) == (1_000, 0)
    assert (hourly.injected_brown_wh, hourly.shortage_wh) == (0, 1_000)
    assert desk.world.certificates.injectedWh(desk.sessions[0].id, 0, 0) == 0


def test_settle_finds_no_shortage_when_a_sale_was_bought_back(desk):
    """The example of IMarketSettlement: 1,000 Wh sold for an hour, 300 bought back for its first half, 700 exported."""
    seller, other = desk.world.traders[:2]
    hourly, half_hourly = desk.sessions
    desk.swap(hourly, 0, seller, other, 1_000)
    desk.swap(half_hourly, 0, other, seller, 300)
    desk.run_auctions()
    evidence = desk.world.anchor(hourly, {seller: [(0, 100), (0, 100), (0, 250), (0, 250)]})
    sold, bought = desk.outcomes(seller, evidence)
    assert (sold.injected_brown_wh, sold.covered_wh, sold.shortage_wh) == (700, 300, 0)
    assert sold.charges == 3_500  # the penalty for the 700 Wh of brown energy that were delivered
    assert (bought.surplus_wh, bought.payout) == (0, 0)


def test_settle_finds_no_surplus_when_a_purchase_was_sold_on(desk):
    buyer, other = desk.world.traders[:2]
    hourly, half_hourly = desk.sessions
    desk.swap(hourly, 0, other, buyer, 1_000)
    desk.swap(half_hourly, 1, buyer, other, 400)
    desk.run_auctions()
    evidence = desk.world.anchor(hourly, {buyer: [(150, 0)] * 4})
    bought, sold = desk.outcomes(buyer, evidence)
    assert (sold.injected_brown_wh, sold.covered_wh, sold.shortage_wh) == (0, 400, 0)
    assert (bought.surplus_wh, bought.payout) == (0, 0)


def test_settle_covers_no_more_than_the_purchase_gives_in_the_sold_isps(desk):
    """1,000 Wh for an hour are 500 Wh for its second half."""
    trader, other = desk.world.traders[:2]
    hourly, half_hourly = desk.sessions
    desk.swap(hourly, 0, other, trader, 1_000)
    desk.swap(half_hourly, 1, trader, other, 800)
    desk.run_auctions()
    evidence = desk.world.anchor(hourly, {trader: [(0, 0)] * 4})
    bought, sold = desk.outcomes(trader, evidence)
    assert (sold.covered_wh, sold.shortage_wh, bought.surplus_wh) == (500, 300, 500)


@pytest.mark.parametrize(("bought_green", "covered_wh"), [(False, 0), (True, 600)])
def test_settle_covers_green_sales_by_green_purchases_only(desk, bought_green, covered_wh):
    seller, other = desk.world.traders[:2]
    hourly, half_hourly = desk.sessions
    desk.swap(hourly, 2, seller, other, 600)
    desk.swap(half_hourly, 2 if bought_green else 0, other, seller, 600)
    desk.run_auctions()
    evidence = desk.world.anchor(hourly, {seller: [(0, 0)] * 4})
    sold, _ = desk.outcomes(seller, evidence)
    # 600 Wh in the first half hour give 300 Wh in each of its ISPs, all of them in the sold hour.
    assert (sold.covered_wh, sold.shortage_wh, sold.green_reward) == (covered_wh, 600 - covered_wh, 0)


def test_settle_missing_covers_sales_by_purchases(desk):
    seller, other = desk.world.traders[:2]
    hourly, half_hourly = desk.sessions
    desk.swap(hourly, 0, seller, other, 500)
    desk.swap(half_hourly, 0, other, seller, 500)
    desk.run_auctions()
    desk.world.evm.now = hourly.times.settle_by
    arguments = (hourly.id, seller.connection, desk.positions(seller))
    found = Outcome(*desk.world.settlement.settleMissing(*arguments).values())
    assert (found.covered_wh, found.charges, found.payout - found.guarantee) == (500, 0, 60_000)


# ---------------------------------------------------------------------- what has to be brought


def test_settle_refuses_when_a_position_is_omitted(desk):
    seller, evidence = sold_twice(desk)
    settlement, (hourly, half_hourly) = desk.world.settlement, desk.positions(seller)
    for session in desk.sessions:
        for brought, omitted in (
            ([], hourly),
            ([hourly], half_hourly),
            ([half_hourly], hourly),
            ([half_hourly, hourly], hourly),
            ([hourly, hourly], half_hourly),
        ):
            with reverts("PositionOmitted", omitted["sessionId"]):
                settlement.settle(session.id, seller.connection, brought, [evidence[seller]])
            with reverts("PositionOmitted", omitted["sessionId"]):
                settlement.outcomeOf(session.id, seller.connection, brought, [evidence[seller]])


def test_settle_refuses_what_is_not_in_the_window(desk):
    seller, evidence = sold_twice(desk)
    positions = desk.positions(seller)
    for extra in (positions[1], {"sessionId": 99, "bundle": b""}):
        with reverts("PositionNotInWindow", extra["sessionId"]):
            desk.world.settlement.settle(1, seller.connection, [*positions, extra], [evidence[seller]])


def test_settle_refuses_another_bundle_than_the_one_that_stands(desk):
    seller, evidence = sold_twice(desk)
    first, second = desk.positions(seller)
    stored = desk.sessions[1].bundle(seller)["hash"]
    with reverts("BundleMismatch", desk.sessions[1].id, seller.connection, stored):
        brought = [first, second | {"bundle": bundle_of((0, SELL, AT, 10))}]
        desk.world.settlement.settle(desk.sessions[0].id, seller.connection, brought, [evidence[seller]])


def test_settle_does_not_ask_for_what_was_cancelled_or_of_others(desk):
    seller, buyer, cancelling = desk.world.traders[:3]
    hourly, half_hourly = desk.sessions
    desk.trade(hourly, seller, (0, SELL, AT, 500))
    desk.trade(hourly, buyer, (0, BUY, AT, 500))
    desk.trade(half_hourly, cancelling, (0, SELL, AT, 500))
    cancelled = bundle_of((0, SELL, AT, 100))
    half_hourly.submit(seller, cancelled)
    half_hourly.submit(seller, b"", cancelled)
    desk.run_auctions()
    evidence = desk.world.anchor(hourly, {seller: [(0, 500)]})
    assert desk.settle(hourly, seller, evidence).injected_brown_wh == 500


def test_settle_waits_for_the_auctions_of_the_window(desk):
    seller, buyer = desk.world.traders[:2]
    hourly, half_hourly = desk.sessions
    desk.swap(hourly, 0, seller, buyer, 500)
    desk.swap(half_hourly, 0, seller, buyer, 500)
    hourly.run_auction()
    evidence = desk.world.anchor(hourly, {seller: [(0, 500)]})
    with reverts("NotFinalised", half_hourly.id):
        desk.settle(hourly, seller, evidence)
    half_hourly.run_auction()
    # The auction ended later than the day was anchored.
    desk.world.evm.now = max(desk.world.evm.now, (BASE + 96) * 900 + CHALLENGE_WINDOW)
    assert desk.settle(hourly, seller, evidence).shortage_wh == 500


def test_settle_does_not_ask_for_a_settled_bundle_less(desk):
    """Settled by a batch or by meter, a bundle counts for the others all the same."""
    seller, evidence = sold_twice(desk)
    hourly, half_hourly = desk.sessions
    half_hourly.settle(seller, desk.bundles[half_hourly.id, seller])
    with reverts("PositionOmitted", half_hourly.id):
        desk.world.settlement.settle(hourly.id, seller.connection, desk.positions(seller)[:1], [evidence[seller]])
    assert desk.settle(hourly, seller, evidence).injected_brown_wh == 0


@pytest.mark.parametrize(("area", "local", "everywhere"), [("area", 2, 0), ("other_area", 1, 0), (None, 2, 1)])
def test_overlapping_finds_sessions_of_the_area_and_of_all(settling, area, local, everywhere):
    open_at(settling, BASE, 4, 1, congestion_point_id=settling.area)
    other = open_at(settling, BASE + 2, 2, 1, congestion_point_id=getattr(settling, area) if area else bytes(32))
    assert len(settling.sessions.overlapping(settling.area, BASE, BASE + 3)) == local
    assert len(settling.sessions.overlapping(bytes(32), BASE, BASE + 3)) == everywhere
    spans = settling.sessions.overlapping(getattr(settling, area) if area else settling.area, BASE + 3, BASE + 9)
    assert spans[-1] == {"sessionId": other.id, "firstIsp": BASE + 2, "ispsPerPeriod": 2, "periodCount": 1}
    assert settling.sessions.overlapping(settling.area, BASE + 4, BASE + 9) == []
    assert settling.sessions.overlapping(settling.area, BASE + 2, BASE + 2) == []


def test_overlapping_stands_in_the_order_that_is_collected_off_chain(settling):
    shapes = [(96, 4, 1, True), (92, 4, 2, False), (92, 4, 1, True), (96, 4, 1, False), (40, 4, 20, True)]
    desk = Desk(
        settling,
        *(
            open_at(settling, BASE + first, isps, count, congestion_point_id=settling.area if local else bytes(32))
            for first, isps, count, local in shapes
        ),
    )
    trader = settling.traders[0]
    record = BundleRecord(trader.connection, trader.address, 1, b"bundle", 0)
    records = {
        s.id: SessionRecord(s.id, "", s.first_isp, s.terms, bundles={trader.connection: record}) for s in desk.sessions
    }
    held = held_between(records, trader.connection, settling.area, BASE + 92, BASE + 100)
    spans = settling.sessions.overlapping(settling.area, BASE + 92, BASE + 100)
    assert [h.session.id for h in held] == [s["sessionId"] for s in spans] != sorted(records)


# ---------------------------------------------------------------------- window


def test_settle_widens_the_window_to_whole_periods(settling):
    """A half hour within an hour: the purchase of its other half decides how much of the hour's sale is covered."""
    trader, other = settling.traders[:2]
    hourly = open_at(settling, BASE, 4, 1)
    early, late = open_at(settling, BASE, 2, 1), open_at(settling, BASE + 2, 2, 1)
    desk = Desk(settling, hourly, early, late)
    desk.swap(hourly, 0, trader, other, 500)
    desk.swap(early, 0, other, trader, 400)
    desk.swap(late, 0, other, trader, 400)
    desk.run_auctions()
    settling.evm.now = early.times.delivery_end
    with reverts("DeliveryNotOver", early.id, (BASE + 4) * 900, settling.evm.now):
        settling.settlement.settle(early.id, trader.connection, desk.positions(trader), [])
    evidence = settling.anchor(hourly, {trader: [(0, 0)] * 4})
    with reverts("PositionOmitted", late.id):
        brought = desk.positions(trader)[:2]
        settling.settlement.settle(early.id, trader.connection, brought, [evidence[trader]])
    for order in permutations(range(3)):
        with settling.evm.rolled_back():
            found = {i: desk.settle(desk.sessions[i], trader, evidence) for i in order}
            assert (found[0].covered_wh, found[0].shortage_wh) == (500, 0)
            assert (found[1].surplus_wh, found[2].surplus_wh) == (0, 300)


def test_settle_takes_readings_for_thirty_days(desk):
    seller, evidence = sold_twice(desk)
    until = (BASE + 8) * 900 + 30 * DAY
    desk.world.evm.now = until
    with reverts("ReadingsTooLate", desk.sessions[0].id, until, until):
        desk.settle(desk.sessions[0], seller, evidence)
    desk.world.evm.now = until - 1
    desk.settle(desk.sessions[0], seller, evidence)


@pytest.mark.parametrize("isps", [92, 96, 100])
@pytest.mark.parametrize("first", [BASE + 88, BASE + 94])
def test_settle_nets_over_midnight_and_on_days_of_any_length(settling, isps, first):
    """An hourly session of a local day that begins before midnight UTC, and one of quarter hours across it."""
    seller, buyer = settling.traders[:2]
    hourly, quarters = open_at(settling, first, 4, isps // 4), open_at(settling, BASE + 94, 1, 5)
    desk = Desk(settling, hourly, quarters)
    hour = (BASE + 97 - first) // 4
    desk.swap(hourly, hour, seller, buyer, 950)
    desk.swap(quarters, 3, seller, buyer, 280)
    desk.run_auctions()
    evidence = settling.anchor(hourly, {seller: [*[(0, 0)] * (4 * hour), *[(0, 300)] * 4]}, isps=isps)
    sold, quarter = (desk.settle(session, seller, evidence) for session in desk.sessions)
    assert (quarter.injected_brown_wh, quarter.shortage_wh) == (280, 0)
    assert (sold.injected_brown_wh, sold.shortage_wh) == (920, 30)


# ---------------------------------------------------------------------- twin

SHAPES = [(0, 4, 2), (0, 2, 4), (4, 2, 2), (2, 1, 4), (0, 8, 1), (0, 4, 1)]
"""First ISP, ISPs a period and periods; all within eight ISPs."""
quantities = st.integers(TERMS.min_quantity_wh, 1_500)


@st.composite
def market_days(draw):
    """Sessions by shape, orders of three traders in each, their readings, and in which order all is settled."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=2, max_size=4))
    orders = {}
    for number, (_, _, periods) in enumerate(shapes):
        for trader in range(3):
            rows = st.tuples(
                st.integers(0, 2 * periods - 1), st.integers(0, 1), st.sampled_from([0, 5, 34, 36, 60]), quantities
            )
            if found := draw(st.lists(rows, max_size=4)):
                orders[number, trader] = found
    reading = st.none() | st.tuples(st.integers(0, 900), st.integers(0, 900))
    readings = draw(st.lists(st.lists(reading, min_size=8, max_size=8), min_size=3, max_size=3))
    return shapes, orders, readings, draw(st.permutations(list(orders)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=market_days())
def test_outcomes_of_overlapping_sessions_equal_the_twin_in_any_order(settling, case):
    shapes, orders, readings, sequence = case
    with settling.evm.rolled_back():
        traders = settling.traders[:3]
        for trader in traders:
            settling.set_producer_class(trader, SOLAR)
        desk = Desk(settling, *(open_at(settling, BASE + first, *shape) for first, *shape in shapes))
        for (number, trader), rows in orders.items():
            desk.trade(desk.sessions[number], traders[trader], *rows)
        desk.run_auctions()
        whole_day = SimpleNamespace(first_isp=BASE)
        evidence = settling.anchor(whole_day, dict(zip(traders, readings, strict=True)))
        metered = [MeteredWindow.of(BASE, [*values, *[(0, 0)] * 8]) for values in readings]
        held = {
            number: [
                Position(session.id, span_of(session), desk.fills(session, trader))
                for session in desk.sessions
                if (session.id, trader) in desk.bundles
            ]
            for number, trader in enumerate(traders)
        }
        netted = {number: net(held[number], metered[number]) for number in held}
        for number, trader in sequence:
            session = desk.sessions[number]
            window = window_of(desk, session, traders[trader])
            fills = desk.fills(session, traders[trader])
            state = session.state()
            rates = FinalRates(state["surplusPrice"], state["greenRewardRate"])
            expected = outcome(session.terms, rates, fills, netted[trader].sessions[session.id])
            arguments = (
                *(session.id, traders[trader].connection, desk.positions(traders[trader], *window)),
                [evidence[traders[trader]]],
            )
            previewed, injected = settling.settlement.outcomeOf(*arguments)
            assert Outcome(*previewed.values()) == expected
            assert list(injected) == netted[trader].sessions[session.id].injected_wh
            assert Outcome(*settling.settlement.settle(*arguments).values()) == expected
        for number, trader in enumerate(traders):
            arguments = (trader.connection, BASE, 8, desk.positions(trader, BASE, BASE + 8), [evidence[trader]])
            left = settling.settlement.leftOf(*arguments)
            missing = metered[number].missing[:8]
            assert [list(part) for part in left] == [
                netted[number].import_left_wh[:8],
                netted[number].export_left_wh[:8],
                missing,
            ]
            residual = settling.settlement.residualOf(*arguments)
            expected_residual = residual_wh(held[number], metered[number])[:8]
            assert [list(part) for part in residual] == [expected_residual, missing]
            injected = sum(sum(n.injected_wh) for n in netted[number].sessions.values())
            assert injected == sum(metered[number].export_wh) - sum(netted[number].export_left_wh)
        for session in desk.sessions:
            settling.market.closeSession(session.id)
            assert session.pot == 0


def window_of(desk: Desk, session: OpenSession, trader: Trader) -> tuple[int, int]:
    """By its definition: grown until no period of what the trader holds sticks out."""
    held = [span_of(s) for s in desk.sessions if (s.id, trader) in desk.bundles]
    first, end = session.first_isp, span_of(session).end_isp
    periods = [
        (s.first_isp + k * s.isps_per_period, s.first_isp + (k + 1) * s.isps_per_period)
        for s in held
        for k in range(s.period_count)
    ]
    while True:
        meeting = [(a, b) for a, b in periods if a < end and first < b]
        wider = min([first, *(a for a, _ in meeting)]), max([end, *(b for _, b in meeting)])
        if wider == (first, end):
            return first, end
        first, end = wider


def test_residual_spreads_positions_over_the_isps_asked_for(desk):
    seller, buyer = desk.world.traders[:2]
    hourly, _ = desk.sessions
    desk.swap(hourly, 0, seller, buyer, 1_001)
    desk.run_auctions()
    evidence = desk.world.anchor(hourly, {seller: [(0, 300), (10, 250), None, (0, 250)]})
    arguments = (desk.positions(seller), [evidence[seller]])
    residual, missing = desk.world.settlement.residualOf(seller.connection, BASE, 4, *arguments)
    assert (list(residual), list(missing)) == ([300 - 251, 240 - 250, -250, 0], [False, False, True, False])
    residual, _ = desk.world.settlement.residualOf(seller.connection, BASE + 1, 1, *arguments)
    assert list(residual) == [-10]


def test_left_and_residual_take_readings_from_the_end_of_the_window_for_thirty_days(desk):
    seller, evidence = sold_twice(desk)
    arguments = seller.connection, BASE, 2, desk.positions(seller), [evidence[seller]]
    for function, end_isp in ((desk.world.settlement.leftOf, BASE + 4), (desk.world.settlement.residualOf, BASE + 2)):
        end, until = end_isp * 900, end_isp * 900 + 30 * DAY
        for now, error, bound in ((end - 1, "DeliveryNotOver", end), (until, "ReadingsTooLate", until)):
            desk.world.evm.now = now
            with reverts(error, 0, bound, now):
                function(*arguments)
        desk.world.evm.now = until - 1
        function(*arguments)


def test_left_and_residual_refuse_when_a_position_is_omitted(desk):
    seller, evidence = sold_twice(desk)
    for function in (desk.world.settlement.leftOf, desk.world.settlement.residualOf):
        with reverts("PositionOmitted", desk.sessions[1].id):
            function(seller.connection, BASE, 2, desk.positions(seller)[:1], [evidence[seller]])
    # Without positions of the half hours after them: not asked for.
    brought = desk.positions(seller)[:1]
    assert desk.world.settlement.residualOf(seller.connection, BASE + 4, 2, brought, [evidence[seller]])[0] == [0, 0]


# ---------------------------------------------------------------------- sessions of a day


def test_open_refuses_more_than_32_sessions_of_an_area_and_day(settling):
    budgets = {"surplus_budget": 0, "reward_budget": 0}
    for _ in range(32):
        open_at(settling, BASE, 4, 2, **budgets)
    with reverts("DayFull", bytes(32), BASE // 96, 32):
        open_at(settling, BASE + 8, 4, 2, **budgets)
    with reverts("DayFull", bytes(32), BASE // 96, 32):
        open_at(settling, BASE - 4, 4, 2, BASE - 4, **budgets)
    open_at(settling, BASE + 96, 4, 2, **budgets)
    open_at(settling, BASE, 4, 2, congestion_point_id=settling.area, **budgets)
    assert len(settling.sessions.overlapping(settling.area, BASE, BASE + 1)) == 33
    assert len(settling.sessions.overlapping(bytes(32), BASE, BASE + 97)) == 33


def test_settle_copes_with_all_sessions_that_a_day_may_have(settling):
    seller, buyer = settling.traders[:2]
    desk = Desk(settling, *(open_at(settling, BASE, 4, 1) for _ in range(32)))
    for session in desk.sessions:
        desk.swap(session, 0, seller, buyer, 100)
    desk.run_auctions()
    evidence = settling.anchor(desk.sessions[0], {seller: [(0, 1_050)]})
    found = [desk.settle(session, seller, evidence).injected_brown_wh for session in desk.sessions]
    assert found == [100] * 10 + [50] + [0] * 21


@pytest.mark.parametrize(
    ("first", "length", "other"),
    [(1, 4, (4, 0)), (2, 4, (4, 0)), (1, 2, (4, 0)), (0, 3, (4, 0)), (0, 6, (4, 0)), (4, 8, None), (1, 1, None)],
)
def test_open_refuses_periods_that_cut_others(settling, first, length, other):
    open_at(settling, BASE, 4, 2)
    if other is None:
        open_at(settling, BASE + first, length, 1)
        return
    with reverts("PeriodsCross", BASE // 96, length, (BASE + first) % length, *other):
        open_at(settling, BASE + first, length, 1)
    open_at(settling, BASE + 96 + first, length, 1)


def test_open_refuses_a_ninth_length_of_a_day(settling):
    for power in range(8):
        open_at(settling, BASE, 2**power, 1)
    open_at(settling, BASE, 8, 2)
    far = (BASE // 256 + 1) * 256
    with reverts("PeriodsCross", BASE // 96, 256, BASE % 256, 0, 0):
        open_at(settling, BASE, 256, 1)
    open_at(settling, far + 192, 256, 1)


def test_open_refuses_sessions_longer_than_a_week_and_settlement_longer_than_records(settling):
    with reverts("TermsInvalid", LEAD, TERMS.acceptance_seconds, 6, 113):
        settling.sessions.open(
            replace_unchecked(isps_per_period=6, period_count=113), BASE, sender=settling.operator.address
        )
    with reverts("SettlementTooLong", 23 * DAY + 1, 23 * DAY):
        settling.sessions.open(
            replace_unchecked(readings_due_seconds=15 * DAY, settlement_seconds=8 * DAY + 1),
            *(BASE,),
            sender=settling.operator.address,
        )
    open_at(settling, BASE, 6, 112)


def replace_unchecked(**changed) -> tuple:
    """Terms as the contract takes them, which the twin would refuse."""
    names = list(TERMS.__dataclass_fields__)
    fields = list(replace(TERMS, gate_lead_seconds=LEAD).as_tuple())
    for name, value in changed.items():
        fields[names.index(name)] = value
    return tuple(fields)


# ---------------------------------------------------------------------- proposer


@pytest.fixture
def proposed(desk):
    """A batch with an outcome of the hourly session, true or as if the other session were not there."""
    world = desk.world
    proposer = world.traders[4]
    world.proposer.stake(MINIMUM, sender=proposer.address)
    seller, evidence = sold_twice(desk)
    hourly = desk.sessions[0]
    bundle = desk.bundles[hourly.id, seller]
    arguments = (hourly.id, seller.connection, desk.positions(seller), [evidence[seller]])
    found, injected = world.settlement.outcomeOf(*arguments)
    true = {"connectionId": seller.connection, "bundle": bundle, "outcome": found, "injectedWh": list(injected)}
    as_if_alone = found | {"injectedBrownWh": 1_000, "shortageWh": 0, "charges": 5_000}
    as_if_alone["payout"] = found["guarantee"] + found["receipts"] - 5_000
    false = true | {"outcome": as_if_alone, "injectedWh": [1_000, 0, 0, 0]}
    world.evm.now = max(world.evm.now, hourly.times.readings_due) + 3 * 3_600
    return world, hourly, proposer, seller, arguments, true, false


def propose_and_challenge(world, hourly, proposer, outcome_) -> int:
    root = world.proposer.leafOf(hourly.id, outcome_)
    world.proposer.propose(hourly.id, root, 1, b"\1" * 32, sender=proposer.address)
    return world.proposer.challenge(hourly.id, outcome_, [], sender=world.traders[3].address)


def test_answer_proves_a_fraud_that_forgets_another_session(proposed):
    world, hourly, proposer, _, (_, _, positions, meter_days), _, false = proposed
    number = propose_and_challenge(world, hourly, proposer, false)
    with reverts("PositionOmitted", positions[1]["sessionId"]):
        world.proposer.answer(number, false, positions[:1], meter_days)
    world.proposer.answer(number, false, positions, meter_days)
    assert world.evm.event("FraudProven")["stake"] == MINIMUM


def test_answer_upholds_a_netted_outcome_and_its_claim_counts_for_the_other_session(desk, proposed):
    world, hourly, proposer, seller, (_, _, positions, meter_days), true, _ = proposed
    number = propose_and_challenge(world, hourly, proposer, true)
    world.proposer.answer(number, true, positions, meter_days)
    world.evm.event("ChallengeRejected")
    world.evm.now += CHALLENGE
    world.proposer.claim(hourly.id, true, [])
    found = world.settlement.settle(desk.sessions[1].id, seller.connection, positions, meter_days)
    assert (found["injectedBrownWh"], found["shortageWh"]) == (1_000, 0)
