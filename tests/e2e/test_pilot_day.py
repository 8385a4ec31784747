"""A whole day, from forecast to payout.

default → violation before, none after; penalties, reassignments and missing readings occur; money adds up
another grid and seed → the other direction; same seed → same report; another seed → another
no congestion → nothing requested, metered and anchored all the same
few offers → orange, direct orders at the regulated rate, green at the end; no offer → request expires
oracle dead for an hour → those readings are missing, nobody is paid for them
"""

import json

import numpy as np
import pytest
from eth_hash.auto import keccak

from offchain.domain.units import cost_down
from offchain.pilot import PilotConfig
from offchain.pilot.report import write_report
from tests.e2e.days import NOON_SEED, live, without_wall_time

CONGESTION = {"max_loading_percent": float, "min_voltage_pu": float, "max_voltage_pu": float, "violated_isps": int}
QUALITY = {
    "group": str,
    "horizon": str,
    "series": int,
    **dict.fromkeys(
        (
            *("relative_mae", "relative_mae_weekly_naive", "relative_mae_persistence"),
            *("share_better_than_weekly_naive", "share_better_than_persistence"),
            *("relative_pinball", "rcrps", "coverage"),
        ),
        float,
    ),
}
GROUP_BASELINE = {
    "group": str,
    "connections": int,
    "events": int,
    **dict.fromkeys(
        ("bias_percent", "bias_error_percent", "cv_rmse_percent", "known_bias_percent", "day_bias_percent"), float
    ),
}
RUN = dict.fromkeys(("sha256", "inputs", "outputs"), str)
ENERGY = ("bought_wh", "sold_wh", "injected_wh", "covered_wh", "shortage_wh", "surplus_wh")
PRICE = {"lowest": int, "highest": int}
"""Absent from a session that matched nothing."""
SESSION = {
    "delivery": str,
    "matched_wh": {"brown": int, "green": int},
    **dict.fromkeys(("session", "periods", "period_minutes", "traders", "orders", *ENERGY), int),
}
SCHEMA = {
    "schema": int,
    "grid": {"code": str, "buses": int, "connections": int, "prosumers": int},
    "day": str,
    "isps": int,
    "congestion": {"element": str, "before": CONGESTION, "after": CONGESTION},
    "energy_wh": dict.fromkeys(("requested", "ordered", "delivered", "shortfall", "reassigned"), int),
    "baseline": {
        "method": str,
        "isps": int,
        "connections": int,
        "bias_percent": float,
        "cv_rmse_percent": float,
        "single_cv_rmse_percent": float,
        "groups": [GROUP_BASELINE],
    },
    "forecast": {
        "method": str,
        "issued_at": str,
        "runs": {"connections": RUN, "groups": RUN},
        "basis": {"own history": int},
        "quality": [QUALITY],
    },
    "money_utoken": dict.fromkeys(
        (
            "escrowed",
            "rewards",
            "penalties",
            "dso_paid",
            "aggregators_net",
            "prosumers_net",
            "returned",
            "residual",
        ),
        int,
    ),
    "trading": {
        "sessions": [SESSION],
        "day_ahead_alone": {"shortage_wh": int, "surplus_wh": int},
        "matched_wh": {"brown": int, "green": int},
        "price_utoken_per_kwh": PRICE,
        **dict.fromkeys(
            (
                *("traders", "by_rule", "orders", "rejections"),
                *ENERGY,
                *("paid_utoken", "received_utoken", "charges_utoken", "rewards_utoken", "fees_utoken"),
                *("operator_net_utoken", "residual_utoken", "gas_per_order", "gas_per_order_by_rule"),
            ),
            int,
        ),
    },
    "chain": {
        "transactions": int,
        "gas_used": int,
        "readings_anchored": int,
        "gas_per_reading": float,
        "gas_per_prosumer_settled": int,
    },
    "audit": {"ok": bool, "checked": dict, "mismatches": list},
    "wall_seconds": float,
}
ORANGE, GREEN = 2, 0


def shape(value, schema):
    """Keys and types of a report, by those of the schema."""
    if isinstance(schema, dict):
        return {key: shape(item, schema.get(key)) for key, item in value.items()}
    if isinstance(schema, list) and value:
        (each,) = schema
        assert all(shape(item, each) == each for item in value)
        return schema
    return type(value)


ALL_DAYS = ("evening", "noon", "quiet", "few_offers", "no_offers", "dead_oracle")


@pytest.fixture(params=ALL_DAYS)
def any_day(request):
    return request.getfixturevalue(request.param)


