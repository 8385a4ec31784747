// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Post-delivery pool: what members have left and what they lack is priced after delivery
/// @notice The pool half of the joint bilateral and pool post-delivery market (BeFlexible service 7, SUC02.1 scenario 2).
/// Members of a community join before delivery; afterwards the surplus and the demand that each has left by its meter,
/// once its bilateral trades are taken out (`IBilateralTrades`), meet in the pool. No order is needed, and no step after
/// joining needs the member. Decision 0035.
///
/// @dev **Times**, unix seconds; a deadline belongs to what ends with it. Delivery is [s, e):
///
///   opened .. joinBy <= s                       members join
///   opened .. tradeBy                           bilateral trades; may lie before, in or after delivery
///   from e, after tradeBy .. reportBy           reports by meter (`IPoolReports`)
///   after reportBy, or when all have reported   {clear} (tick book), {fixPrices}, {claim}
///   after reportBy                              members that nobody reported are settled without meter
///   when no member is open                      {close}: the rest is the operator's
///
/// **Position** of a member: per period a surplus (sold to the pool) or a demand (bought from it), never both, kept as
/// the hash of a bundle of `TickBook` orders: 8 bytes for each period that is not zero. The pool knows sums per tick,
/// not positions; all mechanisms but the tick book use a grid of one tick.
///
/// **Prices.** b: retail price, at which the operator supplies what the pool lacks; s: feed-in price, at which it takes
/// what is left, s' <= s what its budget suffices for; S, D: supply and demand of a period, M = min(S, D). With the
/// price p of what is shared:
///
///   price of buyers = up((M p + (D - M) b) / D)       price of sellers = down((M p + (S - M) s') / S)
///
///   intermediate rate: p = w b + (1 - w) s, w = retailWeightBps / 10^4.
///   mid-market rate: the same with w = 1/2, p = (b + s) / 2. Source: Long, Wu, Zhang, Thomas, Cheng, Jenkins, "Peer-to-peer energy trading in a
///     community microgrid", IEEE PES General Meeting 2017.
///   supply-demand ratio, f = s + compensation, R = S / D: p = b f / ((b - f) R + f) for R < 1, p = f for R >= 1.
///     Source: Liu, Yu, Wang, Li, Ma, Lei, "Energy-sharing model with price-based demand response for microgrids of
///     peer-to-peer prosumers", IEEE Trans. Power Systems 32(5), 2017 (there compensation = 0). For R < 1 the price of
///     buyers above is theirs, p R + b (1 - R). The compensation keeps p from falling to s = 0 whatever the ratio.
///   tick book: members name limit prices when they join, on the grid s + tick * priceStep up to b; uniform price, shares
///     at the margin as `TickBook` says; what is not matched is bought at b and sold at s'.
///
/// Worked, b = 200,000, s = 80,000 uToken/kWh, S = 6,000, D = 10,000 Wh. Mid-market: p = 140,000, sellers 140,000, buyers
/// 164,000. Intermediate, w = 1/4: p = 110,000, sellers 110,000, buyers 146,000. Ratio 0.6: p = 105,263.2, sellers 105,263, buyers 143,158.
///
/// **Money** of a member: net = down(sum of (sold * price - bought * price) / 1000), one rounding for all periods, against
/// the member. payout = credit + net; the credit is its deposit and what its trades hold for it and brought it.
///
/// **Solvency.** In each period D * buyers' price >= M p + (D - M) b and S * sellers' price <= M p + (S - M) s'. So the sum
/// over members of net is at most sum of ((S - M) s' - (D - M) b) / 1000, and s' is such that, if positive, the first part
/// is within the budget. In the tick book the filled Wh of who pays are at least those of who is paid (residual of
/// `TickBook`) and the unmatched surplus is at most S - V and, where sellers at the margin are rounded down, one Wh for each
/// report. Credits come out of deposits and trade escrows (buyer up, seller down). Nobody's payout is negative: a report
/// admits no more demand than the deposit pays for at the worst price (`IPoolReports`). So the pot, lock {potLockId},
/// pays everybody in any order; what is left is the operator's: the missing energy that it supplies at b, the rest
/// of its budget, and the residual: less than 1 uToken of each member and 1 uToken/kWh of all energy by rounded prices.
/// @custom:stop Paused: no new pool, no joining. Reports, prices, claims and closing work.
/// @custom:trust The market operator sets the terms before anybody joins and cannot change them. It supplies what the pool
/// lacks and takes what is left; beyond its budget, surplus is worth less ({PoolPriced}, `surplusPrice`).
interface IPostDeliveryPool {
    enum Mechanism {
        MidMarketRate,
        IntermediateRate,
        SupplyDemandRatio,
        TickBook
    }

