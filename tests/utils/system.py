"""Deploys the contracts for tests: one function per contract, one that wires the core together.

Contract tests, stateful machines and gas scenarios all start from here. A function takes what the constructor
needs and gives the Brownie contract back; roles of governance are assigned by :func:`govern`.
"""

from dataclasses import dataclass
from enum import IntEnum

import brownie
from brownie.network.account import LocalAccount
from brownie.network.contract import ProjectContract
from coincurve import PrivateKey
from eth_hash.auto import keccak

from offchain.chain.signatures import (
    APPROVAL,
    ENROLMENT,
    SigningDomain,
    TypedStruct,
    participants_domain,
    sign,
)
from offchain.domain.isp import SECONDS_PER_ISP
from tests.utils import clock

TOKEN_ISSUE = 10**15
"""Energy tokens issued to the treasury [uToken]: a billion tokens."""
PURCHASE_LIMIT = 10**12
"""Purchase limit of the token desk per account [uToken]: a million tokens."""
FAR_FUTURE = 2**63
"""Deadline that does not pass [s]."""


class Role(IntEnum):
    """``IParticipantRegistry.Role``."""

    NONE = 0
    DSO = 1
    TSO = 2
    AGGREGATOR = 3
    PROSUMER = 4
    METER_OPERATOR = 5
    MARKET_OPERATOR = 6
    REGISTRAR = 7
    AUDITOR = 8


class Status(IntEnum):
    """``IParticipantRegistry.Status``."""

    UNKNOWN = 0
    ACTIVE = 1
    SUSPENDED = 2
    REVOKED = 3


class GovernanceRole(IntEnum):
    """Roles of the AccessManager, which say who governs; those of the field are :class:`Role`."""

    ADMIN = 0
    GUARDIAN = 1


@dataclass(frozen=True)
class Actors:
    """Accounts by what they are in the tests, with ether; :func:`enrol` gives them their roles."""

    admin: LocalAccount
    guardian: LocalAccount
    treasury: LocalAccount
    registrar: LocalAccount
    dso: LocalAccount
    other_dso: LocalAccount
    aggregator: LocalAccount
    prosumer: LocalAccount
    other_prosumer: LocalAccount
    meter_operator: LocalAccount
    other_meter_operator: LocalAccount
    outsider: LocalAccount
    module: LocalAccount
    """An account that the clearing house takes for a module."""


@dataclass(frozen=True)
class Core:
    """The contracts that all others stand on."""

    authority: ProjectContract
    participants: ProjectContract
    grid: ProjectContract
    meters: ProjectContract
    token: ProjectContract
    house: ProjectContract
    currency: ProjectContract
    desk: ProjectContract


def deploy(deployer: LocalAccount, name: str, *arguments) -> ProjectContract:
    """Deploys a contract of the project by its name."""
    (project,) = brownie.project.get_loaded_projects()
    return deployer.deploy(project[name], *arguments)


def make_actors() -> Actors:
    """Accounts with known keys, the same in every run, with ether."""
    names = Actors.__dataclass_fields__
    actors = Actors(**{name: brownie.accounts.add(keccak(name.encode())) for name in names})
    for name in names:
        brownie.accounts[0].transfer(getattr(actors, name), "100 ether", silent=True)
    return actors


def secret_of(actor: LocalAccount) -> PrivateKey:
    """Signing key of an actor."""
    return PrivateKey(bytes.fromhex(actor.private_key.removeprefix("0x")))


def deploy_authority(admin: LocalAccount) -> ProjectContract:
    return deploy(admin, "AccessGovernor", admin)


def deploy_participants(admin: LocalAccount, authority) -> ProjectContract:
    return deploy(admin, "ParticipantRegistry", authority)


def deploy_grid(admin: LocalAccount, authority, participants) -> ProjectContract:
    return deploy(admin, "GridRegistry", authority, participants)


def deploy_meters(admin: LocalAccount, authority, participants, grid) -> ProjectContract:
    return deploy(admin, "MeterRegistry", authority, participants, grid)


def deploy_token(admin: LocalAccount, treasury: LocalAccount) -> ProjectContract:
    return deploy(admin, "EnergyToken", treasury, TOKEN_ISSUE)


def deploy_house(admin: LocalAccount, authority, token) -> ProjectContract:
    return deploy(admin, "ClearingHouse", authority, token)


def deploy_currency(admin: LocalAccount, authority) -> ProjectContract:
    return deploy(admin, "LocalCurrency", authority)


def deploy_desk(admin: LocalAccount, authority, participants, house, payment_token) -> ProjectContract:
    return deploy(admin, "TokenDesk", authority, participants, house, payment_token, PURCHASE_LIMIT)


