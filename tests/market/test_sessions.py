"""
open
├── terms, event, times, budgets locked in the pot
├── gate lead below the window, no ISP, no or too many periods, past the last ISP → TermsInvalid; grid → GridInvalid
├── gate passed (each second) → GatePassed; not an operator → MissingRole; area unknown → CongestionPointUnknown
├── budgets too large → InsufficientBalance; paused → EnforcedPause
└── openFor by anybody but a module → NotModule
registerSchedule, openScheduled
├── anyone opens, from openLeadSeconds before the gate on; once; within the count
├── operator no longer active → MissingRole
└── invalid schedule, unknown schedule → own error
lanes
├── sessions of a schedule use the word of a bundle in turns, none before its settlement deadline
└── a word that is not settled is not taken over
"""

from dataclasses import replace

import pytest

from tests.market.test_submit import BIDS, escrow
from tests.market.world import BUY, FUNDS, TERMS, OpenSession, Trader, bundle_of
from tests.utils.evm import reverts

LAST_ISP = 2**32 - 1


def test_open_fixes_the_terms_and_locks_the_budgets(world):
    session = world.open(congestion_point_id=world.area)
    event_terms = session.opened
    assert (event_terms["sessionId"], event_terms["scheduleId"]) == (session.id, 0)
    assert event_terms["operator"] == world.operator.address and event_terms["firstIsp"] == session.first_isp
    assert tuple(event_terms["terms"].values()) == session.terms.as_tuple()
    assert tuple(world.market.termsOf(session.id).values()) == session.terms.as_tuple()
    assert tuple(world.sessions.termsOf(session.id).values()) == session.terms.as_tuple()
    state = session.state()
    assert (state["gateClosure"], state["acceptBy"]) == (session.times.gate_closure, session.times.accept_by)
    assert session.pot == TERMS.surplus_budget + TERMS.reward_budget
    with reverts("SessionUnknown", session.id + 1):
        world.market.termsOf(session.id + 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"gate_lead_seconds": 1_799},
        {"isps_per_period": 0},
        {"period_count": 0},
        {"period_count": 129},
    ],
)
def test_open_refuses_when_terms_are_invalid(world, changed):
    fields = list(TERMS.as_tuple())
    names = list(TERMS.__dataclass_fields__)
    for name, value in changed.items():
        fields[names.index(name)] = value
    told = [
        fields[names.index(n)] for n in ("gate_lead_seconds", "acceptance_seconds", "isps_per_period", "period_count")
    ]
    with reverts("TermsInvalid", *told):
        world.sessions.open(tuple(fields), 2_000_100, sender=world.operator.address)
    with reverts("TermsInvalid", *told):
        world.sessions.registerSchedule(tuple(fields), 2_000_100, 4, 3, 60, sender=world.operator.address)


def test_open_refuses_when_delivery_ends_after_the_last_isp(world):
    told = (TERMS.gate_lead_seconds, TERMS.acceptance_seconds, TERMS.isps_per_period, TERMS.period_count)
    with reverts("TermsInvalid", *told):
        world.sessions.open(TERMS.as_tuple(), LAST_ISP - 7, sender=world.operator.address)
    world.sessions.open(TERMS.as_tuple(), LAST_ISP - 8, sender=world.operator.address)
    with reverts("TermsInvalid", *told):
        world.sessions.registerSchedule(TERMS.as_tuple(), LAST_ISP - 18, 5, 4, 60, sender=world.operator.address)


@pytest.mark.parametrize(("field", "value"), [("tick_count", 0), ("tick_count", 4_097), ("price_step", 0)])
def test_open_refuses_when_grid_is_invalid(world, field, value):
    fields = [value if name == field else getattr(TERMS, name) for name in TERMS.__dataclass_fields__]
    numbers = {"tick_count": TERMS.tick_count, "price_step": TERMS.price_step} | {field: value}
    with reverts("GridInvalid", numbers["tick_count"], numbers["price_step"], 8, TERMS.min_quantity_wh):
        world.sessions.open(tuple(fields), 2_000_100, sender=world.operator.address)
    with reverts("GridInvalid", numbers["tick_count"], numbers["price_step"], 8, TERMS.min_quantity_wh):
        world.sessions.registerSchedule(tuple(fields), 2_000_100, 4, 3, 60, sender=world.operator.address)


