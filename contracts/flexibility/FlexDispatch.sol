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
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";
import {IMeterRegistry} from "interfaces/IMeterRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Module} from "contracts/registry/Module.sol";
import {Activation} from "contracts/flexibility/Activation.sol";
import {Curves} from "contracts/metering/Curves.sol";

/// @title Prosumer orders: dispatch, standby reassignment, direct control
/// @dev See {IFlexDispatch} for states, money and trust. Loops over positions are unchecked: at most 100 values below 2^32,
/// tolerances below 2^16, so sums stay below 2^40 and products below 2^64.
contract FlexDispatch is IFlexDispatch, Module {
    using Curves for bytes;
    using SafeCast for uint256;

    /// @dev Group ids of direct control start here; those below are flex orders.
    uint64 private constant FIRST_DIRECT_GROUP = 1 << 63;
    uint256 private constant STANDBY_LIMIT = 32;

    IGridRegistry private immutable _grid;
    IMeterRegistry private immutable _meters;
    IMeteringLedger private immutable _metering;
    ICommitmentRegistry private immutable _commitments;
    IAgreementRegistry private immutable _agreements;
    IFlexMarket private immutable _market;
    IClearingHouse private immutable _clearingHouse;

    uint64 private _lastProsumerOrderId;
    uint64 private _lastDirectGroupId = FIRST_DIRECT_GROUP - 1;

    mapping(uint64 prosumerOrderId => ProsumerOrder) private _orders;
    mapping(uint64 groupId => Group) private _groups;
    mapping(uint64 prosumerOrderId => Reassignment) private _reassignments;
    mapping(uint64 flexOrderId => uint64[]) private _standby;
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
        IMeteringLedger metering_,
        ICommitmentRegistry commitments_,
        IAgreementRegistry agreements_,
        IFlexMarket market_,
        IClearingHouse clearingHouse_
    ) Module(authority_, participants_) {
        _grid = grid_;
        _meters = meters_;
        _metering = metering_;
        _commitments = commitments_;
        _agreements = agreements_;
        _market = market_;
        _clearingHouse = clearingHouse_;
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

        bytes memory sums = _dispatchedCurve(flexOrderId, context.ispCount);
        firstProsumerOrderId = _lastProsumerOrderId + 1;
        for (uint256 i = 0; i < dispatches.length; ++i) {
            Dispatch calldata part = dispatches[i];
            _requireLength(part.quantitiesWh, context.ispCount);
            _issueAgreed(
                context,
                part.agreementId,
                _agreements.termsInForce(part.agreementId),
                part.quantitiesWh,
                part.baselineWh,
                part.baselineProof
            );
            _addDispatched(sums, part.quantitiesWh, orderedWh);
        }
        _storeDispatched(flexOrderId, sums);
        _clearingHouse.lock(groupLockId(flexOrderId), context.aggregator, context.lockedReward);
    }

    /// @inheritdoc IFlexDispatch
    function listStandby(uint64 flexOrderId, uint64[] calldata agreementIds) external whenNotPaused {
        (Context memory context, , uint40 dispatchBy) = _openFlexOrder(flexOrderId);
        _requireAggregator(flexOrderId, context.aggregator);
        if (block.timestamp > dispatchBy) revert DispatchClosed(dispatchBy, block.timestamp);
        if (agreementIds.length > STANDBY_LIMIT) revert StandbyListTooLong(agreementIds.length, STANDBY_LIMIT);
        uint256 lastRate = 0;
        for (uint256 i = 0; i < agreementIds.length; ++i) {
            IAgreementRegistry.Terms memory agreed = _agreements.termsInForce(agreementIds[i]);
            if (!agreed.standby) revert NotStandby(agreementIds[i]);
            if (agreed.aggregator != context.aggregator) revert OtherAggregator(agreementIds[i], agreed.aggregator);
            uint256 rate = Activation.rewardOf(1e9, agreed.rewardRate, agreed.multiplierBps);
            if (rate < lastRate) revert StandbyNotInMeritOrder(i);
            lastRate = rate;
        }
        _standby[flexOrderId] = agreementIds;
        emit StandbyListed(flexOrderId, agreementIds);
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

        IAgreementRegistry.Terms memory agreed = _agreements.termsOf(terms.agreementId);
        bytes memory sums = _dispatchedCurve(terms.groupId, terms.ispCount);
        uint256 rewardable = 0;
        bool notified = false;
        for (uint256 p = 0; p < terms.ispCount; ++p) {
            uint256 q = quantitiesWh.quantity(p);
            if (q == 0) continue;
            if (!notified) {
                _requireNotice(terms.agreementId, agreed.noticeSeconds, terms.dayFirstIsp + p);
                notified = true;
            }
            Activation.set(sums, p, Activation.at(sums, p) - q);
            rewardable += Activation.rewardableWh(q, 0, terms.toleranceBps);
            _unmark(agreed.connectionId, terms.dayFirstIsp + p);
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
    function reassign(
        OrderTerms calldata terms,
        Shortfall calldata shortfall
    ) external whenNotPaused returns (uint64 replacementOrderId) {
        _requireIssued(shortfall.prosumerOrderId, terms);
        (Context memory context, , ) = _openFlexOrder(terms.groupId);
        context.replaces = shortfall.prosumerOrderId;

        bytes memory taken = _takenCurve(terms, shortfall);
        (bytes memory missing, uint256 shortfallWh) = _missingCurve(terms, shortfall, taken);
        uint256 freed = _rewardCap(terms, shortfall.quantitiesWh, taken);
        bytes memory take;
        (replacementOrderId, take) = _issueReplacement(context, shortfall, missing);
        uint256 takenWh = 0;
        unchecked {
            for (uint256 p = 0; p < terms.ispCount; ++p) {
                uint256 t = Activation.at(take, p);
                if (t == 0) continue;
                takenWh += t;
                Activation.set(taken, p, Activation.at(taken, p) + t);
            }
        }
        freed -= _rewardCap(terms, shortfall.quantitiesWh, taken);
        // What the failing order can no longer earn pays for the replacement; only a dearer one needs more.
        if (context.lockedReward > freed) {
            _clearingHouse.lock(groupLockId(terms.groupId), context.aggregator, context.lockedReward - freed);
        }
        _recordTaken(shortfall.prosumerOrderId, taken, takenWh);
        emit Reassigned(
            shortfall.prosumerOrderId,
            replacementOrderId,
            shortfall.reading.isp,
            shortfallWh,
            takenWh,
            taken
        );
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
            terms.baselineHash = _requireBaseline(baselineCommitmentId, terms, part.baselineWh, part.baselineProof);
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
    function standbyOf(uint64 flexOrderId) external view returns (uint64[] memory) {
        return _standby[flexOrderId];
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
    function groupLockId(uint64 groupId) public view returns (bytes32) {
        return keccak256(abi.encode(address(this), groupId));
    }

    /// @inheritdoc IFlexDispatch
    function hashTerms(OrderTerms calldata terms) external pure returns (bytes32) {
        return keccak256(abi.encode(terms));
    }

    // ------------------------------------------------------------------ issuing

    /// @dev Checks a curve against an agreement and everything else that binds the connection, and issues the order.
    function _issueAgreed(
        Context memory context,
        uint64 agreementId,
        IAgreementRegistry.Terms memory agreed,
        bytes memory quantities,
        bytes calldata baselineWh,
        bytes32[] calldata baselineProof
    ) private returns (uint64) {
        if (agreed.aggregator != context.aggregator) revert OtherAggregator(agreementId, agreed.aggregator);
        if (agreed.baselineMethod != context.baselineMethod) {
            revert OtherBaselineMethod(agreementId, agreed.baselineMethod, context.baselineMethod);
        }
        _requireConnection(agreed.connectionId, context.congestionPointId);
        _markAgreed(context, agreementId, agreed, quantities);

        OrderTerms memory terms = OrderTerms({
            groupId: context.groupId,
            agreementId: agreementId,
            replaces: context.replaces,
            prosumer: agreed.prosumer,
            meterId: _requireMeter(agreed.connectionId),
            direction: context.direction,
            dayFirstIsp: context.dayFirstIsp,
            ispCount: context.ispCount,
            rewardRate: agreed.rewardRate,
            penaltyRate: agreed.penaltyRate,
            toleranceBps: agreed.toleranceBps,
            multiplierBps: agreed.multiplierBps,
            missingIsShortfall: agreed.missingIsShortfall,
            quantitiesHash: 0,
            baselineHash: 0
        });
        terms.baselineHash = _requireBaseline(context.baselineCommitmentId, terms, baselineWh, baselineProof);
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

    // ------------------------------------------------------------------ reassignment, in steps

    /// @dev The curve taken over so far, verified; all zero when nothing was.
    function _takenCurve(
        OrderTerms calldata terms,
        Shortfall calldata shortfall
    ) private view returns (bytes memory taken) {
        _requireHash(shortfall.quantitiesWh, terms.quantitiesHash);
        _requireHash(shortfall.baselineWh, terms.baselineHash);
        if (!_orders[shortfall.prosumerOrderId].replaced) return new bytes(4 * uint256(terms.ispCount));
        _requireHash(shortfall.takenWh, _reassignments[shortfall.prosumerOrderId].takenHash);
        return shortfall.takenWh;
    }

    /// @dev What is missing at each later position if the failing order goes on as the reading shows:
    /// quantity * (ordered - delivered) / ordered of the proven ISP, down, less what was taken over already. Bringing
    /// the same reading again therefore takes nothing twice.
    function _missingCurve(
        OrderTerms calldata terms,
        Shortfall calldata shortfall,
        bytes memory taken
    ) private view returns (bytes memory missing, uint256 shortfallWh) {
        _requireReading(terms, shortfall);
        uint256 at = shortfall.reading.isp - terms.dayFirstIsp;
        uint256 done;
        (done, shortfallWh) = _provenShortfall(terms, shortfall, Activation.at(taken, at), at);

        bytes calldata quantities = shortfall.quantitiesWh;
        uint256 ordered = quantities.quantity(at);
        missing = new bytes(taken.length);
        bool any = false;
        unchecked {
            for (uint256 p = at + 1; 4 * p < missing.length; ++p) {
                uint256 target = (quantities.quantity(p) * (ordered - done)) / ordered;
                uint256 already = Activation.at(taken, p);
                if (target <= already) continue;
                Activation.set(missing, p, target - already);
                any = true;
            }
        }
        if (!any) revert NothingLeftToReassign(shortfall.prosumerOrderId);
    }

    /// @dev A signed reading of the order's meter, of an ISP of its day that is over.
    function _requireReading(OrderTerms calldata terms, Shortfall calldata shortfall) private view {
        IMeteringLedger.Reading calldata reading = shortfall.reading;
        if (
            terms.agreementId == 0 ||
            reading.meterId != terms.meterId ||
            reading.isp < terms.dayFirstIsp ||
            reading.isp >= terms.dayFirstIsp + terms.ispCount
        ) revert ReadingNotOfOrder(shortfall.prosumerOrderId);
        if (block.timestamp < (uint256(reading.isp) + 1) * Activation.ISP_SECONDS) {
            revert IspNotOver(reading.isp, block.timestamp);
        }
        _metering.requireReading(reading);
    }

    /// @dev Delivered and missing energy at the proven position; what is within the tolerance band is no shortfall.
    function _provenShortfall(
        OrderTerms calldata terms,
        Shortfall calldata shortfall,
        uint256 takenWh,
        uint256 at
    ) private pure returns (uint256 done, uint256 shortfallWh) {
        uint256 ordered = shortfall.quantitiesWh.quantity(at);
        uint256 due = ordered - takenWh;
        int256 delivered =
            shortfall.baselineWh.baseline(at) -
                int256(uint256(shortfall.reading.importWh)) +
                int256(uint256(shortfall.reading.exportWh));
        if (terms.direction == IFlexMarket.Direction.Down) delivered = -delivered;
        done = delivered > 0 ? uint256(delivered) : 0;
        if (done + (ordered * terms.toleranceBps) / Activation.BPS >= due) {
            revert NoShortfall(shortfall.prosumerOrderId, delivered, due);
        }
        shortfallWh = due - done;
    }

    function _issueReplacement(
        Context memory context,
        Shortfall calldata shortfall,
        bytes memory missing
    ) private returns (uint64 replacementOrderId, bytes memory take) {
        uint64 agreementId;
        IAgreementRegistry.Terms memory agreed;
        (agreementId, agreed, take) = _firstStandby(context, missing, shortfall.standbyIndex);
        replacementOrderId = _issueAgreed(
            context,
            agreementId,
            agreed,
            take,
            shortfall.standbyBaselineWh,
            shortfall.standbyBaselineProof
        );
    }

    /// @dev First of the standby list that can take anything; the caller's hint must name it.
    function _firstStandby(
        Context memory context,
        bytes memory missing,
        uint256 hint
    ) private view returns (uint64 agreementId, IAgreementRegistry.Terms memory agreed, bytes memory take) {
        uint64[] storage list = _standby[context.groupId];
        for (uint256 i = 0; i < list.length; ++i) {
            bool able;
            agreementId = list[i];
            (able, agreed, take) = _standbyTake(context, agreementId, missing);
            if (!able) continue;
            if (hint != i) revert WrongStandby(hint, i);
            return (agreementId, agreed, take);
        }
        revert NoStandbyLeft(context.groupId);
    }

    /// @dev What an agreement can take of a missing curve: inside its power, availability, notice and weekly limit,
    /// where it has no other order, at the order's congestion point.
    function _standbyTake(
        Context memory context,
        uint64 agreementId,
        bytes memory missing
    ) private view returns (bool able, IAgreementRegistry.Terms memory agreed, bytes memory take) {
        try _agreements.termsInForce(agreementId) returns (IAgreementRegistry.Terms memory inForce) {
            agreed = inForce;
        } catch {
            return (false, agreed, take);
        }
        if (
            !agreed.standby ||
            !_connectionAllowed(agreed.connectionId, context.congestionPointId) ||
            agreed.baselineMethod != context.baselineMethod ||
            _meters.meterOf(agreed.connectionId) == 0 ||
            _activations[agreementId][Activation.weekOf(context.dayFirstIsp)] >= agreed.weeklyActivations
        ) return (false, agreed, take);

        uint256 limit = Activation.limitWh(agreed, context.direction);
        uint256 free =
            _agreements.availableIsps(agreementId, context.dayFirstIsp) &
                ~uint256(orderedIsps(agreed.connectionId, context.dayFirstIsp));
        take = new bytes(missing.length);
        unchecked {
            for (uint256 p = 0; p < context.ispCount; ++p) {
                uint256 m = Activation.at(missing, p);
                if (m == 0 || (free >> p) & 1 == 0) continue;
                if ((context.dayFirstIsp + p) * Activation.ISP_SECONDS < block.timestamp + agreed.noticeSeconds)
                    continue;
                Activation.set(take, p, m < limit ? m : limit);
                able = able || limit != 0;
            }
        }
    }

    function _recordTaken(uint64 failedOrderId, bytes memory taken, uint256 takenWh) private {
        _orders[failedOrderId].replaced = true;
        Reassignment storage record = _reassignments[failedOrderId];
        record.takenHash = keccak256(taken);
        record.takenWh += takenWh.toUint48();
    }

    /// @dev Largest reward an order can still earn after what was taken from it.
    function _rewardCap(
        OrderTerms calldata terms,
        bytes calldata quantities,
        bytes memory taken
    ) private pure returns (uint256) {
        uint256 rewardable = 0;
        unchecked {
            for (uint256 p = 0; p < terms.ispCount; ++p) {
                rewardable += Activation.rewardableWh(
                    quantities.quantity(p),
                    Activation.at(taken, p),
                    terms.toleranceBps
                );
            }
        }
        return Activation.rewardOf(rewardable, terms.rewardRate, terms.multiplierBps);
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
        if (order.termsHash != keccak256(abi.encode(terms))) revert TermsMismatch(prosumerOrderId);
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

    function _connectionAllowed(bytes32 connectionId, bytes32 congestionPointId) private view returns (bool) {
        IGridRegistry.Connection memory connection = _grid.connection(connectionId);
        return
            connection.active &&
            connection.light != IGridRegistry.StaticLight.Red &&
            connection.congestionPointId == congestionPointId;
    }

    function _requireMeter(bytes32 connectionId) private view returns (bytes32 meterId) {
        meterId = _meters.meterOf(connectionId);
        if (meterId == 0) revert NoMeter(connectionId);
    }

    /// @dev The curve itself is brought, not its hash alone: what nobody could show could not be settled either.
    function _requireBaseline(
        uint64 commitmentId,
        OrderTerms memory terms,
        bytes calldata baselineWh,
        bytes32[] calldata proof
    ) private view returns (bytes32 baselineHash) {
        _requireLength(baselineWh, terms.ispCount);
        baselineHash = keccak256(baselineWh);
        _commitments.requireBaseline(commitmentId, terms.meterId, baselineHash, proof);
    }

    function _requireNotice(uint64 agreementId, uint256 noticeSeconds, uint256 firstIsp) private view {
        uint256 start = firstIsp * Activation.ISP_SECONDS;
        if (start < block.timestamp + noticeSeconds) {
            revert NoticeTooShort(agreementId, start, block.timestamp + noticeSeconds);
        }
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
