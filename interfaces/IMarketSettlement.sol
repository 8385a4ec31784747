// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";

/// @title Settlement of peer-to-peer trades by metered delivery
/// @notice Anyone settles the bundle of a connection with its metered days; the contract compares what was traded with
/// what was metered and pays the trader out of the pot of the session. What the connection traded for the same hours in
/// other sessions is netted with it: every metered Wh counts once.
/// Source: eDREAM D2.2 HL-UC02_LL-UC04, D2.5 MF03_BR04 (balancing of sold and injected energy). Decisions 0032 and 0034.
///
/// @dev **Netting.** The window of a session is its delivery, widened to whole delivery periods of all sessions in which the
/// connection has a bundle. All bundles that deliver in it are brought ({Position}); none can be left out or added, so
/// that the outcome of a session does not depend on who settles what first. Over the ISPs of the window, finer periods
/// first, then the session that was opened first, its periods in order of time, green before brown:
///
///   1. injected   each sale takes metered export of its ISPs, in order of time
///   2. covered    what a sale is short of is covered by purchases of the connection, each spread evenly over the ISPs of its
///                 period (remainder in the first): green sales by green purchases, then brown ones by brown, then green
///   3. taken      what of a purchase covered a sale, and metered import of its ISPs, in order of time
///
///   shortage = sold - injected - covered; surplus = bought - taken
///
/// Covered energy was not delivered by this connection: no shortage, and no reward, guarantee of origin or brown penalty.
/// Example: 1,000 Wh sold for an hour, 300 bought back for its first half, 700 exported: injected 700, covered 300, no
/// shortage, no surplus.
///
/// **Money** of a session, with clearing prices p (micro-token per kWh), summed over its products:
///
///   receipts    down(sold * p / 1000) for p >= 0, down(taken * |p| / 1000) for p < 0
///   shortage    up(shortage * (max(shortagePrice, p, 0) + shortagePenaltyRate) / 1000)
///   brown       up(injected brown * brownPenaltyRate / 1000)
///   surplus     down(surplus * min(surplusPrice, p) / 1000) for p >= 0
///   reward      down(injected green * greenRewardRate / 1000)
///
///   guarantee = up(total sold * guaranteeRate / 1000)
///   charges = min(shortage + brown, guarantee + receipts)
///   payout = guarantee + receipts - charges + surplus + reward
///
/// surplusPrice and greenRewardRate are those of `IEnergyMarket.SessionFinalised`. The price floors of the shortage and
/// the price cap of the surplus keep anybody from gaining by selling what is not injected or buying what is not taken.
/// What was bought at p >= 0 and the fees stay in the pot, and so do charges: the balancing party's.
/// Example: 1,000 Wh sold at 120,000, 600 injected, shortage price 250,000, penalty 50,000, guarantee rate 200,000:
/// receipts 120,000, guarantee 200,000, charges 120,000, payout 200,000 uToken.
///
/// **Solvency.** The pot of each session pays its own outcome, whatever is netted. Netting decides only the split of sold
/// into injected, covered and short, and of bought into taken and surplus. Whatever the split: receipts are at most R,
/// surplus and reward are for at most the bought and the green sold Wh, charges are not negative. So payout <= guarantee +
/// R + surplus + reward, the bound of step 4 above `EnergyMarket`, at negative prices and with missing readings too.
///
/// **Rules.**
/// - Missing readings. A period with an ISP that the meter operator marked missing: no penalty, its shortage is charged at
///   max(p, 0), so that nothing is earned or lost by it; what was bought there counts as taken.
/// - Readings that never come: {settleMissing} after the settlement deadline of the session, as if every ISP were missing;
///   purchases cover sales as always. Until then readings have the right of way.
/// - Readings count until `IMarketSessions.recordSeconds` after the window; by then every bundle can have been settled. Until
///   then all bundles of the window are on record, afterwards {settleMissing} nets with those that still are.
/// - Readings that come after a bundle was settled, and newer versions of its days: the difference is settled between trader
///   and operator once the session is closed, by `IMarketCorrections`.
/// - A challenged batch: nothing settles from it; a new version is anchored or the rule for missing readings holds.
/// - Every ISP must be covered by a meter that was in service: after a meter change both days are brought, in order.
/// - Other sessions are those open to the area of the session, or of the connection when the session has none. What a
///   connection traded in another area before its DSO moved it is not netted.
/// @custom:stop Never paused.
interface IMarketSettlement {
    /// @notice One metered day of the connection with its proof.
    struct Evidence {
        IMeteringLedger.MeterDay day;
        bytes32[] proof;
    }

    /// @notice Bundle of the connection in a session that delivers in the window.
    struct Position {
        uint64 sessionId;
        bytes bundle;
    }

    /// @notice What became of a bundle. Energy in Wh over all periods, money in uToken.
    struct Outcome {
        uint64 boughtWh;
        uint64 soldWh;
        uint64 injectedGreenWh;
        uint64 injectedBrownWh;
        uint64 coveredWh;
        uint64 shortageWh;
        uint64 surplusWh;
        uint128 guarantee;
        uint128 receipts;
        /// Already limited to guarantee plus receipts.
        uint128 charges;
        uint128 surplusPayment;
        uint128 greenReward;
        uint128 payout;
    }