@pytest.mark.parametrize("late", [0, 1])
def test_open_ends_with_the_second_of_the_gate(world, late):
    first_isp = 2_000_100
    gate = first_isp * 900 - TERMS.gate_lead_seconds
    world.evm.now = gate + late
    if late:
        with reverts("GatePassed", gate, gate + 1):
            world.sessions.open(TERMS.as_tuple(), first_isp, sender=world.operator.address)
        with reverts("GatePassed", 0, gate + 1):
            world.sessions.open(TERMS.as_tuple(), 1, sender=world.operator.address)
    else:
        world.sessions.open(TERMS.as_tuple(), first_isp, sender=world.operator.address)


def test_open_refuses(world):
    trader, operator = world.traders[0], world.operator
    with reverts("MissingRole", trader.address, 6, 1):
        world.sessions.open(TERMS.as_tuple(), 2_000_100, sender=trader.address)
    with reverts("CongestionPointUnknown", b"\1" * 32):
        world.open(congestion_point_id=b"\1" * 32)
    with reverts("InsufficientBalance", operator.address, FUNDS, FUNDS + 5):
        world.open(surplus_budget=FUNDS, reward_budget=5)
    with reverts("NotModule", operator.address):
        world.market.openFor(TERMS.as_tuple(), 2_000_100, operator.address, 0, sender=operator.address)
    world.market.pause(sender=world.admin.address)
    with reverts("EnforcedPause"):
        world.open()
    world.market.unpause(sender=world.admin.address)
    world.sessions.pause(sender=world.admin.address)
    with reverts("EnforcedPause"):
        world.open()


# ------------------------------------------------------------------ schedules

FIRST = 2_000_100
EVERY = 8
LEAD = 7_200


def register(world, count: int = 600) -> int:
    return world.sessions.registerSchedule(TERMS.as_tuple(), FIRST, EVERY, count, LEAD, sender=world.operator.address)


def open_index(world, schedule: int, index: int) -> OpenSession:
    first_isp = FIRST + EVERY * index
    world.evm.now = max(world.evm.now, first_isp * 900 - TERMS.gate_lead_seconds - LEAD)
    session_id = world.sessions.openScheduled(schedule, index, sender=world.outsider.address)
    return OpenSession(world, session_id, TERMS, first_isp)


def test_openScheduled_opens_each_session_once_for_anyone(world):
    schedule = register(world)
    event = world.evm.event("ScheduleRegistered")
    assert (event["operator"], event["firstIsp"], event["everyIsps"]) == (world.operator.address, FIRST, EVERY)
    opens_at = (FIRST + EVERY) * 900 - TERMS.gate_lead_seconds - LEAD
    world.evm.now = opens_at - 1
    with reverts("TooEarly", opens_at, opens_at - 1):
        world.sessions.openScheduled(schedule, 1, sender=world.outsider.address)
    session = open_index(world, schedule, 1)
    assert session.opened["scheduleId"] == schedule
    assert session.state()["operator"] == world.operator.address
    assert session.state()["gateClosure"] == session.times.gate_closure
    with reverts("AlreadyOpened", schedule, 1, session.id):
        open_index(world, schedule, 1)
    with reverts("NotScheduled", schedule, 600, 600):
        open_index(world, schedule, 600)
    with reverts("ScheduleUnknown", schedule + 1):
        open_index(world, schedule + 1, 0)


def test_openScheduled_refuses_when_the_operator_is_not_active_or_the_gate_passed(world):
    schedule = register(world)
    world.evm.now = FIRST * 900 - TERMS.gate_lead_seconds + 1
    with reverts("GatePassed", world.evm.now - 1, world.evm.now):
        open_index(world, schedule, 0)
    world.participants.setStatus(world.operator.address, 2, b"\0" * 32, sender=world.registrar.address)
    with reverts("MissingRole", world.operator.address, 6, 2):
        open_index(world, schedule, 1)


@pytest.mark.parametrize(("every", "count"), [(0, 3), (4, 0)])
def test_registerSchedule_refuses_when_it_is_invalid(world, every, count):
    with reverts("ScheduleInvalid", every, count):
        world.sessions.registerSchedule(TERMS.as_tuple(), FIRST, every, count, 60, sender=world.operator.address)
    with reverts("MissingRole", world.outsider.address, 6, 0):
        world.sessions.registerSchedule(TERMS.as_tuple(), FIRST, 4, 4, 60, sender=world.outsider.address)
    world.sessions.pause(sender=world.admin.address)
    with reverts("EnforcedPause"):
        register(world)


