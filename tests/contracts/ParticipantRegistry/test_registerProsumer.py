"""
registerProsumer
├── paused → reverts EnforcedPause
├── deadline passed → reverts ApprovalExpired
├── registrar is none, or suspended → reverts MissingRole
├── approval by another, for another nonce, deadline, chain or contract, or empty → reverts InvalidApproval
├── relayed: enrolment by another, empty, or the approval used for it → reverts InvalidEnrolment
├── approval used again → reverts InvalidApproval
├── prosumer already → reverts AlreadyRegistered
├── account suspended or revoked in another role → reverts StatusNotAllowed
└── else → active prosumer, nonce raised, emits ParticipantRegistered
    ├── by the account itself, without enrolment
    ├── relayed by anybody
    ├── account and registrar are ERC-1271 wallets
    └── account is an organisation already → keeps both roles
"""

import brownie
import pytest

from offchain.chain.signatures import participants_domain
from tests.utils import system
from tests.utils.plain import event
from tests.utils.reverts import reverts
from tests.utils.system import FAR_FUTURE, Role, Status, identity, sign_approval, sign_enrolment

COMMITMENT = identity("prosumer")
REASON = b"R" * 32


@pytest.fixture
def register(participants, actors):
    """Registers the outsider with valid signatures, but for what is passed."""

    def call(
        *,
        account=None,
        deadline=FAR_FUTURE,
        registrar=None,
        approval=None,
        enrolment=None,
        sender=None,
    ):
        account = account or actors.outsider
        if approval is None:
            approval = sign_approval(participants, account, actors.registrar, deadline=deadline)
        if enrolment is None:
            enrolment = sign_enrolment(participants, account, actors.outsider, deadline=deadline)
        return participants.registerProsumer(
            account,
            COMMITMENT,
            deadline,
            registrar or actors.registrar,
            approval,
            enrolment,
            {"from": sender or actors.treasury},
        )

    return call


def test_registerProsumer_reverts_when_paused(participants, actors, register):
    participants.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=participants):
        register()


def test_registerProsumer_reverts_when_deadline_passed(participants, register):
    deadline = brownie.chain[-1].timestamp + 10
    now = system.next_block_at(deadline + 1)
    with reverts("ApprovalExpired", deadline, now, unchanged=participants):
        register(deadline=deadline)


def test_registerProsumer_succeeds_when_at_deadline(participants, actors, register):
    deadline = brownie.chain[-1].timestamp + 100
    system.next_block_at(deadline)
    tx = register(deadline=deadline)
    assert tx.timestamp == deadline
    assert participants.hasRole(actors.outsider, Role.PROSUMER)


def test_registerProsumer_reverts_when_registrar_is_none(participants, actors, register):
    approval = sign_approval(participants, actors.outsider, actors.dso)
    with reverts("MissingRole", actors.dso, Role.REGISTRAR, Status.ACTIVE, unchanged=participants):
        register(registrar=actors.dso, approval=approval)


def test_registerProsumer_reverts_when_registrar_is_suspended(participants, actors, register):
    participants.setRegistrarStatus(actors.registrar, Status.SUSPENDED, REASON, {"from": actors.admin})
    with reverts("MissingRole", actors.registrar, Role.REGISTRAR, Status.SUSPENDED, unchanged=participants):
        register()


@pytest.mark.parametrize("fault", ["signer", "nonce", "deadline", "chain", "contract", "account", "empty"])
def test_registerProsumer_reverts_when_approval_is_of_something_else(participants, actors, register, fault):
    signer, account, changed = actors.registrar, actors.outsider, {}
    if fault == "signer":
        signer = actors.dso
    elif fault == "nonce":
        changed["nonce"] = 1
    elif fault == "deadline":
        changed["deadline"] = FAR_FUTURE - 1
    elif fault == "chain":
        changed["domain"] = participants_domain(brownie.chain.id + 1, participants.address)
    elif fault == "contract":
        changed["domain"] = participants_domain(brownie.chain.id, actors.admin.address)
    elif fault == "account":
        account = actors.treasury
    approval = b"" if fault == "empty" else sign_approval(participants, account, signer, **changed)
    with reverts("InvalidApproval", actors.registrar, unchanged=participants):
        register(approval=approval)


