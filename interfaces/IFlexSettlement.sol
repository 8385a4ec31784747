// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IDebts} from "interfaces/IDebts.sol";
import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";

/// @title Verified delivery, rewards and penalties, DSO settlement by the share delivered
/// @notice Anyone settles a prosumer order with its metered day; the contract decides and pays. When all orders of a flex
/// order are settled, or their deadline has passed, anyone finalises it between DSO and aggregator.
/// Source: eDREAM D2.2 HL-UC01_LL-UC04 and LL-UC10, D2.5 closed loop DR verification (forecast, request, reading,
/// range, multiplier), BeFlexible SUC06.3.
/// @dev Per ISP with ordered quantity q, part t of it taken over by standby, tolerance band b = q * toleranceBps / 10^4
/// (down), own due o = q - t, delivered d = baseline - metered for UP, metered - baseline for DOWN, d+ = max(d, 0):
///
///   credited += min(d+, o)            counts for the flex order
///   rewarded += min(d+, o + b)        over-delivery beyond the tolerance is unpaid; nothing where o = 0
///   penalised += max(o - d+ - b, 0) + t
///   ISP without a reading: missing += o, and penalised += o too if the terms say so
///
///   reward  = down(down(rewarded * rewardRate / 1000) * multiplierBps / 10^4)
///   penalty = min(down(down(penalised * penaltyRate / 1000) * multiplierBps / 10^4), reward + bond left)
///   net = reward - penalty; a positive net is paid from the group's lock, a negative one taken from the bond into it.
///
/// A replacement order also receives its share of the penalty of the order it replaces:
/// bonus = down(pot * credited / taken energy). The failing order settles first. What is left of a pot stays in the
/// group's lock and goes to the payer. Rounding: each amount is rounded once, down; the difference stays with the
/// payer of the group and is returned to it by {finalise}; nothing is lost, residual zero.
///
/// Example: q = 1000 Wh, baseline 5000, metered 4400, tolerance 10%, 200,000 uToken/kWh reward, 300,000 penalty:
/// d = 600, credited 600, rewarded 600, penalised 300; reward 120,000, penalty 90,000, net 30,000 uToken.
///
/// Flex order: paid = down(credited * price / 1000) to the aggregator; shortfall = ordered - credited - missing;
/// penalty = min(down(max(shortfall - down(ordered * toleranceBps / 10^4), 0) * penaltyRate / 1000), bond) to the DSO;
/// rest of the escrow to the DSO, rest of the bond and of the group's lock to the aggregator.
///
/// Rules:
/// - Missing readings. An ISP marked missing in the metered day earns nothing and, unless the terms say so, costs
///   nothing; it is left out of the aggregator's shortfall too. A day that never comes: {settleMissing} after
///   `readingsDueSeconds`; until then readings have the right of way. While a batch of the meter's operator stands for the
///   day, so that the day may be in it, they have it until the middle between `readingsDueSeconds` and `settleBySeconds`.
///   No longer: that a day is not in a batch cannot be proven, and an order that others took over from must be settled
///   for theirs to be.
/// - Late readings settle as usual while the order is neither settled nor its group finalised.
/// - Corrections. Readings that come after that, and newer versions of the batch: {correct}, once the group is finalised
///   and until `correctionSeconds`. The difference to the first verdict is paid between the parties (first from the
///   prosumer's bond when it falls to the prosumer), and what a party cannot pay is recorded as owed and collected by
///   anyone later ({IDebts}). A bonus paid to a replacement stands.
/// - Challenged batch: nothing settles from it; the operator anchors a new version or the rule for missing days holds.
/// - Silent aggregator: others settle and finalise; what it did not dispatch is its shortfall.
/// @custom:stop Never paused.
interface IFlexSettlement is IDebts {
    /// @notice What was found for one prosumer order.
    struct Verdict {
        uint64 creditedWh;
        uint64 rewardedWh;
        uint64 penalisedWh;
        uint64 missingWh;
        uint64 reward;
        /// Already limited to reward plus bond.
        uint64 penalty;
        /// Share of the penalty of the replaced order.
        uint64 bonus;
        int72 net;
    }