def test_cancelSchedule_opens_no_further_session_and_leaves_open_ones_alone(world):
    schedule, trader = register(world), world.traders[0]
    session = open_index(world, schedule, 0)
    with reverts("NotOperatorOfSchedule", schedule, world.outsider.address, world.operator.address):
        world.sessions.cancelSchedule(schedule, sender=world.outsider.address)
    with reverts("ScheduleUnknown", schedule + 1):
        world.sessions.cancelSchedule(schedule + 1, sender=world.operator.address)
    world.sessions.cancelSchedule(schedule, sender=world.operator.address)
    assert world.evm.event("ScheduleCancelled") == {"scheduleId": schedule}
    with reverts("NotScheduled", schedule, 1, 0):
        open_index(world, schedule, 1)
    with reverts("NotScheduled", schedule, 0, 0):
        world.sessions.cancelSchedule(schedule, sender=world.operator.address)
    run(session, trader, BIDS, settle=True)


def test_cancelSchedule_works_while_paused_and_for_an_operator_that_was_revoked(world):
    schedule = register(world)
    world.sessions.pause(sender=world.admin.address)
    world.participants.setStatus(world.operator.address, 3, b"\0" * 32, sender=world.registrar.address)
    world.sessions.cancelSchedule(schedule, sender=world.operator.address)
    world.sessions.unpause(sender=world.admin.address)
    with reverts("NotScheduled", schedule, 0, 0):
        open_index(world, schedule, 0)


RECORD_SECONDS = 30 * 86_400
LONGEST_DELIVERY_ISPS = 672
LIFE_SECONDS = LEAD + TERMS.gate_lead_seconds + (8 + 2 * LONGEST_DELIVERY_ISPS) * 900 + RECORD_SECONDS
LANES = LIFE_SECONDS // (EVERY * 900) + 2


def run(session: OpenSession, trader: Trader, bundle: bytes, *, settle: bool) -> None:
    session.submit(trader, bundle)
    session.run_auction()
    if settle:
        session.settle(trader, bundle)


def test_sessions_of_a_schedule_use_the_word_of_a_bundle_in_turns(world):
    trader = world.traders[0]
    schedule = register(world)
    first = open_index(world, schedule, 0)
    run(first, trader, BIDS, settle=True)
    for index in (1, LANES - 1):
        other = open_index(world, schedule, index)
        other.submit(trader, bundle_of((1, BUY, index % 100, 100)))
        assert first.bundle(trader)["settled"]
    last = open_index(world, schedule, LANES)
    assert world.evm.now > first.times.delivery_end + RECORD_SECONDS
    event = last.submit(trader, BIDS)
    assert event["sequence"] == 1 and last.bundle(trader)["placed"]
    assert first.bundle(trader) == {
        "placed": False,
        "claimed": False,
        "certified": False,
        "settled": False,
        "sequence": 0,
        "hash": bytes(25),
    }
    with reverts("BundleMismatch", first.id, trader.connection, bytes(25)):
        first.settle(trader, BIDS)


def test_a_word_that_is_not_settled_is_not_taken_over(world):
    trader = world.traders[0]
    schedule = register(world)
    first = open_index(world, schedule, 0)
    run(first, trader, BIDS, settle=False)
    last = open_index(world, schedule, LANES)
    with reverts("NotSettledYet", first.id, trader.connection):
        last.submit(trader, BIDS)
    first.settle(trader, BIDS)
    last.submit(trader, BIDS)
    assert last.pot == TERMS.surplus_budget + TERMS.reward_budget + escrow(BIDS)


def test_a_cancelled_bundle_leaves_its_word_to_others(world):
    trader = world.traders[0]
    schedule = register(world)
    first = open_index(world, schedule, 0)
    first.submit(trader, BIDS)
    first.submit(trader, b"", BIDS)
    last = open_index(world, schedule, LANES)
    assert last.submit(trader, BIDS)["sequence"] == 1


def test_lone_sessions_have_a_word_each(world):
    trader = world.traders[0]
    sessions = [world.open(replace(TERMS, surplus_budget=0)) for _ in range(3)]
    for session in sessions:
        session.submit(trader, BIDS)
    assert [session.bundle(trader)["sequence"] for session in sessions] == [1, 1, 1]