@pytest.mark.parametrize("fault", ["signer", "empty", "approval"])
def test_registerProsumer_reverts_when_relayed_without_consent(participants, actors, register, fault):
    enrolment = {
        "signer": lambda: sign_enrolment(participants, actors.outsider, actors.treasury),
        "empty": lambda: b"",
        "approval": lambda: sign_approval(participants, actors.outsider, actors.outsider),
    }[fault]()
    with reverts("InvalidEnrolment", actors.outsider, unchanged=participants):
        register(enrolment=enrolment)


def test_registerProsumer_reverts_when_approval_is_used_again(participants, actors, register):
    approval = sign_approval(participants, actors.outsider, actors.registrar)
    register(approval=approval)
    with reverts("InvalidApproval", actors.registrar, unchanged=participants):
        register(approval=approval)


def test_registerProsumer_reverts_when_prosumer_already(participants, actors, register):
    register()
    with reverts("AlreadyRegistered", actors.outsider, Role.PROSUMER, unchanged=participants):
        register()


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED])
def test_registerProsumer_reverts_when_account_is_not_in_good_standing(participants, actors, register, status):
    participants.registerOrganisation(actors.outsider, Role.AGGREGATOR, identity("o"), {"from": actors.registrar})
    participants.setStatus(actors.outsider, status, REASON, {"from": actors.registrar})
    with reverts("StatusNotAllowed", actors.outsider, status, Status.ACTIVE, unchanged=participants):
        register()


def test_registerProsumer_admits_when_account_calls_itself(participants, actors, register):
    tx = register(enrolment=b"", sender=actors.outsider)
    assert participants.hasRole(actors.outsider, Role.PROSUMER)
    assert participants.statusOf(actors.outsider) == Status.ACTIVE
    assert participants.rolesOf(actors.outsider) == 1 << Role.PROSUMER
    assert participants.nonceOf(actors.outsider) == 1
    assert event(tx, "ParticipantRegistered") == {
        "account": actors.outsider,
        "role": Role.PROSUMER,
        "registrar": actors.registrar,
        "identityCommitment": COMMITMENT,
    }


def test_registerProsumer_admits_when_relayed(participants, actors, register):
    tx = register(sender=actors.treasury)
    assert participants.hasRole(actors.outsider, Role.PROSUMER)
    assert event(tx, "ParticipantRegistered")["account"] == actors.outsider


def test_registerProsumer_admits_when_both_are_contract_wallets(participants, actors, register):
    account = system.deploy(actors.admin, "ContractWallet", actors.outsider)
    registrar = system.deploy(actors.admin, "ContractWallet", actors.registrar)
    participants.registerRegistrar(registrar, identity("r"), {"from": actors.admin})
    register(account=account, registrar=registrar)
    assert participants.hasRole(account, Role.PROSUMER)


def test_registerProsumer_reverts_when_contract_wallet_refuses(participants, actors, register):
    account = system.deploy(actors.admin, "ContractWallet", actors.treasury)
    with reverts("InvalidEnrolment", account, unchanged=participants):
        register(account=account)


def test_registerProsumer_keeps_roles_when_organisation_already(participants, actors, register):
    participants.registerOrganisation(actors.outsider, Role.AGGREGATOR, identity("o"), {"from": actors.registrar})
    register()
    assert participants.rolesOf(actors.outsider) == 1 << Role.PROSUMER | 1 << Role.AGGREGATOR
    assert participants.hasRole(actors.outsider, Role.AGGREGATOR)
    assert participants.hasRole(actors.outsider, Role.PROSUMER)
