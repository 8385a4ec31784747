"""Chain stopped and started again in the middle of the day: between stages, within stages.

nothing is lost, nothing is sent twice → same report, same events, same details as without
"""

from offchain.domain.errors import FlexError
from offchain.pilot import PilotConfig, PilotDay
from tests.e2e.days import NOON_SEED, live, without_wall_time


class Restarter:
    """Restarts the chain of a day at chosen moments and counts."""

    def __init__(self):
        self.day = None
        self.count = 0

    def now(self, day: PilotDay) -> None:
        day.restart_chain()
        self.count += 1

    def within(self, day: PilotDay) -> None:
        """Also whenever the plan goes on to its next step."""
        self.day = day
        at = day.world.at

        def restart_and_wait(offset_s: int) -> None:
            self.now(day)
            at(offset_s)

        day.world.at = restart_and_wait

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage == "metering the day" and done in (40, 54, 80):
            self.now(self.day)


def test_run_gives_the_same_day_when_the_chain_restarts_in_the_middle(noon, days_root):
    restarter = Restarter()
    config = PilotConfig(scenario="noon", seed=NOON_SEED, out=days_root / "restarted")
    day = live(config, prepare=restarter.within, between=restarter.now, progress=restarter.progress)
    assert restarter.count >= 4 + 5 + 3
    assert without_wall_time(day.report) == without_wall_time(noon.report)
    assert {**day.result.details, "timeline": None} == {**noon.result.details, "timeline": None}
    assert [(e.contract, e.name) for e in day.events] == [(e.contract, e.name) for e in noon.events]


def test_deliver_fails_in_one_line_and_goes_on_when_the_chain_was_gone(noon, days_root):
    """The day before survives: started again, the same day is lived through to the end."""
    with PilotDay(PilotConfig(scenario="noon", seed=NOON_SEED, out=days_root / "gone")) as day:
        day.enrol()
        day._stop_chain()
        try:
            day.plan()
        except FlexError as error:
            message = str(error)
        assert "no chain node answers" in message
        assert "\n" not in message
        day.restart_chain()
        day.plan()
        day.deliver()
        day.settle()
        result = day.audit()
    assert result.audit.ok
    assert result.report["money_utoken"] == noon.report["money_utoken"]
