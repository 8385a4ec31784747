"""TradingRules: registered once, every order checked against rule and forecast."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.chain.errors import ContractRevertedError
from offchain.chain.signatures import TRADING_RULE, rules_domain, sign
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.orders import pack_bundle
from offchain.market.terms import EnergyType
from offchain.market.trading_rules import TradingRule
from tests.market.settling import FORECAST, meter_of
from tests.market.world import BUY, SELL, SOLAR, Trader, bundle_of, price_tick
from tests.utils.evm import CHAIN_ID, reverts

NOBODY = "0x" + "0" * 40
UNTIL = 2**40 - 1
# Net consumption of 8 ISPs, two a period: 400 Wh to buy, 600 Wh to sell, nothing, 100 Wh to buy.
FORECAST_WH = [200, 200, -300, -300, 0, 0, 50, 50]
AT = price_tick(120_000)


@pytest.fixture
def session(settling):
    settling.set_producer_class(settling.traders[0], SOLAR)
    return settling.open()


def rule_of(world, trader: Trader, **changed):
    return {
        "connectionId": trader.connection,
        "agent": world.outsider.address,
        "forecaster": world.forecaster.address,
        "number": 1,
        "validFrom": 0,
        "validUntil": UNTIL,
        "shareBps": 5_000,
        "greenOnly": False,
        "buyLimits": [120_000] * 24,
        "sellLimits": [100_000] * 24,
    } | changed


def register(world, trader: Trader, **changed):
    rule = rule_of(world, trader, **changed)
    world.rules.register(rule, b"", sender=trader.address)
    return rule


def place(world, session, rule, bundle: bytes, *, forecast=None, sender=None):
    trader = world.traders[0]
    forecast = forecast or world.commit_forecast(session, {trader: FORECAST_WH})[trader]
    world.rules.place(rule, session.id, bundle, forecast, sender=(sender or world.outsider).address)


def test_place_submits_orders_within_the_rule(settling, session):
    trader = settling.traders[0]
    rule = register(settling, trader)
    bundle = bundle_of((0, BUY, AT, 200), (5, SELL, price_tick(100_000), 300))
    place(settling, session, rule, bundle)
    submitted = settling.evm.event("BundleSubmitted")
    assert (submitted["trader"], submitted["bundle"]) == (trader.address, bundle)
    assert settling.evm.event("PlacedByRule")["agent"] == settling.outsider.address


def test_place_trades_an_hour_of_a_forecast_in_one_session_only(settling, session):
    """Half of the forecast is half of it, in however many sessions the same hours are traded."""
    trader = settling.traders[0]
    rule = register(settling, trader)
    forecast = settling.commit_forecast(session, {trader: FORECAST_WH})[trader]
    bundle = bundle_of((0, BUY, AT, 200))
    place(settling, session, rule, bundle, forecast=forecast)
    overlapping = settling.open()
    with reverts("ForecastTraded", trader.connection, forecast["commitmentId"], session.first_isp):
        place(settling, overlapping, rule, bundle, forecast=forecast)
    assert overlapping.bundle(trader)["sequence"] == 0
    place(settling, overlapping, rule, bundle)  # by another forecast


@pytest.mark.parametrize("first", [252, 256])
def test_place_trades_each_isp_of_a_long_forecast_once(settling, session, first):
    """Sessions of 8 ISPs about the 256th of a forecast, one after the other, and one that cuts two of them."""
    trader = settling.traders[0]
    rule = register(settling, trader)
    forecast = settling.commit_forecast(session, {trader: [200] * 300})[trader]
    opening, bundle = settling.evm.now, bundle_of((0, BUY, AT, 200))
    for position in (first, first - 8, first + 8, first + 4):
        settling.evm.now = opening + position * SECONDS_PER_ISP
        later = settling.open()
        assert later.first_isp == session.first_isp + position
        if position == first + 4:
            with reverts("ForecastTraded", trader.connection, forecast["commitmentId"], later.first_isp):
                place(settling, later, rule, bundle, forecast=forecast)
        else:
            place(settling, later, rule, bundle, forecast=forecast)


@given(
    net_wh=st.lists(st.integers(-900, 900), min_size=8, max_size=8),
    share_bps=st.integers(0, 10_000),
    green_only=st.booleans(),
    limits=st.lists(st.none() | st.integers(-60_000, 460_000), min_size=48, max_size=48),
)
def test_place_takes_whatever_the_client_makes_of_a_forecast(settling_deployed, net_wh, share_bps, green_only, limits):
    world = settling_deployed
    with world.evm.rolled_back():
        trader, session = world.traders[0], world.open()
        rule = TradingRule(
            *(trader.connection, world.outsider.address, world.forecaster.address, 1, 0, UNTIL, share_bps, green_only),
            *(tuple(limits[:24]), tuple(limits[24:])),
        )
        assert TradingRule.of_argument(rule.as_argument()) == rule
        book = rule.orders(
            session.terms, session.first_isp, np.array(net_wh), buys=EnergyType.BROWN, sells=EnergyType.BROWN
        )
        if not len(book):
            return
        world.rules.register(rule.as_argument(), b"", sender=trader.address)
        forecast = world.commit_forecast(session, {trader: net_wh})[trader]
        bundle = pack_bundle(session.terms.grid, book)
        larger = book.copy()
        larger["quantity_wh"][0] += 1
        with pytest.raises(ContractRevertedError, match="ShareExceeded"):
            world.rules.place(rule.as_argument(), session.id, larger.tobytes(), forecast, sender=world.outsider.address)
        world.rules.place(rule.as_argument(), session.id, bundle, forecast, sender=world.outsider.address)
        assert world.evm.event("BundleSubmitted")["bundle"] == bundle


def test_register_takes_the_owners_signature_from_anyone(settling):
    trader = settling.traders[0]
    rule = rule_of(settling, trader)
    domain = rules_domain(CHAIN_ID, settling.rules.address)
    settling.rules.register(rule, sign(TRADING_RULE.digest(domain, rule), trader.key), sender=settling.outsider.address)
    assert settling.rules.ruleOf(trader.connection) == (1, True)


def test_register_refuses_the_signature_of_another(settling):
    trader = settling.traders[0]
    rule = rule_of(settling, trader)
    domain = rules_domain(CHAIN_ID, settling.rules.address)
    signature = sign(TRADING_RULE.digest(domain, rule), settling.traders[1].key)
    with reverts("RuleSignatureInvalid", trader.connection, trader.address):
        settling.rules.register(rule, signature, sender=settling.outsider.address)


def test_register_refuses_an_old_number(settling):
    trader = settling.traders[0]
    register(settling, trader, number=3)
    with reverts("RuleOutdated", trader.connection, 3, 3):
        register(settling, trader, number=3)


def test_register_refuses_a_connection_that_was_decommissioned_and_while_paused(settling):
    trader = settling.traders[0]
    with settling.evm.rolled_back():
        settling.grid.decommissionConnection(trader.connection, sender=settling.dso.address)
        with reverts("ConnectionUnknown", trader.connection):
            register(settling, trader)
    settling.rules.pause(sender=settling.admin.address)
    with reverts("EnforcedPause"):
        register(settling, trader)


def test_revoke_ends_a_rule(settling, session):
    trader = settling.traders[0]
    rule = register(settling, trader)
    with reverts("NotOwnerOfRule", trader.connection, settling.outsider.address):
        settling.rules.revoke(trader.connection, sender=settling.outsider.address)
    settling.rules.revoke(trader.connection, sender=trader.address)
    with reverts("RuleNotInForce", trader.connection, 1):
        settling.rules.revoke(trader.connection, sender=trader.address)
    with reverts("RuleNotInForce", trader.connection, 1):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)))
    with reverts("RuleOutdated", trader.connection, 1, 1):
        settling.rules.register(rule, b"", sender=trader.address)


def test_place_refuses_a_rule_that_was_changed(settling, session):
    trader = settling.traders[0]
    rule = register(settling, trader) | {"shareBps": 10_000}
    with reverts("RuleNotInForce", trader.connection, 1):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)))


def test_place_refuses_another_agent_unless_anyone_may(settling, session):
    trader = settling.traders[0]
    rule = register(settling, trader)
    with reverts("NotAgentOf", trader.connection, settling.operator.address, settling.outsider.address):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)), sender=settling.operator)
    rule = register(settling, trader, number=2, agent=NOBODY)
    place(settling, session, rule, bundle_of((0, BUY, AT, 100)), sender=settling.operator)


def test_place_refuses_a_rule_outside_its_time(settling, session):
    trader, now = settling.traders[0], settling.evm.now
    rule = register(settling, trader, validFrom=now + 1, validUntil=now + 1)
    with reverts("RuleNotValidNow", now + 1, now + 1, now):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)))
    settling.evm.now = now + 2
    with reverts("RuleNotValidNow", now + 1, now + 1, now + 2):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)))
    settling.evm.now = now + 1
    place(settling, session, rule, bundle_of((0, BUY, AT, 100)))


def test_place_refuses_while_rules_are_paused_and_the_owner_goes_on(settling, session):
    trader, bundle = settling.traders[0], bundle_of((0, BUY, AT, 100))
    rule = register(settling, trader)
    settling.rules.pause(sender=settling.admin.address)
    with reverts("EnforcedPause"):
        place(settling, session, rule, bundle)
    session.submit(trader, bundle)
    settling.rules.revoke(trader.connection, sender=trader.address)


@pytest.mark.parametrize(
    ("bundle", "error", "arguments"),
    [
        (bundle_of((0, BUY, AT + 1, 100)), "LimitBroken", (0, 125_000, 120_000)),
        (bundle_of((0, BUY, AT, 100), (5, SELL, price_tick(95_000), 100)), "LimitBroken", (1, 95_000, 100_000)),
        (bundle_of((0, BUY, AT, 150), (4, BUY, AT, 51)), "ShareExceeded", (0, 51, 50)),
        (bundle_of((1, SELL, AT, 301)), "ShareExceeded", (1, 301, 300)),
        (bundle_of((0, SELL, AT, 10)), "ShareExceeded", (0, 10, 0)),
        (bundle_of((2, BUY, AT, 10)), "ShareExceeded", (2, 10, 0)),
    ],
)
def test_place_refuses_orders_outside_the_rule(settling, session, bundle, error, arguments):
    rule = register(settling, settling.traders[0])
    with reverts(error, *arguments):
        place(settling, session, rule, bundle)


def test_place_goes_by_the_hour_of_delivery(settling, session):
    trader = settling.traders[0]
    hour = session.first_isp * SECONDS_PER_ISP // 3_600 % 24
    limits = [-(2**63)] * 24
    limits[hour] = 120_000
    rule = register(settling, trader, buyLimits=limits)
    late = next(p for p in (1, 2, 3) if (session.first_isp + 2 * p) // 4 % 24 != hour)
    if late == 3:  # the only later period that buys
        with reverts("LimitBroken", 0, 120_000, -(2**63)):
            place(settling, session, rule, bundle_of((3, BUY, AT, 10)))
    place(settling, session, rule, bundle_of((0, BUY, AT, 100)))


def test_place_buys_only_green_when_the_rule_says_so(settling, session):
    rule = register(settling, settling.traders[0], greenOnly=True)
    with reverts("NotGreen", 0, 0):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)))
    place(settling, session, rule, bundle_of((4, BUY, AT, 100), (1, SELL, AT, 100)))


def test_place_leaves_alone_what_the_owner_did(settling, session):
    trader = settling.traders[0]
    rule = register(settling, trader)
    own = bundle_of((0, BUY, AT, 100))
    session.submit(trader, own)
    session.submit(trader, b"", own)
    with reverts("OwnOrdersStand", session.id, trader.connection):
        place(settling, session, rule, own)


def test_place_refuses_forecasts_of_others(settling, session):
    trader, other = settling.traders[:2]
    rule = register(settling, trader, forecaster=settling.operator.address)
    forecasts = settling.commit_forecast(session, {trader: FORECAST_WH, other: FORECAST_WH})
    bundle = bundle_of((0, BUY, AT, 100))
    number = forecasts[trader]["commitmentId"]
    with reverts("ForecastNotUsable", number, settling.forecaster.address, settling.operator.address):
        place(settling, session, rule, bundle, forecast=forecasts[trader])
    rule = register(settling, trader, number=2)
    with reverts("ForecastMismatch", meter_of(other), session.first_isp, 8):
        place(settling, session, rule, bundle, forecast=forecasts[other])


def test_place_refuses_what_was_not_committed_as_a_forecast(settling, session):
    trader = settling.traders[0]
    rule = register(settling, trader)
    for kind in range(FORECAST + 1, 4):
        committed = settling.commit_forecast(session, {trader: FORECAST_WH}, kind=kind)[trader]
        forecaster = settling.forecaster.address
        with reverts("ForecastNotUsable", committed["commitmentId"], forecaster, forecaster):
            place(settling, session, rule, bundle_of((0, BUY, AT, 100)), forecast=committed)


def test_place_refuses_a_forecast_longer_than_what_was_said_of_it(settling, session):
    trader = settling.traders[0]
    rule = register(settling, trader)
    forecast = settling.commit_forecast(session, {trader: FORECAST_WH}, count=6)[trader]
    with reverts("ForecastMismatch", meter_of(trader), session.first_isp, 6):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)), forecast=forecast)


def test_place_refuses_a_forecast_that_was_not_committed(settling, session):
    trader = settling.traders[0]
    rule = register(settling, trader)
    forecast = settling.commit_forecast(session, {trader: FORECAST_WH})[trader]
    with pytest.raises(Exception, match="LeafNotCommitted"):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)), forecast=forecast | {"values": bytes(32)})


def test_place_refuses_a_forecast_that_does_not_hold_the_session(settling, session):
    trader = settling.traders[0]
    rule = register(settling, trader)
    short = settling.commit_forecast(session, {trader: FORECAST_WH[:6]})[trader]
    with reverts("ForecastMismatch", meter_of(trader), session.first_isp, 6):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)), forecast=short)
    late = settling.commit_forecast(session, {trader: FORECAST_WH}, late=1)[trader]
    with reverts("ForecastMismatch", meter_of(trader), session.first_isp + 1, 8):
        place(settling, session, rule, bundle_of((0, BUY, AT, 100)), forecast=late)
