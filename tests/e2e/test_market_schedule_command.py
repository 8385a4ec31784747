"""``gridpact market schedule`` on a chain where people are enrolled: registered by the operator, opened by anybody.

Time is moved by the test; everything else is what an operator or a script would call.
"""

import json
from datetime import UTC, datetime

import pytest

from offchain.audit import audit
from offchain.audit.source import read_chain
from offchain.market.operating import open_due
from offchain.market.orders import orders
from offchain.market.replay import replay_sessions
from offchain.market.schedules import replay_schedules
from offchain.market.terms import EnergyType, SessionTimes
from tests.e2e.operated import AT_150, Operated

DAY_ISPS = 96
LEAD_SECONDS = 3_600
SESSIONS = 3


@pytest.fixture(scope="module")
def operated(enrolled_day, tmp_path_factory):
    return Operated(enrolled_day, tmp_path_factory.mktemp("schedule"))


@pytest.fixture(scope="module")
def first_isp(operated):
    """Days ahead, so that sessions of other tests are on other days."""
    return (operated.world.clock.now() // 86_400 + 3) * DAY_ISPS + 40


def opening_times(operated, first_isp, index):
    """From when until when a session can be opened."""
    gate = SessionTimes.of(operated.terms, first_isp + DAY_ISPS * index).gate_closure
    return gate - LEAD_SECONDS, gate


def schedule(operated, *arguments, key=None):
    return operated.run("schedule", *arguments, key=key)


def told(operated, *arguments, key=None):
    return operated.json("schedule", *arguments, key=key)


def registering(operated, first_isp, lead_seconds=LEAD_SECONDS, **changed):
    delivery = datetime.fromtimestamp(first_isp * 900, UTC).isoformat()
    series = ("--every-isps", DAY_ISPS, "--sessions", SESSIONS, "--open-lead-seconds", lead_seconds)
    return ("register", operated.write_terms(**changed), "--delivery", delivery, *series)


def refused(done, code: int, words: str) -> None:
    """One line that says what, and a hint."""
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (code, 2), done.stderr
    assert lines[0].startswith("error: ") and words in lines[0]
    assert lines[1].startswith("hint: ")


def seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def test_schedule_is_registered_by_its_operator_and_opened_by_anybody(operated, first_isp):
    world, cast = operated.world, operated.world.cast
    outsider, operator = cast.relayer, cast.market_operator
    refused(schedule(operated, *registering(operated, first_isp), key=outsider), 4, "MissingRole")
    earlier = len(replay_sessions(operated.events()))  # other tests use this chain too
    number = told(operated, *registering(operated, first_isp), key=operator)["schedule"]

    opens_at, gate = opening_times(operated, first_isp, 0)
    row = told(operated, "list")[-1]
    assert (row["schedule"], row["state"], row["operator"]) == (number, "waiting", operator.address)
    assert (row["periods"], row["period_minutes"], row["every_minutes"]) == (1, 60, 1_440)
    assert (seconds(row["opens_from"]), seconds(row["opens_until"])) == (opens_at, gate)
    assert seconds(row["next_delivery"]) == first_isp * 900
    assert (row["opened"], row["remaining"]) == (0, SESSIONS)

    world.clock.advance_to(opens_at - 60)
    refused(schedule(operated, "open", number, key=outsider), 4, "can be opened from")
    assert len(replay_sessions(operated.events())) == earlier
    world.clock.advance_to(opens_at)
    stale = replay_schedules(operated.events())[number]
    opened = told(operated, "open", number, key=outsider)
    session = earlier + 1
    assert (opened["opened"][0]["session"], len(opened["opened"]), opened["refused"]) == (session, 1, [])
    assert seconds(opened["opened"][0]["gate_closure"]) == gate
    # Who comes second finds it done.
    assert open_due(world.suite, outsider, stale, opens_at) == ({}, {})
    shown = operated.json("show", session)
    assert (shown["schedule"], shown["operator"], shown["state"]) == (number, operator.address, "open for orders")

    terms, brown = operated.terms, operated.terms.product(EnergyType.BROWN, 0)
    books = {p: orders([(brown, side, AT_150, 1_000)]) for p, side in zip(cast.prosumers[4:6], (1, 0), strict=True)}
    operated.trade(session, terms, first_isp, books)
    times = SessionTimes.of(terms, first_isp)
    world.clock.advance_to(times.accept_by + 1)
    assert operated.json("run", session, key=outsider)["state"] == "matched"
    (matched,) = operated.json("show", session)["matched"]
    assert (matched["price_utoken_per_kwh"], matched["volume_wh"]) == (150_000, 1_000)

    # The operator ends it: what is open goes on to its end.
    refused(schedule(operated, "cancel", number, key=outsider), 2, f"belongs to {operator.address}")
    assert told(operated, "cancel", number, key=operator) == {"schedule": number, "not_opened": SESSIONS - 1}
    world.clock.advance_to(opening_times(operated, first_isp, 1)[0])
    refused(schedule(operated, "open", number, key=outsider), 2, "was cancelled")
    row = told(operated, "list")[-1]
    assert (row["state"], row["opened"], row["remaining"], row["next_delivery"]) == ("cancelled", 1, 0, None)
    world.clock.advance_to(times.settle_by)
    assert operated.json("run", session, key=outsider)["state"] == "closed"
    report = audit(read_chain(world.suite), world.store)
    assert report.mismatches == []


def test_a_session_that_is_refused_keeps_none_of_the_others_from_opening(operated):
    world, operator = operated.world, operated.world.cast.market_operator
    first_isp = (world.clock.now() // 86_400 + 2) * DAY_ISPS + 40
    opened = operated.open(operated.write_terms(), first_isp)
    assert opened.returncode == 0, opened.stderr
    # Three quarter hours and an hour of the same day cross; the days after it are free.
    crossing = registering(operated, first_isp + 12, lead_seconds=5 * 86_400, isps_per_period=3)
    number = told(operated, *crossing, key=operator)["schedule"]
    done = schedule(operated, "open", number, "--json", key=world.cast.relayer)
    refused(done, 4, "MarketSessions.openScheduled reverted: PeriodsCross(")
    data = json.loads(done.stdout)
    start = (first_isp + 12) * 900
    assert [seconds(row["delivery"]) for row in data["opened"]] == [start + 86_400, start + 2 * 86_400]
    assert [seconds(row["delivery"]) for row in data["refused"]] == [start]
    assert "PeriodsCross" in data["refused"][0]["error"]
    row = told(operated, "list")[-1]
    assert (row["state"], row["remaining"], row["opened"]) == ("can be opened", 1, 2)

    heading, *rows = schedule(operated, "list").stdout.splitlines()
    assert heading.split("  ")[:2] == ["schedule", "state"]
    assert rows[-1].endswith(" 1")
    # Whoever uses this chain next finds days without these sessions.
    told(operated, "cancel", number, key=operator)
    world.clock.advance_to(start + 3 * 86_400)
