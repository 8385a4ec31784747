"""Settings that make no sense are refused before anything starts; deadlines follow one another."""

import pytest

from offchain.domain.errors import DomainError
from offchain.pilot.config import PilotConfig, Timetable
from offchain.pilot.delivery import _take


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scenario": "morning"}, "unknown scenario 'morning'"),
        ({"participation": -0.1}, "participation -0.1"),
        ({"participation": 1.1}, "participation 1.1"),
        ({"participation": float("nan")}, "participation nan"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_config_is_refused_when_a_setting_makes_no_sense(settings, message):
    with pytest.raises(DomainError, match=message):
        PilotConfig(**settings)


@pytest.mark.parametrize("participation", [0, 0.5, 1])
def test_config_is_accepted_at_the_edges(participation):
    assert PilotConfig(participation=participation, seed=0).participation == participation


def test_timetable_runs_forward():
    t = Timetable()
    steps = [t.setup, t.forecast, t.request, t.offers, t.gate_closure, t.selection, t.select_by, t.dispatch]
    assert steps == sorted(steps)
    assert t.offers < t.gate_closure < t.selection < t.select_by < t.dispatch < t.dispatch_by < 0


def test_deadlines_of_settlement_ascend():
    config = PilotConfig()
    assert config.challenge_window_s < config.readings_due_s < config.settle_by_s < config.correction_s
    assert config.correction_s <= config.bond_hold_s


@pytest.mark.parametrize(("share", "total", "count"), [(0, 10, 0), (0.07, 10, 1), (0.04, 10, 0), (0.25, 8, 2)])
def test_take_rounds_a_share_to_whole_prosumers(share, total, count):
    drawn = list(range(total))
    assert _take(drawn, share, total) == list(range(count))
    assert drawn == list(range(count, total))


def test_take_gives_what_is_left_when_shares_add_up_to_more():
    drawn = [1, 2, 3]
    assert _take(drawn, 0.7, 3) == [1, 2]
    assert _take(drawn, 0.7, 3) == [3]
    assert _take(drawn, 0.7, 3) == []
