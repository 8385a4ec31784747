// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IBilateralTrades} from "interfaces/IBilateralTrades.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {IPostDeliveryPool} from "interfaces/IPostDeliveryPool.sol";
import {IProducerRegistry} from "interfaces/IProducerRegistry.sol";
import {Money} from "contracts/clearinghouse/Money.sol";
import {Curves} from "contracts/metering/Curves.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Bilateral trades between members of a post-delivery pool
/// @dev See {IBilateralTrades} for the formulas. Keeps a state for each trade and a number for each connection and pool;
/// quantities travel as calldata.
contract BilateralTrades is IBilateralTrades, Module, EIP712 {
    using Curves for bytes;

    bytes32 private constant TRADE_TYPEHASH = keccak256(
        "Trade(uint64 poolId,bytes32 sellerConnectionId,bytes32 buyerConnectionId,int64 price,uint8 energyType,"
        "uint64 validUntil,uint256 salt,bytes quantities)"
    );
    bytes32 private constant CANCELLATION_TYPEHASH = keccak256("Cancellation(bytes32 tradeId)");

    /// @dev Registered trades of a connection in a pool: a report brings and adds up all of them.
    uint256 private constant MAX_TRADES = 64;

    IPostDeliveryPool private immutable _pool;
    IProducerRegistry private immutable _producers;
    IClearingHouse private immutable _clearingHouse;

    /// @inheritdoc IBilateralTrades
    mapping(bytes32 tradeId => TradeState) public stateOf;
    /// @inheritdoc IBilateralTrades
    mapping(uint64 poolId => mapping(bytes32 connectionId => uint256)) public countOf;

    /// @dev uToken. What each party locks; what of it is collateral; what each is paid.
    struct Amounts {
        uint256 sellerEscrow;
        uint256 buyerEscrow;
        uint256 sellerCredit;
        uint256 buyerCredit;
    }

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IPostDeliveryPool pool_,
        IProducerRegistry producers_,
        IClearingHouse clearingHouse_
    ) Module(authority_, participants_) EIP712("gridpact.trades", "1") {
        _pool = pool_;
        _producers = producers_;
        _clearingHouse = clearingHouse_;
    }

    /// @inheritdoc IBilateralTrades
    function register(
        Trade calldata trade,
        bytes calldata sellerSignature,
        bytes calldata buyerSignature
    ) external whenNotPaused returns (bytes32 tradeId) {
        IPostDeliveryPool.Terms memory terms = _trading(trade.poolId);
        tradeId = idOf(trade);
        if (block.timestamp > trade.validUntil) revert TradeExpired(trade.validUntil, block.timestamp);
        _requireState(tradeId, TradeState.None);
        _requireValid(trade, terms);
        stateOf[tradeId] = TradeState.Registered;
        (address seller, address buyer) = _requireSigned(trade, tradeId, tradeId, sellerSignature, buyerSignature);
        participants.requireRole(seller, IParticipantRegistry.Role.Prosumer);
        participants.requireRole(buyer, IParticipantRegistry.Role.Prosumer);
        _count(trade.poolId, trade.sellerConnectionId);
        _count(trade.poolId, trade.buyerConnectionId);
        Amounts memory amounts = _amounts(trade, terms);
        bytes32 lockId = _pool.potLockId(trade.poolId);
        _clearingHouse.lock(lockId, seller, amounts.sellerEscrow);
        _clearingHouse.lock(lockId, buyer, amounts.buyerEscrow);
        emit TradeRegistered(tradeId, trade.sellerConnectionId, trade.buyerConnectionId, trade);
    }

    /// @inheritdoc IBilateralTrades
    function cancel(Trade calldata trade, bytes calldata sellerSignature, bytes calldata buyerSignature) external {
        IPostDeliveryPool.Terms memory terms = _trading(trade.poolId);
        bytes32 tradeId = idOf(trade);
        _requireState(tradeId, TradeState.Registered);
        stateOf[tradeId] = TradeState.Cancelled;
        bytes32 structHash = keccak256(abi.encode(CANCELLATION_TYPEHASH, tradeId));
        (address seller, address buyer) = _requireSigned(trade, tradeId, structHash, sellerSignature, buyerSignature);
        --countOf[trade.poolId][trade.sellerConnectionId];
        --countOf[trade.poolId][trade.buyerConnectionId];
        Amounts memory amounts = _amounts(trade, terms);
        bytes32 lockId = _pool.potLockId(trade.poolId);
        _clearingHouse.release(lockId, seller, amounts.sellerEscrow);
        _clearingHouse.release(lockId, buyer, amounts.buyerEscrow);
        emit TradeCancelled(tradeId, trade.poolId);
    }

    /// @inheritdoc IBilateralTrades
    function positionOf(
        uint64 poolId,
        bytes32 connectionId,
        Trade[] calldata trades
    ) external view returns (uint256[] memory soldWh, uint256[] memory boughtWh, uint256 credit) {
        uint256 registered = countOf[poolId][connectionId];
        if (trades.length != registered) revert TradesMissing(connectionId, trades.length, registered);
        IPostDeliveryPool.Terms memory terms = _pool.termsOf(poolId);
        soldWh = new uint256[](terms.periodCount);
        boughtWh = new uint256[](terms.periodCount);
        bytes32 previous;
        for (uint256 i = 0; i < trades.length; ++i) {
            Trade calldata trade = trades[i];
            bytes32 tradeId = idOf(trade);
            if (tradeId <= previous) revert TradesUnordered(tradeId);
            previous = tradeId;
            _requireState(tradeId, TradeState.Registered);
            bool sells = trade.sellerConnectionId == connectionId;
            if (trade.poolId != poolId || (!sells && trade.buyerConnectionId != connectionId)) {
                revert TradeOfOthers(tradeId);
            }
            uint256[] memory sums = sells ? soldWh : boughtWh;
            for (uint256 period = 0; period < sums.length; ++period) {
                sums[period] += trade.quantities.quantity(period);
            }
            Amounts memory amounts = _amounts(trade, terms);
            credit += sells ? amounts.sellerCredit : amounts.buyerCredit;
        }
    }

    /// @inheritdoc IBilateralTrades
    function idOf(Trade calldata trade) public pure returns (bytes32 tradeId) {
        return
            keccak256(
                abi.encode(
                    TRADE_TYPEHASH,
                    trade.poolId,
                    trade.sellerConnectionId,
                    trade.buyerConnectionId,
                    trade.price,
                    trade.energyType,
                    trade.validUntil,
                    trade.salt,
                    keccak256(trade.quantities)
                )
            );
    }

    function _count(uint64 poolId, bytes32 connectionId) private {
        if (++countOf[poolId][connectionId] > MAX_TRADES) revert TooManyTrades(connectionId, MAX_TRADES);
    }

    function _amounts(
        Trade calldata trade,
        IPostDeliveryPool.Terms memory terms
    ) private pure returns (Amounts memory amounts) {
        uint256 energyWh = trade.quantities.total();
        int256 price = trade.price;
        amounts.sellerCredit = Money.costUp(energyWh, uint256(int256(terms.retailPrice)));
        if (terms.feedInPrice < 0) amounts.buyerCredit = Money.costUp(energyWh, uint256(-int256(terms.feedInPrice)));
        (amounts.sellerEscrow, amounts.buyerEscrow) = (amounts.sellerCredit, amounts.buyerCredit);
        if (price < 0) {
            amounts.sellerEscrow += Money.costUp(energyWh, uint256(-price));
            amounts.buyerCredit += Money.costDown(energyWh, uint256(-price));
        } else {
            amounts.buyerEscrow += Money.costUp(energyWh, uint256(price));
            amounts.sellerCredit += Money.costDown(energyWh, uint256(price));
        }
    }

    function _trading(uint64 poolId) private view returns (IPostDeliveryPool.Terms memory terms) {
        terms = _pool.termsOf(poolId);
        if (block.timestamp > terms.tradeBy) revert TradingOver(poolId, terms.tradeBy, block.timestamp);
    }

    function _requireState(bytes32 tradeId, TradeState needed) private view {
        if (stateOf[tradeId] != needed) revert TradeInState(tradeId, stateOf[tradeId]);
    }

    function _requireValid(Trade calldata trade, IPostDeliveryPool.Terms memory terms) private view {
        if (trade.sellerConnectionId == trade.buyerConnectionId) revert SameConnection(trade.sellerConnectionId);
        if (!trade.quantities.isQuantities(terms.periodCount)) {
            revert QuantitiesLength(trade.quantities.length, 4 * uint256(terms.periodCount));
        }
        if (trade.quantities.total() == 0) revert NothingTraded();
        bool green = trade.energyType == IEnergyMarket.EnergyType.Green;
        if (green && !_producers.isGreen(trade.sellerConnectionId)) revert NotGreenSeller(trade.sellerConnectionId);
    }

    function _requireSigned(
        Trade calldata trade,
        bytes32 tradeId,
        bytes32 structHash,
        bytes calldata sellerSignature,
        bytes calldata buyerSignature
    ) private view returns (address seller, address buyer) {
        bytes32 digest = _hashTypedDataV4(structHash);
        seller = _requireSignedBy(trade.poolId, trade.sellerConnectionId, tradeId, digest, sellerSignature);
        buyer = _requireSignedBy(trade.poolId, trade.buyerConnectionId, tradeId, digest, buyerSignature);
    }

    function _requireSignedBy(
        uint64 poolId,
        bytes32 connectionId,
        bytes32 tradeId,
        bytes32 digest,
        bytes calldata signature
    ) private view returns (address account) {
        account = _pool.memberOf(poolId, connectionId).account;
        if (account == address(0)) revert NotMember(poolId, connectionId);
        if (!SignatureChecker.isValidSignatureNow(account, digest, signature)) {
            revert TradeSignatureInvalid(tradeId, account);
        }
    }
}
