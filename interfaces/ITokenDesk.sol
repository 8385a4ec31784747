// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Desk that buys and sells energy tokens against a payment token
/// @notice Participants buy energy tokens on registration or on demand and sell them back; the desk keeps the payment
/// tokens it received as the reserve that backs every token it sold. Source: eDREAM D2.2 HL-UC02_LL-UC04.
/// @dev Par: one energy token (6 decimals) costs `10 ** paymentDecimals` payment units. A buyer pays rounded up, a
/// seller receives rounded down, so that `reserve >= sold tokens at par` always holds.
/// @custom:stop Paused: no purchase. Sale works as long as the reserve lasts and needs no role.
/// @custom:trust Whoever receives the initial issue is trusted to stock the desk with it: tokens that reach people
/// otherwise are not backed, and sold here they would use up the reserve of those that were bought.
interface ITokenDesk {
    event TokensBought(address indexed buyer, address indexed to, uint256 tokens, uint256 payment);
    event TokensSold(address indexed seller, uint256 tokens, uint256 payment);
    event PurchaseLimitSet(uint256 limitPerAccount);
    event Stocked(address indexed from, uint256 tokens);

    error PurchaseLimitExceeded(address account, uint256 bought, uint256 limit);
    error StockExhausted(uint256 available, uint256 required);
    error ReserveExhausted(uint256 available, uint256 required);
    error NotParticipant(address account);
    /// @notice Less payment arrived than was due (a payment token with a fee on transfer).
    error PaymentShort(uint256 received, uint256 due);
    error ZeroTokens();

    /// @notice Buys `tokens` for `to` with the caller's payment tokens. The receiver must be an active participant.
    /// @dev Errors: {ZeroTokens}, {NotParticipant}, {PurchaseLimitExceeded} (of the receiver), {PaymentShort},
    /// {StockExhausted}. Emits: {TokensBought}.
    /// @param tokens Energy tokens, uToken.
    /// @return payment Payment units taken, rounded up.
    function buy(uint256 tokens, address to) external returns (uint256 payment);

    /// @notice As {buy} and deposits the tokens into the clearing house in the same transaction.
    function buyAndDeposit(uint256 tokens, address account) external returns (uint256 payment);

    /// @notice Sells the caller's tokens back to the desk.
    /// @dev Errors: {ZeroTokens}, {ReserveExhausted}. Emits: {TokensSold}.
    /// @return payment Payment units paid, rounded down; zero for less than one unit's worth of tokens.
    function sell(uint256 tokens) external returns (uint256 payment);

    /// @notice Takes the caller's tokens into the stock of the desk, unpaid. Open to all; meant for the treasury.
    /// @dev Errors: {ZeroTokens}. Emits: {Stocked}.
    function stock(uint256 tokens) external;

    /// @notice Largest number of tokens an account may have bought net of what it sold. Only governance.
    /// @dev Emits: {PurchaseLimitSet}.
    function setPurchaseLimit(uint256 limitPerAccount) external;

    function purchaseLimit() external view returns (uint256);

    /// @notice Tokens an account bought net of those it sold; zero when it sold more than it bought.
    function netBought(address account) external view returns (uint256);

    /// @notice What a buyer pays and a seller receives for `tokens`, payment units.
    function quote(uint256 tokens) external view returns (uint256 paymentUp, uint256 paymentDown);
}
