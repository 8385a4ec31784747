"""
registerOrganisation
├── paused → reverts EnforcedPause
├── caller is no active registrar → reverts MissingRole
├── role None, Prosumer or Registrar → reverts RoleNotAllowed
├── account holds the role → reverts AlreadyRegistered
├── account suspended or revoked → reverts StatusNotAllowed
└── else → active in the role, emits ParticipantRegistered
registerRegistrar
├── caller is not the admin → reverts AccessManagedUnauthorized
├── paused → reverts EnforcedPause
├── registrar already → reverts AlreadyRegistered
└── else → active registrar, emits ParticipantRegistered
"""

import pytest

from tests.utils.plain import event
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status, identity

COMMITMENT = identity("organisation")
REASON = b"R" * 32


def test_registerOrganisation_reverts_when_paused(participants, actors):
    participants.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=participants):
        participants.registerOrganisation(actors.outsider, Role.TSO, COMMITMENT, {"from": actors.registrar})


def test_registerOrganisation_reverts_when_caller_is_no_registrar(participants, actors):
    for caller, status in ((actors.outsider, 0), (actors.admin, 0), (actors.dso, Status.ACTIVE)):
        with reverts("MissingRole", caller, Role.REGISTRAR, status, unchanged=participants):
            participants.registerOrganisation(actors.outsider, Role.TSO, COMMITMENT, {"from": caller})


def test_registerOrganisation_reverts_when_registrar_is_revoked(participants, actors):
    participants.setRegistrarStatus(actors.registrar, Status.REVOKED, REASON, {"from": actors.admin})
    with reverts("MissingRole", actors.registrar, Role.REGISTRAR, Status.REVOKED, unchanged=participants):
        participants.registerOrganisation(actors.outsider, Role.TSO, COMMITMENT, {"from": actors.registrar})


@pytest.mark.parametrize("role", [Role.NONE, Role.PROSUMER, Role.REGISTRAR])
def test_registerOrganisation_reverts_when_role_has_another_way_in(participants, actors, role):
    with reverts("RoleNotAllowed", role, unchanged=participants):
        participants.registerOrganisation(actors.outsider, role, COMMITMENT, {"from": actors.registrar})


def test_registerOrganisation_reverts_when_role_is_held(participants, actors):
    with reverts("AlreadyRegistered", actors.dso, Role.DSO, unchanged=participants):
        participants.registerOrganisation(actors.dso, Role.DSO, COMMITMENT, {"from": actors.registrar})


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED])
def test_registerOrganisation_reverts_when_account_is_not_in_good_standing(participants, actors, status):
    participants.setStatus(actors.dso, status, REASON, {"from": actors.registrar})
    with reverts("StatusNotAllowed", actors.dso, status, Status.ACTIVE, unchanged=participants):
        participants.registerOrganisation(actors.dso, Role.TSO, COMMITMENT, {"from": actors.registrar})


@pytest.mark.parametrize(
    "role",
    [Role.DSO, Role.TSO, Role.AGGREGATOR, Role.METER_OPERATOR, Role.MARKET_OPERATOR, Role.AUDITOR],
)
def test_registerOrganisation_admits_when_role_is_of_an_organisation(participants, actors, role):
    tx = participants.registerOrganisation(actors.outsider, role, COMMITMENT, {"from": actors.registrar})
    assert participants.hasRole(actors.outsider, role)
    assert participants.rolesOf(actors.outsider) == 1 << role
    assert participants.statusOf(actors.outsider) == Status.ACTIVE
    assert participants.nonceOf(actors.outsider) == 0
    assert event(tx, "ParticipantRegistered") == {
        "account": actors.outsider,
        "role": role,
        "registrar": actors.registrar,
        "identityCommitment": COMMITMENT,
    }


def test_registerRegistrar_reverts_when_caller_is_not_admin(participants, actors):
    for caller in (actors.registrar, actors.guardian, actors.outsider):
        with reverts("AccessManagedUnauthorized", caller, unchanged=participants):
            participants.registerRegistrar(caller, COMMITMENT, {"from": caller})


def test_registerRegistrar_reverts_when_paused(participants, actors):
    participants.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=participants):
        participants.registerRegistrar(actors.outsider, COMMITMENT, {"from": actors.admin})


def test_registerRegistrar_reverts_when_registrar_already(participants, actors):
    with reverts("AlreadyRegistered", actors.registrar, Role.REGISTRAR, unchanged=participants):
        participants.registerRegistrar(actors.registrar, COMMITMENT, {"from": actors.admin})


def test_registerRegistrar_appoints_when_admin_calls(participants, actors):
    tx = participants.registerRegistrar(actors.outsider, COMMITMENT, {"from": actors.admin})
    assert participants.hasRole(actors.outsider, Role.REGISTRAR)
    assert event(tx, "ParticipantRegistered") == {
        "account": actors.outsider,
        "role": Role.REGISTRAR,
        "registrar": actors.admin,
        "identityCommitment": COMMITMENT,
    }
