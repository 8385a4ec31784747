"""The deployment plan as data: contracts, their arguments, what connects them, roles, and what must hold at the end.

Arguments are values or references: :class:`Of` (address of a contract of the plan), :class:`Param` (a parameter).
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from offchain.chain.abi import checksum
from offchain.domain.errors import DomainError

ADMIN, GUARDIAN, ISSUER = 0, 1, 2
"""Roles of the AccessManager: governance (with a delay), emergency stop (without), issue of the local currency."""
DISPATCH_HORIZON_S = 3 * 86_400
"""From the dispatch of orders to the end of their day two days ahead, which every deployment allows [s]."""


class Parameters(BaseModel):
    """What a deployment may choose. Amounts are uToken, durations seconds; addresses default to the deployer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    admin: str
    """Governs when the deployment is done; give it to a multisignature wallet."""
    guardian: str
    """May pause at once."""
    treasury: str
    """Receives the whole issue of energy tokens."""
    issuer: str
    """May issue the local currency."""
    registrars: dict[str, str] = {}
    """Registrars of participants to begin with, and the salted commitment to the identity of each (32 bytes, hex)."""
    admin_delay_seconds: int = Field(0, ge=0, lt=2**32)
    payment_token: str | None = None
    """An ERC-20 token that the desk sells against; a local currency is deployed when there is none."""
    token_issue: int = Field(10**15, gt=0)
    desk_stock: int = Field(10**14, ge=0)
    purchase_limit: int = Field(10**12, gt=0)
    challenge_window_seconds: int = Field(86_400, gt=0, lt=2**32)
    minimum_bond: int = Field(1_000_000_000, gt=0)
    challenge_penalty: int = Field(400_000_000, gt=0)
    """Most that a challenge takes from a meter operator's bond; the treasury gets what the challenger does not."""
    bond_hold_seconds: int = Field(40 * 86_400, gt=0, lt=2**32)
    max_reading_age_seconds: int = Field(2_700, gt=0, lt=2**32)
    """How long after its ISP a reading proves a shortfall: three ISPs."""
    regulated_rate: int = Field(250_000, gt=0, lt=2**32)
    """Compensation of direct control [uToken/kWh]."""
    readings_due_seconds: int = Field(3 * 86_400, gt=0, lt=2**32)
    settle_by_seconds: int = Field(7 * 86_400, gt=0, lt=2**32)
    correction_seconds: int = Field(30 * 86_400, gt=0, lt=2**32)
    age_cap_seconds: int = Field(30 * 86_400, gt=0, lt=2**32)
    """Age of a stake beyond which it counts no more in the draw of settlement proposers."""
    turn_seconds: int = Field(12 * 3_600, gt=0, lt=2**32)
    outcome_challenge_seconds: int = Field(86_400, gt=0, lt=2**32)
    answer_seconds: int = Field(86_400, gt=0, lt=2**32)
    minimum_stake: int = Field(100_000_000, gt=0, lt=2**128)
    reveal_penalty: int = Field(10_000_000, ge=0, lt=2**128)
    outcome_challenge_bond: int = Field(10_000_000, gt=0, lt=2**128)
    claim_fee: int = Field(10_000, ge=0, lt=2**128)
    """What a settlement proposer gets of each trader that claims by its batch."""

    @field_validator("admin", "guardian", "treasury", "issuer", "payment_token")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else _checked(value)

    @field_validator("registrars")
    @classmethod
    def _registrars(cls, values: dict[str, str]) -> dict[str, str]:
        for commitment in values.values():
            if len(bytes.fromhex(commitment.removeprefix("0x"))) != 32:
                raise ValueError(f"{commitment} is not 32 bytes in hex")
        return {_checked(account): commitment for account, commitment in values.items()}

    @classmethod
    def of(cls, deployer: str, given: Mapping[str, Any] | None = None) -> "Parameters":
        """Parameters as given, everything else by default.

        Raises
        ------
        DomainError
            Names the first parameter that is unknown or out of range.
        """
        given = dict(given or {})
        people = dict.fromkeys(("admin", "guardian", "treasury", "issuer"), deployer)
        try:
            parameters = cls(**(people | given))
        except ValidationError as exc:
            first = exc.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise DomainError(f"deployment parameter {name}: {first['msg']}") from exc
        if parameters.desk_stock > parameters.token_issue:
            raise DomainError(
                f"desk_stock {parameters.desk_stock} is more than the issue of {parameters.token_issue} uToken"
            )
        if parameters.desk_stock and parameters.treasury != deployer:
            raise DomainError(
                "the deployer cannot stock the desk from another account's treasury",
                hint="set desk_stock = 0 and let the treasury call TokenDesk.stock",
            )
        if not parameters.readings_due_seconds < parameters.settle_by_seconds < parameters.correction_seconds:
            raise DomainError("readings_due_seconds, settle_by_seconds, correction_seconds must rise in this order")
        least = parameters.correction_seconds + DISPATCH_HORIZON_S
        if parameters.bond_hold_seconds < least:
            raise DomainError(
                f"bond_hold_seconds {parameters.bond_hold_seconds} ends before a day two days ahead is corrected",
                hint=f"at least {least}",
            )
        return parameters


