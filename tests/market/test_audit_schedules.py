"""The audit of schedules: their sessions have their terms and their place, and none is opened after a cancellation."""

import pytest

from offchain.market.replay import replay_sessions
from tests.market.audited import AuditedWorld
from tests.market.test_sessions import EVERY, FIRST, open_index, register


@pytest.fixture(scope="module")
def scheduled():
    world = AuditedWorld()
    schedule = register(world, 3)
    for index in (0, 2):
        open_index(world, schedule, index)
    world.sessions.cancelSchedule(schedule, sender=world.operator.address)
    return world


def moved(world, name: str, before: str):
    """Events with one in front of another."""
    events = list(world.evm.history)
    event, target = world.events(name)[0], world.events(before)[0]
    events.remove(event)
    events.insert(events.index(target), event)
    return events


def test_audit_follows_a_schedule_to_its_cancellation(scheduled):
    assert scheduled.audit().mismatches == []
    assert [session.schedule_id for session in replay_sessions(scheduled.evm.history).values()] == [1, 1]


CHANGES = {
    "number": (lambda w: w.changed("ScheduleRegistered", scheduleId=2), "number of a schedule"),
    "interval": (lambda w: w.changed("ScheduleRegistered", everyIsps=EVERY + 1), "place in a schedule"),
    "length": (lambda w: w.changed("ScheduleRegistered", sessionCount=2), "place in a schedule"),
    "lead": (lambda w: w.changed("ScheduleRegistered", openLeadSeconds=1), "time of opening"),
    "operator": (
        lambda w: w.changed("ScheduleRegistered", operator=w.dso.address),
        "operator of a scheduled session",
    ),
    "terms": (
        lambda w: w.changed("SessionOpened", terms=w.events("SessionOpened")[0].args["terms"] | {"feeRate": 1}),
        "terms of a scheduled session",
    ),
    "opened twice": (lambda w: w.changed("SessionOpened", 1, firstIsp=FIRST), "opened before"),
    "opened after the end": (lambda w: moved(w, "ScheduleCancelled", "SessionOpened"), "place in a schedule"),
    "cancelled twice": (lambda w: [*w.evm.history, w.events("ScheduleCancelled")[0]], "cancelled twice"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_audit_names_what_was_changed_about_a_schedule(scheduled, name):
    change, what = CHANGES[name]
    found = scheduled.audit(events=change(scheduled)).mismatches
    assert any(what in mismatch.what for mismatch in found), found[:5]
