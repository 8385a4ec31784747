// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IAgreementRegistry} from "interfaces/IAgreementRegistry.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";
import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {IFlexSettlement} from "interfaces/IFlexSettlement.sol";
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";
import {Debts} from "contracts/clearinghouse/Debts.sol";
import {Money} from "contracts/clearinghouse/Money.sol";
import {Activation} from "contracts/flexibility/Activation.sol";
import {Delivery} from "contracts/settlement/Delivery.sol";

/// @title Verified delivery, rewards and penalties, DSO settlement by the share delivered
/// @dev See {IFlexSettlement} for the formulas, the rounding and the rules. Holds no money and needs no governance:
/// what it may do is fixed by its code and its deadlines.
contract FlexSettlement is IFlexSettlement, Debts {
    using SafeCast for uint256;
    using SafeCast for int256;

    uint256 private constant ISP_SECONDS = 900;

    IMeteringLedger private immutable _metering;
    IAgreementRegistry private immutable _agreements;
    IFlexMarket private immutable _market;
    IFlexDispatch private immutable _dispatch;

    /// @inheritdoc IFlexSettlement
    uint32 public immutable readingsDueSeconds;
    /// @inheritdoc IFlexSettlement
    uint32 public immutable settleBySeconds;
    /// @inheritdoc IFlexSettlement
    uint32 public immutable correctionSeconds;

    /// @dev What DSO and aggregator settled on, for corrections.
    struct Finalised {
        uint64 paid;
        uint64 penalty;
    }

    mapping(uint64 flexOrderId => Finalised) private _finalised;

    constructor(
        IMeteringLedger metering_,
        IAgreementRegistry agreements_,
        IFlexMarket market_,
        IFlexDispatch dispatch_,
        IClearingHouse clearingHouse_,
        uint32 readingsDueSeconds_,
        uint32 settleBySeconds_
    ) Debts(clearingHouse_) {
        uint32 correctionSeconds_ = dispatch_.correctionSeconds();
        if (readingsDueSeconds_ >= settleBySeconds_ || settleBySeconds_ >= correctionSeconds_) {
            revert DeadlinesNotAscending(readingsDueSeconds_, settleBySeconds_, correctionSeconds_);
        }
        _metering = metering_;
        _agreements = agreements_;
        _market = market_;
        _dispatch = dispatch_;
        readingsDueSeconds = readingsDueSeconds_;
        settleBySeconds = settleBySeconds_;
        correctionSeconds = correctionSeconds_;
    }

    // ------------------------------------------------------------------ prosumer orders

    /// @inheritdoc IFlexSettlement
    function settle(
        uint64 prosumerOrderId,
        IFlexDispatch.OrderTerms calldata terms,
        Evidence calldata evidence
    ) external returns (Verdict memory verdict) {
        IFlexDispatch.Basis memory basis = _openBasis(prosumerOrderId, terms);
        // Before the proof, so that a day that is not over is named as such.
        _requireDayOver(terms);
        (uint16 version, Delivery.Sums memory sums) = _measure(basis, terms, evidence);
        verdict = _verdict(terms, sums, 0);
        _pay(prosumerOrderId, terms, basis, version, verdict);
    }

    /// @inheritdoc IFlexSettlement
    function settleMissing(
        uint64 prosumerOrderId,
        IFlexDispatch.OrderTerms calldata terms,
        bytes calldata quantitiesWh,
        bytes calldata takenWh
    ) external returns (Verdict memory verdict) {
        IFlexDispatch.Basis memory basis = _openBasis(prosumerOrderId, terms);
        uint256 dueAt = missingFrom(terms.meterId, terms.dayFirstIsp, terms.ispCount);
        if (block.timestamp < dueAt) revert ReadingsNotYetDue(dueAt, block.timestamp);
        _requireQuantities(basis, terms, quantitiesWh, takenWh);
        Delivery.Sums memory sums = Delivery.evaluateMissing(terms.missingIsShortfall, quantitiesWh, takenWh);
        verdict = _verdict(terms, sums, 0);
        _pay(prosumerOrderId, terms, basis, 0, verdict);
    }

    /// @inheritdoc IFlexSettlement
    function missingFrom(bytes32 meterId, uint32 dayFirstIsp, uint16 ispCount) public view returns (uint256) {
        uint256 afterDay =
            _metering.standsFor(meterId, dayFirstIsp, ispCount)
                ? (uint256(readingsDueSeconds) + settleBySeconds) / 2
                : readingsDueSeconds;
        return _dayEnd(dayFirstIsp, ispCount) + afterDay;
    }

    /// @dev Conservation. The group's lock holds at least the largest reward of every open order and every pot not yet
    /// paid. This order leaves: net > 0 takes at most its largest reward; net <= 0 adds the bond's part. The penalty
    /// stays in the lock as the pot, which covers the bonuses, as their shares sum to at most one.
    function _pay(
        uint64 prosumerOrderId,
        IFlexDispatch.OrderTerms calldata terms,
        IFlexDispatch.Basis memory basis,
        uint16 version,
        Verdict memory verdict
    ) private {
        verdict.bonus = _bonus(terms, verdict.creditedWh);
        _dispatch.recordSettlement(
            prosumerOrderId,
            version,
            uint40(verdict.creditedWh),
            uint40(verdict.missingWh),
            verdict.net
        );
        // The penalty of an order that standby took over from is theirs to share.
        if (verdict.penalty != 0 && basis.takenHash != 0) _dispatch.recordPot(prosumerOrderId, verdict.penalty);

        uint256 payout = verdict.bonus;
        if (verdict.net >= 0) {
            payout += uint72(verdict.net);
        } else {
            _clearingHouse.relock(_agreements.bondLockId(terms.agreementId), basis.groupLockId, uint72(-verdict.net));
        }
        if (payout != 0) _clearingHouse.release(basis.groupLockId, terms.prosumer, payout);
        emit ProsumerSettled(prosumerOrderId, terms.groupId, terms.prosumer, version, verdict);
    }

    /// @dev Share of the penalty of the replaced order: pot * credited / taken energy, down.
    function _bonus(IFlexDispatch.OrderTerms calldata terms, uint256 creditedWh) private view returns (uint64) {
        if (terms.replaces == 0) return 0;
        if (_dispatch.prosumerOrder(terms.replaces).status == IFlexDispatch.OrderStatus.Issued) {
            revert SettleReplacedFirst(terms.replaces);
        }
        IFlexDispatch.Reassignment memory record = _dispatch.reassignment(terms.replaces);
        return Math.mulDiv(record.pot, creditedWh, record.takenWh).toUint64();
    }

    /// @dev Money of the sums. The bond is asked for only when the reward does not cover the penalty.
    /// @param bondSpent What an earlier verdict on the same order took from the bond, uToken.
    function _verdict(
        IFlexDispatch.OrderTerms calldata terms,
        Delivery.Sums memory sums,
        uint256 bondSpent
    ) private view returns (Verdict memory verdict) {
        verdict.creditedWh = uint64(sums.creditedWh);
        verdict.rewardedWh = uint64(sums.rewardedWh);
        verdict.penalisedWh = uint64(sums.penalisedWh);
        verdict.missingWh = uint64(sums.missingWh);
        uint256 reward = Money.shareDown(Money.costDown(sums.rewardedWh, terms.rewardRate), terms.multiplierBps);
        uint256 penalty = Money.shareDown(Money.costDown(sums.penalisedWh, terms.penaltyRate), terms.multiplierBps);
        if (penalty > reward) {
            uint256 limit = reward;
            if (terms.agreementId != 0) {
                limit += bondSpent + _clearingHouse.lockOf(_agreements.bondLockId(terms.agreementId));
            }
            if (penalty > limit) penalty = limit;
        }
        verdict.reward = reward.toUint64();
        verdict.penalty = penalty.toUint64();
        verdict.net = (int256(reward) - int256(penalty)).toInt72();
    }

    // ------------------------------------------------------------------ groups

    /// @inheritdoc IFlexSettlement
    function finalise(uint64 flexOrderId) external {
        IFlexMarket.FlexOrder memory order = _market.flexOrder(flexOrderId);
        if (order.status != IFlexMarket.OrderStatus.Open) revert FlexOrderNotOpen(flexOrderId);
        IFlexMarket.RequestTerms memory request = _market.request(order.requestId).terms;
        IFlexDispatch.Group memory group = _dispatch.group(flexOrderId);
        if (block.timestamp <= request.dispatchBy) revert SettlementOpen(flexOrderId, request.dispatchBy);
        if (group.issued != 0) _requireFinalisable(flexOrderId, group);

        (uint256 paid, uint256 penalty) = _shareDelivered(order, request, group);
        _finalised[flexOrderId] = Finalised(paid.toUint64(), penalty.toUint64());
        _market.closeOrder(flexOrderId);
        _dispatch.finaliseGroup(flexOrderId);
        _payFlexOrder(flexOrderId, order, group, uint64(paid), uint64(penalty));
    }

    /// @dev Conservation: escrow = paid + returned; bond = penalty + returned.
    function _payFlexOrder(
        uint64 flexOrderId,
        IFlexMarket.FlexOrder memory order,
        IFlexDispatch.Group memory group,
        uint64 paid,
        uint64 penalty
    ) private {
        bytes32 lockId = _market.escrowLockId(flexOrderId);
        _release(lockId, order.aggregator, paid);
        _release(lockId, order.dso, order.escrow - paid);
        lockId = _market.bondLockId(flexOrderId);
        _release(lockId, order.dso, penalty);
        _release(lockId, order.aggregator, order.bond - penalty);
        emit FlexOrderFinalised(
            flexOrderId,
            order.dso,
            order.aggregator,
            order.orderedWh,
            group.creditedWh,
            group.missingWh,
            paid,
            penalty,
            order.escrow - paid,
            order.bond - penalty
        );
    }

    /// @inheritdoc IFlexSettlement
    function finaliseDirect(uint64 groupId) external {
        IFlexDispatch.Group memory group = _dispatch.group(groupId);
        // Flex orders are finalised with their DSO settlement only.
        if (groupId < 1 << 63 || group.payer == address(0)) revert NotDirectGroup(groupId);
        _requireFinalisable(groupId, group);
        _dispatch.finaliseGroup(groupId);
    }

    /// @dev The aggregator's pay by the share delivered and its penalty by what is missing beyond the tolerance.
    function _shareDelivered(
        IFlexMarket.FlexOrder memory order,
        IFlexMarket.RequestTerms memory request,
        IFlexDispatch.Group memory group
    ) private pure returns (uint256 paid, uint256 penalty) {
        paid = Money.costDown(group.creditedWh, order.price);
        uint256 covered =
            uint256(group.creditedWh) + group.missingWh + Money.shareDown(order.orderedWh, request.toleranceBps);
        if (covered < order.orderedWh) {
            penalty = Math.min(Money.costDown(order.orderedWh - covered, request.penaltyRate), order.bond);
        }
    }

    // ------------------------------------------------------------------ corrections

    /// @inheritdoc IFlexSettlement
    function correct(
        uint64 prosumerOrderId,
        IFlexDispatch.OrderTerms calldata terms,
        Evidence calldata evidence
    ) external returns (int256 difference) {
        IFlexDispatch.ProsumerOrder memory order = _dispatch.prosumerOrder(prosumerOrderId);
        _requireTerms(prosumerOrderId, order.status, order.termsHash, terms);
        if (order.status != IFlexDispatch.OrderStatus.Issued && order.status != IFlexDispatch.OrderStatus.Settled)
            revert NotSettled(prosumerOrderId);
        IFlexDispatch.Group memory before = _dispatch.group(terms.groupId);
        if (!before.finalised) revert NotFinalised(terms.groupId);
        uint256 until = _dayEnd(terms.dayFirstIsp, terms.ispCount) + correctionSeconds;
        if (block.timestamp > until) revert CorrectionClosed(until, block.timestamp);

        (uint16 version, Delivery.Sums memory sums) = _measure(_dispatch.basisOf(prosumerOrderId), terms, evidence);
        if (version <= order.version) revert NotNewer(version, order.version);
        Verdict memory verdict = _verdict(terms, sums, order.net < 0 ? uint72(-order.net) : 0);
        difference = int256(verdict.net) - order.net;
        _dispatch.recordSettlement(
            prosumerOrderId,
            version,
            uint40(verdict.creditedWh),
            uint40(verdict.missingWh),
            verdict.net
        );
        if (difference > 0) {
            _settleDebt(before.payer, terms.prosumer, uint256(difference));
        } else if (difference < 0) {
            _settleProsumerDebt(terms, before.payer, uint256(-difference));
        }
        emit ProsumerCorrected(prosumerOrderId, terms.groupId, terms.prosumer, version, verdict, difference);
        if (terms.agreementId != 0) _correctFlexOrder(terms.groupId);
    }

    /// @dev The DSO's and the aggregator's side of a correction.
    function _correctFlexOrder(uint64 flexOrderId) private {
        IFlexMarket.FlexOrder memory order = _market.flexOrder(flexOrderId);
        IFlexDispatch.Group memory group = _dispatch.group(flexOrderId);
        (uint256 paid, uint256 penalty) = _shareDelivered(order, _market.request(order.requestId).terms, group);
        Finalised storage last = _finalised[flexOrderId];
        int256 difference =
            (int256(paid) - int256(penalty)) - (int256(uint256(last.paid)) - int256(uint256(last.penalty)));
        (last.paid, last.penalty) = (paid.toUint64(), penalty.toUint64());
        if (difference > 0) _settleDebt(order.dso, order.aggregator, uint256(difference));
        else if (difference < 0) _settleDebt(order.aggregator, order.dso, uint256(-difference));
        emit FlexOrderCorrected(
            flexOrderId,
            group.creditedWh,
            group.missingWh,
            uint64(paid),
            uint64(penalty),
            difference
        );
    }

    /// @dev A prosumer pays from its bond first: the verdict could have taken it from there. Not what the payer owes it.
    function _settleProsumerDebt(IFlexDispatch.OrderTerms calldata terms, address creditor, uint256 amount) private {
        amount = _setOff(terms.prosumer, creditor, amount);
        if (terms.agreementId != 0) {
            bytes32 bondLock = _agreements.bondLockId(terms.agreementId);
            uint256 fromBond = Math.min(amount, _clearingHouse.lockOf(bondLock));
            _release(bondLock, creditor, fromBond);
            amount -= fromBond;
        }
        _settleDebt(terms.prosumer, creditor, amount);
    }

    // ------------------------------------------------------------------ checks

    /// @dev Verifies all that a caller brings and evaluates it.
    function _measure(
        IFlexDispatch.Basis memory basis,
        IFlexDispatch.OrderTerms calldata terms,
        Evidence calldata evidence
    ) private view returns (uint16 version, Delivery.Sums memory sums) {
        IMeteringLedger.MeterDay calldata day = evidence.day;
        if (day.meterId != terms.meterId || day.firstIsp != terms.dayFirstIsp || day.ispCount != terms.ispCount)
            revert MeterDayMismatch(day.meterId, day.firstIsp);
        _requireQuantities(basis, terms, evidence.quantitiesWh, evidence.takenWh);
        if (keccak256(evidence.baselineWh) != terms.baselineHash) revert CurveHashMismatch("baseline");
        // The length of the baseline was checked when its hash was made, requireDay checks that of the readings.
        version = _metering.requireDay(day, evidence.proof);
        sums = Delivery.evaluate(
            terms.direction,
            terms.toleranceBps,
            terms.missingIsShortfall,
            evidence.quantitiesWh,
            evidence.takenWh,
            evidence.baselineWh,
            day.values
        );
    }

    /// @dev The ordered curve and, if any of it was taken over, the taken curve. Their lengths were checked when the
    /// hashes were made.
    function _requireQuantities(
        IFlexDispatch.Basis memory basis,
        IFlexDispatch.OrderTerms calldata terms,
        bytes calldata quantities,
        bytes calldata taken
    ) private pure {
        if (keccak256(quantities) != terms.quantitiesHash) revert CurveHashMismatch("quantities");
        if (basis.takenHash == 0 ? taken.length != 0 : keccak256(taken) != basis.takenHash) {
            revert CurveHashMismatch("taken");
        }
    }

    function _openBasis(
        uint64 prosumerOrderId,
        IFlexDispatch.OrderTerms calldata terms
    ) private view returns (IFlexDispatch.Basis memory basis) {
        basis = _dispatch.basisOf(prosumerOrderId);
        _requireTerms(prosumerOrderId, basis.status, basis.termsHash, terms);
        if (basis.status != IFlexDispatch.OrderStatus.Issued) {
            revert IFlexDispatch.OrderNotIssued(prosumerOrderId, basis.status);
        }
        if (basis.groupFinalised) revert SettlementClosed(terms.groupId);
    }

    function _requireTerms(
        uint64 prosumerOrderId,
        IFlexDispatch.OrderStatus status,
        bytes32 termsHash,
        IFlexDispatch.OrderTerms calldata terms
    ) private pure {
        if (status == IFlexDispatch.OrderStatus.None) revert IFlexDispatch.ProsumerOrderUnknown(prosumerOrderId);
        if (Activation.hashOf(terms) != termsHash) revert IFlexDispatch.TermsMismatch(prosumerOrderId);
    }

    /// @dev A group closes when every order is settled and the day is over, or when `settleBySeconds` have passed.
    function _requireFinalisable(uint64 groupId, IFlexDispatch.Group memory group) private view {
        uint256 dayEnd = _dayEnd(group.dayFirstIsp, group.ispCount);
        uint256 until = group.settled == group.issued ? dayEnd : dayEnd + settleBySeconds;
        if (block.timestamp < until) revert SettlementOpen(groupId, until);
    }

    function _requireDayOver(IFlexDispatch.OrderTerms calldata terms) private view {
        uint256 end = _dayEnd(terms.dayFirstIsp, terms.ispCount);
        if (block.timestamp < end) revert DayNotOver(end, block.timestamp);
    }

    function _dayEnd(uint256 dayFirstIsp, uint256 ispCount) private pure returns (uint256) {
        return (dayFirstIsp + ispCount) * ISP_SECONDS;
    }

    function _release(bytes32 lockId, address account, uint256 amount) private {
        if (amount != 0) _clearingHouse.release(lockId, account, amount);
    }
}
