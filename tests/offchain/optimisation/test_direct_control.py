import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.optimisation.direct_control import ControllableConnection, plan_direct_control

NEED = np.array([300, 0, 900])


def test_plan_direct_control_takes_just_the_need_when_possible():
    connections = [ControllableConnection(name, np.array([400, 400, 400])) for name in "abc"]
    control = plan_direct_control(NEED, connections)
    assert sum(control.curves_wh.values()).tolist() == NEED.tolist()
    assert not control.uncovered_wh.any()


def test_plan_direct_control_spreads_by_capability_when_sizes_differ():
    connections = [
        ControllableConnection("large", np.array([0, 0, 2_000])),
        ControllableConnection("small", np.array([0, 0, 1_000])),
    ]
    control = plan_direct_control(np.array([0, 0, 1_500]), connections)
    assert control.share == 0.5
    assert {k: v.tolist() for k, v in control.curves_wh.items()} == {
        "large": [0, 0, 1_000],
        "small": [0, 0, 500],
    }


def test_plan_direct_control_reports_uncovered_when_technical_limits_bind():
    connections = [
        ControllableConnection("a", np.array([100, 500, 500])),
        ControllableConnection("b", np.array([100, 500, 500]), energy_limit_wh=150),
    ]
    control = plan_direct_control(NEED, connections)
    assert sum(control.curves_wh.values()).sum() == 100 + 500 + 150
    assert control.uncovered_wh.sum() == NEED.sum() - 750
    assert control.curves_wh["b"].sum() == 150
    assert control.share == 1.0


def test_plan_direct_control_touches_nobody_when_nothing_is_needed():
    control = plan_direct_control(np.zeros(3, int), [ControllableConnection("a", np.array([100, 500, 500]))])
    assert control.curves_wh == {} and control.share == 0.0


def test_plan_direct_control_raises_with_connection_when_day_has_other_length():
    with pytest.raises(DomainError, match="connection a: 2 values for 3 ISPs"):
        plan_direct_control(NEED, [ControllableConnection("a", np.array([1, 2]))])


def test_plan_direct_control_leaves_all_uncovered_when_there_is_nobody():
    assert plan_direct_control(NEED, []).uncovered_wh.tolist() == NEED.tolist()
