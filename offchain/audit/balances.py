"""Holds the rebuilt balances, locks, totals and states against the getters of the contracts."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from eth_abi import encode
from eth_hash.auto import keccak

from offchain.audit.model import (
    NOBODY,
    AgreementStatus,
    FlexOrder,
    FlexOrderStatus,
    Model,
    OfferStatus,
    ProsumerOrder,
)
from offchain.audit.pool_verdicts import orders_of
from offchain.audit.ports import Getter, Query
from offchain.audit.report import Checks
from offchain.domain.curves import pack_quantities
from offchain.market.replay import SessionRecord, pack_result

_TERMS_TYPES = {
    "groupId": "uint64",
    "agreementId": "uint64",
    "replaces": "uint64",
    "prosumer": "address",
    "meterId": "bytes32",
    "direction": "uint8",
    "dayFirstIsp": "uint32",
    "ispCount": "uint16",
    "rewardRate": "uint32",
    "penaltyRate": "uint32",
    "toleranceBps": "uint16",
    "multiplierBps": "uint32",
    "noticeSeconds": "uint32",
    "missingIsShortfall": "bool",
    "quantitiesHash": "bytes32",
    "baselineHash": "bytes32",
}
"""``IFlexDispatch.OrderTerms`` in field order."""


class Expectation(NamedTuple):
    """A getter and what it should answer; of a struct, the named fields."""

    subject: str
    query: Query
    expected: Any


def check_balances(checks: Checks, model: Model, get: Getter, timestamp: int, house: str) -> None:
    """Compare with the contracts at the audited block of ``timestamp``; ``house`` is the clearing house."""
    _check_conservation(checks, model, get, house)
    expected_all = list(expectations(model, timestamp))
    answers = get([expectation.query for expectation in expected_all])
    for (subject, query, expected), answer in zip(expected_all, answers, strict=True):
        if isinstance(expected, Mapping):
            wrong = [name for name in expected if expected[name] != answer[name]]
            expected = {name: expected[name] for name in wrong}
            answer = {name: answer[name] for name in wrong}
        checks.equal(subject, "state of a contract", str(query), expected, answer)


def expectations(model: Model, timestamp: int) -> Iterator[Expectation]:
    """What every getter should answer."""
    yield from _money(model, timestamp)
    yield from _registries(model)
    yield from _agreements(model, timestamp)
    yield from _flexibility(model)
    yield from _energy_market(model)
    yield from _pools(model)


def _check_conservation(checks: Checks, model: Model, get: Getter, house: str) -> None:
    """Balances and locks = total held <= tokens held; balances of a token = its supply."""
    free, locked = sum(model.balances.values()), sum(model.locks.values())
    where = "clearing house"
    checks.equal("conservation", "free balances and locks", where, model.total_held, free + locked)
    held, supply = get([Query("ClearingHouse", "totalHeld"), Query("EnergyToken", "totalSupply")])
    checks.equal("conservation", "total held", where, model.total_held, held)
    token = model.token
    checks.equal("conservation", "supply of energy tokens", "EnergyToken", token.supply, supply)
    total = sum(token.balances.values())
    checks.equal("conservation", "sum of token balances", "EnergyToken", token.supply, total)
    for lock_id, amount in model.locks.items():
        checks.holds("conservation", "lock", "0x" + lock_id.hex(), amount >= 0, "at least 0", amount)
    tokens = token.balances[house]
    checks.holds("conservation", "tokens held", where, tokens >= held, f"at least {held}", tokens)
    _check_stakes(checks, model, get)
    unsold = [i for i, o in model.offers.items() if o.status is OfferStatus.ORDERED and not o.flex_order_id]
    checks.equal("conservation", "offers marked as ordered without an order", where, [], unsold)
    finalised = FlexOrderStatus.FINALISED
    unpaid = [i for i, o in model.flex_orders.items() if o.status is finalised and not o.settled]
    checks.equal("conservation", "flex orders closed without settlement", where, [], unpaid)


def _check_stakes(checks: Checks, model: Model, get: Getter) -> None:
    """What a staker has staked is in its lock, no more and no less."""
    stakers = list(model.stakes)
    lock_ids = get([Query("SettlementProposer", "stakeLockId", (staker,)) for staker in stakers])
    for staker, lock_id in zip(stakers, lock_ids, strict=True):
        checks.equal("conservation", "stake in its lock", staker, model.stakes[staker].amount, model.locks[lock_id])


def _money(model: Model, timestamp: int) -> Iterator[Expectation]:
    for account, amount in model.balances.items():
        yield Expectation("balances", Query("ClearingHouse", "balanceOf", (account,)), amount)
    for lock_id, amount in model.locks.items():
        yield Expectation("locks", Query("ClearingHouse", "lockOf", (lock_id,)), amount)
    yield Expectation(
        "states", Query("ClearingHouse", "pausedSeconds"), model.paused_seconds("ClearingHouse", timestamp)
    )
    for holder, amount in model.token.balances.items():
        yield Expectation("balances", Query("EnergyToken", "balanceOf", (holder,)), amount)
    for account, bought in model.net_bought.items():
        yield Expectation("balances", Query("TokenDesk", "netBought", (account,)), bought)
    for (contract, debtor, creditor), amount in model.owed.items():
        yield Expectation("balances", Query(contract, "owed", (debtor, creditor)), amount)
    for operator, bond in model.metering_bonds.items():
        yield Expectation("balances", Query("MeteringLedger", "bondOf", (operator,)), bond)


def _registries(model: Model) -> Iterator[Expectation]:
    for account, standing in model.standings.items():
        roles = sum(1 << role for role in model.roles[account])
        yield Expectation("states", Query("ParticipantRegistry", "statusOf", (account,)), int(standing))
        yield Expectation("states", Query("ParticipantRegistry", "rolesOf", (account,)), roles)
    for point_id, point in model.congestion_points.items():
        expected = {"dso": point.dso, "active": point.active, "capacityW": point.capacity_w}
        yield Expectation("states", Query("GridRegistry", "congestionPoint", (point_id,)), expected)
        for aggregator in point.aggregators:
            query = Query("GridRegistry", "isAggregatorActive", (point_id, aggregator))
            yield Expectation("states", query, point.active)
    for connection_id, connection in model.connections.items():
        expected = {
            "owner": connection.owner,
            "technicalUpW": connection.technical_up_w,
            "technicalDownW": connection.technical_down_w,
            "light": int(connection.light),
            "active": connection.active,
            "congestionPointId": connection.congestion_point_id,
        }
        yield Expectation("states", Query("GridRegistry", "connection", (connection_id,)), expected)
    for meter_id, meter in model.meters.items():
        from_isp, key = meter.keys[-1]
        expected = {
            "deviceKey": key,
            "keyFromIsp": from_isp,
            "endIsp": meter.end_isp,
            "operator": meter.operator,
            "connectionId": meter.connection_id,
        }
        yield Expectation("states", Query("MeterRegistry", "meter", (meter_id,)), expected)
    for (operator, first_isp), versions in model.batches.items():
        batch = versions[-1]
        expected = {
            "root": batch.root,
            "anchoredAt": batch.anchored_at,
            "ispCount": batch.isp_count,
            "leafCount": batch.leaf_count,
            "version": batch.version,
            "status": int(batch.status),
        }
        yield Expectation("states", Query("MeteringLedger", "batch", (operator, first_isp)), expected)
    for commitment_id, commitment in model.commitments.items():
        expected = {
            "committer": commitment.committer,
            "kind": int(commitment.kind),
            "postedAt": commitment.posted_at,
            "firstIsp": commitment.first_isp,
            "ispCount": commitment.isp_count,
            "root": commitment.root,
            "method": commitment.method,
            "scope": commitment.scope,
        }
        yield Expectation("states", Query("CommitmentRegistry", "commitment", (commitment_id,)), expected)


def _agreements(model: Model, timestamp: int) -> Iterator[Expectation]:
    for agreement_id, agreement in model.agreements.items():
        status = AgreementStatus.TERMINATED if timestamp >= agreement.end else agreement.status
        expected = {"status": int(status), "endsAt": agreement.ends_at, "version": agreement.version}
        yield Expectation("states", Query("AgreementRegistry", "standingOf", (agreement_id,)), expected)
        query = Query("AgreementRegistry", "termsOf", (agreement_id,))
        yield Expectation("states", query, dict(agreement.terms))


def _flexibility(model: Model) -> Iterator[Expectation]:
    for request_id, request in model.requests.items():
        expected = {
            "terms": dict(request.terms),
            "dso": request.dso,
            "status": int(request.status),
            "quantitiesHash": keccak(pack_quantities(request.quantities_wh)),
            "requestedWh": sum(request.quantities_wh),
            "orderedWh": sum(request.ordered_wh),
            "budget": request.budget,
        }
        yield Expectation("states", Query("FlexMarket", "request", (request_id,)), expected)
    for offer_id, offer in model.offers.items():
        expected = {
            "requestId": offer.request_id,
            "aggregator": offer.aggregator,
            "price": offer.price,
            "status": int(offer.status),
            "baselineCommitmentId": offer.commitment_id,
            "bond": offer.bond,
            "quantitiesHash": keccak(pack_quantities(offer.quantities_wh)),
        }
        yield Expectation("states", Query("FlexMarket", "offer", (offer_id,)), expected)
    for flex_order_id, flex_order in model.flex_orders.items():
        expected = {
            "requestId": flex_order.request_id,
            "offerId": flex_order.offer_id,
            "dso": flex_order.dso,
            "aggregator": flex_order.aggregator,
            "price": flex_order.price,
            "status": int(flex_order.status),
            "orderedWh": sum(flex_order.ordered_wh),
            "escrow": flex_order.escrow,
            "bond": flex_order.bond,
            "baselineCommitmentId": flex_order.commitment_id,
            "quantitiesHash": keccak(pack_quantities(flex_order.ordered_wh)),
        }
        yield Expectation("states", Query("FlexMarket", "flexOrder", (flex_order_id,)), expected)
        query = Query("FlexReassignment", "standbyHashOf", (flex_order_id,))
        yield Expectation("states", query, _standby_hash(flex_order))
    for group_id, group in model.groups.items():
        expected = {
            "payer": group.payer,
            "dayFirstIsp": group.day_first_isp,
            "ispCount": group.isp_count,
            "issued": group.issued,
            "settled": group.settled,
            "finalised": group.finalised,
            "creditedWh": group.credited_wh,
            "missingWh": group.missing_wh,
        }
        yield Expectation("states", Query("FlexDispatch", "group", (group_id,)), expected)
    for order_id, order in model.orders.items():
        expected = {
            "status": int(order.status),
            "groupId": order.terms["groupId"],
            "version": order.version,
            "creditedWh": order.credited_wh,
            "missingWh": order.missing_wh,
            "net": order.net,
            "termsHash": _terms_hash(order),
        }
        yield Expectation("states", Query("FlexDispatch", "prosumerOrder", (order_id,)), expected)
        if any(order.taken_wh):
            expected = {
                "takenHash": keccak(pack_quantities(order.taken_wh)),
                "takenWh": sum(order.taken_wh),
                "pot": order.pot,
            }
            yield Expectation("states", Query("FlexDispatch", "reassignment", (order_id,)), expected)


def _energy_market(model: Model) -> Iterator[Expectation]:
    for session_id, session in model.sessions.items():
        times = session.times
        standing = [record for record in session.bundles.values() if record.bundle and record.outcome is None]
        expected = {
            "operator": session.operator,
            "firstIsp": session.first_isp,
            "gateClosure": times.gate_closure,
            "acceptBy": times.accept_by,
            "openBundles": len(standing),
            "finalised": session.rates is not None,
            "closed": session.residual is not None,
        }
        if session.rates is not None:
            expected["surplusPrice"] = session.rates.surplus_price
            expected["greenRewardRate"] = session.rates.green_reward_rate
        yield Expectation("states", Query("EnergyMarket", "session", (session_id,)), expected)
        for product, result in session.results.items():
            query = Query("EnergyMarket", "resultOf", (session_id, product))
            yield Expectation("states", query, pack_result(result))
        for connection_id, record in session.bundles.items():
            if record.outcome is not None:
                query = Query("MarketCorrections", "paidOf", (session_id, connection_id))
                yield Expectation("balances", query, record.paid)
            if _word_taken_over(model, session, connection_id):
                continue
            expected = {
                "placed": bool(record.bundle),
                "claimed": record.released is not None,
                "certified": record.certified,
                "settled": record.outcome is not None,
                "sequence": record.sequence,
            }
            if record.bundle:
                expected["hash"] = keccak(record.bundle)[:25]
            yield Expectation("states", Query("EnergyMarket", "bundleOf", (session_id, connection_id)), expected)
    yield from _market_modules(model)
    for connection_id, producer_class in model.producer_classes.items():
        query = Query("ProducerRegistry", "producerClassOf", (connection_id,))
        yield Expectation("states", query, producer_class)
    for (token_id, holder), amount in model.certificates.items():
        yield Expectation("balances", Query("EnergyCertificates", "balanceOf", (holder, token_id)), amount)


def _pools(model: Model) -> Iterator[Expectation]:
    for pool_id, pool in model.pools.items():
        orders = [order for member in pool.reported for order in orders_of(member.position or b"")]
        expected = {
            "operator": pool.operator,
            "members": len(pool.members),
            "reports": len(pool.reported),
            "openMembers": len(pool.open),
            "priced": pool.surplus_price is not None,
            "closed": pool.residual is not None,
            "suppliedWh": sum(order.quantity_wh for order in orders if order.sell),
        }
        if pool.surplus_price is not None:
            expected["surplusPrice"] = pool.surplus_price
            expected["pricesHash"] = keccak(pool.prices) if pool.prices else bytes(32)
        yield Expectation("states", Query("PostDeliveryPool", "pool", (pool_id,)), expected)
        for connection_id, member in pool.members.items():
            expected = {"account": member.account, "state": int(member.state), "credit": member.credit}
            if member.position is not None:
                expected["positionHash"] = keccak(member.position)
            yield Expectation("states", Query("PostDeliveryPool", "memberOf", (pool_id, connection_id)), expected)
            query = Query("BilateralTrades", "countOf", (pool_id, connection_id))
            yield Expectation("states", query, len(pool.trades_of(connection_id)))
        states = dict.fromkeys(pool.trades, 1) | dict.fromkeys(pool.cancelled, 2)
        for trade_id, state in states.items():
            yield Expectation("states", Query("BilateralTrades", "stateOf", (trade_id,)), state)


def _market_modules(model: Model) -> Iterator[Expectation]:
    for connection_id, rule in model.trading_rules.items():
        query = Query("TradingRules", "ruleOf", (connection_id,))
        yield Expectation("states", query, (rule.terms["number"], rule.in_force))
    for staker, stake in model.stakes.items():
        expected = {
            "amount": stake.amount,
            "since": stake.since,
            "boundUntil": stake.bound_until,
            "openProposals": stake.open_proposals,
        }
        yield Expectation("balances", Query("SettlementProposer", "stakeOf", (staker,)), expected)
    for session_id, proposals in model.proposals.items():
        latest = proposals[-1]
        expected = {
            "proposer": NOBODY if latest.fallen_at else latest.proposer,
            "challengeUntil": latest.challenge_until,
            "openChallenges": latest.open_challenges,
            "number": latest.number,
            "concluded": latest.concluded,
            "root": latest.root,
        }
        yield Expectation("states", Query("SettlementProposer", "proposalOf", (session_id,)), expected)


def _standby_hash(order: FlexOrder) -> bytes:
    if order.standby is None:
        return bytes(32)
    listed = [(s["agreementId"], s["meterId"], s["baselineHash"]) for s in order.standby]
    return keccak(encode(["(uint64,bytes32,bytes32)[]"], [listed]))


def _word_taken_over(model: Model, session: SessionRecord, connection_id: bytes) -> bool:
    """Whether a later session of the schedule may keep the connection's word: the getter then answers zeros."""
    return session.schedule_id != 0 and any(
        later.id > session.id and later.schedule_id == session.schedule_id and connection_id in later.bundles
        for later in model.sessions.values()
    )


def _terms_hash(order: ProsumerOrder) -> bytes:
    return keccak(encode(list(_TERMS_TYPES.values()), [order.terms[name] for name in _TERMS_TYPES]))