def read_parameters(path: Path) -> dict[str, Any]:
    """Parameters of a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise DomainError(f"parameter file {path}: {exc.strerror}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise DomainError(f"parameter file {path} is not TOML: {exc}") from exc


def _checked(value: str) -> str:
    if not (value.startswith("0x") and len(value) == 42):
        raise ValueError(f"{value} is not an address")
    return checksum(value)


@dataclass(frozen=True, slots=True)
class Of:
    """Address of a contract of the plan."""

    contract: str


@dataclass(frozen=True, slots=True)
class Param:
    """Value of a parameter."""

    name: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Selector of a function."""

    contract: str
    function: str


@dataclass(frozen=True, slots=True)
class Query:
    """A getter and the answer that it must give."""

    contract: str
    function: str
    args: tuple
    expected: Any


@dataclass(frozen=True, slots=True)
class Create:
    """Deploys a contract."""

    contract: str
    args: tuple

    @property
    def title(self) -> str:
        return f"create {self.contract}"


@dataclass(frozen=True, slots=True)
class Existing:
    """A contract that is there already, under the name that the plan knows it by."""

    contract: str
    address: str

    @property
    def title(self) -> str:
        return f"use {self.contract} at {self.address}"


@dataclass(frozen=True, slots=True)
class Do:
    """A transaction. It counts as done when the getter ``done`` says so, or when it reverts with ``already``."""

    title: str
    contract: str
    function: str
    args: tuple
    done: Query | None = None
    already: str | None = None


