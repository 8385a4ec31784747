// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";

/// @title Settlement of peer-to-peer trades by metered delivery
/// @notice Anyone settles the bundle of a connection with its metered days; the contract compares what was traded with
/// what was metered and pays the trader out of the pot of the session.
/// Source: eDREAM D2.2 HL-UC02_LL-UC04, D2.5 MF03_BR04 (balancing of sold and injected energy). Decision 0032.
///
/// @dev Per delivery period, with import I and export X of the connection (Wh, sums over the ISPs of the period) and
/// clearing prices p (micro-token per kWh):
///
///   injected green = min(X, sold green), injected brown = min(X - injected green, sold brown); shortage = sold - injected
///   taken green = min(I, bought green), taken brown = min(I - taken green, bought brown); surplus = bought - taken
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
/// Rules.
/// - Missing readings. A period with an ISP that the meter operator marked missing: no penalty, its shortage is charged at
///   max(p, 0), so that nothing is earned or lost by it; what was bought there counts as taken.
/// - Readings that never come: {settleMissing} after the settlement deadline of the session, as if every ISP were missing.
///   Until then readings have the right of way.
/// - A challenged batch: nothing settles from it; a new version is anchored or the rule for missing readings holds.
/// - Each session is settled by itself: an injected Wh counts in every session that sold it. Operators must not open
///   sessions that overlap in delivery for the same connections.
/// - Every ISP must be covered by a meter that was in service: after a meter change both days are brought, in order.
/// @custom:stop Never paused.
interface IMarketSettlement {
    /// @notice One metered day of the connection with its proof.
    struct Evidence {
        IMeteringLedger.MeterDay day;
        bytes32[] proof;
    }

    /// @notice What became of a bundle. Energy in Wh over all periods, money in uToken.
    struct Outcome {
        uint64 boughtWh;
        uint64 soldWh;
        uint64 injectedGreenWh;
        uint64 injectedBrownWh;
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

    error DeliveryNotOver(uint64 sessionId, uint256 endTs, uint256 nowTs);
    /// @notice No day that was brought holds this ISP with a meter that was in service.
    error IspNotCovered(uint32 isp);
    error MeterOfOtherConnection(bytes32 meterId, bytes32 connectionId);
    error ReadingsStillDue(uint64 sessionId, uint256 until, uint256 nowTs);

    /// @notice Settles a bundle by its metered days. Anyone may call, after delivery and the challenge windows.
    /// @dev Errors: `SessionUnknown`, {DeliveryNotOver}, {IspNotCovered}, {MeterOfOtherConnection}, those of
    /// `IMeteringLedger.requireDay` and of `IEnergyMarket.settle`. Emits: {TraderSettled}.
    /// @param meterDays Metered days that cover the session, in order of time; at a meter change the old meter's first.
    function settle(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        Evidence[] calldata meterDays
    ) external returns (Outcome memory);

    /// @notice Settles a bundle that nobody settled by readings until the deadline of the session. Anyone may call.
    /// @dev Errors: `SessionUnknown`, {ReadingsStillDue}, those of `IEnergyMarket.settle`. Emits: {TraderSettled}.
    function settleMissing(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle
    ) external returns (Outcome memory);

    /// @notice What {settle} would find, for any bundle; changes nothing. For previews and for whoever checks a proposal.
    /// @return outcome What the trader would get.
    /// @return injectedWh Delivered Wh by product.
    function outcomeOf(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        Evidence[] calldata meterDays
    ) external view returns (Outcome memory outcome, uint256[] memory injectedWh);

    /// @notice When {settleMissing} becomes possible, unix seconds.
    function settleBy(uint64 sessionId) external view returns (uint256);
}