def govern(authority, target: ProjectContract, actors: Actors) -> None:
    """Lets the guardian pause ``target``; all else that is restricted stays with the admin."""
    authority.setTargetFunctionRole(
        target, [target.signatures["pause"]], GovernanceRole.GUARDIAN, {"from": actors.admin}
    )


def deploy_core(actors: Actors) -> Core:
    """Core contracts under governance, ``actors.module`` as module of the house, the desk without stock."""
    admin = actors.admin
    authority = deploy_authority(admin)
    authority.grantRole(GovernanceRole.GUARDIAN, actors.guardian, 0, {"from": admin})
    participants = deploy_participants(admin, authority)
    grid = deploy_grid(admin, authority, participants)
    meters = deploy_meters(admin, authority, participants, grid)
    token = deploy_token(admin, actors.treasury)
    house = deploy_house(admin, authority, token)
    currency = deploy_currency(admin, authority)
    desk = deploy_desk(admin, authority, participants, house, currency)
    for target in (participants, grid, meters, house, desk):
        govern(authority, target, actors)
    house.setModule(actors.module, True, {"from": admin})
    return Core(authority, participants, grid, meters, token, house, currency, desk)


def enrol(core: Core, actors: Actors) -> None:
    """Registers the actors in the roles that their names say."""
    core.participants.registerRegistrar(actors.registrar, identity("registrar"), {"from": actors.admin})
    for name, role in (
        ("dso", Role.DSO),
        ("other_dso", Role.DSO),
        ("aggregator", Role.AGGREGATOR),
        ("meter_operator", Role.METER_OPERATOR),
        ("other_meter_operator", Role.METER_OPERATOR),
    ):
        core.participants.registerOrganisation(getattr(actors, name), role, identity(name), {"from": actors.registrar})
    for name in ("prosumer", "other_prosumer"):
        enrol_prosumer(core.participants, getattr(actors, name), actors.registrar)


def enrol_prosumer(participants: ProjectContract, account: LocalAccount, registrar: LocalAccount) -> None:
    """Registers a prosumer who sends the transaction itself."""
    approval = sign_registration(APPROVAL, participants, account, registrar)
    participants.registerProsumer(
        account, identity("prosumer"), FAR_FUTURE, registrar, approval, b"", {"from": account}
    )


def sign_registration(
    struct: TypedStruct,
    participants: ProjectContract,
    account,
    signer: LocalAccount,
    *,
    nonce: int | None = None,
    deadline: int = FAR_FUTURE,
    domain: SigningDomain | None = None,
) -> bytes:
    """``signer``'s signature of an ``APPROVAL`` or ``ENROLMENT`` of ``account``, by default its next one."""
    message = {
        "account": str(account),
        "identityCommitment": identity("prosumer"),
        "nonce": participants.nonceOf(account) if nonce is None else nonce,
        "deadline": deadline,
    }
    domain = domain or participants_domain(brownie.chain.id, participants.address)
    return sign(struct.digest(domain, message), secret_of(signer))


def sign_approval(participants, account, signer, **changed) -> bytes:
    """As :func:`sign_registration`, for a registrar."""
    return sign_registration(APPROVAL, participants, account, signer, **changed)


def sign_enrolment(participants, account, signer, **changed) -> bytes:
    """As :func:`sign_registration`, for the account itself."""
    return sign_registration(ENROLMENT, participants, account, signer, **changed)


def identity(name: str) -> bytes:
    """Identity commitment of a made-up person."""
    return keccak(b"identity " + name.encode())


def id_of(name: str) -> bytes:
    """Identifier (32 bytes) of a meter, a connection, a congestion point, a lock."""
    return keccak(name.encode())


def fund(core: Core, actors: Actors, account, amount: int) -> None:
    """Gives ``account`` a free balance in the clearing house [uToken]."""
    core.token.approve(core.house, amount, {"from": actors.treasury})
    core.house.deposit(account, amount, {"from": actors.treasury})


def current_isp() -> int:
    """ISP of the latest block; what follows may fall into the next one, see :func:`start_of_isp`."""
    return brownie.chain[-1].timestamp // SECONDS_PER_ISP


def start_of_isp() -> int:
    """Moves the chain to the start of the next ISP, so that what follows stays in it; gives its index."""
    isp = current_isp() + 1
    next_block_at(isp * SECONDS_PER_ISP)
    brownie.chain.mine()
    return isp


def next_block_at(timestamp: int) -> int:
    """Gives the next block, and so the next transaction, this time [s]."""
    clock.at(timestamp)
    return timestamp
