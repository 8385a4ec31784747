// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IAgreementRegistry} from "interfaces/IAgreementRegistry.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {ICommitmentRegistry} from "interfaces/ICommitmentRegistry.sol";
import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";
import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMeterRegistry} from "interfaces/IMeterRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Module} from "contracts/registry/Module.sol";
import {Activation} from "contracts/flexibility/Activation.sol";
import {Curves} from "contracts/metering/Curves.sol";

/// @title Prosumer orders: dispatch, replacements, direct control
/// @dev See {IFlexDispatch} for states, money and trust. Loops over positions are unchecked: at most 100 values below 2^32,
/// tolerances below 2^16, so sums stay below 2^40 and products below 2^64.
contract FlexDispatch is IFlexDispatch, Module {
    using Curves for bytes;
    using SafeCast for uint256;

    /// @dev Group ids of direct control start here; those below are flex orders.
    uint64 private constant FIRST_DIRECT_GROUP = 1 << 63;

    IGridRegistry private immutable _grid;
    IMeterRegistry private immutable _meters;
    ICommitmentRegistry private immutable _commitments;
    IAgreementRegistry private immutable _agreements;
    IFlexMarket private immutable _market;
    IClearingHouse private immutable _clearingHouse;
    uint256 private immutable _bondHoldSeconds;
    /// @inheritdoc IFlexDispatch
    uint32 public immutable correctionSeconds;

    uint64 private _lastProsumerOrderId;
    uint64 private _lastDirectGroupId = FIRST_DIRECT_GROUP - 1;

    mapping(uint64 prosumerOrderId => ProsumerOrder) private _orders;
    mapping(uint64 groupId => Group) private _groups;
    mapping(uint64 prosumerOrderId => Reassignment) private _reassignments;
    /// @dev Energy dispatched per ISP: 8 positions of uint32 a word, as in a packed curve.
    mapping(uint64 flexOrderId => uint256[13]) private _dispatched;
    /// @dev ISPs of a connection that have an order: bit `isp & 255` of word `isp >> 8`. Absolute ISPs, so that market
    /// days that overlap cannot order the same quarter hour twice.
    mapping(bytes32 connectionId => mapping(uint256 block256 => uint256)) private _ordered;
    mapping(uint64 agreementId => mapping(uint256 week => uint256)) private _activations;

    /// @dev One dispatch call: what does not change from prosumer to prosumer, and the sums.
    struct Context {
        uint64 groupId;
        uint64 replaces;
        address aggregator;
        bytes32 congestionPointId;
        IFlexMarket.Direction direction;
        uint32 dayFirstIsp;
        uint16 ispCount;
        uint64 baselineCommitmentId;
        bytes32 baselineMethod;
        uint256 lockedReward;
    }

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_,
        IMeterRegistry meters_,
        ICommitmentRegistry commitments_,
        IAgreementRegistry agreements_,
        IFlexMarket market_,
        IClearingHouse clearingHouse_,
        uint32 correctionSeconds_
    ) Module(authority_, participants_) {
        _grid = grid_;
        _meters = meters_;
        _commitments = commitments_;
        _agreements = agreements_;
        _market = market_;
        _clearingHouse = clearingHouse_;
        _bondHoldSeconds = agreements_.bondHoldSeconds();
        correctionSeconds = correctionSeconds_;
    }

    // ------------------------------------------------------------------ dispatch

    /// @inheritdoc IFlexDispatch
    function dispatch(
        uint64 flexOrderId,
        bytes calldata orderedWh,
        Dispatch[] calldata dispatches
    ) external whenNotPaused returns (uint64 firstProsumerOrderId) {
        (Context memory context, bytes32 quantitiesHash, uint40 dispatchBy) = _openFlexOrder(flexOrderId);
        _requireAggregator(flexOrderId, context.aggregator);
        if (block.timestamp > dispatchBy) revert DispatchClosed(dispatchBy, block.timestamp);
        _requireHash(orderedWh, quantitiesHash);
        _requireBondHeld(context);

        bytes memory sums = _dispatchedCurve(flexOrderId, context.ispCount);
        firstProsumerOrderId = _lastProsumerOrderId + 1;
        for (uint256 i = 0; i < dispatches.length; ++i) {
            Dispatch calldata part = dispatches[i];
            _requireLength(part.quantitiesWh, context.ispCount);
            _dispatchOne(context, part);
            _addDispatched(sums, part.quantitiesWh, orderedWh);
        }
        _storeDispatched(flexOrderId, sums);
        _clearingHouse.lock(groupLockId(flexOrderId), context.aggregator, context.lockedReward);
    }

    /// @inheritdoc IFlexDispatch
    function cancelProsumerOrder(
        uint64 prosumerOrderId,
        OrderTerms calldata terms,
        bytes calldata quantitiesWh
    ) external {
        _requireIssued(prosumerOrderId, terms);
        (Context memory context, , ) = _openFlexOrder(terms.groupId);
        _requireAggregator(terms.groupId, context.aggregator);
        // A replacement frees nothing that could be dispatched again, and a failing order has others bound to it.
        if (terms.replaces != 0 || _orders[prosumerOrderId].replaced) {
            revert AlreadyReplaced(prosumerOrderId);
        }
        _requireHash(quantitiesWh, terms.quantitiesHash);

        bytes32 connectionId = _agreements.termsOf(terms.agreementId).connectionId;
        bytes memory sums = _dispatchedCurve(terms.groupId, terms.ispCount);
        uint256 rewardable = 0;
        bool notified = false;
        for (uint256 p = 0; p < terms.ispCount; ++p) {
            uint256 q = quantitiesWh.quantity(p);
            if (q == 0) continue;
            if (!notified) {
                _requireNotice(terms.agreementId, terms.noticeSeconds, terms.dayFirstIsp + p);
                notified = true;
            }
            Activation.set(sums, p, Activation.at(sums, p) - q);
            rewardable += Activation.rewardableWh(q, 0, terms.toleranceBps);
            _unmark(connectionId, terms.dayFirstIsp + p);
        }
        _storeDispatched(terms.groupId, sums);
        _activations[terms.agreementId][Activation.weekOf(terms.dayFirstIsp)] -= 1;
        _groups[terms.groupId].issued -= 1;
        _orders[prosumerOrderId].status = OrderStatus.Cancelled;
        uint256 released = Activation.rewardOf(rewardable, terms.rewardRate, terms.multiplierBps);
        _clearingHouse.release(groupLockId(terms.groupId), context.aggregator, released);
        emit ProsumerOrderCancelled(prosumerOrderId, terms.groupId, released.toUint64());
    }

    // ------------------------------------------------------------------ standby

    /// @inheritdoc IFlexDispatch
    function issueReplacement(
        Replacement calldata replacement
    ) external onlyModule whenNotPaused returns (uint64 replacementOrderId) {
        ProsumerOrder storage failed = _orders[replacement.failedOrderId];
        (Context memory context, , ) = _openFlexOrder(failed.groupId);
        context.replaces = replacement.failedOrderId;
        IAgreementRegistry.Terms memory agreed = _agreements.termsInForce(replacement.agreementId);
        _requireAgreed(context, replacement.agreementId, agreed, replacement.quantitiesWh);
        replacementOrderId = _issueAgreed(
            context,
            replacement.agreementId,
            agreed,
            replacement.quantitiesWh,
            replacement.meterId,
            replacement.baselineHash
        );
        // What the failing order can no longer earn pays for the replacement; only a dearer one needs more.
        if (context.lockedReward > replacement.rewardFreed) {
            _clearingHouse.lock(
                groupLockId(context.groupId),
                context.aggregator,
                context.lockedReward - replacement.rewardFreed
            );
        }
        failed.replaced = true;
        Reassignment storage record = _reassignments[replacement.failedOrderId];
        record.takenHash = keccak256(replacement.totalTakenWh);
        record.takenWh += replacement.takenWh;
    }

    // ------------------------------------------------------------------ direct control

    /// @inheritdoc IFlexDispatch
    function issueDirect(
        address payer,
        bytes32 congestionPointId,
        IFlexMarket.Direction direction,
        uint32 dayFirstIsp,
        uint16 ispCount,
        uint32 rate,
        uint64 baselineCommitmentId,
        Direct[] calldata orders
    ) external onlyModule whenNotPaused returns (uint64 groupId) {
        groupId = ++_lastDirectGroupId;
        OrderTerms memory terms;
        terms.groupId = groupId;
        terms.direction = direction;
        terms.dayFirstIsp = dayFirstIsp;
        terms.ispCount = ispCount;
        terms.rewardRate = rate;
        terms.multiplierBps = uint32(Activation.BPS);
        _openGroup(groupId, payer, dayFirstIsp, ispCount);
        emit DirectGroupOpened(groupId, payer, congestionPointId, baselineCommitmentId, rate);

        uint256 locked = 0;
        for (uint256 i = 0; i < orders.length; ++i) {
            Direct calldata part = orders[i];
            _requireLength(part.quantitiesWh, ispCount);
            terms.prosumer = _requireConnection(part.connectionId, congestionPointId).owner;
            terms.meterId = _requireMeter(part.connectionId);
            terms.baselineHash = _requireBaseline(
                baselineCommitmentId,
                terms.meterId,
                ispCount,
                part.baselineWh,
                part.baselineProof
            );
            _mark(part.connectionId, dayFirstIsp, _positions(part.quantitiesWh));
            locked += _store(terms, part.quantitiesWh);
        }
        _clearingHouse.lock(groupLockId(groupId), payer, locked);
    }

    // ------------------------------------------------------------------ settlement

    /// @inheritdoc IFlexDispatch
    function recordSettlement(
        uint64 prosumerOrderId,
        uint16 version,
        uint40 creditedWh,
        uint40 missingWh,
        int72 net
    ) external onlyModule {
        ProsumerOrder storage order = _orders[prosumerOrderId];
        Group storage group_ = _groups[order.groupId];
        // An order is below 2^40 Wh and a group has fewer than 2^32 of them: nothing overflows.
        unchecked {
            if (order.status == OrderStatus.Issued) {
                order.status = OrderStatus.Settled;
                group_.settled += 1;
            }
            // Zero before the first settlement; a correction replaces what it was.
            group_.creditedWh = group_.creditedWh + creditedWh - order.creditedWh;
            group_.missingWh = group_.missingWh + missingWh - order.missingWh;
        }
        order.version = version;
        order.creditedWh = creditedWh;
        order.missingWh = missingWh;
        order.net = net;
    }

    /// @inheritdoc IFlexDispatch
    function recordPot(uint64 failedOrderId, uint64 collected) external onlyModule {
        _reassignments[failedOrderId].pot = collected;
    }

    /// @inheritdoc IFlexDispatch
    function finaliseGroup(uint64 groupId) external onlyModule returns (uint256 payerReturned) {
        Group storage group_ = _groups[groupId];
        if (group_.finalised) revert GroupAlreadyFinalised(groupId);
        group_.finalised = true;
        payerReturned = _clearingHouse.lockOf(groupLockId(groupId));
        if (payerReturned != 0) _clearingHouse.release(groupLockId(groupId), group_.payer, payerReturned);
        emit GroupFinalised(groupId, payerReturned);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IFlexDispatch
    function prosumerOrder(uint64 prosumerOrderId) external view returns (ProsumerOrder memory) {
        return _orders[prosumerOrderId];
    }

    /// @inheritdoc IFlexDispatch
    function group(uint64 groupId) external view returns (Group memory) {
        return _groups[groupId];
    }

    /// @inheritdoc IFlexDispatch
    function reassignment(uint64 prosumerOrderId) external view returns (Reassignment memory) {
        return _reassignments[prosumerOrderId];
    }

    /// @inheritdoc IFlexDispatch
    function basisOf(uint64 prosumerOrderId) external view returns (Basis memory) {
        ProsumerOrder storage order = _orders[prosumerOrderId];
        return
            Basis({
                status: order.status,
                termsHash: order.termsHash,
                takenHash: order.replaced ? _reassignments[prosumerOrderId].takenHash : bytes32(0),
                groupFinalised: _groups[order.groupId].finalised,
                groupLockId: groupLockId(order.groupId)
            });
    }

    /// @inheritdoc IFlexDispatch
    function dispatchedWh(uint64 flexOrderId) external view returns (bytes memory) {
        return _dispatchedCurve(flexOrderId, _groups[flexOrderId].ispCount);
    }

    /// @inheritdoc IFlexDispatch
    function orderedIsps(bytes32 connectionId, uint32 dayFirstIsp) public view returns (uint128) {
        uint256 shift = dayFirstIsp & 255;
        uint256 bits = _ordered[connectionId][dayFirstIsp >> 8] >> shift;
        // A day of at most 128 positions reaches into the next word only from bit 129 on.
        if (shift > 128) bits |= _ordered[connectionId][(dayFirstIsp >> 8) + 1] << (256 - shift);
        return uint128(bits);
    }

    /// @inheritdoc IFlexDispatch
    function activationsOf(uint64 agreementId, uint32 dayFirstIsp) external view returns (uint256) {
        return _activations[agreementId][Activation.weekOf(dayFirstIsp)];
    }

    /// @inheritdoc IFlexDispatch
    function groupLockId(uint64 groupId) public view returns (bytes32) {
        return keccak256(abi.encode(address(this), groupId));
    }

    /// @inheritdoc IFlexDispatch
    function hashTerms(OrderTerms calldata terms) external pure returns (bytes32) {
        return Activation.hashOf(terms);
    }

    // ------------------------------------------------------------------ issuing

    function _dispatchOne(Context memory context, Dispatch calldata part) private {
        IAgreementRegistry.Terms memory agreed = _agreements.termsInForce(part.agreementId);
        _requireAgreed(context, part.agreementId, agreed, part.quantitiesWh);
        bytes32 meterId = _requireMeter(agreed.connectionId);
        bytes32 baselineHash = _requireBaseline(
            context.baselineCommitmentId,
            meterId,
            context.ispCount,
            part.baselineWh,
            part.baselineProof
        );
        _issueAgreed(context, part.agreementId, agreed, part.quantitiesWh, meterId, baselineHash);
    }

    /// @dev Checks a curve against an agreement and everything else that binds the connection; marks its ISPs.
    function _requireAgreed(
        Context memory context,
        uint64 agreementId,
        IAgreementRegistry.Terms memory agreed,
        bytes memory quantities
    ) private {
        if (agreed.aggregator != context.aggregator) revert OtherAggregator(agreementId, agreed.aggregator);
        if (agreed.baselineMethod != context.baselineMethod) {
            revert OtherBaselineMethod(agreementId, agreed.baselineMethod, context.baselineMethod);
        }
        _requireConnection(agreed.connectionId, context.congestionPointId);
        _markAgreed(context, agreementId, agreed, quantities);
    }

    /// @dev Issues an order that {_requireAgreed} let pass, with the meter and baseline that it is settled by.
    function _issueAgreed(
        Context memory context,
        uint64 agreementId,
        IAgreementRegistry.Terms memory agreed,
        bytes memory quantities,
        bytes32 meterId,
        bytes32 baselineHash
    ) private returns (uint64) {
        OrderTerms memory terms = OrderTerms({
            groupId: context.groupId,
            agreementId: agreementId,
            replaces: context.replaces,
            prosumer: agreed.prosumer,
            meterId: meterId,
            direction: context.direction,
            dayFirstIsp: context.dayFirstIsp,
            ispCount: context.ispCount,
            rewardRate: agreed.rewardRate,
            penaltyRate: agreed.penaltyRate,
            toleranceBps: agreed.toleranceBps,
            multiplierBps: agreed.multiplierBps,
            noticeSeconds: agreed.noticeSeconds,
            missingIsShortfall: agreed.missingIsShortfall,
            quantitiesHash: 0,
            baselineHash: baselineHash
        });
        _openGroup(context.groupId, context.aggregator, context.dayFirstIsp, context.ispCount);
        context.lockedReward += _store(terms, quantities);
        return _lastProsumerOrderId;
    }

    /// @dev Power, availability, double orders, notice and weekly limit; marks the ISPs as ordered.
    function _markAgreed(
        Context memory context,
        uint64 agreementId,
        IAgreementRegistry.Terms memory agreed,
        bytes memory quantities
    ) private {
        uint256 limit = Activation.limitWh(agreed, context.direction);
        uint256 available = _agreements.availableIsps(agreementId, context.dayFirstIsp);
        bool notified = false;
        unchecked {
            for (uint256 p = 0; p < context.ispCount; ++p) {
                uint256 q = Activation.at(quantities, p);
                if (q == 0) continue;
                if (q > limit) revert OutsideAgreement(agreementId, p, q, limit);
                if ((available >> p) & 1 == 0) revert OutsideAvailability(agreementId, p);
                if (notified) continue;
                _requireNotice(agreementId, agreed.noticeSeconds, context.dayFirstIsp + p);
                notified = true;
            }
        }
        _mark(agreed.connectionId, context.dayFirstIsp, _positions(quantities));

        uint256 week = Activation.weekOf(context.dayFirstIsp);
        if (++_activations[agreementId][week] > agreed.weeklyActivations) {
            revert WeeklyLimitReached(agreementId, week, agreed.weeklyActivations);
        }
    }

    /// @dev Stores and emits an order; `terms.quantitiesHash` is set here. Returns the largest reward it can earn.
    function _store(OrderTerms memory terms, bytes memory quantities) private returns (uint256 reward) {
        terms.quantitiesHash = keccak256(quantities);
        uint256 orderedWh = 0;
        uint256 rewardable = 0;
        unchecked {
            for (uint256 p = 0; p < terms.ispCount; ++p) {
                uint256 q = Activation.at(quantities, p);
                orderedWh += q;
                rewardable += Activation.rewardableWh(q, 0, terms.toleranceBps);
            }
        }
        if (orderedWh == 0) revert EmptyCurve();
        reward = Activation.rewardOf(rewardable, terms.rewardRate, terms.multiplierBps);
        uint64 prosumerOrderId = ++_lastProsumerOrderId;
        ProsumerOrder storage order = _orders[prosumerOrderId];
        order.status = OrderStatus.Issued;
        order.groupId = terms.groupId;
        order.termsHash = keccak256(abi.encode(terms));
        _groups[terms.groupId].issued += 1;
        emit ProsumerOrdered(
            prosumerOrderId,
            terms.groupId,
            terms.prosumer,
            terms,
            quantities,
            orderedWh.toUint64(),
            reward.toUint64()
        );
    }

    function _openGroup(uint64 groupId, address payer, uint32 dayFirstIsp, uint16 ispCount) private {
        Group storage group_ = _groups[groupId];
        if (group_.payer != address(0)) return;
        group_.payer = payer;
        group_.dayFirstIsp = dayFirstIsp;
        group_.ispCount = ispCount;
    }

    // ------------------------------------------------------------------ checks

    function _openFlexOrder(
        uint64 flexOrderId
    ) private view returns (Context memory context, bytes32 quantitiesHash, uint40 dispatchBy) {
        IFlexMarket.FlexOrder memory order = _market.flexOrder(flexOrderId);
        if (order.status != IFlexMarket.OrderStatus.Open) revert FlexOrderClosed(flexOrderId);
        IFlexMarket.RequestTerms memory request = _market.request(order.requestId).terms;
        participants.requireRole(order.aggregator, IParticipantRegistry.Role.Aggregator);
        context.groupId = flexOrderId;
        context.aggregator = order.aggregator;
        context.congestionPointId = request.congestionPointId;
        context.direction = request.direction;
        context.dayFirstIsp = request.dayFirstIsp;
        context.ispCount = request.ispCount;
        context.baselineCommitmentId = order.baselineCommitmentId;
        context.baselineMethod = _commitments.commitment(order.baselineCommitmentId).method;
        return (context, order.quantitiesHash, request.dispatchBy);
    }

    function _requireAggregator(uint64 flexOrderId, address aggregator) private view {
        if (msg.sender != aggregator) revert NotAggregatorOf(flexOrderId, msg.sender);
    }

    function _requireIssued(uint64 prosumerOrderId, OrderTerms calldata terms) private view {
        ProsumerOrder storage order = _orders[prosumerOrderId];
        if (order.status == OrderStatus.None) revert ProsumerOrderUnknown(prosumerOrderId);
        if (order.status != OrderStatus.Issued) revert OrderNotIssued(prosumerOrderId, order.status);
        if (order.termsHash != Activation.hashOf(terms)) revert TermsMismatch(prosumerOrderId);
    }

    function _requireConnection(
        bytes32 connectionId,
        bytes32 congestionPointId
    ) private view returns (IGridRegistry.Connection memory connection) {
        connection = _grid.connection(connectionId);
        if (!connection.active || connection.light == IGridRegistry.StaticLight.Red) {
            revert ConnectionNotAllowed(connectionId);
        }
        if (connection.congestionPointId != congestionPointId) {
            revert OtherCongestionPoint(connectionId, connection.congestionPointId);
        }
    }

    function _requireMeter(bytes32 connectionId) private view returns (bytes32 meterId) {
        meterId = _meters.meterOf(connectionId);
        if (meterId == 0) revert NoMeter(connectionId);
    }

    /// @dev The curve itself is brought, not its hash alone: what nobody could show could not be settled either.
    function _requireBaseline(
        uint64 commitmentId,
        bytes32 meterId,
        uint256 ispCount,
        bytes calldata baselineWh,
        bytes32[] calldata proof
    ) private view returns (bytes32 baselineHash) {
        _requireLength(baselineWh, ispCount);
        baselineHash = keccak256(baselineWh);
        _commitments.requireBaseline(commitmentId, meterId, baselineHash, proof);
    }

    function _requireNotice(uint64 agreementId, uint256 noticeSeconds, uint256 firstIsp) private view {
        uint256 start = firstIsp * Activation.ISP_SECONDS;
        if (start < block.timestamp + noticeSeconds) {
            revert NoticeTooShort(agreementId, start, block.timestamp + noticeSeconds);
        }
    }

    /// @dev A bond that somebody makes leave now must still be there for the last correction.
    function _requireBondHeld(Context memory context) private view {
        uint256 dayEnd = (uint256(context.dayFirstIsp) + context.ispCount) * Activation.ISP_SECONDS;
        uint256 heldUntil = block.timestamp + _bondHoldSeconds;
        if (dayEnd + correctionSeconds >= heldUntil) revert DayTooFarAhead(dayEnd + correctionSeconds, heldUntil);
    }

    function _requireHash(bytes calldata curve, bytes32 expected) private pure {
        if (keccak256(curve) != expected) revert CurveMismatch(keccak256(curve), expected);
    }

    function _requireLength(bytes calldata curve, uint256 ispCount) private pure {
        if (curve.length != 4 * ispCount) revert CurveLength(curve.length, 4 * ispCount);
    }

    // ------------------------------------------------------------------ packed storage

    /// @dev Adds one prosumer's quantities to the sums dispatched, within the flex order's curve.
    function _addDispatched(bytes memory sums, bytes calldata quantities, bytes calldata ordered) private pure {
        unchecked {
            for (uint256 p = 0; 4 * p < quantities.length; ++p) {
                uint256 q = quantities.quantity(p);
                if (q == 0) continue;
                uint256 total = Activation.at(sums, p) + q;
                if (total > ordered.quantity(p)) revert MoreThanOrdered(p, total, ordered.quantity(p));
                Activation.set(sums, p, total);
            }
        }
    }

    function _dispatchedCurve(uint64 flexOrderId, uint256 ispCount) private view returns (bytes memory curve) {
        curve = new bytes(4 * ispCount);
        unchecked {
            for (uint256 word = 0; word * 8 < ispCount; ++word) {
                uint256 stored = _dispatched[flexOrderId][word];
                if (stored == 0) continue;
                for (uint256 p = word * 8; p < ispCount && p < word * 8 + 8; ++p) {
                    Activation.set(curve, p, (stored >> (224 - 32 * (p & 7))) & 0xffffffff);
                }
            }
        }
    }

    function _storeDispatched(uint64 flexOrderId, bytes memory curve) private {
        uint256[13] storage words = _dispatched[flexOrderId];
        unchecked {
            for (uint256 word = 0; word * 32 < curve.length; ++word) {
                uint256 value = 0;
                for (uint256 p = word * 8; p < word * 8 + 8; ++p) {
                    value = (value << 32) | (4 * p < curve.length ? Activation.at(curve, p) : 0);
                }
                if (value != words[word]) words[word] = value;
            }
        }
    }

    /// @dev Bit p set: quantity at position p.
    function _positions(bytes memory quantities) private pure returns (uint256 positions) {
        unchecked {
            for (uint256 p = 0; 4 * p < quantities.length; ++p) {
                if (Activation.at(quantities, p) != 0) positions |= 1 << p;
            }
        }
    }

    /// @dev Marks positions as ordered; no ISP of a connection is ordered twice, by whomever.
    function _mark(bytes32 connectionId, uint32 dayFirstIsp, uint256 positions) private {
        uint256 twice = positions & orderedIsps(connectionId, dayFirstIsp);
        if (twice != 0) revert AlreadyOrdered(connectionId, Math.log2(twice & (~twice + 1)));
        uint256 shift = dayFirstIsp & 255;
        uint256 word = dayFirstIsp >> 8;
        _ordered[connectionId][word] |= positions << shift;
        if (shift > 128 && positions >> (256 - shift) != 0) {
            _ordered[connectionId][word + 1] |= positions >> (256 - shift);
        }
    }

    function _unmark(bytes32 connectionId, uint256 isp) private {
        _ordered[connectionId][isp >> 8] &= ~(1 << (isp & 255));
    }
}