    /// @notice All that a caller brings to settle an order; everything is verified.
    struct Evidence {
        bytes quantitiesWh;
        /// Quantities taken over by standby; empty when none.
        bytes takenWh;
        bytes baselineWh;
        IMeteringLedger.MeterDay day;
        bytes32[] proof;
    }

    event ProsumerSettled(
        uint64 indexed prosumerOrderId,
        uint64 indexed groupId,
        address indexed prosumer,
        uint16 version,
        Verdict verdict
    );
    event ProsumerCorrected(
        uint64 indexed prosumerOrderId,
        uint64 indexed groupId,
        address indexed prosumer,
        uint16 version,
        Verdict verdict,
        int256 difference
    );
    event FlexOrderFinalised(
        uint64 indexed flexOrderId,
        address indexed dso,
        address indexed aggregator,
        uint64 orderedWh,
        uint64 creditedWh,
        uint64 missingWh,
        uint64 paid,
        uint64 penalty,
        uint64 escrowReturned,
        uint64 bondReturned
    );
    event FlexOrderCorrected(
        uint64 indexed flexOrderId,
        uint64 creditedWh,
        uint64 missingWh,
        uint64 paid,
        uint64 penalty,
        int256 difference
    );

    error DayNotOver(uint256 endTs, uint256 nowTs);
    error CurveHashMismatch(string curve);
    error MeterDayMismatch(bytes32 meterId, uint32 firstIsp);
    error ReadingsNotYetDue(uint256 dueAt, uint256 nowTs);
    error SettlementOpen(uint64 groupId, uint256 until);
    error SettlementClosed(uint64 groupId);
    error NotFinalised(uint64 groupId);
    error FlexOrderNotOpen(uint64 flexOrderId);
    error SettleReplacedFirst(uint64 failedOrderId);
    error NotSettled(uint64 prosumerOrderId);
    error NotNewer(uint16 version, uint16 settledVersion);
    error CorrectionClosed(uint256 until, uint256 nowTs);
    error DeadlinesNotAscending(uint32 readingsDue, uint32 settleBy, uint32 correction);
    error NotDirectGroup(uint64 groupId);

    /// @notice Settles a prosumer order by its metered day. Anyone may call, after the day and the challenge window.
    function settle(
        uint64 prosumerOrderId,
        IFlexDispatch.OrderTerms calldata terms,
        Evidence calldata evidence
    ) external returns (Verdict memory);

    /// @notice Settles an order that nobody settled by readings until {missingFrom}. Anyone may call; readings that come
    /// later, or were there already, are brought by {correct}.
    /// No reward; a penalty only where the terms count missing readings as shortfall, or for energy taken over.
    function settleMissing(
        uint64 prosumerOrderId,
        IFlexDispatch.OrderTerms calldata terms,
        bytes calldata quantitiesWh,
        bytes calldata takenWh
    ) external returns (Verdict memory);

    /// @notice Pays between DSO and aggregator. Anyone may call once every prosumer order is settled and the day is
    /// over, or `settleBy` has passed, or nothing was dispatched until `dispatchBy`.
    function finalise(uint64 flexOrderId) external;

    /// @notice Closes a direct control group: what is left of the compensation returns to the DSO.
    function finaliseDirect(uint64 groupId) external;

    /// @notice Settles the difference that a newer batch version makes, until the end of the correction window.
    function correct(
        uint64 prosumerOrderId,
        IFlexDispatch.OrderTerms calldata terms,
        Evidence calldata evidence
    ) external returns (int256 difference);

    /// @notice From when on, as things stand, an order of a meter may be settled as missing, unix seconds.
    function missingFrom(bytes32 meterId, uint32 dayFirstIsp, uint16 ispCount) external view returns (uint256);

    /// @notice When missing readings may be settled as missing, s after the end of the market day.
    function readingsDueSeconds() external view returns (uint32);

    /// @notice When a group can be finalised whatever is missing, s after the end of the market day.
    function settleBySeconds() external view returns (uint32);

    /// @notice How long corrections are accepted, s after the end of the market day.
    function correctionSeconds() external view returns (uint32);
}
