"""Series of equal sessions that their operator registered once and anybody opens, rebuilt from events."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from offchain.chain.events import Event
from offchain.market.replay import terms_of
from offchain.market.terms import SessionTerms, SessionTimes


@dataclass(slots=True)
class ScheduleRecord:
    """A schedule as its events tell it."""

    id: int
    operator: str
    terms: SessionTerms
    first_isp: int
    """First ISP of delivery of the first session."""
    every_isps: int
    """From one delivery to the next."""
    session_count: int
    open_lead_seconds: int
    """How long before its gate a session can be opened at the earliest."""
    cancelled: bool = False
    opened: dict[int, int] = field(default_factory=dict)
    """Session ids by index."""

    def times(self, index: int) -> SessionTimes:
        return SessionTimes.of(self.terms, self.first_isp + index * self.every_isps)

    def opens_at(self, index: int) -> int:
        """When a session can be opened at the earliest [UTC s]; until its gate closes."""
        return self.times(index).gate_closure - self.open_lead_seconds

    def remaining(self, now: int) -> list[int]:
        """Indices of the sessions that can be opened, now or later; ascending."""
        if self.cancelled:
            return []
        return [
            index
            for index in range(self.session_count)
            if index not in self.opened and now <= self.times(index).gate_closure
        ]

    def due(self, now: int) -> list[int]:
        """Indices of the sessions that can be opened now."""
        return [index for index in self.remaining(now) if self.opens_at(index) <= now]


def replay_schedules(events: Iterable[Event]) -> dict[int, ScheduleRecord]:
    """Schedules by id; other events are passed over."""
    schedules: dict[int, ScheduleRecord] = {}
    for event in events:
        if event.contract != "MarketSessions" or not event.args.get("scheduleId"):
            continue
        args, schedule_id = event.args, event.args["scheduleId"]
        match event.name:
            case "ScheduleRegistered":
                schedules[schedule_id] = ScheduleRecord(
                    schedule_id,
                    args["operator"],
                    terms_of(args["terms"]),
                    args["firstIsp"],
                    args["everyIsps"],
                    args["sessionCount"],
                    args["openLeadSeconds"],
                )
            case "ScheduleCancelled":
                schedules[schedule_id].cancelled = True
            case "SessionOpened":
                schedule = schedules[schedule_id]
                index = (args["firstIsp"] - schedule.first_isp) // schedule.every_isps
                schedule.opened[index] = args["sessionId"]
    return schedules
