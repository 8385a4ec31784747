// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {ITokenDesk} from "interfaces/ITokenDesk.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Desk that buys and sells energy tokens against a payment token
/// @dev Reserve: with b tokens bought and s sold back so far, the desk holds at least par(b) - par(s) payment units,
/// because every purchase brought at least par (up) and every sale took at most par (down). The excess of rounding is
/// below one payment unit per call and stays in the reserve.
contract TokenDesk is ITokenDesk, Module, ReentrancyGuard {
    using SafeERC20 for IERC20;

    uint256 private constant UTOKEN = 1e6;

    IERC20 public immutable energyToken;
    IERC20 public immutable paymentToken;
    IClearingHouse public immutable clearingHouse;
    /// Payment units for one energy token.
    uint256 private immutable _par;

    /// @inheritdoc ITokenDesk
    uint256 public purchaseLimit;
    /// @inheritdoc ITokenDesk
    mapping(address account => uint256) public netBought;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IClearingHouse clearingHouse_,
        IERC20Metadata paymentToken_,
        uint256 purchaseLimit_
    ) Module(authority_, participants_) {
        clearingHouse = clearingHouse_;
        energyToken = IERC20(clearingHouse_.token());
        paymentToken = paymentToken_;
        _par = 10 ** paymentToken_.decimals();
        _setPurchaseLimit(purchaseLimit_);
    }

    /// @inheritdoc ITokenDesk
    function buy(uint256 tokens, address to) external nonReentrant whenNotPaused returns (uint256 payment) {
        payment = _takePayment(tokens, to);
        energyToken.safeTransfer(to, tokens);
    }

    /// @inheritdoc ITokenDesk
    function buyAndDeposit(
        uint256 tokens,
        address account
    ) external nonReentrant whenNotPaused returns (uint256 payment) {
        payment = _takePayment(tokens, account);
        energyToken.forceApprove(address(clearingHouse), tokens);
        clearingHouse.deposit(account, tokens);
    }

    /// @inheritdoc ITokenDesk
    function sell(uint256 tokens) external nonReentrant returns (uint256 payment) {
        if (tokens == 0) revert ZeroTokens();
        (, payment) = quote(tokens);
        uint256 reserve = paymentToken.balanceOf(address(this));
        if (reserve < payment) revert ReserveExhausted(reserve, payment);
        uint256 bought = netBought[msg.sender];
        netBought[msg.sender] = bought > tokens ? bought - tokens : 0;
        emit TokensSold(msg.sender, tokens, payment);
        energyToken.safeTransferFrom(msg.sender, address(this), tokens);
        paymentToken.safeTransfer(msg.sender, payment);
    }

    /// @inheritdoc ITokenDesk
    function stock(uint256 tokens) external {
        if (tokens == 0) revert ZeroTokens();
        emit Stocked(msg.sender, tokens);
        energyToken.safeTransferFrom(msg.sender, address(this), tokens);
    }

    /// @inheritdoc ITokenDesk
    function setPurchaseLimit(uint256 limitPerAccount) external restricted {
        _setPurchaseLimit(limitPerAccount);
    }

    /// @inheritdoc ITokenDesk
    function quote(uint256 tokens) public view returns (uint256 paymentUp, uint256 paymentDown) {
        paymentUp = Math.mulDiv(tokens, _par, UTOKEN, Math.Rounding.Ceil);
        paymentDown = Math.mulDiv(tokens, _par, UTOKEN);
    }

    function _setPurchaseLimit(uint256 limitPerAccount) private {
        purchaseLimit = limitPerAccount;
        emit PurchaseLimitSet(limitPerAccount);
    }

    /// Checks a purchase for `to` and takes the caller's payment; the caller of this hands out the tokens.
    function _takePayment(uint256 tokens, address to) private returns (uint256 payment) {
        if (tokens == 0) revert ZeroTokens();
        if (participants.statusOf(to) != IParticipantRegistry.Status.Active) revert NotParticipant(to);
        uint256 available = energyToken.balanceOf(address(this));
        if (available < tokens) revert StockExhausted(available, tokens);
        uint256 bought = netBought[to] + tokens;
        if (bought > purchaseLimit) revert PurchaseLimitExceeded(to, bought, purchaseLimit);
        netBought[to] = bought;
        (payment, ) = quote(tokens);
        emit TokensBought(msg.sender, to, tokens, payment);

        uint256 reserveBefore = paymentToken.balanceOf(address(this));
        paymentToken.safeTransferFrom(msg.sender, address(this), payment);
        uint256 received = paymentToken.balanceOf(address(this)) - reserveBefore;
        if (received < payment) revert PaymentShort(received, payment);
    }
}
