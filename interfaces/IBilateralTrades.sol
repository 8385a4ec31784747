// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";

/// @title Bilateral trades between members of a post-delivery pool
/// @notice The bilateral half of BeFlexible service 7: two members agree on price and quantity per delivery period, before or
/// after delivery, until `tradeBy` of their pool. What they have left or lack then is the pool's matter. Decision 0035.
///
/// @dev **A trade is firm.** For Q = sum of its quantities and price p (micro-token per kWh, signed): at p >= 0 the buyer
/// pays up(Q * p / 1000) and the seller gets down(Q * p / 1000); below zero the seller pays |p| and the buyer gets it, rounded
/// in the same way. No meter is needed for that: energy that the seller does not have is its demand in the pool, energy
/// that the buyer does not need is its surplus there. The residual, at most 1 uToken a trade, is the pool operator's.
///
/// **Escrow**, from both parties' free balances into the pot of the pool when the trade is registered:
///   buyer   up(Q * max(p, 0) / 1000) + up(Q * max(-s, 0) / 1000)    (s: feed-in price, b: retail price of the pool)
///   seller  up(Q * max(-p, 0) / 1000) + up(Q * b / 1000)
/// The second part of each is collateral for the worst that the pool can charge for this energy; it is part of the credit.
///
/// **Signatures**, EIP-712, domain ("gridpact.trades", "1"), by the accounts that joined the pool, ERC-1271 too:
/// `Trade(uint64 poolId,bytes32 sellerConnectionId,bytes32 buyerConnectionId,int64 price,uint8 energyType,uint64 validUntil,`
/// `uint256 salt,bytes quantities)` and `Cancellation(bytes32 tradeId)`. The id of a trade is the hash of this struct: it
/// is registered once, also after it was cancelled; two equal trades have different salts. A trade that nobody registers
/// ends with `validUntil`.
/// @custom:stop Paused: no new trade. Cancelling works.
interface IBilateralTrades {
    enum TradeState {
        None,
        Registered,
        Cancelled
    }

    struct Trade {
        uint64 poolId;
        bytes32 sellerConnectionId;
        bytes32 buyerConnectionId;
        /// Micro-token per kWh; below zero the seller pays.
        int64 price;
        /// Green: the seller's connection must produce green energy.
        IEnergyMarket.EnergyType energyType;
        /// Last second at which the trade can be registered.
        uint64 validUntil;
        uint256 salt;
        /// Wh per delivery period of the pool, `uint32` each, big endian.
        bytes quantities;
    }

    event TradeRegistered(
        bytes32 indexed tradeId,
        bytes32 indexed sellerConnectionId,
        bytes32 indexed buyerConnectionId,
        Trade trade
    );
    event TradeCancelled(bytes32 indexed tradeId, uint64 indexed poolId);

    error TradingOver(uint64 poolId, uint256 tradeBy, uint256 nowTs);
    error TradeExpired(uint64 validUntil, uint256 nowTs);
    error TradeInState(bytes32 tradeId, TradeState state);
    error SameConnection(bytes32 connectionId);
    error QuantitiesLength(uint256 length, uint256 expected);
    error NothingTraded();
    error NotMember(uint64 poolId, bytes32 connectionId);
    error NotGreenSeller(bytes32 connectionId);
    /// @notice A report could not bring more in a block.
    error TooManyTrades(bytes32 connectionId, uint256 limit);
    error TradeSignatureInvalid(bytes32 tradeId, address expected);
    /// @notice Not all registered trades of the connection were brought, or too many.
    error TradesMissing(bytes32 connectionId, uint256 brought, uint256 registered);
    /// @notice Trades are not in ascending order of their ids: one could be counted twice.
    error TradesUnordered(bytes32 tradeId);
    error TradeOfOthers(bytes32 tradeId);

    /// @notice Registers a trade that both parties signed. Anyone may call.
    /// @dev Errors: {TradingOver}, {TradeExpired}, {TradeInState}, {SameConnection}, {QuantitiesLength}, {NothingTraded},
    /// {NotMember}, `MissingRole`, {NotGreenSeller}, {TradeSignatureInvalid}, {TooManyTrades}, `InsufficientBalance`.
    /// Emits: {TradeRegistered}.
    function register(
        Trade calldata trade,
        bytes calldata sellerSignature,
        bytes calldata buyerSignature
    ) external returns (bytes32 tradeId);

    /// @notice Takes a registered trade back, until `tradeBy` of the pool, when both parties signed that. Anyone may call.
    /// Returns the escrow. @dev Errors: {TradingOver}, {TradeInState}, {TradeSignatureInvalid}. Emits: {TradeCancelled}.
    function cancel(Trade calldata trade, bytes calldata sellerSignature, bytes calldata buyerSignature) external;

    /// @notice Sums over the trades of a connection in a pool, of which all must be brought.
    /// @dev Errors: {TradesMissing}, {TradesUnordered}, {TradeInState}, {TradeOfOthers}.
    /// @param trades All registered trades of the connection, ascending by id.
    /// @return soldWh Per period.
    /// @return boughtWh Per period.
    /// @return credit Collateral of the connection, and what the trades bring it, uToken.
    function positionOf(
        uint64 poolId,
        bytes32 connectionId,
        Trade[] calldata trades
    ) external view returns (uint256[] memory soldWh, uint256[] memory boughtWh, uint256 credit);

    function stateOf(bytes32 tradeId) external view returns (TradeState);

    /// @notice Number of registered trades of a connection in a pool.
    function countOf(uint64 poolId, bytes32 connectionId) external view returns (uint256);

    function idOf(Trade calldata trade) external pure returns (bytes32 tradeId);
}
