"""Readings that come after a session was settled and closed, brought by commands.

nothing newer → nothing to correct; newer version that can still be challenged → waits; then → ``run`` and ``correct``
bring it once each, the operator pays the trader, what it lacks is owed and collected; the audit finds all in order
"""

import pytest

from offchain.audit import audit
from offchain.audit.source import read_chain
from offchain.market.operating import open_session
from offchain.market.orders import orders
from offchain.market.terms import EnergyType
from tests.e2e.operated import AT_150, MARKET_DAY_ISPS, Operated, anchor_day

NOTHING = [(0, 0)] * (MARKET_DAY_ISPS - 4)
HALF = [(0, 250), (0, 250), None, None]
WHOLE = [(0, 250)] * 4
TAKEN = [(250, 0)] * 4


@pytest.fixture(scope="module")
def operated(enrolled_day, tmp_path_factory):
    return Operated(enrolled_day, tmp_path_factory.mktemp("corrections"))


def test_newer_readings_correct_a_closed_session(operated):
    world, times, terms = operated.world, operated.times, operated.terms
    suite, relayer, operator = world.suite, world.cast.relayer, world.cast.market_operator
    seller, buyer = parties = world.cast.prosumers[9:11]
    store = world.config.out / "store.db"
    session = open_session(suite, operator, terms, operated.first_isp)
    product = terms.product(EnergyType.BROWN, 0)
    books = {p: orders([(product, side, AT_150, 1_000)]) for p, side in zip(parties, (1, 0), strict=True)}
    operated.trade(session, terms, operated.first_isp, books)
    world.clock.advance_to(times.accept_by + 1)
    operated.json("run", session, key=relayer)

    def bring(version: int, readings) -> None:
        days = {seller: [*readings, *NOTHING], buyer: [*TAKEN, *NOTHING]}
        anchor_day(world, operated.first_isp, days, version)

    def usable() -> None:
        world.clock.advance_to(world.clock.now() + world.config.challenge_window_s)

    def correct(*options) -> dict:
        return operated.json("correct", session, "--store", store, *options, key=relayer)

    def balances() -> list[int]:
        accounts = (seller.address, operator.address)
        return suite.call_all([("ClearingHouse", "balanceOf", (account,)) for account in accounts])

    bring(1, [None] * 4)
    assert correct()["corrections"] == []
    usable()
    settled = operated.json("run", session, "--store", store, key=relayer)
    assert settled["steps"] == ["settled 2 bundles by meter", "closed the session"]
    told = operated.run("correct", session, "--store", store, key=relayer)
    assert told.stdout.strip() == f"session {session}: nothing to correct"
    start = balances()

    # 500 of 1,000 Wh: the other two quarter hours are charged at the price, without a penalty.
    half = 75_000 - terms.brown_penalty_rate // 2
    bring(2, HALF)
    assert correct()["corrections"] == []
    usable()
    expected = [{"connection": "0x" + seller.connection_id.hex(), "difference_utoken": half}]
    assert correct("--dry-run") == {
        "session": session,
        "corrections": expected,
        "collected_utoken": 0,
        "owed_utoken": 0,
    }
    assert balances() == start
    steps = operated.json("run", session, "--store", store, key=relayer)["steps"]
    assert steps == ["corrected 1 bundle by newer readings"]
    assert operated.json("run", session, "--store", store, key=relayer)["steps"] == []
    assert balances() == [start[0] + half, start[1] - half]

    # All of it, but the operator has withdrawn what it had.
    bring(3, WHOLE)
    usable()
    left = balances()[1]
    world.send(operator, "ClearingHouse", "withdraw", operator.address, left)
    corrected = correct()
    assert (corrected["corrections"], corrected["owed_utoken"]) == (expected, half)
    operated.fund({operator.address: left})
    collected = correct()
    assert (collected["corrections"], collected["collected_utoken"], collected["owed_utoken"]) == ([], half, 0)
    assert balances() == [start[0] + 2 * half, left - half]

    report = audit(read_chain(suite), world.store)
    assert report.mismatches == []
    assert report.checked["market corrections"] > 0
    assert report.checked["debts"] > 0


def test_correct_names_a_session_that_is_not_closed(operated):
    session = open_session(operated.world.suite, operated.world.cast.market_operator, operated.terms, later(operated))
    told = operated.run("correct", session, "--store", operated.world.config.out / "store.db", "--dry-run")
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == f"session {session} is not closed; what is settled is corrected when it is"


def later(operated) -> int:
    return operated.world.clock.now() // 900 + 96