    enum MemberState {
        None,
        Joined,
        Reported,
        Settled
    }

    /// @notice Terms of a pool; prices in micro-token per kWh.
    struct Terms {
        Mechanism mechanism;
        /// Above zero. Members buy what the pool lacks at this price.
        int32 retailPrice;
        /// At most `retailPrice`; below zero whoever feeds in pays. Members sell what is left at this price, or less.
        int32 feedInPrice;
        /// Intermediate rate only: weight of the retail price in that of shared energy, the rest is that of the feed-in
        /// price; at most 10^4.
        uint16 retailWeightBps;
        /// Supply-demand ratio only: with the feed-in price the lowest price of shared energy, above zero, at most retail.
        uint32 compensation;
        /// Tick book only: step of the limit prices.
        uint32 priceStep;
        // Delivery.
        uint32 firstIsp;
        uint16 ispsPerPeriod;
        /// 1 .. 256.
        uint16 periodCount;
        // Deadlines, unix seconds.
        uint40 joinBy;
        uint40 tradeBy;
        uint40 reportBy;
        /// Locked by the operator for the surplus that it takes, uToken.
        uint128 budget;
        /// Connections below this point may join; zero: all connections.
        bytes32 congestionPointId;
    }

    struct Pool {
        address operator;
        uint32 members;
        uint32 reports;
        /// Members that are not settled.
        uint32 openMembers;
        bool priced;
        bool closed;
        /// Feed-in price that the budget suffices for, when priced.
        int32 surplusPrice;
        /// Reported surplus over all periods, Wh.
        uint128 suppliedWh;
        /// Hash of the prices of all periods, when priced; zero in a tick book.
        bytes32 pricesHash;
    }

    struct Member {
        /// Who locked the deposit and is paid.
        address account;
        MemberState state;
        /// Highest price at which it buys from other members, tick; zero unless the mechanism is the tick book.
        uint16 buyTick;
        /// Lowest price at which it sells to other members, tick.
        uint16 sellTick;
        /// Its deposit, from the report on its credit, uToken.
        uint128 credit;
        /// Hash of the reported position.
        bytes32 positionHash;
    }

    event PoolOpened(uint64 indexed poolId, address indexed operator, Terms terms);
    event MemberJoined(
        uint64 indexed poolId,
        bytes32 indexed connectionId,
        address indexed account,
        uint128 deposit,
        uint16 buyTick,
        uint16 sellTick
    );
    /// @param position Orders of `TickBook`, 8 bytes for each period with a surplus (sell) or a demand (buy).
    /// @param credit Deposit, and what trades hold for the member and brought it, uToken.
    event PositionReported(uint64 indexed poolId, bytes32 indexed connectionId, bytes position, uint256 credit);
    /// @param result Packed as `TickBook.Result`.
    event PeriodCleared(uint64 indexed poolId, uint16 indexed period, uint256 result);
    /// @param surplusPrice Of what nobody in the pool takes, micro-token per kWh.
    /// @param prices Per period the price of buyers and that of sellers, `int32` each; empty in a tick book.
    event PoolPriced(uint64 indexed poolId, int32 surplusPrice, bytes prices);
    /// @param net What the pool pays the member, below zero what it takes, uToken.
    event MemberSettled(
        uint64 indexed poolId,
        bytes32 indexed connectionId,
        address indexed account,
        int256 net,
        uint256 payout
    );
    event PoolClosed(uint64 indexed poolId, address indexed operator, uint256 residual);

    error PoolUnknown(uint64 poolId);
    /// @notice Not `now <= joinBy <= deliveryStart`, `joinBy <= tradeBy < reportBy`, `deliveryEnd < reportBy`.
    error TimesInvalid(uint256 nowTs, uint40 joinBy, uint40 tradeBy, uint40 reportBy, uint256 start, uint256 end);
    /// @notice Not `feedInPrice <= retailPrice`, `0 < retailPrice`; of a ratio also `0 < feedInPrice + compensation <= retailPrice`.
    error PricesInvalid(int32 feedInPrice, uint32 compensation, int32 retailPrice);
    error WeightInvalid(uint16 retailWeightBps, uint256 limit);
    error JoiningOver(uint64 poolId, uint256 joinBy, uint256 nowTs);
    error NotOwnerOf(bytes32 connectionId, address caller);
    error OutsideArea(bytes32 connectionId, bytes32 congestionPointId, bytes32 expected);
    error AlreadyMember(uint64 poolId, bytes32 connectionId);
    error LimitOffGrid(uint16 tick, uint16 tickCount);
    /// @notice The member is not in the state that the step needs; `None`: it is no member.
    error WrongState(uint64 poolId, bytes32 connectionId, MemberState state, MemberState needed);
    error ReportsNotOpen(uint64 poolId, uint256 from, uint256 nowTs);
    error ReportsOver(uint64 poolId, uint256 reportBy, uint256 nowTs);
    error ReportsDue(uint64 poolId, uint256 reportBy, uint256 nowTs);
    error NotPriced(uint64 poolId);
    error AlreadyPriced(uint64 poolId);
    error PeriodNotCleared(uint64 poolId, uint256 period);
    /// @notice What was brought is not the reported position.
    error PositionMismatch(uint64 poolId, bytes32 connectionId, bytes32 reported);
    /// @notice What was brought are not the prices of {PoolPriced}.
    error PricesMismatch(uint64 poolId, bytes32 fixedHash);
    error MembersOpen(uint64 poolId, uint32 openMembers);
    error AlreadyClosed(uint64 poolId);

