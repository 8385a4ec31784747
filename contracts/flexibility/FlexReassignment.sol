// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IAgreementRegistry} from "interfaces/IAgreementRegistry.sol";
import {ICommitmentRegistry} from "interfaces/ICommitmentRegistry.sol";
import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";
import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {IFlexReassignment} from "interfaces/IFlexReassignment.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";
import {IMeterRegistry} from "interfaces/IMeterRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Module} from "contracts/registry/Module.sol";
import {Activation} from "contracts/flexibility/Activation.sol";
import {Curves} from "contracts/metering/Curves.sol";

/// @title Standby lists and reassignment of what an order misses
/// @dev See {IFlexReassignment}. Works out who takes what; {IFlexDispatch} issues the order and keeps what was taken.
/// Loops over positions are unchecked: at most 100 values below 2^32, so sums stay below 2^40 and products below 2^64.
contract FlexReassignment is IFlexReassignment, Module {
    using Curves for bytes;
    using SafeCast for uint256;

    uint256 private constant STANDBY_LIMIT = 32;

    IGridRegistry private immutable _grid;
    IMeterRegistry private immutable _meters;
    IMeteringLedger private immutable _metering;
    ICommitmentRegistry private immutable _commitments;
    IAgreementRegistry private immutable _agreements;
    IFlexMarket private immutable _market;
    IFlexDispatch private immutable _dispatch;

    /// @inheritdoc IFlexReassignment
    uint32 public immutable maxReadingAgeSeconds;
    /// @inheritdoc IFlexReassignment
    mapping(uint64 flexOrderId => bytes32) public standbyHashOf;

    /// @dev What all of a list must fit: the flex order and the day of the failing order.
    struct Context {
        uint64 flexOrderId;
        bytes32 congestionPointId;
        bytes32 baselineMethod;
        IFlexMarket.Direction direction;
        uint32 dayFirstIsp;
        uint16 ispCount;
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
        IFlexDispatch dispatch_,
        uint32 maxReadingAgeSeconds_
    ) Module(authority_, participants_) {
        _grid = grid_;
        _meters = meters_;
        _metering = metering_;
        _commitments = commitments_;
        _agreements = agreements_;
        _market = market_;
        _dispatch = dispatch_;
        maxReadingAgeSeconds = maxReadingAgeSeconds_;
    }

    // ------------------------------------------------------------------ list

    /// @inheritdoc IFlexReassignment
    function listStandby(uint64 flexOrderId, Candidate[] calldata candidates) external whenNotPaused {
        IFlexMarket.FlexOrder memory order = _openFlexOrder(flexOrderId);
        if (msg.sender != order.aggregator) revert IFlexDispatch.NotAggregatorOf(flexOrderId, msg.sender);
        uint40 dispatchBy = _market.request(order.requestId).terms.dispatchBy;
        if (block.timestamp > dispatchBy) revert IFlexDispatch.DispatchClosed(dispatchBy, block.timestamp);
        if (candidates.length > STANDBY_LIMIT) revert StandbyListTooLong(candidates.length, STANDBY_LIMIT);

        Standby[] memory standby = new Standby[](candidates.length);
        uint256 lastRate = 0;
        for (uint256 i = 0; i < candidates.length; ++i) {
            uint256 rate;
            (standby[i], rate) = _listed(order, candidates[i]);
            if (rate < lastRate) revert StandbyNotInMeritOrder(i);
            lastRate = rate;
        }
        standbyHashOf[flexOrderId] = keccak256(abi.encode(standby));
        emit StandbyListed(flexOrderId, standby);
    }

    /// @dev One agreement of a list, verified, and what it costs.
    function _listed(
        IFlexMarket.FlexOrder memory order,
        Candidate calldata candidate
    ) private view returns (Standby memory listed, uint256 rate) {
        uint64 agreementId = candidate.agreementId;
        IAgreementRegistry.Terms memory agreed = _agreements.termsInForce(agreementId);
        if (!agreed.standby) revert NotStandby(agreementId);
        if (agreed.aggregator != order.aggregator) {
            revert IFlexDispatch.OtherAggregator(agreementId, agreed.aggregator);
        }
        listed.agreementId = agreementId;
        listed.meterId = _meters.meterOf(agreed.connectionId);
        if (listed.meterId == 0) revert IFlexDispatch.NoMeter(agreed.connectionId);
        uint256 expected = 4 * uint256(_commitments.commitment(order.baselineCommitmentId).ispCount);
        if (candidate.baselineWh.length != expected) {
            revert IFlexDispatch.CurveLength(candidate.baselineWh.length, expected);
        }
        listed.baselineHash = keccak256(candidate.baselineWh);
        _commitments.requireBaseline(
            order.baselineCommitmentId,
            listed.meterId,
            listed.baselineHash,
            candidate.baselineProof
        );
        rate = Activation.rewardOf(1e9, agreed.rewardRate, agreed.multiplierBps);
    }

    // ------------------------------------------------------------------ reassignment

    /// @inheritdoc IFlexReassignment
    function reassign(
        IFlexDispatch.OrderTerms calldata terms,
        Shortfall calldata shortfall
    ) external whenNotPaused returns (uint64 replacementOrderId) {
        IFlexDispatch.Replacement memory replacement;
        replacement.failedOrderId = shortfall.prosumerOrderId;
        bytes memory taken = _takenCurve(terms, shortfall);
        (bytes memory missing, uint256 shortfallWh) = _missingCurve(terms, shortfall, taken);
        replacement.rewardFreed = _rewardCap(terms, shortfall.quantitiesWh, taken);
        _fillFirstAble(replacement, _contextOf(terms, shortfall.standby), missing, shortfall.standby);

        uint256 takenWh = 0;
        unchecked {
            for (uint256 p = 0; p < terms.ispCount; ++p) {
                uint256 t = Activation.at(replacement.quantitiesWh, p);
                if (t == 0) continue;
                takenWh += t;
                Activation.set(taken, p, Activation.at(taken, p) + t);
            }
        }
        replacement.rewardFreed -= _rewardCap(terms, shortfall.quantitiesWh, taken);
        replacement.totalTakenWh = taken;
        replacement.takenWh = takenWh.toUint48();
        replacementOrderId = _dispatch.issueReplacement(replacement);
        emit Reassigned(
            shortfall.prosumerOrderId,
            replacementOrderId,
            shortfall.reading.isp,
            shortfallWh,
            takenWh,
            taken
        );
    }

    /// @dev The order is open and the curves are its own. The curve taken over so far; all zero when nothing was.
    function _takenCurve(
        IFlexDispatch.OrderTerms calldata terms,
        Shortfall calldata shortfall
    ) private view returns (bytes memory) {
        uint64 orderId = shortfall.prosumerOrderId;
        IFlexDispatch.ProsumerOrder memory order = _dispatch.prosumerOrder(orderId);
        if (order.status == IFlexDispatch.OrderStatus.None) revert IFlexDispatch.ProsumerOrderUnknown(orderId);
        if (order.status != IFlexDispatch.OrderStatus.Issued) {
            revert IFlexDispatch.OrderNotIssued(orderId, order.status);
        }
        if (order.termsHash != Activation.hashOf(terms)) revert IFlexDispatch.TermsMismatch(orderId);
        _requireHash(shortfall.quantitiesWh, terms.quantitiesHash);
        _requireHash(shortfall.baselineWh, terms.baselineHash);
        if (!order.replaced) return new bytes(4 * uint256(terms.ispCount));
        _requireHash(shortfall.takenWh, _dispatch.reassignment(orderId).takenHash);
        return shortfall.takenWh;
    }

    /// @dev What is missing at each later position if the failing order goes on as the reading shows:
    /// quantity * (ordered - delivered) / ordered of the proven ISP, down, less what was taken over already. Bringing
    /// the same reading again therefore takes nothing twice.
    function _missingCurve(
        IFlexDispatch.OrderTerms calldata terms,
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

    /// @dev A signed reading of the order's meter, of an ISP of its day that is over, not for long.
    function _requireReading(IFlexDispatch.OrderTerms calldata terms, Shortfall calldata shortfall) private view {
        IMeteringLedger.Reading calldata reading = shortfall.reading;
        if (
            terms.agreementId == 0 ||
            reading.meterId != terms.meterId ||
            reading.isp < terms.dayFirstIsp ||
            reading.isp >= terms.dayFirstIsp + terms.ispCount
        ) revert ReadingNotOfOrder(shortfall.prosumerOrderId);
        uint256 end = (uint256(reading.isp) + 1) * Activation.ISP_SECONDS;
        if (block.timestamp < end) revert IspNotOver(reading.isp, block.timestamp);
        uint256 usableUntil = end + maxReadingAgeSeconds;
        if (block.timestamp > usableUntil) revert ReadingTooOld(reading.isp, usableUntil, block.timestamp);
        _metering.requireReading(reading);
    }

    /// @dev Delivered and missing energy at the proven position; what is within the tolerance band is no shortfall.
    function _provenShortfall(
        IFlexDispatch.OrderTerms calldata terms,
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

    /// @dev The flex order of a failing order, for which a list must be the one that was set.
    function _contextOf(
        IFlexDispatch.OrderTerms calldata terms,
        Standby[] calldata standby
    ) private view returns (Context memory) {
        if (standby.length != 0 && keccak256(abi.encode(standby)) != standbyHashOf[terms.groupId]) {
            revert StandbyListMismatch(terms.groupId);
        }
        IFlexMarket.FlexOrder memory order = _openFlexOrder(terms.groupId);
        return
            Context({
                flexOrderId: terms.groupId,
                congestionPointId: _market.request(order.requestId).terms.congestionPointId,
                baselineMethod: _commitments.commitment(order.baselineCommitmentId).method,
                direction: terms.direction,
                dayFirstIsp: terms.dayFirstIsp,
                ispCount: terms.ispCount
            });
    }

    /// @dev First of the list that can take anything, and what it takes.
    function _fillFirstAble(
        IFlexDispatch.Replacement memory replacement,
        Context memory context,
        bytes memory missing,
        Standby[] calldata standby
    ) private view {
        for (uint256 i = 0; i < standby.length; ++i) {
            (bool able, bytes memory take) = _standbyTake(context, standby[i], missing);
            if (!able) continue;
            replacement.agreementId = standby[i].agreementId;
            replacement.meterId = standby[i].meterId;
            replacement.baselineHash = standby[i].baselineHash;
            replacement.quantitiesWh = take;
            return;
        }
        revert NoStandbyLeft(context.flexOrderId);
    }

    /// @dev What an agreement can take of a missing curve: inside its power, availability, notice and weekly limit,
    /// where it has no other order, at the order's congestion point, by the meter that it was listed with.
    function _standbyTake(
        Context memory context,
        Standby calldata listed,
        bytes memory missing
    ) private view returns (bool able, bytes memory take) {
        IAgreementRegistry.Terms memory agreed;
        try _agreements.termsInForce(listed.agreementId) returns (IAgreementRegistry.Terms memory inForce) {
            agreed = inForce;
        } catch {
            return (false, take);
        }
        if (
            !agreed.standby ||
            agreed.baselineMethod != context.baselineMethod ||
            !_connectionAllowed(agreed.connectionId, context.congestionPointId) ||
            _meters.meterOf(agreed.connectionId) != listed.meterId ||
            _dispatch.activationsOf(listed.agreementId, context.dayFirstIsp) >= agreed.weeklyActivations
        ) return (false, take);

        uint256 limit = Activation.limitWh(agreed, context.direction);
        uint256 free =
            _agreements.availableIsps(listed.agreementId, context.dayFirstIsp) &
                ~uint256(_dispatch.orderedIsps(agreed.connectionId, context.dayFirstIsp));
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

    function _openFlexOrder(uint64 flexOrderId) private view returns (IFlexMarket.FlexOrder memory order) {
        order = _market.flexOrder(flexOrderId);
        if (order.status != IFlexMarket.OrderStatus.Open) revert IFlexDispatch.FlexOrderClosed(flexOrderId);
        participants.requireRole(order.aggregator, IParticipantRegistry.Role.Aggregator);
    }

    function _connectionAllowed(bytes32 connectionId, bytes32 congestionPointId) private view returns (bool) {
        IGridRegistry.Connection memory connection = _grid.connection(connectionId);
        return
            connection.active &&
            connection.light != IGridRegistry.StaticLight.Red &&
            connection.congestionPointId == congestionPointId;
    }

    /// @dev Largest reward an order can still earn after what was taken from it.
    function _rewardCap(
        IFlexDispatch.OrderTerms calldata terms,
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

    function _requireHash(bytes calldata curve, bytes32 expected) private pure {
        if (keccak256(curve) != expected) revert IFlexDispatch.CurveMismatch(keccak256(curve), expected);
    }
}