Step = Create | Existing | Do


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, checks at the end, holders of roles for the record."""

    steps: tuple[Step, ...]
    checks: tuple[Query, ...]
    roles: dict[str, dict[str, Any]]


GOVERNED = (
    "ParticipantRegistry",
    "GridRegistry",
    "MeterRegistry",
    "ClearingHouse",
    "TokenDesk",
    "CommitmentRegistry",
    "MeteringLedger",
    "AgreementRegistry",
    "FlexMarket",
    "FlexDispatch",
    "FlexReassignment",
    "GridRegime",
    "ProducerRegistry",
    "EnergyMarket",
    "MarketSessions",
    "EnergyCertificates",
    "TradingRules",
    "SettlementProposer",
    "PostDeliveryPool",
    "BilateralTrades",
)
MODULES = {
    "ClearingHouse": (
        *("MeteringLedger", "AgreementRegistry", "FlexMarket", "FlexDispatch", "FlexSettlement"),
        *("EnergyMarket", "MarketSettlement", "SettlementProposer", "MarketCorrections"),
        *("PostDeliveryPool", "BilateralTrades"),
    ),
    "FlexMarket": ("FlexSettlement",),
    "EnergyMarket": (
        *("MarketSessions", "MarketRelay", "TradingRules"),
        *("EnergyCertificates", "MarketSettlement", "SettlementProposer"),
    ),
    "EnergyCertificates": ("MarketSettlement", "SettlementProposer"),
    "PostDeliveryPool": ("PoolReports", "PoolRelay"),
    "FlexDispatch": ("FlexReassignment", "GridRegime", "FlexSettlement"),
}
"""Who may call the functions for modules of each contract."""


def make_plan(parameters: Parameters, deployer: str) -> Plan:
    """The plan of the whole suite."""
    authority, participants, grid, house = (
        Of("AccessGovernor"),
        Of("ParticipantRegistry"),
        Of("GridRegistry"),
        Of("ClearingHouse"),
    )
    meters, metering, commitments = Of("MeterRegistry"), Of("MeteringLedger"), Of("CommitmentRegistry")
    agreements, market, dispatch = Of("AgreementRegistry"), Of("FlexMarket"), Of("FlexDispatch")
    if parameters.payment_token is None:
        currency: Step = Create("LocalCurrency", (authority,))
    else:
        currency = Existing("LocalCurrency", parameters.payment_token)
    create = (
        Create("AccessGovernor", (deployer,)),
        Create("ParticipantRegistry", (authority,)),
        Create("GridRegistry", (authority, participants)),
        Create("MeterRegistry", (authority, participants, grid)),
        Create("EnergyToken", (Param("treasury"), Param("token_issue"))),
        currency,
        Create("ClearingHouse", (authority, Of("EnergyToken"))),
        Create("TokenDesk", (authority, participants, house, Of("LocalCurrency"), Param("purchase_limit"))),
        Create("CommitmentRegistry", (authority, participants)),
        Create(
            "MeteringLedger",
            (
                *(authority, participants, meters, house),
                *(Param("challenge_window_seconds"), Param("minimum_bond"), Param("challenge_penalty")),
                Param("treasury"),
            ),
        ),
        Create("AgreementRegistry", (authority, participants, grid, house, Param("bond_hold_seconds"))),
        Create("FlexMarket", (authority, participants, grid, commitments, house)),
        Create(
            "FlexDispatch",
            (
                *(authority, participants, grid, meters, commitments, agreements, market, house),
                Param("correction_seconds"),
            ),
        ),
        Create(
            "FlexReassignment",
            (
                *(authority, participants, grid, meters, metering, commitments, agreements, market, dispatch),
                Param("max_reading_age_seconds"),
            ),
        ),
        Create(
            "GridRegime",
            (authority, participants, grid, commitments, market, dispatch, Param("regulated_rate")),
        ),
        Create(
            "FlexSettlement",
            (
                *(metering, agreements, market, dispatch, house),
                *(Param("readings_due_seconds"), Param("settle_by_seconds")),
            ),
        ),
        *_energy_market(authority, participants, grid, house),
    )
    modules = tuple(
        _ensure(
            f"let {module} call {contract}",
            (contract, "setModule", (Of(module), True)),
            Query(contract, "isModule", (Of(module),), True),
        )
        for contract, allowed in MODULES.items()
        for module in allowed
    )
    connect = Do(
        "connect FlexMarket with GridRegime and FlexDispatch",
        "FlexMarket",
        "connect",
        (Of("GridRegime"), Of("FlexDispatch")),
        already="AlreadyConnected",
    )
    registrars = tuple(
        _ensure(
            f"appoint registrar {registrar}",
            ("ParticipantRegistry", "registerRegistrar", (registrar, commitment)),
            Query("ParticipantRegistry", "hasRole", (registrar, 7), True),
        )
        for registrar, commitment in parameters.registrars.items()
    )
    steps = (
        *create,
        *modules,
        connect,
        *_stock(parameters, deployer),
        *registrars,
        *_roles(parameters, deployer),
    )
    done = tuple(step.done for step in steps if isinstance(step, Do) and step.done and step.function != "approve")
    checks = (*done, *_checks(parameters, deployer))
    return Plan(steps, checks, _role_record(parameters))


def _energy_market(authority: Of, participants: Of, grid: Of, house: Of) -> tuple[Create, ...]:
    market, certificates, producers = Of("EnergyMarket"), Of("EnergyCertificates"), Of("ProducerRegistry")
    meters, metering, settlement = Of("MeterRegistry"), Of("MeteringLedger"), Of("MarketSettlement")
    pool = Of("PostDeliveryPool")
    proposer = (
        *(Param("age_cap_seconds"), Param("turn_seconds"), Param("outcome_challenge_seconds"), Param("answer_seconds")),
        *(Param("minimum_stake"), Param("reveal_penalty"), Param("outcome_challenge_bond"), Param("claim_fee")),
    )
    return (
        Create("ProducerRegistry", (authority, participants, grid)),
        Create("EnergyMarket", (authority, participants, grid, producers, house)),
        Create("MarketSessions", (authority, participants, grid, market)),
        Create("MarketRelay", (grid, market)),
        Create("EnergyCertificates", (authority, participants, grid, market, producers)),
        Create("MarketSettlement", (market, Of("MarketSessions"), certificates, metering, meters, grid, house)),
        Create("TradingRules", (authority, participants, market, grid, meters, Of("CommitmentRegistry"))),
        Create(
            "SettlementProposer",
            (authority, participants, market, settlement, certificates, grid, house, proposer),
        ),
        Create("MarketCorrections", (market, settlement, Of("SettlementProposer"), grid, house)),
        Create("PostDeliveryPool", (authority, participants, grid, house)),
        Create("PoolRelay", (grid, pool)),
        Create("BilateralTrades", (authority, participants, pool, producers, house)),
        Create("PoolReports", (pool, Of("BilateralTrades"), settlement)),
    )


def _ensure(title: str, call: tuple[str, str, tuple], done: Query) -> Do:
    return Do(title, *call, done=done)


def _stock(parameters: Parameters, deployer: str) -> tuple[Step, ...]:
    amount = parameters.desk_stock
    if not amount:
        return ()
    token, desk = "EnergyToken", Of("TokenDesk")
    return (
        Do(
            f"allow the desk {amount} uToken",
            token,
            "approve",
            (desk, amount),
            Query(token, "allowance", (deployer, desk), amount),
        ),
        Do(
            f"stock the desk with {amount} uToken",
            "TokenDesk",
            "stock",
            (amount,),
            Query(token, "balanceOf", (desk,), amount),
        ),
    )


def _roles(parameters: Parameters, deployer: str) -> tuple[Step, ...]:
    """Roles last: when the deployer hands over, nothing may be left to do."""
    governor = "AccessGovernor"
    steps: list[Step] = [
        Do("label role GUARDIAN", governor, "labelRole", (GUARDIAN, "GUARDIAN")),
        _grant("GUARDIAN", GUARDIAN, parameters.guardian, 0),
    ]
    steps += [_assign(contract, "pause", GUARDIAN, "GUARDIAN") for contract in GOVERNED]
    if parameters.payment_token is None:
        steps += [
            Do("label role ISSUER", governor, "labelRole", (ISSUER, "ISSUER")),
            _grant("ISSUER", ISSUER, parameters.issuer, 0),
            _assign("LocalCurrency", "mint", ISSUER, "ISSUER"),
        ]
    if parameters.admin != deployer or parameters.admin_delay_seconds:
        steps.append(_grant("ADMIN", ADMIN, parameters.admin, parameters.admin_delay_seconds))
    if parameters.admin != deployer:
        steps.append(
            _ensure(
                f"deployer {deployer} gives up ADMIN",
                (governor, "renounceRole", (ADMIN, deployer)),
                Query(governor, "hasRole", (ADMIN, deployer), (False, 0)),
            )
        )
    return tuple(steps)


def _grant(label: str, role: int, account: str, delay: int) -> Do:
    return _ensure(
        f"grant {label} to {account}" + (f" with a delay of {delay} s" if delay else ""),
        ("AccessGovernor", "grantRole", (role, account, delay)),
        Query("AccessGovernor", "hasRole", (role, account), (True, delay)),
    )


def _assign(contract: str, function: str, role: int, label: str) -> Do:
    selector = Selector(contract, function)
    return _ensure(
        f"{label} may call {contract}.{function}",
        ("AccessGovernor", "setTargetFunctionRole", (Of(contract), (selector,), role)),
        Query("AccessGovernor", "getTargetFunctionRole", (Of(contract), selector), role),
    )


def _checks(parameters: Parameters, deployer: str) -> tuple[Query, ...]:
    """What the contracts themselves must say, besides that every step is done."""
    authority = Of("AccessGovernor")
    checks = [Query(contract, "authority", (), authority) for contract in GOVERNED]
    checks += [
        Query("ClearingHouse", "token", (), Of("EnergyToken")),
        Query("EnergyToken", "totalSupply", (), Param("token_issue")),
        Query("TokenDesk", "purchaseLimit", (), Param("purchase_limit")),
        Query("MeteringLedger", "challengeWindow", (), Param("challenge_window_seconds")),
        Query("MeteringLedger", "challengePenalty", (), Param("challenge_penalty")),
        Query("MeteringLedger", "forfeitTo", (), Param("treasury")),
        Query("AgreementRegistry", "bondHoldSeconds", (), Param("bond_hold_seconds")),
        Query("FlexReassignment", "maxReadingAgeSeconds", (), Param("max_reading_age_seconds")),
        Query("GridRegime", "regulatedRate", (), Param("regulated_rate")),
        Query("FlexSettlement", "readingsDueSeconds", (), Param("readings_due_seconds")),
        Query("FlexSettlement", "settleBySeconds", (), Param("settle_by_seconds")),
        Query("FlexSettlement", "correctionSeconds", (), Param("correction_seconds")),
        Query(
            "AccessGovernor",
            "hasRole",
            (ADMIN, parameters.admin),
            (True, parameters.admin_delay_seconds),
        ),
    ]
    return tuple(checks)


def _role_record(parameters: Parameters) -> dict[str, dict[str, Any]]:
    roles = {
        "ADMIN": {
            "id": ADMIN,
            "holders": [parameters.admin],
            "delay_seconds": parameters.admin_delay_seconds,
        },
        "GUARDIAN": {"id": GUARDIAN, "holders": [parameters.guardian], "delay_seconds": 0},
    }
    if parameters.payment_token is None:
        roles["ISSUER"] = {"id": ISSUER, "holders": [parameters.issuer], "delay_seconds": 0}
    return roles