    /// @param metered Whether readings were brought.
    event TraderSettled(
        uint64 indexed sessionId,
        bytes32 indexed connectionId,
        address indexed trader,
        bool metered,
        Outcome outcome
    );

    /// @notice Delivery of the window, which may end after that of the session.
    error DeliveryNotOver(uint64 sessionId, uint256 endTs, uint256 nowTs);
    /// @notice The connection has a bundle in this session, which delivers in the window and was not brought in its place.
    error PositionOmitted(uint64 sessionId);
    /// @notice Brought twice, out of order, or of a session that does not deliver in the window.
    error PositionNotInWindow(uint64 sessionId);
    error ReadingsTooLate(uint64 sessionId, uint256 until, uint256 nowTs);
    /// @notice No day that was brought holds this ISP with a meter that was in service.
    error IspNotCovered(uint32 isp);
    error MeterOfOtherConnection(bytes32 meterId, bytes32 connectionId);
    error ReadingsStillDue(uint64 sessionId, uint256 until, uint256 nowTs);

    /// @notice Settles a bundle by its metered days. Anyone may call, after delivery and the challenge windows.
    /// @dev Errors: `SessionUnknown`, {DeliveryNotOver}, {ReadingsTooLate}, {PositionOmitted}, {PositionNotInWindow},
    /// `NotFinalised`, `BundleMismatch`, {IspNotCovered}, {MeterOfOtherConnection}, those of `IMeteringLedger.requireDay`
    /// and of `IEnergyMarket.settle`. Emits: {TraderSettled}.
    /// @param positions All bundles of the connection that deliver in the window, that of the session among them, in the
    /// order of `IMarketSessions.overlapping`.
    /// @param meterDays Metered days that cover the window, in order of time; at a meter change the old meter's first.
    function settle(
        uint64 sessionId,
        bytes32 connectionId,
        Position[] calldata positions,
        Evidence[] calldata meterDays
    ) external returns (Outcome memory);

    /// @notice Settles a bundle that nobody settled by readings until the deadline of the session. Anyone may call.
    /// @dev Errors: {ReadingsStillDue}, and those of {settle} that are not about readings. Emits: {TraderSettled}.
    function settleMissing(
        uint64 sessionId,
        bytes32 connectionId,
        Position[] calldata positions
    ) external returns (Outcome memory);

    /// @notice What {settle} would find, or found; changes nothing. For previews and for whoever checks a proposal.
    /// @return outcome What the trader gets.
    /// @return injectedWh Delivered Wh by product.
    function outcomeOf(
        uint64 sessionId,
        bytes32 connectionId,
        Position[] calldata positions,
        Evidence[] calldata meterDays
    ) external view returns (Outcome memory outcome, uint256[] memory injectedWh);

    /// @notice Metered energy that no position of the connection used, by ISP: what a pool after delivery may settle without
    /// counting anything twice. Shortage and surplus of positions are not in it: their sessions settled them.
    /// @dev Errors: those of {settle} that are not about a session; window and readings are those that the
    /// ISPs asked for widen to.
    /// @param firstIsp First of `ispCount` ISPs.
    /// @return importWh Metered import that no purchase took.
    /// @return exportWh Metered export that no sale took.
    /// @return missing Whether the ISP has no reading; its energies are zero.
    function leftOf(
        bytes32 connectionId,
        uint32 firstIsp,
        uint16 ispCount,
        Position[] calldata positions,
        Evidence[] calldata meterDays
    ) external view returns (uint256[] memory importWh, uint256[] memory exportWh, bool[] memory missing);

    /// @notice Net deviation of the connection from what it traded, by ISP, with every position spread evenly over the ISPs
    /// of its periods (remainder in the first): export - import - sold + bought.
    /// @dev For settlement of firm schedules: a shortage that a session charged is in it. Positions are those that deliver in
    /// the ISPs asked for, the readings those of these ISPs. Errors: as {leftOf}.
    /// @return residualWh Positive: more was injected, or less consumed, than traded. Without its reading where missing.
    function residualOf(
        bytes32 connectionId,
        uint32 firstIsp,
        uint16 ispCount,
        Position[] calldata positions,
        Evidence[] calldata meterDays
    ) external view returns (int256[] memory residualWh, bool[] memory missing);

    /// @notice What {settle} or {settleMissing} paid for a bundle, uToken; zero when neither has. Corrections are not in it:
    /// see `IMarketCorrections.paidOf`.
    function paidOf(uint64 sessionId, bytes32 connectionId) external view returns (uint256);

    /// @notice When {settleMissing} becomes possible, unix seconds, unless the window ends later.
    function settleBy(uint64 sessionId) external view returns (uint256);

    /// @notice Until when the readings of a session count at least, unix seconds; longer where the window ends later.
    function readingsUntil(uint64 sessionId) external view returns (uint256);

    /// @notice Whether the meter operator anchored one of these days of the window anew since a moment: what was computed
    /// from readings by then may be another outcome now, or none until the challenge window of the new version is over.
    /// @dev Reads nothing of the days but meter and first ISP, so that readings that are not usable yet can be brought. Errors:
    /// `SessionUnknown`, {MeterOfOtherConnection}.
    /// @param sinceTs Unix seconds. A first version that came later does not count: nothing was computed from it.
    function anchoredAgain(
        uint64 sessionId,
        bytes32 connectionId,
        Evidence[] calldata meterDays,
        uint256 sinceTs
    ) external view returns (bool);
}
