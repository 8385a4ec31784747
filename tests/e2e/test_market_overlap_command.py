"""A day-ahead and an intraday session of the same hours, by commands, on a chain of their own.

The seller of the day before buys back in the intraday session what it cannot inject: it is covered, nobody is short.
"""

import json
from dataclasses import replace

import pytest

from offchain.market.orders import orders
from offchain.market.terms import EnergyType, SessionTimes
from offchain.pilot import PilotConfig, PilotDay
from tests.e2e.operated import AT_150, MARKET_DAY_ISPS, Operated, anchor_day

AT_200 = 50
"""Tick of 0.200 token/kWh."""


@pytest.fixture(scope="module")
def operated(days_root, tmp_path_factory):
    with PilotDay(PilotConfig(scenario="noon", out=days_root / "overlap")) as day:
        day.enrol()
        yield Operated(day, tmp_path_factory.mktemp("overlap"))


@pytest.fixture(scope="module")
def day(operated):
    """Both sessions as they stand when the gates are about to close; delivery in five hours."""
    world, first_isp = operated.world, -(-operated.first_isp // 4) * 4 + 16
    day_ahead = replace(operated.terms, period_count=4, gate_lead_seconds=4 * 3_600)
    intraday = replace(operated.terms, isps_per_period=2, period_count=8)
    opened = []
    for terms in (day_ahead, intraday):
        fields = {"isps_per_period": terms.isps_per_period, "period_count": terms.period_count}
        path = operated.write_terms(**fields, gate_lead_seconds=terms.gate_lead_seconds)
        done = operated.open(path, first_isp)
        assert done.returncode == 0, done.stderr
        opened.append(json.loads(done.stdout)["session"])
    seller, buyer, helper = world.cast.prosumers[:3]
    brown = EnergyType.BROWN
    operated.trade(
        opened[0],
        day_ahead,
        first_isp,
        {p: orders([(day_ahead.product(brown, 1), side, AT_150, 1_000)]) for p, side in ((seller, 1), (buyer, 0))},
    )
    # The hour has two halves: 300 Wh and 100 Wh are bought back.
    halves = [(intraday.product(brown, 2), 300), (intraday.product(brown, 3), 100)]
    operated.trade(
        opened[1],
        intraday,
        first_isp,
        {p: orders([(half, side, AT_200, wh) for half, wh in halves]) for p, side in ((helper, 1), (seller, 0))},
    )
    times = [SessionTimes.of(terms, first_isp) for terms in (day_ahead, intraday)]
    return opened, times, (seller, buyer, helper), first_isp


def test_sessions_of_the_same_hours_are_netted_by_commands_and_audited(operated, day):
    world, (first, second), (seller, buyer, helper) = operated.world, day[0], day[2]
    (ahead, within), first_isp = day[1], day[3]
    relayer, store = world.cast.relayer, world.config.out / "store.db"

    def run(session, *options):
        return operated.json("run", session, *options, key=relayer)

    assert {row["session"]: row["netted_with"] for row in operated.json("list")} == {first: [second], second: [first]}
    world.clock.advance_to(ahead.accept_by + 1)
    assert run(first)["state"] == "matched"
    world.clock.advance_to(within.gate_closure + 1)
    assert run(second)["steps"] == ["cleared 2 products"]

    hour = slice(4, 8)
    readings = {p: [(0, 0)] * MARKET_DAY_ISPS for p in (seller, buyer, helper)}
    readings[seller][hour] = [(0, 150)] * 4
    readings[buyer][hour] = [(250, 0)] * 4
    readings[helper][hour] = [(0, 150), (0, 150), (0, 50), (0, 50)]
    anchor_day(world, first_isp, readings)
    world.clock.advance_to(world.clock.now() + world.config.challenge_window_s + 1)

    waiting = run(first, "--store", store)
    assert waiting["steps"] == ["settled 1 bundles by meter"]  # the buyer's, which is in no other session
    assert (waiting["state"], waiting["waits_for"]) == ("1 bundles to settle", [second])
    assert operated.json("show", first)["netted_with"] == [
        {"session": second, "state": "waiting for the final clearing"}
    ]
    assert f"waits for the end of the auction of session {second}" in operated.run("run", first, key=relayer).stdout

    assert run(second, "--store", store)["state"] == "closed"
    assert run(first, "--store", store)["state"] == "closed"
    assert run(first)["waits_for"] == []
    outcomes = {
        (event.args["sessionId"], event.args["connectionId"]): event.args["outcome"]
        for event in operated.events()
        if event.name == "TraderSettled"
    }
    sold = outcomes[first, seller.connection_id]
    assert (sold["soldWh"], sold["injectedBrownWh"], sold["coveredWh"], sold["shortageWh"]) == (1_000, 600, 400, 0)
    bought = outcomes[second, seller.connection_id]
    assert (bought["boughtWh"], bought["surplusWh"]) == (400, 0)
    assert all(outcome["shortageWh"] == outcome["surplusWh"] == 0 for outcome in outcomes.values())

    audited = operated.gridpact(
        "audit", "--rpc", world.chain.url, "--deployments", operated.deployment, "--store", store, "--json", "--quiet"
    )
    assert audited.returncode == 0, audited.stderr
    assert json.loads(audited.stdout)["mismatches"] == []


def test_list_and_show_name_their_columns_for_a_reader(operated, day):
    first, second = day[0]
    heading, *rows = operated.run("list").stdout.splitlines()
    assert heading.split("  ")[0] == "session"
    assert heading.endswith("netted with")
    assert [row.split()[-1] for row in rows] == [str(second), str(first)]
    shown = operated.run("show", second).stdout
    assert f"netted with    session {first}, " in shown
    assert "period minutes 30" in shown
