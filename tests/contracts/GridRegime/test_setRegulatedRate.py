"""
setRegulatedRate
├── caller is not governance → reverts AccessManagedUnauthorized
└── else → counts for the next direct order, emits RegulatedRateSet
"""

from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts


def test_setRegulatedRate_reverts_when_caller_is_not_governance(regime, actors):
    for account in (actors.dso, actors.guardian):
        with reverts("AccessManagedUnauthorized", account, unchanged=regime):
            regime.setRegulatedRate(1, {"from": account})


def test_setRegulatedRate_sets_the_rate(regime, actors):
    assert regime.regulatedRate() == fx.REGULATED_RATE
    tx = regime.setRegulatedRate(7, {"from": actors.admin})
    assert event(tx, "RegulatedRateSet") == {"rate": 7}
    assert regime.regulatedRate() == 7
