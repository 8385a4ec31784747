"""
setModule
├── caller is not the admin → reverts AccessManagedUnauthorized
└── else → sets or takes the flag, emits ModuleSet; a former module may do nothing more
pause
├── caller is not the guardian → reverts AccessManagedUnauthorized (the admin too: each selector has its role)
├── already paused → reverts EnforcedPause
└── else → paused at once, emits Paused
unpause
├── caller is not the admin → reverts AccessManagedUnauthorized (the guardian too)
├── not paused → reverts ExpectedPause
├── admin with a delay, not scheduled → reverts AccessManagerNotScheduled
├── admin with a delay, too early → reverts AccessManagerNotReady
└── else → resumed, emits Unpaused
pausedSeconds: all pauses that are over, and the running one
token, authority: as constructed
"""

import brownie
import pytest

from tests.utils import clock, system
from tests.utils.plain import event
from tests.utils.reverts import reverts

DELAY = 2 * 86_400


@pytest.fixture
def paused(house, actors):
    house.pause({"from": actors.guardian})


def test_setModule_reverts_when_caller_is_not_admin(house, actors):
    for caller in (actors.guardian, actors.module, actors.outsider):
        with reverts("AccessManagedUnauthorized", caller, unchanged=house):
            house.setModule(caller, True, {"from": caller})


def test_setModule_sets_flag_when_allowed(house, actors):
    tx = house.setModule(actors.outsider, True, {"from": actors.admin})
    assert house.isModule(actors.outsider)
    assert event(tx, "ModuleSet") == {"module": actors.outsider, "allowed": True}


def test_setModule_ends_access_when_not_allowed(house, actors):
    tx = house.setModule(actors.module, False, {"from": actors.admin})
    assert not house.isModule(actors.module)
    assert event(tx, "ModuleSet") == {"module": actors.module, "allowed": False}
    with reverts("NotModule", actors.module, unchanged=house):
        house.move(actors.admin, actors.module, 0, {"from": actors.module})


def test_pause_reverts_when_caller_is_not_guardian(house, actors):
    for caller in (actors.admin, actors.module, actors.outsider):
        with reverts("AccessManagedUnauthorized", caller, unchanged=house):
            house.pause({"from": caller})


def test_pause_reverts_when_already_paused(house, paused, actors):
    with reverts("EnforcedPause", unchanged=house):
        house.pause({"from": actors.guardian})


def test_pause_stops_at_once_when_guardian_calls(house, actors):
    tx = house.pause({"from": actors.guardian})
    assert house.paused()
    assert event(tx, "Paused") == {"account": actors.guardian}


def test_unpause_reverts_when_caller_is_not_admin(house, paused, actors):
    for caller in (actors.guardian, actors.outsider):
        with reverts("AccessManagedUnauthorized", caller, unchanged=house):
            house.unpause({"from": caller})


def test_unpause_reverts_when_not_paused(house, actors):
    with reverts("ExpectedPause", unchanged=house):
        house.unpause({"from": actors.admin})


def test_unpause_resumes_when_admin_calls(house, paused, actors):
    tx = house.unpause({"from": actors.admin})
    assert not house.paused()
    assert event(tx, "Unpaused") == {"account": actors.admin}


def test_unpause_waits_when_admin_has_delay(house, paused, authority, actors):
    authority.grantRole(system.GovernanceRole.ADMIN, actors.admin, DELAY, {"from": actors.admin})
    call = house.unpause.encode_input()
    operation = bytes(authority.hashOperation(actors.admin, house, call))
    with reverts("AccessManagerNotScheduled", operation, unchanged=house):
        house.unpause({"from": actors.admin})

    authority.schedule(house, call, 0, {"from": actors.admin})
    with reverts("AccessManagerNotReady", operation, unchanged=house):
        house.unpause({"from": actors.admin})

    clock.at(brownie.chain[-1].timestamp + DELAY)
    house.unpause({"from": actors.admin})
    assert not house.paused()


def test_pausedSeconds_counts_pauses_that_are_over_and_the_running_one(house, actors):
    assert house.pausedSeconds() == 0
    start = brownie.chain[-1].timestamp + 1_000
    for moment, change, caller in (
        (start, house.pause, actors.guardian),
        (start + 500, house.unpause, actors.admin),
        (start + 2_000, house.pause, actors.guardian),
    ):
        clock.at(moment)
        change({"from": caller})
    clock.move_to(start + 2_070)
    assert house.pausedSeconds() == 570
    clock.at(start + 2_100)
    house.unpause({"from": actors.admin})
    clock.move_to(start + 9_000)
    assert house.pausedSeconds() == 600


def test_constructor_keeps_token_and_authority(house, token, authority):
    assert house.token() == token
    assert house.authority() == authority
