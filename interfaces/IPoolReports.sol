// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IBilateralTrades} from "interfaces/IBilateralTrades.sol";
import {IMarketSettlement} from "interfaces/IMarketSettlement.sol";

/// @title Positions of members of a post-delivery pool, by their meters and their trades
/// @notice Anyone brings the metered days and the trades of a member; the contract finds what the member has left or lacks.
/// Decision 0035.
///
/// @dev Per delivery period, with export X and import I that no position in an auction used (`IMarketSettlement.leftOf`; Wh,
/// sums over the ISPs), sold and bought by bilateral trades:
///
///   r = X - I - sold + bought
///   surplus = max(r, 0), demand = max(-r, 0)
///
/// **Firm and covered.** Of a demand, min(demand, sold) is covered by the escrow of the trades at the retail price b. The rest
/// is admitted as far as the deposit pays for it at b, period by period in order of time: min(rest, left * 1000 / b), what
/// is admitted being taken from `left`. What is not admitted is supplied by the member's own supplier, outside of the
/// pool. At a feed-in price s below zero likewise for the surplus, with bought instead of sold and |s| instead of b.
///
/// Example: b = 300,000, deposit 600,000 uToken; 1,000 Wh exported in a period in which 3,000 were sold, 4,000 imported in the
/// next one. Demand 2,000, all covered by the trade, and 2,000 of 4,000: all that 600,000 uToken pay for.
///
/// Rules.
/// - Missing readings. In a period with an ISP that the meter operator marked missing the known ISPs count, and what was bought
///   there only counts against a demand: r = min(r, max(X - I - sold, 0)). Nothing is earned by it.
/// - What auctions traded is theirs: they settle what was traded and not delivered or not taken; the pool gets metered energy
///   that none of them used. So every metered Wh counts once. Auctions that deliver with the pool are finalised before.
/// - No report at the deadline: {settleUnreported}, as if every ISP were missing: the member owes max(sold - bought, 0) of each
///   period at the retail price, rounded up once. Until then readings have the right of way.
/// - A challenged batch: nothing is reported from it; a new version is anchored in time or the rule above holds.
/// - A report is final: a correction of the day that is anchored later does not change it.
/// - A period with more than 2^32 - 1 Wh cannot be reported.
/// @custom:stop Never paused.
interface IPoolReports {
    event MemberReported(uint64 indexed poolId, bytes32 indexed connectionId, address reporter);

    /// @notice Reports a member. Anyone may call, once for each member, from the end of delivery and trading to `reportBy`.
    /// @dev Errors: those of `IMarketSettlement.leftOf`, `IBilateralTrades.positionOf` and `IPostDeliveryPool.record`.
    /// Emits: {MemberReported}.
    /// @param trades All registered trades of the connection in the pool, ascending by id.
    /// @param positions All bundles of the connection that deliver with the pool, in the order of `IMarketSessions.overlapping`.
    /// @param meterDays Metered days that cover the pool, in order of time; at a meter change the old meter's first.
    function report(
        uint64 poolId,
        bytes32 connectionId,
        IBilateralTrades.Trade[] calldata trades,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) external returns (bytes memory position);

    /// @notice Settles a member that nobody reported until `reportBy`. Anyone may call.
    /// @dev Errors: those of `IBilateralTrades.positionOf` and `IPostDeliveryPool.settleUnreported`.
    function settleUnreported(uint64 poolId, bytes32 connectionId, IBilateralTrades.Trade[] calldata trades) external;

    /// @notice What {report} would find; changes nothing and asks for no time.
    /// @return position Orders of `TickBook`.
    /// @return credit uToken.
    function positionOf(
        uint64 poolId,
        bytes32 connectionId,
        IBilateralTrades.Trade[] calldata trades,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) external view returns (bytes memory position, uint256 credit);
}
