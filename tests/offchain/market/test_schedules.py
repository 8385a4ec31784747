"""Schedules rebuilt from events.

now → a session is due from its lead before the gate on and until the gate; not once it is opened or cancelled
"""

from dataclasses import asdict, replace

import pytest

from offchain.chain.events import Event
from offchain.market.schedules import ScheduleRecord, replay_schedules
from tests.offchain.market.session import TERMS

FIRST, EVERY, LEAD = 2_000_000, 96, 86_400 + 600
OPERATOR = "0x" + "33" * 20
GATES = [(FIRST + EVERY * index) * 900 - TERMS.gate_lead_seconds for index in range(3)]


def event(name: str, contract: str = "MarketSessions", **args) -> Event:
    return Event(contract, "0x", name, args, 1, "0x", "0x", 0, 0)


REGISTERED = event(
    "ScheduleRegistered",
    scheduleId=2,
    operator=OPERATOR,
    terms=asdict(TERMS),
    firstIsp=FIRST,
    everyIsps=EVERY,
    sessionCount=3,
    openLeadSeconds=LEAD,
)


def opened(index: int, session_id: int, schedule_id: int = 2) -> Event:
    isp = FIRST + EVERY * index
    return event("SessionOpened", sessionId=session_id, scheduleId=schedule_id, firstIsp=isp)


def test_replay_follows_a_schedule_to_its_cancellation():
    expected = ScheduleRecord(2, OPERATOR, TERMS, FIRST, EVERY, 3, LEAD)
    assert replay_schedules([REGISTERED]) == {2: expected}
    lone, others = opened(0, 7, schedule_id=0), event("ScheduleCancelled", "Somebody", scheduleId=2)
    told = replay_schedules([REGISTERED, lone, opened(0, 8), opened(2, 9), others])
    assert told == {2: replace(expected, opened={0: 8, 2: 9})}
    told = replay_schedules([REGISTERED, opened(0, 8), event("ScheduleCancelled", scheduleId=2)])
    assert told == {2: replace(expected, opened={0: 8}, cancelled=True)}


@pytest.mark.parametrize(
    ("now", "due", "remaining"),
    [
        (GATES[0] - LEAD - 1, [], [0, 1, 2]),
        (GATES[0] - LEAD, [0], [0, 1, 2]),
        (GATES[1] - LEAD - 1, [0], [0, 1, 2]),
        (GATES[1] - LEAD, [0, 1], [0, 1, 2]),
        (GATES[0], [0, 1], [0, 1, 2]),
        (GATES[0] + 1, [1], [1, 2]),
        (GATES[2], [2], [2]),
        (GATES[2] + 1, [], []),
    ],
)
def test_sessions_are_due_from_their_lead_until_their_gate(now, due, remaining):
    record = ScheduleRecord(2, OPERATOR, TERMS, FIRST, EVERY, 3, LEAD)
    assert (record.due(now), record.remaining(now)) == (due, remaining)
    record.opened[1] = 5
    assert (record.due(now), record.remaining(now)) == (
        [index for index in due if index != 1],
        [index for index in remaining if index != 1],
    )
    record.cancelled = True
    assert (record.due(now), record.remaining(now)) == ([], [])