    /// @notice Opens a pool. Only a market operator, which becomes its operator; locks its budget.
    /// @dev Errors: `MissingRole`, {TimesInvalid}, {PricesInvalid}, {WeightInvalid}, `GridInvalid`,
    /// `CongestionPointUnknown`, `InsufficientBalance`. Emits: {PoolOpened}.
    function open(Terms calldata terms) external returns (uint64 poolId);

    /// @notice Joins with a connection of the caller, an active prosumer. There is no way out before the settlement.
    /// @dev Errors: {PoolUnknown}, {JoiningOver}, `ConnectionUnknown`, {NotOwnerOf}, {OutsideArea}, `MissingRole`,
    /// {AlreadyMember}, {LimitOffGrid}, `InsufficientBalance`. Emits: {MemberJoined}.
    /// @param deposit Locked, uToken; bounds the demand that the pool serves.
    function join(uint64 poolId, bytes32 connectionId, uint128 deposit, uint16 buyTick, uint16 sellTick) external;

    /// @notice As {join}, for the owner of the connection. Only a module, which has checked that the owner wants it.
    function joinFor(uint64 poolId, bytes32 connectionId, uint128 deposit, uint16 buyTick, uint16 sellTick) external;

    /// @notice Records the position of a member. Only a module, which has checked meters and trades.
    /// @dev Errors: {WrongState}, {ReportsNotOpen}, {ReportsOver}, those of `TickBook.place`. Emits: {PositionReported}.
    function record(uint64 poolId, bytes32 connectionId, bytes calldata position, uint256 credit) external;

    /// @notice Settles a member that nobody reported until the deadline. Only a module, which has checked its trades.
    /// @dev Errors: {WrongState}, {ReportsDue}. Emits: {MemberSettled}.
    /// @param owed What it owes for energy that it sold, at most `credit`, uToken.
    function settleUnreported(uint64 poolId, bytes32 connectionId, uint256 credit, uint256 owed) external;

    /// @notice Clears periods of a tick book, reading at most `maxTicks` ticks of each. Anyone may call, any number of times;
    /// periods that are cleared or without a position are passed over.
    /// @dev Errors: {ReportsDue}, {AlreadyPriced}, `PeriodOutsideSession`. Emits: {PeriodCleared}.
    /// @return finished Whether all of them are cleared.
    function clear(uint64 poolId, uint16 first, uint16 last, uint256 maxTicks) external returns (bool finished);

    /// @notice Fixes the prices. Anyone may call, once. The cost grows with the periods, not with the members.
    /// @dev Errors: {ReportsDue}, {AlreadyPriced}, {PeriodNotCleared}. Emits: {PoolPriced}.
    function fixPrices(uint64 poolId) external;

    /// @notice Pays a member. Anyone may call.
    /// @dev Errors: {NotPriced}, {WrongState}, {PositionMismatch}, {PricesMismatch}. Emits: {MemberSettled}.
    /// @param position As it was reported.
    /// @param prices As {PoolPriced} told them.
    function claim(uint64 poolId, bytes32 connectionId, bytes calldata position, bytes calldata prices) external;

    /// @notice Pays what is left to the operator when no member is open. Anyone may call, after `joinBy`.
    /// @dev Errors: {ReportsDue} (with `joinBy`), {MembersOpen}, {AlreadyClosed}. Emits: {PoolClosed}.
    function close(uint64 poolId) external;

    function termsOf(uint64 poolId) external view returns (Terms memory);

    function pool(uint64 poolId) external view returns (Pool memory);

    /// @notice A member; all zero when there is none.
    function memberOf(uint64 poolId, bytes32 connectionId) external view returns (Member memory);

    /// @notice Reported demand and surplus of a period at a tick, Wh.
    function levelOf(
        uint64 poolId,
        uint16 period,
        uint16 tick
    ) external view returns (uint256 demandWh, uint256 supplyWh);

    /// @notice Lock of all money of a pool.
    function potLockId(uint64 poolId) external view returns (bytes32);
}