# ------------------------------------------------------------------ every day


def test_run_audits_clean_on_every_day(any_day):
    assert any_day.report["audit"]["ok"] is True
    assert any_day.report["audit"]["mismatches"] == []
    assert any_day.report["audit"]["checked"]["conservation"] > 0


def test_run_conserves_money_on_every_day(any_day):
    money = any_day.report["money_utoken"]
    assert money["residual"] == 0
    assert money["dso_paid"] == money["aggregators_net"] + money["prosumers_net"]


def test_run_trades_and_leaves_nothing_in_the_pot_on_every_day(any_day):
    trading = any_day.report["trading"]
    assert trading["residual_utoken"] == 0
    split_wh = trading["injected_wh"] + trading["covered_wh"] + trading["shortage_wh"]
    assert split_wh == trading["sold_wh"] <= sum(trading["matched_wh"].values())
    assert len(any_day.named("SessionClosed")) == len(trading["sessions"])


def test_run_trades_the_day_before_and_on_the_day_on_every_day(any_day):
    first, *intraday = any_day.report["trading"]["sessions"]
    assert (first["period_minutes"], first["periods"]) == (60, any_day.report["isps"] // 4)
    assert len(intraday) == 4
    assert {(s["period_minutes"], s["periods"]) for s in intraday} == {(30, 8)}
    placed = {(e["sessionId"], e["connectionId"]) for e in any_day.named("PlacedByRule")}
    assert {session_id for session_id, _ in placed} >= {first["session"]}
    for session in any_day.report["trading"]["sessions"]:
        assert session["injected_wh"] + session["covered_wh"] + session["shortage_wh"] == session["sold_wh"]


def test_run_pays_what_the_events_say_on_every_day(any_day):
    money, verdicts = any_day.report["money_utoken"], any_day.verdicts().values()
    finalised = any_day.named("FlexOrderFinalised")
    paid = sum(e["paid"] - e["penalty"] for e in finalised)
    orders = {order.id: order for order in any_day.orders}
    direct = sum(v["net"] + v["bonus"] for i, v in any_day.verdicts().items() if orders[i].terms["agreementId"] == 0)
    assert money["prosumers_net"] == sum(v["net"] + v["bonus"] for v in verdicts)
    assert money["dso_paid"] == paid + direct
    assert money["escrowed"] - money["returned"] == sum(e["paid"] for e in finalised)


def test_run_orders_no_more_than_requested_on_every_day(any_day):
    energy = any_day.report["energy_wh"]
    assert 0 <= energy["ordered"] <= energy["requested"]
    assert 0 <= energy["delivered"] <= energy["ordered"]
    assert energy["shortfall"] == energy["ordered"] - energy["delivered"]


def test_run_settles_every_order_once_on_every_day(any_day):
    settled = [e["prosumerOrderId"] for e in any_day.named("ProsumerSettled")]
    assert sorted(settled) == sorted(order.id for order in any_day.orders)


def test_run_leaves_no_batch_unconfirmed_on_every_day(any_day):
    assert len(any_day.named("DayAnchored")) == 1
    report = any_day.report
    assert report["chain"]["readings_anchored"] == report["grid"]["connections"] * report["isps"] - int(
        any_day.missing().sum()
    )


# ------------------------------------------------------------------ default


def test_report_has_exactly_the_agreed_keys_and_types(evening, tmp_path):
    write_report(evening.result, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    prices = [session.pop("price_utoken_per_kwh") for session in report["trading"]["sessions"]]
    assert {shape(price, PRICE) == PRICE for price in prices if price is not None} == {True}
    assert shape(report, SCHEMA) == SCHEMA
    assert report["schema"] == 1
    assert all(isinstance(count, int) for count in report["audit"]["checked"].values())


def test_run_removes_the_violation_by_default(evening):
    before, after = evening.report["congestion"]["before"], evening.report["congestion"]["after"]
    assert before["violated_isps"] > 0
    assert before["max_loading_percent"] > 100
    assert after["violated_isps"] == 0
    assert after["max_loading_percent"] <= 100
    assert 0.9 <= after["min_voltage_pu"] <= after["max_voltage_pu"] <= 1.1


def test_run_shows_what_goes_wrong_by_default(evening):
    energy, money = evening.report["energy_wh"], evening.report["money_utoken"]
    assert energy["shortfall"] > 0
    assert energy["reassigned"] > 0
    assert money["penalties"] > 0
    assert money["rewards"] > 0
    assert evening.missing().any()
    assert any(v["missingWh"] for v in evening.verdicts().values())
    assert any(v["bonus"] for v in evening.verdicts().values())


def test_run_has_a_hundred_prosumers_and_two_aggregators_by_default(evening):
    assert evening.report["grid"]["prosumers"] >= 100
    assert len({e["aggregator"] for e in evening.named("FlexOrdered")}) >= 2


def test_run_keeps_the_dead_meter_in_the_batch_without_a_value(evening):
    world = evening.pilot.world
    dead = [m for m, fault in evening.pilot.delivery.faults.items() if fault == "meter dead all day"]
    assert dead
    positions = [p.position for p in world.cast.prosumers if p.meter_id in dead]
    assert evening.missing()[positions].all()


def test_run_plans_by_forecasts_that_beat_weekly_naive_by_default(evening):
    quality = {(row["group"], row["horizon"]): row for row in evening.report["forecast"]["quality"]}
    assert {group for group, _ in quality} == {"connections", "congestion point", "aggregator A", "aggregator B"}
    for row in quality.values():
        assert row["relative_mae"] < row["relative_mae_weekly_naive"]
    assert quality["connections", "day_ahead_isp"]["series"] == evening.report["grid"]["connections"]
    assert quality["congestion point", "day_ahead_isp"]["relative_mae"] < 0.2


def test_run_commits_the_digest_of_the_forecasts_that_it_planned_by(evening):
    runs, made_by = (evening.report["forecast"][key] for key in ("runs", "method"))
    method = {name: keccak(f"{made_by}#{run['sha256'][:40]}".encode()) for name, run in runs.items()}
    committed = [(e["kind"], e["method"]) for e in evening.named("Committed")]
    assert committed.count((2, method["connections"])) == 2  # D-prognoses of both aggregators
    assert committed.count((0, method["groups"])) == 1
    assert {method for kind, method in committed if kind == 1} == {keccak(b"weighted_10@1")}


def test_run_has_baselines_of_groups_within_one_percent(evening, noon):
    for day in (evening, noon):
        for group in day.report["baseline"]["groups"]:
            assert group["events"] > 200
            assert abs(group["bias_percent"]) <= 1


# ------------------------------------------------------------------ other seed, other grid


def test_run_removes_the_violation_downwards_on_another_grid(noon):
    before, after = noon.report["congestion"]["before"], noon.report["congestion"]["after"]
    assert noon.result.details["direction"] == "DOWN"
    assert noon.report["grid"]["code"] == "1-LV-rural1--2-sw"
    assert before["max_loading_percent"] > 200
    assert (before["violated_isps"] > 0, after["violated_isps"]) == (True, 0)


def test_run_gives_the_same_report_when_the_seed_is_the_same(noon, noon_by_command):
    folder, done = noon_by_command
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert without_wall_time(again) == without_wall_time(json.loads(json.dumps(noon.report)))
    assert again == json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_run_gives_another_report_when_the_seed_is_another(noon, days_root):
    other = live(PilotConfig(scenario="noon", seed=NOON_SEED + 1, out=days_root / "other-seed"))
    assert other.report["audit"]["ok"]
    assert other.report["grid"] == noon.report["grid"]
    assert other.report["money_utoken"] != noon.report["money_utoken"]
    before, after = other.report["congestion"]["before"], other.report["congestion"]["after"]
    assert before["violated_isps"] > after["violated_isps"] == 0


# ------------------------------------------------------------------ no congestion


def test_run_requests_nothing_when_there_is_no_congestion(quiet):
    assert set(quiet.report["energy_wh"].values()) == {0}
    assert set(quiet.report["money_utoken"].values()) == {0}
    assert quiet.report["congestion"]["before"]["violated_isps"] == 0
    assert quiet.named("RequestPublished") == []
    assert quiet.named("RegimeChanged") == []
    assert quiet.report["chain"]["gas_per_prosumer_settled"] is None


def test_run_meters_anchors_and_commits_when_there_is_no_congestion(quiet):
    assert quiet.report["chain"]["readings_anchored"] == quiet.report["grid"]["connections"] * 96
    assert len(quiet.named("DayAnchored")) == 1
    assert quiet.named("Committed")


# ------------------------------------------------------------------ few or no offers


@pytest.fixture(params=("few_offers", "no_offers"))
def short_market(request):
    return request.getfixturevalue(request.param)


def test_run_turns_orange_and_green_again_when_offers_are_too_few(short_market):
    regimes = [e["regime"] for e in short_market.named("RegimeChanged")]
    assert regimes.index(ORANGE) < len(regimes) - 1
    assert regimes[-1] == GREEN
    assert all(e["reason"] for e in short_market.named("RegimeChanged"))


def test_run_is_green_again_when_the_congestion_is_over(evening):
    last = evening.named("RegimeChanged")[-1]
    needed = np.flatnonzero(evening.pilot.ahead.need.quantity_wh)
    assert last["regime"] == GREEN
    assert last["fromIsp"] == evening.pilot.world.day.first_isp + needed[-1] + 1


def test_run_controls_directly_what_the_market_left_open(short_market):
    uncovered = short_market.pilot.ahead.uncovered_wh
    direct = [order for order in short_market.orders if order.terms["agreementId"] == 0]
    assert direct
    per_isp = np.sum([order.quantities_wh() for order in direct], axis=0)
    assert (per_isp <= uncovered).all()
    assert per_isp.sum() == short_market.result.details["direct_wh"] == uncovered.sum()
    market = {o.meter_id for o in short_market.orders if o.terms["agreementId"] and not o.terms["replaces"]}
    assert market.isdisjoint(o.meter_id for o in direct)


def test_run_compensates_direct_control_at_the_regulated_rate(short_market):
    rate = short_market.pilot.config.prices.regulated_rate
    verdicts = short_market.verdicts()
    for order in short_market.orders:
        if order.terms["agreementId"] == 0:
            verdict = verdicts[order.id]
            assert order.terms["rewardRate"] == rate
            assert verdict["reward"] == cost_down(verdict["rewardedWh"], rate)
            assert verdict["penalty"] == 0


def test_run_removes_the_violation_when_offers_are_too_few(few_offers):
    assert few_offers.named("OfferPlaced")
    assert few_offers.report["congestion"]["before"]["violated_isps"] > 0
    assert few_offers.report["congestion"]["after"]["violated_isps"] == 0


def test_run_expires_the_request_when_nobody_offers(no_offers):
    assert no_offers.named("OfferPlaced") == []
    assert no_offers.named("FlexOrdered") == []
    (closed,) = no_offers.named("RequestClosed")
    assert closed["orderedWh"] == 0
    assert closed["budgetReturned"] == no_offers.report["money_utoken"]["escrowed"] > 0
    assert no_offers.report["money_utoken"]["aggregators_net"] == 0
    before, after = no_offers.report["congestion"]["before"], no_offers.report["congestion"]["after"]
    assert after["violated_isps"] < before["violated_isps"] / 4


def test_run_goes_on_when_an_aggregator_has_no_member(days_root):
    alone = live(PilotConfig(scenario="noon", seed=5, participation=0.25, out=days_root / "alone"))
    assert len({owner for _, owner in alone.pilot.world.member_of.values()}) == 1
    assert alone.report["audit"]["ok"]


# ------------------------------------------------------------------ dead oracle


def test_run_names_the_readings_that_a_dead_oracle_lost(dead_oracle):
    # Down for the ISPs 50 to 53: their ends were not read, and so neither was the start of the one after.
    expected = np.zeros((dead_oracle.report["grid"]["connections"], dead_oracle.report["isps"]), dtype=bool)
    expected[:, 50:55] = True
    assert (dead_oracle.missing() == expected).all()
    assert dead_oracle.result.details["missing_readings"] == expected.sum()


def test_run_pays_nobody_for_readings_that_a_dead_oracle_lost(dead_oracle):
    verdicts = dead_oracle.verdicts()
    lost_wh = 0
    lost_of_market_wh = 0  # without what the DSO ordered directly
    finalised = dead_oracle.named("FlexOrderFinalised")
    flex_orders = {event["flexOrderId"] for event in finalised}
    for order in dead_oracle.orders:
        due = np.subtract(order.quantities_wh(), order.taken_wh())
        verdict = verdicts[order.id]
        assert verdict["missingWh"] == due[50:55].sum()
        assert verdict["creditedWh"] <= due.sum() - due[50:55].sum()
        if not order.terms["missingIsShortfall"]:
            outside = sum(order.quantities_wh()) - due[50:55].sum()
            assert verdict["penalisedWh"] <= outside
        lost_wh += verdict["missingWh"]
        if order.group_id in flex_orders:
            lost_of_market_wh += verdict["missingWh"]
    assert lost_wh > 0
    assert sum(e["missingWh"] for e in finalised) == lost_of_market_wh > 0
