"""What each event means and when it is allowed, one module per part of the suite."""

from collections.abc import Iterator, Sequence

from offchain.audit.ports import Query
from offchain.audit.replay import Handler, Replay, at
from offchain.audit.rules import (
    agreements,
    corrections,
    debts,
    dispatch,
    energy_market,
    ledger,
    market,
    metering,
    post_delivery_pool,
    proposals,
    proposer,
    registry,
    settlement,
    trading_rules,
)
from offchain.chain.events import Event

HANDLERS = (
    registry.HANDLERS
    | ledger.HANDLERS
    | metering.HANDLERS
    | agreements.HANDLERS
    | market.HANDLERS
    | dispatch.HANDLERS
    | settlement.HANDLERS
    | debts.HANDLERS
    | energy_market.HANDLERS
    | trading_rules.HANDLERS
    | proposer.HANDLERS
    | post_delivery_pool.HANDLERS
    | proposals.HANDLERS
    | corrections.HANDLERS
)

OF_EVERY_CONTRACT = {
    "ModuleSet": registry.module_set,
    "Paused": registry.paused,
    "Unpaused": registry.unpaused,
}
"""Events that every governed contract has."""

WITHOUT_EFFECT = frozenset(
    {
        "Approval",
        "ApprovalForAll",
        "AuthorityUpdated",
        "EIP712DomainChanged",
        "OperationCanceled",
        "OperationExecuted",
        "OperationScheduled",
        "RoleAdminChanged",
        "RoleGrantDelayChanged",
        "RoleGranted",
        "RoleGuardianChanged",
        "RoleLabel",
        "RoleRevoked",
        "TargetAdminDelayUpdated",
        "TargetClosed",
        "TargetFunctionRoleUpdated",
    }
)
"""Governance and allowances: they move no money and bind nobody that the rules ask about."""

NOT_WHILE_PAUSED = frozenset(
    {
        ("ParticipantRegistry", "ParticipantRegistered"),
        ("GridRegistry", "CongestionPointDeclared"),
        ("GridRegistry", "AggregatorActivated"),
        ("GridRegistry", "ConnectionRegistered"),
        ("MeterRegistry", "MeterRegistered"),
        ("MeteringLedger", "DayAnchored"),
        ("MeteringLedger", "IntradayAnchored"),
        ("CommitmentRegistry", "Committed"),
        ("TokenDesk", "TokensBought"),
        ("ClearingHouse", "Deposited"),
        ("ClearingHouse", "Locked"),
        ("AgreementRegistry", "AgreementRegistered"),
        ("FlexMarket", "RequestPublished"),
        ("FlexMarket", "OfferPlaced"),
        ("FlexMarket", "FlexOrdered"),
        ("FlexDispatch", "ProsumerOrdered"),
        ("FlexReassignment", "StandbyListed"),
        ("FlexReassignment", "Reassigned"),
        ("GridRegime", "RegimeChanged"),
        ("GridRegime", "DirectControlUsed"),
        ("MarketSessions", "ScheduleRegistered"),
        ("MarketSessions", "SessionOpened"),
        ("EnergyCertificates", "CertificatesIssued"),
        ("TradingRules", "RuleRegistered"),
        ("TradingRules", "PlacedByRule"),
        ("SettlementProposer", "Staked"),
        ("SettlementProposer", "SecretCommitted"),
        ("SettlementProposer", "BatchProposed"),
        ("PostDeliveryPool", "PoolOpened"),
        ("PostDeliveryPool", "MemberJoined"),
        ("BilateralTrades", "TradeRegistered"),
    }
)
"""What a paused contract does not do."""

_LOCKS = {
    "RequestPublished": (("FlexMarket", "budgetLockId", "requestId"),),
    "OfferPlaced": (("FlexMarket", "offerLockId", "offerId"),),
    "FlexOrdered": (
        ("FlexMarket", "escrowLockId", "flexOrderId"),
        ("FlexMarket", "bondLockId", "flexOrderId"),
        ("FlexDispatch", "groupLockId", "flexOrderId"),
    ),
    "DirectGroupOpened": (("FlexDispatch", "groupLockId", "groupId"),),
    "AgreementRegistered": (("AgreementRegistry", "bondLockId", "agreementId"),),
    "BondPosted": (("MeteringLedger", "bondLockId", "operator"),),
    "SessionOpened": (("EnergyMarket", "potLockId", "sessionId"),),
    "PoolOpened": (("PostDeliveryPool", "potLockId", "poolId"),),
    "Staked": (("SettlementProposer", "stakeLockId", "staker"),),
    "OutcomeChallenged": (("SettlementProposer", "challengeLockId", "challengeId"),),
}


def locks_of(events: Sequence[Event]) -> Iterator[Query]:
    """Names of all locks that the events will need, so that they can be asked for at once."""
    for event in events:
        for contract, function, key in _LOCKS.get(event.name, ()):
            yield Query(contract, function, (event.args[key],))


def handler_of(event: Event) -> Handler | None:
    """What an event means; ``None`` when the auditor does not know it."""
    handler = HANDLERS.get((event.contract, event.name)) or OF_EVERY_CONTRACT.get(event.name)
    if handler is None and event.name in WITHOUT_EFFECT:
        return _ignore
    return _unless_paused(handler) if (event.contract, event.name) in NOT_WHILE_PAUSED else handler


def _ignore(_replay: Replay, _event: Event) -> None:
    pass


def _unless_paused(handler: Handler) -> Handler:
    def checked(replay: Replay, event: Event) -> None:
        stopped = event.contract in replay.model.paused
        replay.rule("modules", "event of a paused contract", at(event), not stopped, "in service", "paused")
        handler(replay, event)

    return checked
