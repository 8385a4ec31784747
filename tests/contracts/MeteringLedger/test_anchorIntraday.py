"""
anchorIntraday
├── paused → reverts EnforcedPause
├── caller is no meter operator, or a suspended one → reverts MissingRole
├── root or number of leaves zero → reverts EmptyBatch
├── before the end of the ISP → reverts PeriodNotOver
└── else → emits IntradayAnchored and nothing else; needs no bond
"""

import pytest

from tests.utils import clock, system
from tests.utils.metering import DATA_HASH
from tests.utils.plain import event
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status

ROOT = system.id_of("root")


def test_anchorIntraday_reverts_when_paused(site, actors, operator):
    site.ledger.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=site.ledger):
        site.ledger.anchorIntraday(site.first_isp, ROOT, 1, DATA_HASH, {"from": operator})


def test_anchorIntraday_reverts_when_caller_is_no_meter_operator(site, actors):
    with reverts("MissingRole", actors.outsider, Role.METER_OPERATOR, Status.UNKNOWN, unchanged=site.ledger):
        site.ledger.anchorIntraday(site.first_isp, ROOT, 1, DATA_HASH, {"from": actors.outsider})


def test_anchorIntraday_reverts_when_operator_is_suspended(site, actors, participants, operator):
    participants.setStatus(operator, Status.SUSPENDED, bytes(32), {"from": actors.registrar})
    with reverts("MissingRole", operator, Role.METER_OPERATOR, Status.SUSPENDED, unchanged=site.ledger):
        site.ledger.anchorIntraday(site.first_isp, ROOT, 1, DATA_HASH, {"from": operator})


@pytest.mark.parametrize(("root", "leaf_count"), [(bytes(32), 1), (ROOT, 0)])
def test_anchorIntraday_reverts_when_batch_is_empty(site, operator, root, leaf_count):
    with reverts("EmptyBatch", unchanged=site.ledger):
        site.ledger.anchorIntraday(site.first_isp, root, leaf_count, DATA_HASH, {"from": operator})


def test_anchorIntraday_reverts_when_isp_ends_a_second_later(site, operator):
    isp = system.current_isp() + 2
    clock.at((isp + 1) * 900 - 1)
    with reverts("PeriodNotOver", isp + 1, (isp + 1) * 900 - 1, unchanged=site.ledger):
        site.ledger.anchorIntraday(isp, ROOT, 1, DATA_HASH, {"from": operator})


def test_anchorIntraday_reverts_when_isp_is_the_last_of_uint32(site, operator):
    timestamp = system.current_isp() * 900 + 5_000
    clock.at(timestamp)
    with reverts("PeriodNotOver", 2**32, timestamp, unchanged=site.ledger):
        site.ledger.anchorIntraday(2**32 - 1, ROOT, 1, DATA_HASH, {"from": operator})


def test_anchorIntraday_emits_event_when_isp_ends_this_second(site, actors):
    operator, isp = actors.other_meter_operator, system.current_isp() + 2
    assert site.ledger.bondOf(operator) == 0
    clock.at((isp + 1) * 900)
    transaction = site.ledger.anchorIntraday(isp, ROOT, 7, DATA_HASH, {"from": operator})
    assert len(transaction.events) == 1
    assert event(transaction, "IntradayAnchored") == {
        "operator": operator,
        "isp": isp,
        "root": ROOT,
        "leafCount": 7,
        "dataHash": DATA_HASH,
    }
    assert site.ledger.batch(operator, isp)["status"] == 0
    assert site.ledger.bondInUseUntil(operator) == 0
