"""
setStatus
├── caller is no active registrar → reverts MissingRole
├── account is a registrar → reverts RoleNotAllowed
├── account never registered → reverts NotRegistered
├── Active → Active, Suspended → Suspended, Revoked → anything, anything → Unknown → reverts StatusNotAllowed
└── Active ⇄ Suspended, either → Revoked → changes all roles, emits ParticipantStatusChanged; also paused
setRegistrarStatus
├── caller is not the admin → reverts AccessManagedUnauthorized
├── account is no registrar → reverts MissingRole
├── transition refused → reverts StatusNotAllowed
└── else → as setStatus
hasRole, requireRole
├── role None, role not held, account unknown, suspended or revoked → false, reverts MissingRole
└── held and active → true, passes
"""

import pytest

from tests.utils.plain import event
from tests.utils.reverts import error_text, reverts
from tests.utils.system import Role, Status, identity

REASON = b"R" * 32
ACTIVE, SUSPENDED, REVOKED, UNKNOWN = Status.ACTIVE, Status.SUSPENDED, Status.REVOKED, Status.UNKNOWN
ALLOWED = [((), SUSPENDED), ((SUSPENDED,), ACTIVE), ((), REVOKED), ((SUSPENDED,), REVOKED)]
REFUSED = [
    ((), ACTIVE),
    ((), UNKNOWN),
    ((SUSPENDED,), SUSPENDED),
    ((SUSPENDED,), UNKNOWN),
    ((REVOKED,), ACTIVE),
    ((REVOKED,), SUSPENDED),
    ((REVOKED,), REVOKED),
    ((REVOKED,), UNKNOWN),
]


def test_setStatus_reverts_when_caller_is_no_registrar(participants, actors):
    for caller, status in ((actors.admin, UNKNOWN), (actors.outsider, UNKNOWN), (actors.dso, ACTIVE)):
        with reverts("MissingRole", caller, Role.REGISTRAR, status, unchanged=participants):
            participants.setStatus(actors.prosumer, SUSPENDED, REASON, {"from": caller})


def test_setStatus_reverts_when_account_is_registrar(participants, actors):
    participants.registerRegistrar(actors.outsider, identity("r"), {"from": actors.admin})
    with reverts("RoleNotAllowed", Role.REGISTRAR, unchanged=participants):
        participants.setStatus(actors.outsider, SUSPENDED, REASON, {"from": actors.registrar})


def test_setStatus_reverts_when_account_never_registered(participants, actors):
    with reverts("NotRegistered", actors.outsider, unchanged=participants):
        participants.setStatus(actors.outsider, SUSPENDED, REASON, {"from": actors.registrar})


@pytest.mark.parametrize(("path", "wanted"), REFUSED)
def test_setStatus_reverts_when_transition_is_refused(participants, actors, path, wanted):
    for status in path:
        participants.setStatus(actors.prosumer, status, REASON, {"from": actors.registrar})
    current = path[-1] if path else ACTIVE
    with reverts("StatusNotAllowed", actors.prosumer, current, wanted, unchanged=participants):
        participants.setStatus(actors.prosumer, wanted, REASON, {"from": actors.registrar})


@pytest.mark.parametrize(("path", "wanted"), ALLOWED)
def test_setStatus_changes_all_roles_when_transition_is_allowed(participants, actors, path, wanted):
    participants.registerOrganisation(actors.prosumer, Role.AGGREGATOR, identity("o"), {"from": actors.registrar})
    participants.pause({"from": actors.guardian})
    for status in (*path, wanted):
        tx = participants.setStatus(actors.prosumer, status, REASON, {"from": actors.registrar})
    assert participants.statusOf(actors.prosumer) == wanted
    for role in (Role.PROSUMER, Role.AGGREGATOR):
        assert participants.hasRole(actors.prosumer, role) == (wanted == ACTIVE)
    assert participants.rolesOf(actors.prosumer) == 1 << Role.PROSUMER | 1 << Role.AGGREGATOR
    assert event(tx, "ParticipantStatusChanged") == {
        "account": actors.prosumer,
        "status": wanted,
        "by": actors.registrar,
        "reason": REASON,
    }


def test_setRegistrarStatus_reverts_when_caller_is_not_admin(participants, actors):
    for caller in (actors.registrar, actors.guardian):
        with reverts("AccessManagedUnauthorized", caller, unchanged=participants):
            participants.setRegistrarStatus(actors.registrar, SUSPENDED, REASON, {"from": caller})


def test_setRegistrarStatus_reverts_when_account_is_no_registrar(participants, actors):
    with reverts("MissingRole", actors.dso, Role.REGISTRAR, ACTIVE, unchanged=participants):
        participants.setRegistrarStatus(actors.dso, SUSPENDED, REASON, {"from": actors.admin})


def test_setRegistrarStatus_reverts_when_transition_is_refused(participants, actors):
    with reverts("StatusNotAllowed", actors.registrar, ACTIVE, ACTIVE, unchanged=participants):
        participants.setRegistrarStatus(actors.registrar, ACTIVE, REASON, {"from": actors.admin})


def test_setRegistrarStatus_suspends_when_admin_calls(participants, actors):
    tx = participants.setRegistrarStatus(actors.registrar, SUSPENDED, REASON, {"from": actors.admin})
    assert not participants.hasRole(actors.registrar, Role.REGISTRAR)
    assert event(tx, "ParticipantStatusChanged") == {
        "account": actors.registrar,
        "status": SUSPENDED,
        "by": actors.admin,
        "reason": REASON,
    }


def test_requireRole_passes_when_held_and_active(participants, actors):
    participants.requireRole(actors.dso, Role.DSO)
    assert participants.hasRole(actors.dso, Role.DSO)


@pytest.mark.parametrize(
    ("account", "role", "standing"),
    [
        ("dso", Role.NONE, ACTIVE),
        ("dso", Role.TSO, ACTIVE),
        ("outsider", Role.DSO, UNKNOWN),
        ("prosumer", Role.PROSUMER, SUSPENDED),
        ("prosumer", Role.PROSUMER, REVOKED),
    ],
)
def test_requireRole_reverts_when_not_held_or_not_active(participants, actors, account, role, standing):
    account = getattr(actors, account)
    if standing in (SUSPENDED, REVOKED):
        participants.setStatus(account, standing, REASON, {"from": actors.registrar})
    assert not participants.hasRole(account, role)
    with pytest.raises(Exception, match=error_text("MissingRole", account, role, standing)):
        participants.requireRole(account, role)
